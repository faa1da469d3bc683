"""People at work in Label Studio, played by a script that knows the true masks.

Each opens a task, sees the prediction, and submits one annotation: for a class that is in the
picture its true mask (the predicted mask region repainted, or a new one), with the points left
where they were; for any other the verdict *absent*. They speak HTTP to the server, as a browser
does, and know nothing of the store.
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Self

import httpx
import numpy as np

from benchmarks.camvid.measures import pixels_to_change
from benchmarks.camvid.photos import Mask, Photo, Truth
from labelstudio import brush
from labelstudio.interface import IMAGE, MASK, VERDICT, verdict
from pipeline.errors import LabelStudioError
from pipeline.records import Verdict

_AT_ONCE = 4
_PAGE = 500
_UNTOUCHED = {"filter": "filter:tasks:total_annotations", "operator": "equal", "type": "Number"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Corrected:
    """What became of one picture: the verdict that each class should get, pixels to change."""

    name: str
    verdicts: dict[str, Verdict]
    pixels: int


class Annotators:
    """Everybody who works in one project of a server; use it as a context manager.

    Every method raises LabelStudioError when the server refuses.
    """

    def __init__(self, url: str, token: str, project: int) -> None:
        self._project = project
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Token {token}"},
            timeout=120,
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def tasks(self) -> dict[str, int]:
        """Return the numbers of all tasks by the names of their pictures, without suffix."""
        return {_name(row): int(row["id"]) for row in self._listed({})}

    def untouched(self) -> list[str]:
        """Return the pictures that nobody has worked on, as Label Studio orders them by score."""
        rules = {"conjunction": "and", "items": [{**_UNTOUCHED, "value": 0}]}
        ordering = ["tasks:predictions_score", "tasks:id"]
        return [_name(row) for row in self._listed({"filters": rules, "ordering": ordering})]

    def correct(
        self,
        work: Mapping[int, Photo],
        truth_of: Callable[[Photo], Truth],
        done: Callable[[int], None],
    ) -> list[Corrected]:
        """Correct tasks, by their numbers, several at a time; those that are done are not again.

        ``done`` is told how many more are, and may raise to end the work.
        """

        def one(number: int, photo: Photo) -> Corrected:
            return self._correct(number, truth_of(photo))

        found = []
        people = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="annotator")
        try:
            for corrected in people.map(one, work.keys(), work.values()):
                found.append(corrected)
                done(1)
        finally:
            people.shutdown(cancel_futures=True)
        return found

    def _correct(self, number: int, truth: Truth) -> Corrected:
        task = self._ask("GET", f"/api/tasks/{number}")
        if len(task["predictions"]) != 1:
            raise LabelStudioError(f"task {number} shows {len(task['predictions'])} predictions")
        prediction = task["predictions"][0]
        shown = _shown_masks(prediction["result"])
        if not task["annotations"]:
            body = {
                "result": corrected_regions(prediction["result"], truth),
                "parent_prediction": prediction["id"],
            }
            self._ask("POST", f"/api/tasks/{number}/annotations/", json=body)
        verdicts = {
            label: expected_verdict(shown.get(label), mask) for label, mask in truth.masks.items()
        }
        return Corrected(_name(task), verdicts, pixels_to_change(shown, truth))

    def _listed(self, query: Json) -> list[Json]:
        rows: list[Json] = []
        asked = {"project": self._project, "page_size": _PAGE, "resolve_uri": "false"}
        if query:
            asked["query"] = json.dumps(query)
        while True:
            page = len(rows) // _PAGE + 1
            answer = self._ask("GET", "/api/tasks", params={**asked, "page": page})
            rows += answer["tasks"]
            if len(answer["tasks"]) < _PAGE or len(rows) >= answer["total"]:
                return rows

    def _ask(self, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401 - JSON
        try:
            answer = self._http.request(method, path, **more)
            answer.raise_for_status()
            return answer.json()
        except httpx.HTTPStatusError as error:
            raise LabelStudioError(f"{method} {path}: {error.response.text[:300]}") from error
        except httpx.TransportError as error:
            raise LabelStudioError(f"{method} {path}: {error!r}") from error


def corrected_regions(shown: Sequence[Json], truth: Truth) -> list[Json]:
    """Return what a person submits who was shown these regions and knows the truth."""
    height, width = truth.counted.shape
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    regions: list[Json] = []
    for label, mask in truth.masks.items():
        mine = [region for region in shown if _is_about(region, label)]
        if not mask.any():
            regions += [_chosen(region, "absent") for region in mine if _is_verdict(region)]
            continue
        value = {"format": "rle", "rle": brush.encode(mask), "brushlabels": [label]}
        drawn = [region for region in mine if region["type"] == "brushlabels"]
        fresh = {"id": secrets.token_hex(5), "type": "brushlabels", "from_name": MASK}
        fresh |= {"to_name": IMAGE, "origin": "manual", **size}
        regions.append({**(drawn[0] if drawn else fresh), "value": value})
        regions += [region for region in mine if region["type"] == "keypointlabels"]
        regions += [_chosen(region, "present") for region in mine if _is_verdict(region)]
    return regions


def expected_verdict(shown: Mask | None, truth: Mask) -> Verdict:
    """Return the verdict on a class that was shown with this mask (None: as absent)."""
    if not truth.any():
        return "accepted" if shown is None else "absent"
    if shown is None or not (shown & truth).any():
        return "redrawn"
    return "accepted" if np.array_equal(shown, truth) else "edited"


def _shown_masks(regions: Sequence[Json]) -> dict[str, Mask]:
    return {
        region["value"]["brushlabels"][0]: brush.decode(
            region["value"]["rle"], region["original_height"], region["original_width"]
        )
        > brush.PAINTED_ABOVE
        for region in regions
        if region["type"] == "brushlabels"
    }


def _is_about(region: Json, label: str) -> bool:
    if _is_verdict(region):
        return bool(region["from_name"] == verdict(label))
    (name,) = region["value"][region["type"]]
    return name in (label, f"{label} +", f"{label} -")


def _is_verdict(region: Json) -> bool:
    return str(region["from_name"]).startswith(VERDICT)


def _chosen(region: Json, choice: str) -> Json:
    return {**region, "value": {**region["value"], "choices": [choice]}}


def _name(task: Json) -> str:
    return PurePath(task["data"]["name"]).stem
