"""An import's source beside the run that it is for: what of it fits, and the answers in it."""

import threading
from collections.abc import Iterator, Mapping, Sequence

from pipeline.asked import Asked, AskedImage
from pipeline.config import RunFile
from pipeline.errors import ConfigError, StoppedError, StorageError
from pipeline.exchange.found import MaskSource, Size, UnfitError
from pipeline.exchange.imported import Brought, Mapped, brought, mapped
from pipeline.exchange.matching import Matcher
from pipeline.exchange.problems import Problems
from pipeline.progress import Progress
from pipeline.storage.store import ObjectReader
from pipeline.storage.tables import PredictionTables
from workers.read.errors import ImageError
from workers.read.images import decode


class UnreadableError(Exception):
    """An image of the run cannot be decoded, so that nothing fits it."""


class RunSource:
    """The part of a source that fits a run.

    Args:
        source: the masks.
        asked: what the run asks.
        run: the run file.
        tables: the run's, which know the sizes of images that were labeled.
        renamed: labels of categories that are called otherwise.
        exhaustive: whether a category without a mask on an image is absent there.

    Raises:
        ConfigError: ``renamed`` holds a category or a label that does not exist.
    """

    def __init__(
        self,
        source: MaskSource,
        asked: Asked,
        run: RunFile,
        *,
        tables: PredictionTables,
        renamed: Mapping[str, str],
        exhaustive: bool,
    ) -> None:
        self.problems = Problems()
        self.masks = 0
        self.crowds = 0
        self._source = source
        self._asked = asked
        self._limits = run.limits
        self._reader = ObjectReader(run.s3)
        self._label_of = _labels(source.categories, asked, renamed)
        self._implied = frozenset(self._label_of.values()) if exhaustive else frozenset()
        self._names = self._matched()
        self._sizes = self._known_sizes(tables)

    @property
    def images(self) -> list[str]:
        """Ids of the images that fit, in the order of the run."""
        return list(self._names)

    def examine(self, stop: threading.Event, progress: Progress) -> Iterator[Brought]:
        """Yield all answers for the first time, while what does not fit is noted and dropped.

        Raises:
            StorageError: a store failed.
            StoppedError: ``stop`` was set.
        """
        for image, name in list(self._names.items()):
            _check_stop(stop)
            asked = self._asked.images[image]
            try:
                found = self._load(asked, name)
            except UnfitError as error:
                self.problems.add("unfit", name, f"{name}: {error}")
                del self._names[image]
            except UnreadableError as error:
                self.problems.add("unreadable", name, f"{asked.name}: {error}")
                del self._names[image]
            else:
                self._note(found, asked, name)
                yield from self._answers(asked, found)
            progress.advance(1)

    def answers(
        self, stop: threading.Event, progress: Progress
    ) -> Iterator[tuple[AskedImage, list[Brought]]]:
        """Yield the answers of each image that fits; raises what :meth:`examine` does."""
        for image, name in self._names.items():
            _check_stop(stop)
            asked = self._asked.images[image]
            try:
                yield asked, self._answers(asked, self._load(asked, name))
            except (UnfitError, UnreadableError) as error:
                raise StorageError(
                    f"{name}: has changed since it was checked ({error}); import again",
                    retryable=True,
                ) from error
            progress.advance(1)

    def _matched(self) -> dict[str, str]:
        """Return the source's name of each image that is in it, in the order of the run."""
        ids = {asked.name: image for image, asked in self._asked.images.items()}
        matcher = Matcher(ids, with_suffix=self._source.with_suffix)
        found: dict[str, list[str]] = {}
        for name in self._source.names():
            try:
                found.setdefault(ids[matcher.find(name)], []).append(name)
            except UnfitError as error:
                self.problems.add("unmatched", name, f"{name}: {error}")
        for image, names in found.items():
            if len(names) > 1:
                known = self._asked.images[image].name
                self.problems.add("twice", known, f"{known}: comes as {' and '.join(names[:3])}")
        single = {image: names[0] for image, names in found.items() if len(names) == 1}
        return {image: single[image] for image in self._asked.images if image in single}

    def _known_sizes(self, tables: PredictionTables) -> dict[str, Size]:
        return {
            image: size
            for (image, etag), size in tables.sizes(self.images).items()
            if self._asked.images[image].image.etag == etag
        }

    def _load(self, asked: AskedImage, name: str) -> Mapped:
        return mapped(self._source.load(name, self._size(asked)), self._label_of)

    def _size(self, asked: AskedImage) -> Size:
        """Return height and width of an image, from its content if no table knows them."""
        image = asked.image
        if image.id not in self._sizes:
            try:
                data = self._reader.get(image.uri, self._limits.image_bytes, image.etag)
                pixels = decode(data, self._limits.image_pixels)
            except (ImageError, StorageError) as error:
                raise UnreadableError(str(error)) from error
            self._sizes[image.id] = (pixels.shape[0], pixels.shape[1])
        return self._sizes[image.id]

    def _note(self, found: Mapped, asked: AskedImage, name: str) -> None:
        self.masks += found.masks
        self.crowds += found.crowds
        for category in found.unknown:
            self.problems.add(
                "unknown_category",
                category,
                f"{name}: {category!r} is no label of the run; add --label '{category}=LABEL'",
            )
        for label in found.empty:
            self.problems.add("empty_mask", name, f"{name}: the mask of {label!r} has no pixel")
        for label, (mask, _) in found.answers.items():
            if mask is not None and asked.task(label) is None:
                self.problems.add("not_asked", name, f"{name}: {label!r} is not asked of it")

    def _answers(self, asked: AskedImage, found: Mapped) -> list[Brought]:
        implied = dict.fromkeys(self._implied.difference(found.empty), (None, None))
        answers = implied | found.answers
        return brought(asked.image, asked.tasks, answers, self._size(asked))


def _labels(categories: Sequence[str], asked: Asked, renamed: Mapping[str, str]) -> dict[str, str]:
    """Return the label of each category that has one."""
    for category, label in renamed.items():
        for kind, value, known in (
            ("category of the source", category, categories),
            ("label of the run", label, list(asked.labels)),
        ):
            if value not in known:
                listed = ", ".join(map(repr, known))
                raise ConfigError(
                    f"--label {category}={label}: {value!r} is no {kind}; there are {listed}"
                )
    return {name: name for name in categories if name in asked.labels} | dict(renamed)


def _check_stop(stop: threading.Event) -> None:
    if stop.is_set():
        raise StoppedError("stopped; what was imported is kept, import again to go on")
