"""All predictions ever made of an image, found by the key of any of them.

A person's work may have begun at the prediction of an older model.
"""

from collections.abc import Iterable

from pipeline.records import Prediction
from pipeline.storage.index import RowIndex
from pipeline.storage.schemas import predictions_from_arrow
from pipeline.storage.snapshot import Snapshot


class PredictionVersions:
    """The predictions of one version of the table, by image. Raises StorageError.

    Memory holds 20 bytes a row of the table and what a call returns.
    """

    def __init__(self, predictions: Snapshot) -> None:
        self._index = RowIndex(predictions, ["key", "image_id"])

    def of_images(self, keys: Iterable[str]) -> dict[str, list[Prediction]]:
        """Return, for each key that is in the table, all predictions of its image, oldest first."""
        wanted = list(dict.fromkeys(keys))
        chosen = self._index.where_like("image_id", self._index.where("key", wanted))
        by_image: dict[str, list[Prediction]] = {}
        for table in self._index.read(chosen):
            for row in predictions_from_arrow(table):
                by_image.setdefault(row.image_id, []).append(row)
        image_of = {row.key: row.image_id for rows in by_image.values() for row in rows}
        return {key: by_image[image_of[key]] for key in wanted if key in image_of}
