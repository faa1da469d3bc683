"""Masks of other tools into a run's store, as corrections or as pre-annotations. The recipe.

The source is read twice: once to see whether all of it fits, once to write. So nothing is written
of a source with a problem, unless the caller wants the rest of it. Doing it again adds nothing.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal

from pipeline.asked import Beside, asked_of
from pipeline.config import RunFile
from pipeline.errors import ConfigError, ExitCode, InputError
from pipeline.exchange.found import MaskSource
from pipeline.exchange.imported import (
    IMPORTED,
    Brought,
    ContentDigest,
    correction,
    correction_id,
    prediction,
    says_the_same,
)
from pipeline.exchange.read_coco import MAX_BYTES, CocoSource
from pipeline.exchange.read_png import PngSource
from pipeline.import_source import RunSource
from pipeline.progress import Progress
from pipeline.records import Correction, Query, task_key
from pipeline.storage.addresses import locate
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.shards import write_shard
from pipeline.storage.store import ObjectReader, Store, open_store
from pipeline.storage.tables import PredictionTables
from pipeline.versions import NO_SETTINGS, chosen_model

Target = Literal["corrections", "predictions"]
SourceFormat = Literal["coco", "png"]
_ROWS_AT_ONCE = 1024
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import and as what.

    ``source`` is a file (COCO) or a folder (PNG), local or ``s3://``. ``name`` distinguishes
    imports. ``labels`` maps categories to labels that are called otherwise. ``exhaustive``: a
    category without a mask on an image of the source is absent there. ``partial``: import what
    fits of a source with problems.
    """

    source: str
    target: Target
    format: SourceFormat
    name: str
    labels: Mapping[str, str]
    exhaustive: bool
    partial: bool


@dataclass
class ImportSummary:
    """What an import did.

    ``images``, ``present`` and ``absent`` are what fits of the source; ``new`` and ``updated``
    rows were written, ``existing`` said the same before. ``masks`` of the source were joined to
    the ``present`` ones, ``crowds`` of them are marked so. ``left_out`` counts problems by kind,
    ``problems`` tells the first. ``model_version`` is what predictions are published by.
    """

    images: int = 0
    present: int = 0
    absent: int = 0
    masks: int = 0
    crowds: int = 0
    new: int = 0
    updated: int = 0
    existing: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    model_version: str = ""
    seconds: float = 0.0

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        return ExitCode.FAILED_ROWS if self.left_out else ExitCode.DONE

    def to_json(self) -> dict[str, Any]:
        """Return the documented keys."""
        return asdict(self)


def import_masks(
    run: RunFile, request: ImportRequest, stop: threading.Event, progress: Progress
) -> ImportSummary:
    """Import masks for the images and labels that a run asks for.

    Raises:
        ConfigError: a ``--label`` names no category or no label.
        InputError: the source cannot be used, nothing of it fits, or some does not fit and
            ``partial`` is not set; nothing is written then.
        ModelUnusableError: the run's model cannot be used; corrections are compared with it.
        StorageError: a store failed.
        StoppedError: ``stop`` was set, or another process writes; run again to go on.
    """
    return _Import(run, request, stop, progress).write()


