"""What a run says when it ends, for people and as JSON."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeVar

from labelstudio.publishing.publish import PublishSummary
from pipeline.errors import ExitCode
from pipeline.plan import Plan
from pipeline.records import Failure
from pipeline.storage.tables import Outcome

Stage = Literal["label", "commit", "publish"]
Item = TypeVar("Item")


@dataclass
class Stages:
    """Where the wall seconds of the run's own process went.

    ``label`` is spent waiting for replicas, planning and Ray's start included.
    """

    label: float = 0.0
    commit: float = 0.0
    publish: float = 0.0

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Add the seconds of a block to a stage."""
        began = time.monotonic()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.monotonic() - began)

    def timed_waits(self, stage: Stage, items: Iterator[Item]) -> Iterator[Item]:
        """Yield items; the seconds of waiting for each are added to a stage."""
        while True:
            with self.timed(stage):
                item = next(items, None)
            if item is None:
                return
            yield item


@dataclass(frozen=True)
class Summary:
    """How the asked units of work, one an (image, query), stand at the end of a run.

    Attributes:
        images: images asked for (after ``--limit``).
        queries: units of work asked for; ``present + absent + failed`` when the run is complete.
        present: units predicted with a mask, by this call or before.
        absent: units for which the model says that there is no such thing, by this call or before.
        failed: units that have no prediction, whenever they failed.
        pushed: Label Studio tasks that this call created.
        skipped: units that were done before this call, which therefore did not touch them.
        seconds: wall time of this call.
        images_per_second: images that this call worked on, by ``seconds``.
        stages: where this call's time went.
        unpublished: why tasks could not be shown in Label Studio.
    """

    images: int
    queries: int
    present: int
    absent: int
    failed: int
    pushed: int
    skipped: int
    seconds: float
    images_per_second: float
    stages: Stages = field(default_factory=Stages)
    unpublished: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        return ExitCode.FAILED_ROWS if self.failed or self.unpublished else ExitCode.DONE

    def to_json(self) -> dict[str, float]:
        """Return the documented keys."""
        values = asdict(self)
        del values["stages"], values["unpublished"]
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in values.items()
        }

    def to_text(self, store: str, failures: Iterable[Failure]) -> str:
        """Return a few lines for a person; ``failures`` are the first ones to show."""
        lines = [
            f"{self.queries} queries on {self.images} images: {self.present} present, "
            f"{self.absent} absent, {self.failed} failed",
            f"{self.skipped} were done before, {self.pushed} tasks pushed, "
            f"{self.seconds:.1f} s, {self.images_per_second:.2f} images/s",
            f"tables: {store}",
        ]
        lines += [f"failed: {row.image} {row.query[:60]!r}: {row.reason}" for row in failures]
        lines += [f"not shown: {reason}" for reason in self.unpublished]
        return "\n".join(lines)


def summarize(
    plan: Plan,
    outcome: Outcome,
    published: PublishSummary | None,
    *,
    worked: int,
    stages: Stages,
    seconds: float,
) -> Summary:
    """Return the summary of a run that is complete and worked on ``worked`` images.

    A unit of work that is in no table (its shard is gone) counts as failed.
    """
    return Summary(
        images=plan.images,
        queries=len(plan.keys),
        present=outcome.present,
        absent=outcome.absent,
        failed=outcome.failed + outcome.missing,
        pushed=published.created if published else 0,
        skipped=plan.skipped,
        seconds=seconds,
        images_per_second=worked / seconds,
        stages=stages,
        unpublished=published.failures if published else (),
    )
