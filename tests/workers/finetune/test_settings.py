"""Settings of a training, and what each step shows."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from pipeline.records import Example
from pipeline.storage.store import Store
from pipeline.storage.training_sets import Manifest, TrainingSets
from workers.finetune.lessons import Lesson, Lessons, SceneLesson, StoredLesson
from workers.finetune.loading import can_be_asked
from workers.finetune.settings import TrainedPart, TrainSettings
from workers.finetune.state import rate_at
from workers.read.engine import ReadEngine
from workers.read.lora import Part

Make = Callable[..., TrainSettings]


def test_every_part_of_a_model_can_be_named() -> None:
    assert get_args(TrainedPart) == get_args(Part)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images_per_step": 3, "workers": 2}, "cannot be divided among 2 workers"),
        (
            {"images_per_step": 4, "workers": 2, "parts": "all", "readouts": {"images": 3}},
            "readouts.images 3 cannot be divided",
        ),
        ({"readouts": {}}, "parts holds none of them"),
        ({"parts": ["adapters", "llama"]}, "adapters are for a frozen one"),
        ({"parts": []}, "nothing would learn"),
        ({"scenes_share": 0.6, "dialogue_share": 0.5}, "nothing for the corrections"),
        ({"lora": {"targets": ["query_proj"]}}, r"lora\.targets\.0"),
        ({"lora": {"targets": []}}, r"lora\.targets"),
        ({"gpus": 2}, "gpus"),
        ({"rat": 1}, "Extra inputs"),
    ],
)
def test_settings_that_do_not_agree_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainSettings.model_validate(changes)


def test_only_what_changes_the_outcome_makes_another_job(settings: Make) -> None:
    one = settings()
    assert one.digest("s") == settings(checkpoint_every=7, failures=9).digest("s")
    assert one.digest("s") != settings(rate=0.5).digest("s")
    assert one.digest("s") != one.digest("t")


def test_the_rate_rises_then_falls_to_zero(settings: Make) -> None:
    slow = settings(rate=1.0, warmup=100)
    rates = [rate_at(step, 50, slow) for step in (0, 4, 5, 49)]
    assert rates == pytest.approx([0.2, 1.0, 1.0, 1 / 45])


def shown(lessons: Lessons, steps: int) -> list[Lesson]:
    return [lesson for step in range(steps) for lesson in lessons.of_step(step)]


def test_what_is_held_out_is_never_shown(store: Store, frozen: Manifest, settings: Make) -> None:
    examples = TrainingSets(store).examples(frozen)
    held = {row.image for row in examples if row.split == "holdout"}
    lessons = Lessons(frozen, examples, settings())
    stored = [one for one in shown(lessons, 300) if isinstance(one, StoredLesson)]
    assert held
    assert {one.uri for one in stored} == {row.image for row in examples} - held


def test_shares_and_weights_are_those_asked_for(
    store: Store, frozen: Manifest, settings: Make
) -> None:
    examples = TrainingSets(store).examples(frozen)
    heavy = next(row for row in examples if row.split == "train").image_id
    weighted = [_weighted(row, 4.0 if row.image_id == heavy else 1.0) for row in examples]
    asked = settings(scenes_share=0.3, dialogue_share=0.1, images_per_step=8)
    found = shown(Lessons(frozen, weighted, asked), 500)
    kinds = Counter(
        "stored" if isinstance(one, StoredLesson) else "talk" if one.turn else "scene"
        for one in found
    )
    assert kinds["scene"] / len(found) == pytest.approx(0.3, abs=0.03)
    assert kinds["talk"] / len(found) == pytest.approx(0.1, abs=0.03)
    stored = Counter(one.rows[0].image_id for one in found if isinstance(one, StoredLesson))
    light = sum(stored.values()) - stored[heavy]
    assert stored[heavy] * (len(stored) - 1) / light == pytest.approx(4.0, rel=0.2)
    assert all(one.index < 5 for one in found if isinstance(one, SceneLesson) and not one.turn)


def _weighted(row: Example, weight: float) -> Example:
    return replace(row, weight=weight)


def test_epochs_become_steps(store: Store, frozen: Manifest, settings: Make) -> None:
    examples = TrainingSets(store).examples(frozen)
    plain = settings(steps=None, epochs=6, scenes_share=0.5, dialogue_share=0.25)
    lessons = Lessons(frozen, examples, plain)
    assert lessons.steps == 6 * lessons.images / 0.25 / 2
    assert Lessons(frozen, examples, settings(steps=9)).steps == 9


@pytest.mark.parametrize("query", ["the [SEG]", "ж" * 1_500], ids=["reserved", "many tokens"])
def test_a_query_that_cannot_be_asked_is_not_taught(
    store: Store, frozen: Manifest, settings: Make, tiny: Path, query: str
) -> None:
    engine = ReadEngine.load(tiny)
    model = engine.model
    askable = partial(
        can_be_asked,
        characters=2_000,
        config=model.config,
        settings=model.settings.prompt,
        tokenizer=engine.tokenizer,
    )
    examples = TrainingSets(store).examples(frozen)
    odd = [replace(row, query=query) if row.split == "train" else row for row in examples]
    first = next(at for at, row in enumerate(odd) if row.split == "train")
    odd[first] = examples[first]
    lessons = Lessons(frozen, odd, settings(), askable)
    assert lessons.refused == sum(row.split == "train" for row in examples) - 1
    rows = {
        row.id for one in shown(lessons, 20) if isinstance(one, StoredLesson) for row in one.rows
    }
    assert rows == {examples[first].id}
