"""How good the current version is: it answers through the labelling pool's own replicas.

Answers lie in ``exams/`` of the order's store, where the gate's are: generated scenes that the gate
has asked a version about are not asked again, and what a version has answered is kept.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from benchmarks.camvid.measures import Quality, judge, quality
from benchmarks.camvid.photos import Photo, PhotoSet
from pipeline.compare import EXAMS
from pipeline.config import RunFile
from pipeline.errors import ConfigError, InputError
from pipeline.label import LabelRun
from pipeline.learning.exam import Exam, Judged
from pipeline.learning.measures import Measures, measure
from pipeline.progress import Progress
from pipeline.records import ImageRef, ImageTasks, LabelTask, Prediction, Query, task_key
from pipeline.registry.registry import Registry
from pipeline.storage.addresses import locate
from pipeline.storage.store import ObjectReader, open_store
from pipeline.storage.training_sets import SceneSet
from workers.finetune.judging import judged_scenes


@dataclass(frozen=True, slots=True)
class Examined:
    """What one version's answers are worth: on photographs, and on generated scenes."""

    version: str
    photos: Quality
    scenes: Measures


class PhotoExam:
    """Asks the photographs of a set, and the generated scenes that the gate judges by."""

    def __init__(self, run: RunFile, judged: PhotoSet, progress: Progress) -> None:
        self._run = run
        self._judged = judged
        self._progress = progress
        self._store = open_store(run.store, run.s3)
        self._scenes = Exam(judged_scenes(self._store, _scene_set(run)))
        self._asked: dict[str, Photo] = {}
        assert isinstance(run.source.queries, list)
        self._queries = [Query(query.label or "", query.text) for query in run.source.queries]

    def take(self, stop: threading.Event) -> Examined:
        """Let the current version answer what it has not answered yet, and measure all.

        Raises:
            InputError: an answer is missing, or a picture and its labels differ in size.
            ReadloopError: the store or the model cannot be used, or it was stopped.
        """
        registry = Registry(self._store)
        current = registry.current()
        if current is None:
            raise ConfigError(f"{self._store.uri}: no model version is current")
        asked = self._run.model_copy(
            update={
                "name": "exam",
                "store": self._store.address.child(EXAMS).uri,
                "model": registry.usable_weights(current.version),
                "labelstudio": None,
            }
        )
        run = LabelRun(asked, None, stop, self._progress, self._tasks)
        summary = run.label()
        if summary.failed:
            reason = next(run.failures()).reason
            raise InputError(f"{summary.failed} answers of the exam are missing: {reason}")
        return self._measured(run, current.version)

    def _measured(self, run: LabelRun, version: str) -> Examined:
        photos: list[Judged] = []
        scenes: list[Judged] = []
        for rows in run.tables.read_by_image(run.plan.keys):
            if rows[0].key in self._asked:
                photos += self._judge(rows)
            else:
                scenes += self._scenes.scores([rows]).values()
        return Examined(version, quality(photos), measure(scenes, 0.8))

    def _judge(self, rows: Sequence[Prediction]) -> list[Judged]:
        photo = self._asked[rows[0].key]
        truth = self._judged.truth(photo)
        try:
            return [judge(row, truth, photo.group) for row in rows]
        except ValueError as error:
            raise InputError(str(error)) from error

    def _tasks(self, version: str, settings: str) -> Iterator[ImageTasks]:
        return chain(self._photo_tasks(version, settings), self._scenes.tasks(version, settings))

    def _photo_tasks(self, version: str, settings: str) -> Iterator[ImageTasks]:
        reader = ObjectReader(self._run.s3)
        self._asked = {}
        for photo in self._judged.photos:
            uri = locate(str(photo.image)).uri
            info = reader.head(uri)
            image = ImageRef(uri, uri, info.size, info.etag, photo.group)
            tasks = []
            for query in self._queries:
                key = task_key(image, query, version, settings)
                tasks.append(LabelTask(key, query.label, query.text))
                self._asked[key] = photo
            yield ImageTasks(image, tuple(tasks))


def _scene_set(run: RunFile) -> SceneSet:
    scenes = run.finetune.data.replay.scenes
    if scenes is None or not scenes.judged:
        raise ConfigError("the run file's template needs finetune.data.replay.scenes.judged")
    return SceneSet(**scenes.model_dump())
