"""What a run asks for, what of it is still open, and the counts of both."""

import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from pipeline.errors import StoppedError
from pipeline.records import ImageTasks


@dataclass
class Plan:
    """Passes on the open work of a source and keeps what was asked.

    ``stop`` ends the planning. Memory holds one key a unit of work, not the work itself.
    ``rewordings`` are the keys of other wordings with the keys of what they reword; they are work,
    but nobody asked for their answers, so no other field but ``open`` counts them.
    ``moved`` are keys as planned with those of the answers that a newer model gave instead.
    """

    stop: threading.Event
    images: int = 0
    skipped: int = 0
    open: int = 0
    labels: dict[str, None] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    _keys: list[str] = field(default_factory=list)
    _rewordings: dict[str, str] = field(default_factory=dict)
    _ends: "array[int]" = field(default_factory=lambda: array("q"))

    @property
    def keys(self) -> list[str]:
        """Return the key of every unit of work that was asked for, other wordings left out."""
        return [self.moved.get(key, key) for key in self._keys] if self.moved else self._keys

    @property
    def rewordings(self) -> dict[str, str]:
        """Return the keys of other wordings with the keys of what they reword."""
        moved = self.moved
        if not moved:
            return self._rewordings
        return {moved.get(key, key): moved.get(of, of) for key, of in self._rewordings.items()}

    def move(self, moved: Iterable[tuple[str, str]], is_done: Callable[[str], bool]) -> None:
        """Take down that a newer model has answered, under other keys, also what was done."""
        for key, new in moved:
            self.moved[key] = new
            if is_done(key):
                self.open += 1
                self.skipped -= key not in self._rewordings

    def open_work(
        self,
        asked: Iterable[ImageTasks],
        is_done: Callable[[str], bool],
        *,
        whole: bool = False,
    ) -> Iterator[ImageTasks]:
        """Yield what is asked and not done: images with at least one open query.

        ``whole`` images carry what is done of them as well, for replicas that may move on to a
        newer model.

        Raises:
            StoppedError: ``stop`` was set.
        """
        for work in asked:
            if self.stop.is_set():
                raise StoppedError("stopped while planning; run again to go on")
            self.images += 1
            wanted = [task for task in work.tasks if not task.rewords]
            self._keys += [task.key for task in wanted]
            self._ends.append(len(self._keys))
            self._rewordings.update((task.key, task.rewords) for task in work.tasks if task.rewords)
            self.labels.update(dict.fromkeys(task.label for task in work.tasks))
            tasks = tuple(task for task in work.tasks if not is_done(task.key))
            self.open += len(tasks)
            self.skipped += sum(1 for task in wanted if is_done(task.key))
            if tasks:
                done = [task for task in work.tasks if is_done(task.key)] if whole else []
                yield replace(work, tasks=tasks, done=tuple(done))

    def keys_by_image(self) -> Iterator[list[str]]:
        """Yield the keys of each image that was asked about, other wordings left out."""
        start, keys = 0, self.keys
        for end in self._ends:
            yield keys[start:end]
            start = end
