"""From samples to units of work, and from predictions back to scores."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from pipeline import masks
from pipeline.errors import MissingError
from pipeline.evaluation.metrics import Score
from pipeline.evaluation.samples import Mask, Sample
from pipeline.records import ImageRef, ImageTasks, LabelTask, Prediction, Query, task_key
from pipeline.storage.addresses import locate
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import ObjectReader

SEG = "[SEG]"


class Exam:
    """The samples of one split, asked under the label ``name``.

    A query that several objects of an image share is asked once and scored for each.
    """

    def __init__(self, name: str, samples: Sequence[Sample]) -> None:
        self.name = name
        self._samples = samples
        self._by_key: dict[str, list[Sample]] = {}

    def tasks(self, model_version: str, settings_json: str) -> Iterator[ImageTasks]:
        """Yield the images in their order, each with its distinct queries.

        A picture that is not there becomes work too, and fails when it is fetched.

        Raises:
            StorageError: the pictures' folder cannot be read.
        """
        self._by_key = {}
        reader = ObjectReader(S3Settings())
        for _, members in groupby(self._samples, key=attrgetter("image_id")):
            samples = list(members)
            image = _reference(samples[0], reader)
            tasks: dict[str, LabelTask] = {}
            for sample in samples:
                query = Query(self.name, sample.query, sample.form)
                key = task_key(image, query, model_version, settings_json)
                tasks[key] = LabelTask(key, query.label, query.text, query.form)
                self._by_key.setdefault(key, []).append(sample)
            yield ImageTasks(image, tuple(tasks.values()))

    def scores(self, predictions: Iterable[Sequence[Prediction]]) -> Iterator[Score]:
        """Yield the score of each sample that has a prediction.

        Raises:
            InputError: a truth cannot be drawn, or belongs to a picture of another size.
        """
        for rows in predictions:
            for row in rows:
                predicted = masks.decode(row.mask)
                for sample in self._by_key[row.key]:
                    yield _score(sample, row, predicted)


def _score(sample: Sample, row: Prediction, predicted: Mask) -> Score:
    truth = sample.truth.regions(row.height, row.width)
    counted = predicted & ~truth.ignored
    denied = not row.present and SEG not in row.answer and bool(row.answer.strip())
    return Score(
        image_id=sample.image_id,
        present=sample.present,
        found=row.present,
        intersection=int((counted & truth.target).sum()),
        union=int((counted | truth.target).sum()),
        denied=denied,
        correction_due=bool(sample.correction),
        corrected=denied and sample.correction.lower() in row.answer.lower(),
    )


def _reference(sample: Sample, reader: ObjectReader) -> ImageRef:
    address = locate(str(sample.image))
    try:
        info = reader.head(address.uri)
        size, etag = info.size, info.etag
    except MissingError:
        size, etag = 0, ""
    return ImageRef(sample.image_id, address.uri, size, etag, address.parent.uri)