class _Import:
    def __init__(
        self, run: RunFile, request: ImportRequest, stop: threading.Event, progress: Progress
    ) -> None:
        self._request = request
        self._stop = stop
        self._progress = progress
        self._began = time.monotonic()
        self._store = open_store(run.store, run.s3)
        self._tables = PredictionTables(self._store)
        self._summary = ImportSummary()
        progress.say(f"reading {request.source}")
        source = _opened(request, run)
        model = ("", "")
        if request.target == "corrections":
            planned = chosen_model(run, self._store, None)
            model = (planned.version, planned.settings_json)
        self._asked = asked_of(run, *model, stop=stop, progress=progress)
        self._source = RunSource(
            source,
            self._asked,
            run,
            tables=self._tables,
            renamed=request.labels,
            exhaustive=request.exhaustive,
        )

    def write(self) -> ImportSummary:
        """Look at all of the source, then write what fits."""
        digest = self._examine()
        self._judge()
        self._progress.begin("images imported")
        self._progress.expect(self._summary.images)
        if self._request.target == "predictions":
            self._write_predictions(f"{IMPORTED}{self._request.name}@{digest}")
        else:
            self._write_corrections(IMPORTED + self._request.name)
        self._progress.end()
        self._summary.seconds = round(time.monotonic() - self._began, 3)
        return self._summary

    def _examine(self) -> str:
        """Count what fits; return the digest of it."""
        digest = ContentDigest()
        self._progress.begin("images checked")
        self._progress.expect(len(self._source.images))
        for row in self._source.examine(self._stop, self._progress):
            digest.add(row)
            self._summary.present += row.present
            self._summary.absent += not row.present
        self._summary.images = len(self._source.images)
        self._summary.masks = self._source.masks
        self._summary.crowds = self._source.crowds
        return digest.hex()

    def _judge(self) -> None:
        """Go on only if all fits, or some and that is enough."""
        problems = self._source.problems
        if problems.counts and not self._request.partial:
            raise InputError(
                f"{self._request.source}: nothing was imported (--partial takes what fits): "
                f"{problems.text()}"
            )
        if not self._summary.present + self._summary.absent:
            raise InputError(f"{self._request.source}: nothing fits the run: {problems.text()}")
        self._summary.left_out = {str(kind): count for kind, count in problems.counts.items()}
        self._summary.problems = problems.told

    def _write_predictions(self, version: str) -> None:
        self._summary.model_version = version
        found = self._source.answers(self._stop, self._progress)
        rows = (prediction(row, _key(row, version), version) for _, those in found for row in those)
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            fresh = [row for row in batch if not self._tables.is_done(row.key)]
            if fresh:
                self._tables.commit([write_shard(self._store, fresh)])
            self._summary.new += len(fresh)
            self._summary.existing += len(batch) - len(fresh)

    def _write_corrections(self, annotator: str) -> None:
        table = CorrectionTable(self._store)
        rows = self._revisions(table, annotator)
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            table.append(batch)

    def _revisions(self, table: CorrectionTable, annotator: str) -> Iterator[Correction]:
        """Yield what an earlier import of that name did not say."""
        now = datetime.now(UTC)
        known = Beside(table.by_image(self._source.images))
        predicted = Beside(self._tables.read_by_image(self._keys()))
        for asked, rows in self._source.answers(self._stop, self._progress):
            before = {row.id: row for row in known.of(asked.image.id)}
            model = {row.label: row for row in predicted.of(asked.image.id)}
            for row in rows:
                earlier = before.get(correction_id(row, annotator))
                if earlier is not None and says_the_same(row, earlier):
                    self._summary.existing += 1
                    continue
                self._summary.new += earlier is None
                self._summary.updated += earlier is not None
                at = now if earlier is None else max(now, earlier.updated_at + _TICK)
                yield correction(row, model.get(row.task.label), annotator, at)

    def _keys(self) -> Iterator[str]:
        for image in self._source.images:
            yield from (task.key for task in self._asked.images[image].tasks)


def _opened(request: ImportRequest, run: RunFile) -> MaskSource:
    if request.format == "coco":
        uri = locate(request.source).uri
        return CocoSource(ObjectReader(run.s3).get(uri, MAX_BYTES), uri)
    numbers = [key for key in request.labels if key.isascii() and key.isdigit()]
    if numbers and len(numbers) < len(request.labels):
        raise ConfigError("--label: name labels by folders or by numbers, not by both")
    folder: Store = open_store(request.source, run.s3)
    return PngSource(folder, numbers, run.limits.image_bytes)


def _key(row: Brought, version: str) -> str:
    query = Query(row.task.label, row.task.query, row.task.form, row.task.id)
    return task_key(row.image, query, version, NO_SETTINGS)
