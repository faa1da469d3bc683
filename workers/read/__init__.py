"""READ as a standalone library: LLaVA with a ``[SEG]`` token, SAM, and similarity as points."""
