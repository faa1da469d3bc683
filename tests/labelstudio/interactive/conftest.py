"""Messages of the browser, and a backend whose model is a stand-in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from labelstudio.interactive.backend import Backend
from labelstudio.publishing.payload import regions_of
from labelstudio.settings import LabelStudioSettings
from pipeline.records import Prediction

SETTINGS = LabelStudioSettings(url="http://127.0.0.1", project="any")
Json = dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A mask that a stand-in made."""

    mask: NDArray[np.bool_]
    predicted_iou: float = 0.5


@dataclass
class MaskMaker:
    """A stand-in model: paints a pixel at every placed point, notes what it was asked."""

    rows: Sequence[Prediction]
    version: str = "v1"
    kept: list[tuple[int, ...]] = field(default_factory=list)
    placed: list[tuple[Any, ...]] = field(default_factory=list)

    def prediction(self, key: str) -> Prediction | None:
        """Return the row with that key."""
        return next((row for row in self.rows if row.key == key), None)

    def refine(self, row: Prediction, kept: Sequence[int], placed: Sequence[Any]) -> Drawn:
        """Paint a pixel at each inside point that was placed."""
        self.kept.append(tuple(kept))
        self.placed.append(tuple(placed))
        mask = np.zeros((row.height, row.width), np.bool_)
        for x, y, sign in placed:
            mask[int(y), int(x)] = sign == 1
        return Drawn(mask)

    def ask(self, row: Prediction, label: str, query: str) -> Prediction:
        """Answer with the same mask under another label; there are no unicorns."""
        present = query != "unicorn"
        return replace(row, key=f"asked {query}", label=label, query=query, present=present)


@pytest.fixture
def rows(prediction: Callable[..., Prediction]) -> tuple[Prediction, Prediction]:
    road, sky = prediction("road"), prediction("sky")
    return replace(road, key="road-key"), replace(sky, key="sky-key")


@pytest.fixture
def masks(rows: tuple[Prediction, Prediction]) -> MaskMaker:
    return MaskMaker(rows)


@pytest.fixture
def backend(masks: MaskMaker) -> Backend:
    return Backend(masks, SETTINGS, most_points=50)


def regions(row: Prediction, sign: str) -> list[Json]:
    """Return the shown points of a prediction as the browser sends them."""
    return [
        {**region, "origin": "prediction"}
        for region in regions_of(row, SETTINGS).regions
        if region["value"].get("keypointlabels") == [f"{row.label} {sign}"]
    ]


def click(name: str, label: str, x: float, y: float, *, alt: bool = False) -> Json:
    value = {"x": x, "y": y, "width": 0.9, "labels": [label], "keypointlabels": [label]}
    region = {"id": name, "type": "keypointlabels", "from_name": "points", "to_name": "image"}
    return {**region, "value": value, "is_positive": not alt, "origin": "manual"}


def message(
    rows: Sequence[Prediction], context: Sequence[Json], drafts: Sequence[Json] = ()
) -> Json:
    shown = [region for row in rows for region in regions_of(row, SETTINGS).regions]
    task = {
        "id": 7,
        "data": {"key": "task"},
        "drafts": list(drafts),
        "annotations": [],
        "predictions": [{"id": 1, "updated_at": "1", "result": shown}],
    }
    return {"tasks": [task], "params": {"context": {"result": list(context)}}}


def answered(backend: Backend, body: Json) -> list[Json]:
    (result,) = backend.answer(backend.read(body))["results"]
    found: list[Json] = result["result"]
    return found


def question(text: str) -> Json:
    return {"id": "q", "type": "textarea", "from_name": "ask", "value": {"text": [text]}}
