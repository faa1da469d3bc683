"""The parts of ``benchmarks/camvid_loop.py``: the whole loop on photographs with known masks."""
