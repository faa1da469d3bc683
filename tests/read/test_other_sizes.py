"""Checkpoints of other sizes than the recorded one, against READ written a second time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.read.random_checkpoint import write_checkpoint
from tests.read.recorder import record
from tests.read.reference import Sizes
from workers.read.conformance import run_conformance

LARGER_SAM = Sizes(
    vocab=123,
    hidden=80,
    heads=5,
    layers=1,
    clip_hidden=32,
    clip_heads=2,
    clip_layers=3,
    clip_image=336,
    sam_embed=32,
    sam_heads=2,
    sam_depth=2,
    sam_window=14,
    sam_global=(0,),
    sam_image=1024,
    projector="linear",
)


@pytest.mark.parametrize("sizes", [Sizes(), LARGER_SAM], ids=["224 pixels", "1024 pixels"])
def test_other_sizes_agree_with_an_independent_computation(
    sizes: Sizes, tmp_path: Path, write_tokenizer: Callable[[Path], tuple[int, list[int]]]
) -> None:
    (tmp_path / "checkpoint").mkdir()
    first, answer = write_tokenizer(tmp_path / "checkpoint")
    write_checkpoint(tmp_path, sizes, answer, first)
    record(tmp_path, sizes)
    results = run_conformance(tmp_path)
    assert [result for result in results if not result.ok] == []
    assert {result.kind for result in results} == {"evaluate", "train", "val"}
    assert {"mask_packed", "points", "grad_norms"} <= {result.array for result in results}
