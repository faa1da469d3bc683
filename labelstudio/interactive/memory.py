"""What the browser has sent but not yet saved.

Points of the other sign do not travel with a gesture, and the draft that holds them is saved only
some seconds later. So the last points that were seen of each sign are kept for a task until its
draft changes. So are points that no answer has held yet, until one does: the browser deletes a new
point when it accepts an answer without it. A changed draft says which of them are still there.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from labelstudio.interactive.request import PointRegion, PredictRequest
from pipeline.records import PointLabel

OPEN_POINTS, SEEN_SIGNS, SIGN_POINTS = 1_000, 1_000, 1_000
"""Most of each that are kept: of a task, of a task, and of a sign."""
_Sign = tuple[str, PointLabel]


@dataclass
class _Task:
    stamp: str = ""
    seen: dict[_Sign, tuple[PointRegion, ...]] = field(default_factory=dict)
    open: dict[str, PointRegion] = field(default_factory=dict)
    asked: str = ""
    latest: PredictRequest | None = None


def _forget_first(held: dict[Any, Any], most: int) -> None:
    for key in list(held)[: max(0, len(held) - most)]:
        del held[key]


def _see_points(task: _Task, request: PredictRequest) -> None:
    """Let the points that travelled count from now on.

    They are all points whose label names one sign. An alt-click has the other sign, whose points
    did not travel: it is added to those. It travels with them once an answer has held it.
    """
    travelled = {point.id for point in request.points}
    for key in {(point.label, point.sign) for point in request.points}:
        task.seen.setdefault(key, _of(request.saved.points, key))
    for label, named in {(point.label, point.named) for point in request.points}:
        known = task.seen.get((label, named), ())
        alt = (point for point in known if point.named != named and point.id in task.open)
        task.seen[label, named] = tuple(alt)
    for key, known in task.seen.items():
        left = (point for point in known if point.id not in travelled)
        task.seen[key] = (*left, *_of(request.points, key))[-SIGN_POINTS:]


def _of(points: Iterable[PointRegion], key: _Sign) -> tuple[PointRegion, ...]:
    return tuple(point for point in points if (point.label, point.sign) == key)


class Memory:
    """Bounded: what was worked on longest ago is forgotten first. Threads may share it."""

    def __init__(self, tasks: int = 1_000) -> None:
        self._tasks: OrderedDict[int, _Task] = OrderedDict()
        self._most = tasks
        self._lock = threading.Lock()

    def see(self, request: PredictRequest) -> None:
        """Take note of a request, in the order they arrive."""
        with self._lock:
            task = self._tasks.setdefault(request.task, _Task())
            self._tasks.move_to_end(request.task)
            if len(self._tasks) > self._most:
                self._tasks.popitem(last=False)
            if task.stamp != request.saved.stamp:
                task.stamp = request.saved.stamp
                task.seen.clear()
                task.open.clear()
            task.latest = request
            if request.asked:
                task.asked = request.asked[-1]
            _see_points(task, request)
            task.open.update({point.id: point for point in request.points if point.fresh})
            _forget_first(task.seen, SEEN_SIGNS)
            _forget_first(task.open, OPEN_POINTS)

    def current(self, request: PredictRequest, label: str) -> tuple[PointRegion, ...]:
        """Return all points of a query as they are now, both signs, each once."""
        with self._lock:
            seen = dict(self._tasks.get(request.task, _Task()).seen)
        points = {
            point.id: point
            for point in request.saved.points
            if point.label == label and (label, point.sign) not in seen
        }
        for key, known in seen.items():
            if key[0] == label:
                points.update({point.id: point for point in known})
        return tuple(points.values())

    def undelivered(self, request: PredictRequest) -> tuple[PointRegion, ...]:
        """Return the task's new points that no answer has held, of any query."""
        with self._lock:
            waiting = dict(self._tasks.get(request.task, _Task()).open)
        waiting.update({point.id: point for point in request.saved.points if point.fresh})
        for point in request.points:
            waiting.pop(point.id, None)
            if point.fresh:
                waiting[point.id] = point
        return tuple(waiting.values())

    def deliver(self, request: PredictRequest, points: tuple[PointRegion, ...]) -> None:
        """Note that the answer to a request holds those points.

        The browser ignores an answer to any but its last request. Equal requests share an answer.
        """
        with self._lock:
            task = self._tasks.get(request.task, _Task())
            if task.latest == request:
                for point in points:
                    task.open.pop(point.id, None)

    def asked(self, request: PredictRequest) -> str:
        """Return the question that the task's own label stands for, empty if there was none."""
        with self._lock:
            asked = self._tasks.get(request.task, _Task()).asked
        return asked or (request.saved.asked[-1] if request.saved.asked else "")
