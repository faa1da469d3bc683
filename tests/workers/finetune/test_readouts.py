"""Read-outs: their truth cell by cell, what they teach, and what they leave out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.storage.store import Store
from pipeline.storage.training_sets import Manifest, TrainingSets
from workers.finetune.lessons import Lessons, most_asked
from workers.finetune.loop import read_result, train
from workers.finetune.parallel import World
from workers.finetune.readouts import Reading, ReadOuts, build_reading
from workers.finetune.records import FinetuneJob, StepReport
from workers.finetune.settings import TrainSettings
from workers.read.batches import TaughtPicture, TaughtRow
from workers.read.checkpoint import load_model
from workers.read.config import ReadConfig
from workers.read.model import ReadModel

QUESTIONS = ("Where is the cat?", "Where is the cow?", "Where is the cup?")


@pytest.fixture
def model(tiny: Path) -> ReadModel:
    return load_model(tiny)


@pytest.fixture
def config(model: ReadModel) -> ReadConfig:
    return model.config


@pytest.fixture
def picture() -> TaughtPicture:
    """The cat covers the left half, there is no cow, nobody was asked about a cup."""
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, :64] = 255
    mask = image[..., 0] > 0
    return TaughtPicture(
        image,
        (
            TaughtRow(QUESTIONS[0], "[SEG].", (mask,)),
            TaughtRow(QUESTIONS[1], "No cow."),
            TaughtRow("Where is the sun?", "[SEG].", (~mask,)),
        ),
    )


@pytest.fixture
def reading(picture: TaughtPicture, config: ReadConfig) -> Reading:
    return build_reading([picture], QUESTIONS, config)


def test_cells_and_tokens_hold_what_the_objects_cover(reading: Reading, config: ReadConfig) -> None:
    grid, side = config.sam.grid, config.clip.side
    assert reading.known.tolist() == [[1, 1, 0]]
    filled = torch.zeros(grid, grid)
    filled[: grid // 2] = 1
    assert torch.equal(reading.filled[0], filled)
    cat = filled.clone()
    cat[:, grid // 2 :] = 0
    assert torch.equal(reading.cells[0, 0], cat)
    assert not reading.cells[0, 1:].any()
    tokens = torch.zeros(side, side)
    tokens[:, : side // 2] = 1
    assert torch.equal(reading.tokens[0, 0], tokens.flatten())
    assert not reading.tokens[0, 1:].any()
    assert reading.sam_views.shape == (1, 3, config.sam.image, config.sam.image)
    assert reading.clip_views.shape == (1, 3, config.clip.image, config.clip.image)


def test_rows_of_one_query_are_read_together(picture: TaughtPicture, config: ReadConfig) -> None:
    (cat, *_), mask = picture.rows, picture.rows[0].masks[0]
    both = replace(picture, rows=(replace(cat, masks=(~mask,)), cat, replace(cat, masks=())))
    reading = build_reading([both], QUESTIONS[:1], config)
    assert torch.equal(reading.cells[:, 0], reading.filled)
    assert torch.equal(reading.tokens, torch.ones_like(reading.tokens))


def test_only_what_is_known_and_filled_counts(model: ReadModel, reading: Reading) -> None:
    readouts = ReadOuts(model.config, len(QUESTIONS), seed=1)
    loss = readouts(model, reading)
    unknown, empty, told = (reading.cells.clone() for _ in range(3))
    unknown[:, 2] = 1
    empty[0, :, reading.filled[0] == 0] = 1
    told[:, 1] = 1
    assert readouts(model, replace(reading, cells=unknown)) == loss
    assert readouts(model, replace(reading, cells=empty)) == loss
    assert readouts(model, replace(reading, cells=told)) != loss
    twice = [torch.cat([getattr(reading, name)] * 2) for name in Reading.__slots__]
    torch.testing.assert_close(readouts(model, Reading(*twice)), loss)


def test_the_encoders_learn_from_it_and_nothing_else_does(
    model: ReadModel, reading: Reading
) -> None:
    readouts = ReadOuts(model.config, len(QUESTIONS), seed=1)
    learning = [*model.parameters(), *readouts.parameters()]
    optimizer = torch.optim.Adam(learning, lr=1e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = readouts(model, reading)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    taught = {name.split(".")[0] for name, one in model.named_parameters() if one.grad is not None}
    assert taught == {"clip", "projector", "sam"}
    assert not any("decoder" in n for n, one in model.named_parameters() if one.grad is not None)


def test_what_is_read_follows_from_the_step(
    store: Store, frozen: Manifest, settings: Callable[..., TrainSettings]
) -> None:
    examples = list(TrainingSets(store).examples(frozen))
    chosen = settings(parts="all", readouts={"images": 3, "queries": 2})
    lessons = Lessons(frozen, examples, chosen)
    assert lessons.to_read(5) == Lessons(frozen, examples, chosen).to_read(5)
    assert lessons.to_read(5) != lessons.to_read(6)
    shown = [lesson for step in range(20) for lesson in lessons.to_read(step)]
    assert len(shown) == 60
    assert {row.query for lesson in shown for row in lesson.rows} == set(lessons.read_out)
    assert {row.split for lesson in shown for row in lesson.rows} == {"train"}
    assert len(lessons.read_out) == 2
    plain = Lessons(frozen, examples, settings())
    assert (plain.read_out, plain.to_read(5)) == ((), [])
    assert plain.of_step(5) == lessons.of_step(5)


def test_the_queries_of_most_pictures_are_read_out(store: Store, frozen: Manifest) -> None:
    (example, *_) = TrainingSets(store).examples(frozen)
    asked = [("cow", "1"), ("cat", "1"), ("cat", "2"), ("ant", "1"), ("cow", "1"), ("cow", "1")]
    examples = [replace(example, query=query, image_id=image) for query, image in asked]
    assert most_asked(examples, 2) == ("cat", "ant")


def test_the_read_outs_are_not_kept(
    store: Store, job: Callable[..., FinetuneJob], tiny: Path
) -> None:
    reports: list[StepReport] = []
    read = {"parts": ["image_encoder", "clip"], "readouts": {"images": 2}}
    train(job(steps=3, **read), World(), reports.append)
    assert all(report.readout > 0 for report in reports)
    assert reports[0].loss > reports[0].readout
    result = read_result(store, "training/one")
    assert result
    assert store.address.local
    after = load_file(store.address.local / "models" / result.version / "model.safetensors")
    before = load_file(tiny / "model.safetensors")
    assert after.keys() == before.keys()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert changed
    assert all("image_encoder" in key for key in changed)


def test_steps_alone_come_first_and_teach_encoders_only(
    store: Store, job: Callable[..., FinetuneJob]
) -> None:
    read = {"parts": "all", "readouts": {"images": 2, "alone": 1.2}, "checkpoint_every": 3}
    reports: list[StepReport] = []
    train(job(steps=2, **read), World(), reports.append)
    assert [report.rows > 0 for report in reports] == [False] * 3 + [True] * 2
    assert [report.loss == report.readout > 0 for report in reports] == [True] * 3 + [False] * 2
    assert [report.rate for report in reports] == [1e-3] * 4 + [5e-4]
    result = read_result(store, "training/one")
    assert result
    assert (result.steps, result.images) == (5, 4)
