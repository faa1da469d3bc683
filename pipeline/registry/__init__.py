"""Model versions of a store: immutable, with their lineage, and one of them current. No models."""
