"""What is stored is base plus adapter, also where the two nearly cancel."""

from pathlib import Path

import pytest
import torch

from workers.finetune.building import build_model
from workers.finetune.export import export
from workers.finetune.lessons import SceneLesson
from workers.finetune.loading import scene_picture
from workers.finetune.settings import TrainSettings
from workers.read.batches import build_batch
from workers.read.prompt import PromptSettings
from workers.read.tokenizer import ReadTokenizer
from workers.read.train import TrainingBatch

LAYER = "llama.model.layers.0.self_attn.q_proj"
SETTINGS = TrainSettings()


@pytest.fixture
def probe(tiny: Path) -> TrainingBatch:
    config = build_model(tiny, SETTINGS, "cpu").config
    picture = scene_picture(SceneLesson("easy", 3, 1, 128, 2, 0), PromptSettings())
    tokenizer = ReadTokenizer.from_folder(tiny)
    return build_batch([picture], config, PromptSettings(), tokenizer, loss_side=64)


def learned_against(tiny: Path, share: float) -> dict[str, torch.Tensor]:
    """Learn ``-share`` times one weight, and something of others in its row."""
    model = build_model(tiny, SETTINGS, "cpu")
    learned = {n: w.detach().clone() for n, w in model.named_parameters() if w.requires_grad}
    base = model.state_dict()[f"{LAYER}.base_layer.weight"][0, 0]
    wide, narrow = (learned[f"{LAYER}.lora_{side}.default.weight"] for side in "BA")
    wide.zero_()
    times = SETTINGS.lora.alpha / SETTINGS.lora.rank
    wide[0] = -share * base / times * narrow[:, 0] / (narrow[:, 0] @ narrow[:, 0])
    return learned


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_rounding_is_all_that_differs(
    tiny: Path, probe: TrainingBatch, tmp_path: Path, share: float
) -> None:
    check = export(tiny, learned_against(tiny, share), SETTINGS, probe, tmp_path / "model")
    assert check.weight_error <= 1 / 256


def test_a_weight_that_was_not_stored_is_seen(
    tiny: Path, probe: TrainingBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "workers.finetune.export.write_checkpoint",
        lambda _model, start, folder: folder.symlink_to(start, target_is_directory=True),
    )
    check = export(tiny, learned_against(tiny, 0.5), SETTINGS, probe, tmp_path / "model")
    assert check.weight_error > 1 / 4
