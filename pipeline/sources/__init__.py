"""Where images and queries come from: directories, object prefixes and manifests."""
