"""The interactive backend's server: Ray Serve, the model behind it, and who may ask."""
