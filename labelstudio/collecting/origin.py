"""Which predictions a person's work began at.

Every region keeps the id that publishing gave it, and that id follows from the prediction's key
(:func:`labelstudio.publishing.payload.region_id`). So the ids say which version of the model was
shown, also where ``parent_prediction`` is null and where the task shows a newer version by now.
"""

from collections.abc import Collection, Sequence

from labelstudio.collecting.annotation import Region
from labelstudio.interface import slug
from labelstudio.publishing.payload import region_id
from pipeline.records import Prediction


def origins(
    regions: Sequence[Region], shown_now: Collection[str], candidates: Sequence[Prediction]
) -> list[Prediction]:
    """Return the prediction of each query that an annotation speaks of.

    Where no region of a query is left (all erased, or a task that withheld its predictions), it is
    the one of the model version that the other queries began at, else the one shown now.

    Args:
        regions: of the annotation.
        shown_now: the keys of the predictions that the task shows by now, one a query.
        candidates: all predictions of the image, oldest first.
    """
    ids = {str(region.get("id")) for region in regions}
    matches = {row.key: _matches(row, ids) for row in candidates}
    versions = {row.model_version for row in candidates if matches[row.key]}
    texts = {slug(row.label): row.query for row in candidates if row.key in shown_now}
    by_query: dict[str, list[Prediction]] = {}
    for row in candidates:
        if slug(row.label) in texts or matches[row.key]:
            by_query.setdefault(slug(row.label), []).append(row)

    def rank(row: Prediction) -> tuple[int, bool, bool, bool]:
        same_text = texts.get(slug(row.label)) == row.query
        known_version = row.model_version in versions
        return matches[row.key], same_text, known_version, row.key in shown_now

    return [max(reversed(rows), key=rank) for rows in by_query.values()]


def began_at_none(regions: Sequence[Region], candidates: Sequence[Prediction]) -> bool:
    """Return whether somebody worked in an annotation of their own, without a predicted region."""
    ids = {str(region.get("id")) for region in regions}
    return bool(ids) and not any(_matches(row, ids) for row in candidates)


def _matches(row: Prediction, ids: set[str]) -> int:
    """Return how many of the ids are those of a prediction's regions."""
    parts = ["mask", "verdict", *(f"point {place}" for place in range(len(row.points)))]
    return sum(region_id(row.key, part) in ids for part in parts)
