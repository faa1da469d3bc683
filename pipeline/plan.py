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
    """

    stop: threading.Event
    images: int = 0
    skipped: int = 0
    open: int = 0
    keys: list[str] = field(default_factory=list)
    labels: dict[str, None] = field(default_factory=dict)
    rewordings: dict[str, str] = field(default_factory=dict)
    _ends: "array[int]" = field(default_factory=lambda: array("q"))

    def open_work(
        self, asked: Iterable[ImageTasks], is_done: Callable[[str], bool]
    ) -> Iterator[ImageTasks]:
        """Yield what is asked and not done: images with at least one open query.

        Raises:
            StoppedError: ``stop`` was set.
        """
        for work in asked:
            if self.stop.is_set():
                raise StoppedError("stopped while planning; run again to go on")
            self.images += 1
            wanted = [task for task in work.tasks if not task.rewords]
            self.keys += [task.key for task in wanted]
            self._ends.append(len(self.keys))
            self.rewordings.update((task.key, task.rewords) for task in work.tasks if task.rewords)
            self.labels.update(dict.fromkeys(task.label for task in work.tasks))
            tasks = tuple(task for task in work.tasks if not is_done(task.key))
            self.open += len(tasks)
            self.skipped += sum(1 for task in wanted if is_done(task.key))
            if tasks:
                yield replace(work, tasks=tasks)

    def keys_by_image(self) -> Iterator[list[str]]:
        """Yield the keys of each image that was asked about, other wordings left out."""
        start = 0
        for end in self._ends:
            yield self.keys[start:end]
            start = end
