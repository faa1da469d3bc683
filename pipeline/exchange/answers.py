"""From predictions and corrections to what an export says of an image."""

from collections.abc import Iterable, Sequence

from pipeline.exchange.exclusive import ACCEPTED, EDITED
from pipeline.exchange.records import Answer
from pipeline.records import Correction, Prediction

PREDICTED = "predicted"


def from_predictions(rows: Iterable[Prediction]) -> list[Answer]:
    """Return what a model says of an image; the sure ones are the strong ones."""
    return [
        Answer(
            key=row.key,
            label=row.label,
            query=row.query,
            present=row.present,
            mask=row.mask,
            score=row.predicted_iou if row.present else None,
            strength=row.predicted_iou,
            verdict=PREDICTED,
            model_version=row.model_version,
        )
        for row in rows
    ]


def from_corrections(rows: Iterable[Correction]) -> list[Answer]:
    """Return what people say of an image; masks that they drew or changed are the strong ones."""
    return [
        Answer(
            key=row.id,
            label=row.label,
            query=row.query,
            present=row.present,
            mask=row.mask,
            score=None,
            strength=EDITED if row.verdict in ("edited", "redrawn") else ACCEPTED,
            verdict=row.verdict,
            model_version=row.model_version,
        )
        for row in rows
    ]


def of_one_size(answers: Sequence[Answer]) -> list[Answer]:
    """Return the answers whose masks have the size of the first one's."""
    return [
        answer
        for answer in answers
        if (answer.mask.height, answer.mask.width)
        == (answers[0].mask.height, answers[0].mask.width)
    ]
