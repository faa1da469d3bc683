"""What a run asks for, what of it is still open, and the counts of both."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from pipeline.errors import StoppedError
from pipeline.records import ImageTasks


@dataclass
class Plan:
    """Passes on the open work of a source and keeps what was asked.

    ``stop`` ends the planning. Memory holds one key a unit of work, not the work itself.
    """

    stop: threading.Event
    images: int = 0
    skipped: int = 0
    open: int = 0
    keys: list[str] = field(default_factory=list)
    labels: dict[str, None] = field(default_factory=dict)

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
            self.keys += [task.key for task in work.tasks]
            self.labels.update(dict.fromkeys(task.label for task in work.tasks))
            tasks = tuple(task for task in work.tasks if not is_done(task.key))
            self.open += len(tasks)
            self.skipped += len(work.tasks) - len(tasks)
            if tasks:
                yield replace(work, tasks=tasks)
