"""``readloop evaluate`` end to end: the tiny model on a miniature ReasonSeg, twice."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from PIL import Image

from pipeline import masks
from pipeline.records import Rle

if TYPE_CHECKING:
    from tests.e2e.conftest import Readloop

WIDTH, HEIGHT = 120, 80
CORNERS = [[30, 20], [59, 20], [59, 49], [30, 49]]
ANNOTATION = {
    "text": ["Which thing is red?"],
    "is_sentence": True,
    "shapes": [{"label": "target", "points": CORNERS}],
    "false_premise_QA": [["the green star", False, "There is none."]],
}


def write_set(root: Path) -> np.ndarray:
    """Write one picture with a red square, and return the square's mask."""
    folder = root / "ReasonSeg" / "val"
    folder.mkdir(parents=True)
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[20:50, 30:60] = True
    Image.fromarray(np.where(truth[..., None], (220, 40, 40), 40).astype(np.uint8)).save(
        folder / "square.jpg"
    )
    (folder / "square.json").write_text(json.dumps(ANNOTATION))
    return truth


def ious(rows: list[dict[str, Any]], truth: np.ndarray) -> list[float]:
    """IoU of each row, counted from its mask."""
    found = []
    for row in rows:
        wanted = truth if row["query"] == "Which thing is red?" else np.zeros_like(truth)
        mask = masks.decode(Rle(**row["mask"]))
        union = int((mask | wanted).sum())
        found.append(int((mask & wanted).sum()) / union if union else 1.0)
    return found


def test_figures_are_those_of_the_table_and_a_second_run_asks_nothing(
    readloop_on_nodes: "Readloop", repository: Path, tmp_path: Path
) -> None:
    model = repository / "configs" / "models" / "tiny"
    truth = write_set(tmp_path / "sets")
    where = ("--dataset", "reasonseg", "--root", tmp_path / "sets", "--split", "val")
    command = ("evaluate", *where, "--model", model, "--store", tmp_path / "store", "--json")

    first = readloop_on_nodes(*command)
    assert first.code == 0, first.stderr
    table = DeltaTable(str(tmp_path / "store" / "predictions"))
    rows = pa.table(table.scan().read_all()).to_pylist()
    assert sorted(row["query"] for row in rows) == ["Which thing is red?", "the green star"]
    assert first.result
    assert first.result["giou"] == pytest.approx(np.mean(ious(rows, truth)))
    right = [row["present"] == (row["query"] != "the green star") for row in rows]
    assert first.result["see_accuracy"] == np.mean(right)
    assert (first.result["queries"], first.result["absent"], first.result["failed"]) == (2, 1, 0)
    assert first.result["dialogue_loss"] > 0
    assert first.result["dialogue_tokens"] > 32
    assert first.result["giou_ci"] == [first.result["giou"]] * 2

    assert readloop_on_nodes(*command).result == first.result
    assert DeltaTable(str(tmp_path / "store" / "predictions")).version() == table.version()
