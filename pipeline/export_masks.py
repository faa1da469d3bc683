"""A run's masks as files that other tools train on. The recipe.

What is asked is planned as for labeling, so that what the run no longer asks (another model,
query or content of an image) is not exported.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pipeline.asked import AskedImage, Beside, asked_of
from pipeline.config import RunFile
from pipeline.errors import ConfigError, InputError, StoppedError
from pipeline.exchange.answers import from_corrections, from_predictions, of_one_size
from pipeline.exchange.categories import numbered
from pipeline.exchange.export import Exporter, Shaping
from pipeline.exchange.folder import MANIFEST, check_place, whole_folder
from pipeline.exchange.names import check_stems
from pipeline.exchange.records import Answer, Category, ExportedImage, ImageAnswers
from pipeline.exchange.writing import made_parent
from pipeline.progress import Progress
from pipeline.records import Correction
from pipeline.review.policy import is_rejection, training_corrections
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import ObjectReader, open_store
from pipeline.storage.tables import PredictionTables
from pipeline.versions import chosen_model

What = Literal["corrections", "predictions"]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export, how and where to.

    ``complete`` leaves out images that lack an answer for a label of the run. ``images`` copies
    the images too. ``version`` is that of the model, see :func:`pipeline.versions.chosen_model`.
    """

    what: What
    shaping: Shaping
    out: Path
    complete: bool
    images: bool
    replace: bool
    version: str | None


@dataclass
class LeftOut:
    """What is asked and not exported, in images and (image, query).

    ``unanswered_images``: nothing is known of them. ``incomplete_images``: left out by request.
    ``skipped``, ``deleted``: by people. ``outdated``: corrections of another query text or of an
    image that has been replaced since. ``rejected``: masks that a person called wrong and did not
    repair.
    """

    unanswered_images: int = 0
    incomplete_images: int = 0
    skipped: int = 0
    deleted: int = 0
    outdated: int = 0
    rejected: int = 0


def export_masks(
    run: RunFile, request: ExportRequest, stop: threading.Event, progress: Progress
) -> dict[str, Any]:
    """Export a run's masks; return what ``export.json`` says of it.

    Raises:
        ConfigError: the run file's ``exclusive`` does not fit its labels, or the format.
        InputError: there is nothing to export, or ``out`` holds something else.
        StorageError: a store or the disk failed.
        StoppedError: ``stop`` was set; nothing was written.
    """
    return _Export(run, request, stop, progress).write()


