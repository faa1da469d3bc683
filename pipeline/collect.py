"""What people said in Label Studio, into the store's table of corrections. The recipe.

Polling is the truth. A webhook, where there is one, only says that polling now is worthwhile.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.collecting.collect import Collector, Tally
from labelstudio.collecting.hooks import Hooks
from labelstudio.collecting.receiver import SECRET_VARIABLE, Receiver
from labelstudio.settings import LabelStudioSettings
from labelstudio.token import checked_token
from pipeline.config import RunFile
from pipeline.errors import (
    ConfigError,
    ExitCode,
    LabelStudioError,
    ReadloopError,
    StoppedError,
    StorageError,
)
from pipeline.progress import Progress
from pipeline.records import Verdict
from pipeline.review.policy import Agreement, agreement
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import open_store

LEAST_SECONDS = 1.0
"""Between the starts of two polls, however many webhooks call."""

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Listen:
    """Where webhooks are received, and how Label Studio reaches that place (empty: the same)."""

    host: str
    port: int
    url: str = ""


@dataclass(frozen=True, slots=True)
class CollectSummary:
    """What one call wrote, in corrections: what one annotation says about one query.

    ``new`` corrections and ``updated`` ones (revisions of those that were known) are together as
    many as the five verdicts count; ``deleted`` ones are gone. ``agreement`` is over all that the
    table holds. ``failures`` say why annotations could not be read; ``seconds`` is the wall time.
    """

    new: int
    updated: int
    deleted: int
    accepted: int
    edited: int
    redrawn: int
    absent: int
    skipped: int
    seconds: float
    agreement: Agreement
    failures: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        return ExitCode.FAILED_ROWS if self.failures else ExitCode.DONE

    def to_json(self) -> dict[str, object]:
        """Return the documented keys."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}

    def to_text(self, store: str) -> str:
        """Return a few lines for a person."""
        lines = [
            f"{self.new} new, {self.updated} updated, {self.deleted} deleted in "
            f"{self.seconds:.1f} s",
            f"{self.accepted} accepted, {self.edited} edited, {self.redrawn} redrawn, "
            f"{self.absent} absent, {self.skipped} skipped",
            f"table: {store}/corrections",
        ]
        if self.agreement.pairs:
            lines.append(
                f"{self.agreement.queries} queries have several annotators: mean IoU "
                f"{self.agreement.iou:.3f}, {self.agreement.presence:.0%} agree on presence"
            )
        lines += [f"not read: {reason}" for reason in self.failures]
        return "\n".join(lines)


class CollectRun:
    """Collects the corrections of one run.

    Raises:
        ReadloopError: the store or Label Studio cannot be used, or there is nothing to collect.
    """

    def __init__(self, run: RunFile, stop: threading.Event, progress: Progress) -> None:
        if run.labelstudio is None:
            raise ConfigError(f"run {run.name}: no 'labelstudio' part, so nowhere to collect from")
        self._settings: LabelStudioSettings = run.labelstudio
        self._client = LabelStudioClient(self._settings.url, checked_token(self._settings))
        self.store = open_store(run.store, run.s3)
        self._stop = stop
        self._progress = progress
        self._tally = Tally()
        self._collector = Collector(self._client, self._settings, self.store, self._advance)

    def collect(self) -> CollectSummary:
        """Poll once."""
        began = time.monotonic()
        self._poll()
        return self._summary(time.monotonic() - began)

    def watch(self, every: float, listen: Listen | None) -> CollectSummary:
        """Poll again and again, at least every so many seconds, until asked to stop.

        Once the first poll has worked, a server or store that fails is tried again.
        """
        began = time.monotonic()
        wake = threading.Event()
        with self._hooks(listen, wake) as hooks:
            self._poll()
            while self._wait(wake, every):
                wake.clear()
                before = self._tally.new, self._tally.updated, self._tally.deleted
                self._poll_again(every)
                self._register(hooks)
                self._say_news(before)
        return self._summary(time.monotonic() - began)

    def _poll(self) -> None:
        if not self._collector.projects():
            raise LabelStudioError(
                f"Label Studio at {self._settings.url} has no project called "
                f"{self._settings.project!r}: publish to it first (readloop label or publish)"
            )
        self._progress.begin("tasks read")
        self._collector.poll(self._tally)
        self._progress.end()

    def _poll_again(self, every: float) -> None:
        try:
            self._poll()
        except StoppedError as error:
            if not self._stop.is_set():
                self._progress.say(f"{error}; looking again in {every:.0f} s")
        except (LabelStudioError, StorageError) as error:
            self._progress.say(f"{error}; trying again in {every:.0f} s")

    @contextmanager
    def _hooks(self, listen: Listen | None, wake: threading.Event) -> Iterator[Hooks | None]:
        """Receive webhooks while the block runs, if that is wanted."""
        if listen is None:
            yield None
            return
        secret = SecretStr(os.environ.get(SECRET_VARIABLE, ""))
        with Receiver(listen.host, listen.port, secret, wake.set) as receiver:
            host = f"[{listen.host}]" if ":" in listen.host else listen.host
            url = listen.url or f"http://{host}:{receiver.port}/"
            self._progress.say(f"webhooks are received at {url}")
            hooks = Hooks(self._client, url, secret)
            self._register(hooks)
            try:
                yield hooks
            finally:
                hooks.remove()

    def _register(self, hooks: Hooks | None) -> None:
        if hooks is None:
            return
        try:
            hooks.register(project.id for project in self._collector.projects())
        except ReadloopError as error:
            self._progress.say(f"no webhook ({error}); polling goes on without")

    def _wait(self, wake: threading.Event, every: float) -> bool:
        """Wait until the next poll is due; return False when asked to stop."""
        began = time.monotonic()
        while not self._stop.is_set():
            waited = time.monotonic() - began
            if waited >= every or (wake.is_set() and waited >= LEAST_SECONDS):
                return True
            self._stop.wait(_LOOK_SECONDS)
        return False

    def _say_news(self, before: tuple[int, int, int]) -> None:
        tally = self._tally
        if before != (tally.new, tally.updated, tally.deleted):
            counts = zip((tally.new, tally.updated, tally.deleted), before, strict=True)
            new, updated, deleted = (now - then for now, then in counts)
            self._progress.say(f"{new} new, {updated} updated, {deleted} deleted")

    def _advance(self, tasks: int) -> None:
        """Count tasks, and leave between two batches when asked to stop."""
        self._progress.advance(tasks)
        if self._stop.is_set():
            raise StoppedError("stopped; what was read is committed, run again to go on")

    def _summary(self, seconds: float) -> CollectSummary:
        tally = self._tally
        counts = {verdict: tally.verdicts.get(verdict, 0) for verdict in _VERDICTS}
        return CollectSummary(
            new=tally.new,
            updated=tally.updated,
            deleted=tally.deleted,
            **counts,
            seconds=seconds,
            agreement=agreement(CorrectionTable(self.store).shared()),
            failures=tuple(dict.fromkeys(tally.failures)),
        )


_VERDICTS: tuple[Verdict, ...] = ("accepted", "edited", "redrawn", "absent", "skipped")
