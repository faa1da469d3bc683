"""Masks out of a store, as files that other tools train on, and masks of other tools into it."""
