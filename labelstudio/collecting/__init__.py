"""Corrections out of Label Studio: what changed, and what a person did."""
