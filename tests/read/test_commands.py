"""``readloop models inspect`` and ``readloop explain``, as they are typed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import run


def test_inspect_prints_everything_and_ends_with_0_or_1(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "inspect", str(tiny_folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["source"], told["family"], told["ok"]) == (str(tiny_folder), "read", True)
    assert told["sizes"]["llama"]["hidden"] == 64
    assert run(["models", "inspect", str(tiny_folder)]) == 0
    assert capsys.readouterr().out.endswith("complete\n")
    assert run(["models", "inspect", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err


def test_explain_draws_and_prints_numbers(
    tiny_folder: Path, picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(picture).save(tmp_path / "picture.png")
    asked = [str(tmp_path / "picture.png"), "the road", "--model", str(tiny_folder)]
    figure = tmp_path / "figures" / "road.png"
    assert run(["explain", *asked, "--out", str(figure), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (segment,) = told["segments"]
    assert -1 <= segment["spearman"] <= 1
    assert sum(segment["points"].values()) == 16
    assert segment["mask_area"] == segment["area_with_points"]
    with Image.open(figure) as drawn:
        assert drawn.width > 3 * 640
    assert run(["explain", asked[0], " ", *asked[2:], "--out", str(figure)]) == 1
