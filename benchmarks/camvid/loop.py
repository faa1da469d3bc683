"""The loop of one order, round by round: correct, collect, refresh, measure. The recipe.

What a round has done is found again by what it left behind: the list of its images, annotations in
Label Studio, corrections, the gate's decision, answers. Its result is written last. So whoever is
killed anywhere is started again and goes on.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.camvid.annotators import Annotators, Corrected
from benchmarks.camvid.checks import check_corrections
from benchmarks.camvid.exam import Examined, PhotoExam
from benchmarks.camvid.files import read_json, write_once
from benchmarks.camvid.refreshing import Refreshed, label_all, refresh
from benchmarks.camvid.settings import OrderName, Play
from labelstudio.client import LabelStudioClient
from labelstudio.projects import run_projects
from pipeline.candidates import current_version
from pipeline.collect import CollectRun
from pipeline.errors import ConfigError, StoppedError
from pipeline.progress import Progress
from pipeline.storage.store import open_store
from workers.cluster import ray_session

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """Where Label Studio is."""

    url: str
    token: str


class Loop:
    """Plays one order in its folder, against a Label Studio server that is there."""

    def __init__(
        self,
        play: Play,
        order: OrderName,
        server: Server,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self._play = play
        self._order = order
        self._server = server
        self._stop = stop
        self._progress = progress
        self._run = play.run_file(order, server.url)
        self._photos = {photo.name: photo for photo in play.pool.photos}
        self._exam = PhotoExam(self._run, play.judged, progress)

    def play(self) -> None:
        """Play what is not played yet.

        Raises:
            ReadloopError: something cannot be used, or it was stopped; start again to go on.
        """
        with ray_session(self._run.pool):
            if read_json(self._path(0)) is None:
                self._begin()
            for number, images in enumerate(self._play.rounds, start=1):
                if read_json(self._path(number)) is None:
                    self._play_round(number, images)

    def _begin(self) -> None:
        """Label all photographs with the model that has seen none, and measure it."""
        clock = Clock()
        store = open_store(self._run.store, self._run.s3)
        with clock.stage("label"):
            current_version(self._run, store, self._progress)
            label_all(self._run, self._stop, self._progress)
        with clock.stage("exam"):
            examined = self._exam.take(self._stop)
        self._write(0, 0, examined, clock, {})

    def _play_round(self, number: int, images: int) -> None:
        clock = Clock()
        names = self._chosen(number, images)
        with clock.stage("annotate"):
            corrected = self._correct(names)
        with clock.stage("collect"):
            CollectRun(self._run, self._stop, self._progress).collect()
            self._check(names, corrected)
        refreshed = refresh(self._run, self._stop, self._progress)
        clock.seconds |= refreshed.seconds
        with clock.stage("exam"):
            examined = self._exam.take(self._stop)
        pixels = sum(one.pixels for one in corrected) / len(corrected)
        self._write(number, images, examined, clock, _of_round(refreshed, corrected, pixels))

    def _chosen(self, number: int, images: int) -> list[str]:
        """Return the pictures of a round: as they were chosen, else the next ones by the order."""
        path = self._path(number, "images")
        if (known := read_json(path)) is not None:
            return list(known)
        before = self._corrected_until(number - 1)
        count = images - len(before)
        if self._order == "worst":
            with self._annotators() as people:
                names = people.untouched()
        else:
            names = sorted(self._photos)
            random.Random(self._play.seed).shuffle(names)
        chosen = [name for name in names if name not in before][:count]
        if len(chosen) < count:
            raise ConfigError(f"{self._order}: {len(chosen)} untouched images are left of {count}")
        write_once(path, chosen)
        return chosen

    def _correct(self, names: Sequence[str]) -> list[Corrected]:
        self._progress.begin("images corrected")
        with self._annotators() as people:
            tasks = people.tasks()
            found = people.correct(
                {tasks[name]: self._photos[name] for name in names},
                self._play.pool.truth,
                self._advance,
            )
        self._progress.end()
        return found

    def _advance(self, count: int) -> None:
        self._progress.advance(count)
        if self._stop.is_set():
            raise StoppedError("stopped while correcting; start again to go on")

    def _check(self, names: Sequence[str], corrected: Sequence[Corrected]) -> None:
        truths = {name: self._play.pool.truth(self._photos[name]) for name in names}
        store = open_store(self._run.store, self._run.s3)
        check_corrections(store, corrected, truths)

    def _corrected_until(self, number: int) -> frozenset[str]:
        """Return the pictures of all rounds up to a number."""
        lists = (read_json(self._path(one, "images")) for one in range(1, number + 1))
        return frozenset(name for names in lists for name in names)

    @contextmanager
    def _annotators(self) -> Iterator[Annotators]:
        settings = self._run.labelstudio
        assert settings is not None
        client = LabelStudioClient(self._server.url, SecretStr(self._server.token))
        (project,) = run_projects(client, settings)
        with Annotators(self._server.url, self._server.token, project.id) as people:
            yield people

    def _write(
        self, number: int, images: int, examined: Examined, clock: "Clock", more: Json
    ) -> None:
        photos = examined.photos
        row = {
            "images": images,
            "miou": photos.miou,
            "ciou": photos.ciou,
            "ciou_by_class": photos.ciou_by_class,
            "presence": photos.presence,
            "replay_miou": examined.scenes.iou,
            "pixels_per_image": more.pop("pixels_per_image", None),
            "promoted": more.pop("promoted", None),
            "minutes": sum(clock.seconds.values()) / 60,
        }
        detail = {
            "version": examined.version,
            "accepted": photos.accepted,
            "replay_denied": examined.scenes.denied,
            "seconds": clock.seconds,
            **more,
        }
        write_once(self._path(number), {"row": row, "detail": detail})
        self._progress.say(
            f"{self._order}, {images} images: mean IoU {photos.miou:.3f}, cIoU {photos.ciou:.3f}, "
            f"presence {photos.presence:.3f}, scenes {examined.scenes.iou:.3f}, "
            f"pixels an image {row['pixels_per_image']}, promoted {row['promoted']}, "
            f"{row['minutes']:.1f} min"
        )

    def _path(self, number: int, kind: str = "result") -> Path:
        return round_path(self._play, self._order, number, kind)


def round_path(play: Play, order: OrderName, number: int, kind: str = "result") -> Path:
    """Return where the ``images`` or the ``result`` of a round are; round 0 is before any."""
    return play.folder(order) / "rounds" / f"{number:03d}-{kind}.json"


class Clock:
    """Where the wall seconds of a round went. What a killed call had spent is not in it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds of a block."""
        began = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began


def _of_round(refreshed: Refreshed, corrected: Sequence[Corrected], pixels: float) -> Json:
    said: dict[str, int] = {}
    for one in corrected:
        for verdict in one.verdicts.values():
            said[verdict] = said.get(verdict, 0) + 1
    return {
        "pixels_per_image": pixels,
        "promoted": refreshed.promoted,
        "reasons": list(refreshed.reasons),
        "verdicts": said,
        "gate": refreshed.gate,
    }