class _Export:
    def __init__(
        self, run: RunFile, request: ExportRequest, stop: threading.Event, progress: Progress
    ) -> None:
        check_place(request.out, replace=request.replace)
        self._run = run
        self._request = request
        self._stop = stop
        self._progress = progress
        self._began = time.monotonic()
        self._store = open_store(run.store, run.s3)
        self._reader = ObjectReader(run.s3)
        self._left = LeftOut()
        self._model = ("", "")
        if request.what == "predictions":
            model = chosen_model(run, self._store, request.version)
            self._model = (model.version, model.settings_json)
        self._asked = asked_of(run, *self._model, stop=stop, progress=progress)
        self._check()

    def write(self) -> dict[str, Any]:
        """Write the folder."""
        request = self._request
        categories = numbered(self._store, self._asked.labels)
        with whole_folder(request.out, replace=request.replace) as folder, ExitStack() as files:
            exporter = self._exporter(folder, files, categories)
            images, table = self._answered()
            self._progress.begin("images exported")
            self._progress.expect(len(self._asked.images))
            for image in images:
                exported = exporter.add(image)
                if request.images:
                    self._copy(exported, folder)
            self._progress.end()
            if not exporter.counts.images:
                raise InputError(self._nothing())
            manifest = self._manifest(exporter.close(), categories, table)
            text = json.dumps(manifest, indent=1, ensure_ascii=False)
            (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        return manifest

    def _check(self) -> None:
        for group in self._run.exclusive:
            for label in group:
                if label not in self._asked.labels:
                    known = ", ".join(map(repr, self._asked.labels))
                    raise ConfigError(
                        f"exclusive: {label!r} is no label of run {self._run.name}; its labels "
                        f"are {known}"
                    )
        if self._request.shaping.format in ("yolo", "png"):
            check_stems(asked.name for asked in self._asked.images.values())

    def _exporter(
        self, folder: Path, files: ExitStack, categories: tuple[Category, ...]
    ) -> Exporter:
        return Exporter(
            folder,
            files,
            self._request.shaping,
            categories=categories,
            labels=tuple(self._asked.labels),
            exclusive=self._run.exclusive,
            by_image=len({asked.image.group for asked in self._asked.images.values()}) == 1,
            info={
                "description": f"{self._request.what} of readloop run {self._run.name}",
                "version": version("readloop"),
                "model_version": self._model[0],
            },
        )

    def _answered(self) -> tuple[Iterator[ImageAnswers], int]:
        """Return the images with what is known of them, and the version of the table read."""
        if self._request.what == "predictions":
            tables = PredictionTables(self._store)
            predicted = Beside(tables.read_by_image(self._asked.keys()))
            found = ((a, from_predictions(predicted.of(a.image.id))) for a in self._images())
            return self._known(found), tables.version
        table = CorrectionTable(self._store)
        corrected = Beside(table.by_image(self._asked.images))
        current = ((a, self._trusted(a, corrected.of(a.image.id))) for a in self._images())
        return self._known(current), table.version

    def _images(self) -> Iterator[AskedImage]:
        for asked in self._asked.images.values():
            if self._stop.is_set():
                raise StoppedError("stopped; nothing was written, export again")
            yield asked
            self._progress.advance(1)

    def _trusted(self, asked: AskedImage, rows: list[Correction]) -> list[Answer]:
        """Return what the corrections of an image say about what is asked of it now."""
        current = []
        for row in rows:
            task = asked.task(row.label)
            if task is None or row.verdict == "deleted":
                self._left.deleted += row.verdict == "deleted"
            elif task.query != row.query or asked.image.etag != row.etag:
                self._left.outdated += 1
            elif is_rejection(row):
                self._left.rejected += 1
            else:
                current.append(row)
        self._left.skipped += sum(row.verdict == "skipped" for row in current)
        return from_corrections(training_corrections(current))

    def _known(self, found: Iterator[tuple[AskedImage, list[Answer]]]) -> Iterator[ImageAnswers]:
        for asked, given in found:
            answers = of_one_size(given)
            self._left.outdated += len(given) - len(answers)
            known = {answer.label for answer in answers}
            if not answers:
                self._left.unanswered_images += 1
            elif self._request.complete and not known.issuperset(self._asked.labels):
                self._left.incomplete_images += 1
            else:
                yield ImageAnswers(
                    image=asked.image,
                    name=asked.name,
                    width=answers[0].mask.width,
                    height=answers[0].mask.height,
                    answers=tuple(answers),
                    unknown=tuple(t.label for t in asked.tasks if t.label not in known),
                )

    def _copy(self, image: ExportedImage, folder: Path) -> None:
        reference = image.source.image
        data = self._reader.get(reference.uri, self._run.limits.image_bytes, reference.etag)
        by_split = (image.split,) if self._request.shaping.format == "yolo" else ()
        path = folder.joinpath("images", *by_split, image.source.name)
        made_parent(path).write_bytes(data)

    def _nothing(self) -> str:
        if self._left.incomplete_images:
            return "no image has an answer for every label of the run; leave out --complete"
        if self._request.what == "predictions":
            return (
                f"no predictions of model version {self._model[0]} for what run "
                f"{self._run.name} asks: run 'readloop label' first, or check --version"
            )
        return f"no corrections for what run {self._run.name} asks: collect some first"

    def _manifest(
        self, report: dict[str, Any], categories: tuple[Category, ...], table: int
    ) -> dict[str, Any]:
        request = self._request
        return {
            "run": self._run.name,
            "what": request.what,
            "format": request.shaping.format,
            "out": str(request.out.expanduser().absolute()),
            **report,
            "left_out": vars(self._left),
            "categories": [{"id": row.id, "name": row.name} for row in categories],
            "model_version": self._model[0],
            "table_version": table,
            "readloop": version("readloop"),
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._began, 3),
        }
