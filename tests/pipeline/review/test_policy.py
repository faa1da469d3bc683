"""Which correction trains, and how far annotators agree."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from pipeline import masks
from pipeline.records import Correction, Prediction
from pipeline.review.policy import agreement, training_corrections

Make = Callable[..., Correction]
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def say(predict: Callable[[int, str], Prediction]) -> Make:
    """Return what an annotator says at a minute: a bar from a column to another, or nothing."""

    def make(
        annotator: str, minute: int, columns: tuple[int, int] | None, **changes: Any
    ) -> Correction:
        row = predict(1, "road")
        mask = np.zeros((10, 100), np.bool_)
        if columns is not None:
            mask[:, slice(*columns)] = True
        made = Correction(
            id=f"{annotator} {minute}",
            key=row.key,
            project=1,
            task=1,
            annotation=minute,
            image_id=row.image_id,
            image=row.image,
            etag=row.etag,
            group=row.group,
            width=100,
            height=10,
            label=row.label,
            query=row.query,
            model_version=row.model_version,
            arm="shown",
            verdict="edited" if columns else "absent",
            present=columns is not None,
            mask=masks.encode(mask),
            points=(),
            iou=0.5,
            boundary_f=0.5,
            annotator=annotator,
            seconds=1.0,
            updated_at=_BEGIN + timedelta(minutes=minute),
        )
        return replace(made, **changes)

    return make


def chosen(*rows: Correction) -> list[str]:
    return [row.id for row in training_corrections(rows)]


@pytest.mark.parametrize("verdict", ["skipped", "deleted"])
def test_skipped_and_deleted_ones_never_train(say: Make, verdict: str) -> None:
    assert chosen(say("ann", 1, (0, 50)), say("bob", 2, (0, 60), verdict=verdict)) == ["ann 1"]
    assert chosen(say("ann", 1, (0, 50), verdict=verdict)) == []


def test_of_one_annotator_the_latest_trains(say: Make) -> None:
    assert chosen(say("ann", 2, (0, 50)), say("ann", 1, (0, 90))) == ["ann 2"]


def test_of_two_annotators_the_latest_trains(say: Make) -> None:
    assert chosen(say("ann", 2, (0, 50)), say("bob", 1, (0, 90))) == ["ann 2"]


def test_of_three_the_one_that_agrees_most_trains(say: Make) -> None:
    rows = say("ann", 1, (0, 50)), say("bob", 2, (0, 55)), say("cat", 3, (0, 60))
    assert chosen(*rows) == ["bob 2"]
    assert chosen(*rows[:2], say("cat", 3, None)) == ["bob 2"]
    assert chosen(say("ann", 1, None), say("bob", 2, None), rows[2]) == ["bob 2"]


def test_queries_and_images_are_told_apart(say: Make) -> None:
    rows = (
        say("ann", 1, (0, 50)),
        say("bob", 2, (0, 50), query="the wet road"),
        say("cat", 3, (0, 50), image_id="another"),
    )
    assert chosen(*rows) == ["ann 1", "bob 2", "cat 3"]


def test_a_replaced_picture_leaves_its_old_corrections_behind(say: Make) -> None:
    assert chosen(say("ann", 1, (0, 50)), say("bob", 2, (0, 50), etag="new")) == ["bob 2"]
    other = say("bob", 2, (0, 50), etag="new", label="sky")
    assert chosen(say("ann", 1, (0, 50)), other) == ["bob 2"]


def test_agreement_is_the_mean_over_pairs(say: Make) -> None:
    found = agreement([say("ann", 1, (0, 50)), say("bob", 2, (0, 100)), say("cat", 3, None)])
    assert (found.queries, found.pairs) == (1, 3)
    assert found.iou == pytest.approx((0.5 + 0 + 0) / 3)
    assert found.presence == pytest.approx(1 / 3)


def test_one_annotator_has_nobody_to_agree_with(say: Make) -> None:
    found = agreement([say("ann", 1, (0, 50)), say("ann", 2, (0, 60))])
    assert (found.queries, found.pairs, found.iou, found.presence) == (0, 0, None, None)
