"""What the corrections say: which of them train, and how far annotators agree. Knows no models."""
