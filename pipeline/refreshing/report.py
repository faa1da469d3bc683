"""What a refresh says when it ends."""

from dataclasses import asdict, dataclass, field
from typing import Any

from labelstudio.publishing.publish import PublishSummary
from pipeline.errors import ExitCode
from pipeline.refreshing.triggers import Wish


@dataclass(frozen=True, slots=True)
class Relabeled:
    """What was labeled anew: images, their queries, and how those stand; seconds of wall time."""

    images: int = 0
    queries: int = 0
    present: int = 0
    absent: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What one refresh came to.

    ``number`` is the refresh's, None when none was worth it. ``collected`` is what ``collect``
    says, None without Label Studio. ``decision`` says whether to learn, and why. ``gate`` is the
    decision about the candidate, None without one. ``relabeled`` and ``published`` are None unless
    a version was promoted. ``seconds`` is the wall time of this call.
    """

    number: int | None
    collected: dict[str, Any] | None
    decision: Wish
    gate: dict[str, Any] | None = None
    promoted: bool = False
    relabeled: Relabeled | None = None
    published: PublishSummary | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        unread = self.collected is not None and self.collected["failures"]
        unlabeled = self.relabeled is not None and self.relabeled.failed
        unshown = self.published is not None and self.published.failed
        return ExitCode.FAILED_ROWS if unread or unlabeled or unshown else ExitCode.DONE

    def to_json(self) -> dict[str, Any]:
        """Return the documented keys."""
        return asdict(self)
