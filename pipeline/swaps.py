"""What became of the replicas' model during a run, told once and kept."""

from collections.abc import Callable

from pipeline.plan import Plan
from pipeline.records import ModelChange


class Swaps:
    """Changes of model, as the replicas report them.

    ``changes`` is all that was reported.

    Args:
        say: is told each change of version, and each reason against one, once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told: set[str] = set()
        self.changes: list[ModelChange] = []

    def note(self, change: ModelChange | None) -> None:
        """Take down what a batch's replica reports, if anything."""
        if change is None:
            return
        self.changes.append(change)
        self._tell(change)

    def sum_up(self, planned: str, plan: Plan) -> None:
        """Say how much of the run has been answered by newer versions than planned."""
        if not plan.moved:
            return
        pauses = [change.pause for change in self.changes if change.before and not change.reason]
        longest = f"; a replica paused {max(pauses):.1f} s at most" if pauses else ""
        self._say(
            f"{len(plan.moved)} queries were answered by newer versions than {planned}{longest}; "
            "run again to label the rest with the current one"
        )

    def _tell(self, change: ModelChange) -> None:
        if change.reason and change.after:
            text = f"{change.after} is current but cannot be used, {change.before} goes on: "
            text += change.reason
        elif change.reason:
            text = f"{change.before} goes on: {change.reason}"
        else:
            text = f"replicas move on to {change.after}, which is current now"
        if text not in self._told:
            self._told.add(text)
            self._say(text)
