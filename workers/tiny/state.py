"""The training's state on disk: written whole or not at all, so that any stop can be resumed."""

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from workers.read.model import ReadModel
from workers.tiny.objective import AuxiliaryHeads

_PLACE = ("step", "seconds", "scenes", "stage", "began")


@dataclass(slots=True)
class TrainingState:
    """All that a resumed run needs.

    ``step`` counts steps and is the position in the scenes, ``scenes`` the pictures asked about,
    ``seconds`` the time spent on steps. ``stage`` is the recipe's stage that the last step was of,
    ``began`` the step that its warm-up counts from. ``kind`` is the recipe's: another one cannot go
    on from here.
    """

    model: ReadModel
    heads: AuxiliaryHeads
    average: AveragedModel
    optimizers: tuple[Optimizer, ...]
    kind: str
    step: int = 0
    seconds: float = 0.0
    scenes: int = 0
    stage: int = 0
    began: int = 0

    @property
    def place(self) -> dict[str, int | float]:
        """How far the training is, without its weights."""
        return {name: getattr(self, name) for name in _PLACE}

    def save(self, path: Path) -> None:
        """Write the state beside ``path``, then put it in its place."""
        partial = path.with_suffix(".partial")
        content = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "kind": self.kind,
            **self.place,
        }
        torch.save(content, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a state that :meth:`save` wrote.

        Raises:
            ValueError: it is of another recipe or optimizer, or of an earlier version of this
                program.
        """
        content = torch.load(path, map_location="cpu", weights_only=True)
        self.check(content, path, {self.kind})
        if len(content.get("optimizers", ())) != len(self.optimizers):
            message = f"{path}: was trained with another optimizer; train into a new folder"
            raise ValueError(message)
        for name in ("model", "heads", "average"):
            try:
                getattr(self, name).load_state_dict(content[name])
            except RuntimeError as error:
                message = f"{path}: its {name} has other weights; --start from the model beside it"
                raise ValueError(message) from error
        for optimizer, state in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.move_to(content)

    def check(self, told: Mapping[str, Any], path: Path, kinds: Collection[str]) -> None:
        """Check that this state can go on from what a file tells of another one.

        Raises:
            ValueError: it is of none of the ``kinds``, or does not tell its place.
        """
        if told.get("kind") not in kinds:
            message = f"{path}: was trained with {told.get('kind')}, now asked for {self.kind}"
            raise ValueError(message)
        missing = [name for name in _PLACE if name not in told]
        if missing:
            message = f"{path}: lacks {', '.join(missing)}; train into a new folder"
            raise ValueError(message)

    def move_to(self, place: Mapping[str, Any]) -> None:
        """Be as far as :attr:`place` said of another state."""
        for name in _PLACE:
            setattr(self, name, place[name])


class LossCurve:
    """A CSV of the losses, one row every so many steps, kept consistent with the state."""

    def __init__(self, path: Path, step: int) -> None:
        """Keep the rows up to ``step``: what was written after the last state is written again."""
        self._path = path
        rows = _read(path) if path.exists() else []
        kept = [row for row in rows if int(row["step"]) <= step]
        if not kept:
            path.unlink(missing_ok=True)
        elif len(kept) < len(rows):
            self._write("w", kept, header=True)

    def add(self, values: Mapping[str, float | str]) -> None:
        """Append one row; the first one sets the columns."""
        self._write("a", [values], header=not self._path.exists())

    def _write(self, mode: str, rows: Sequence[Mapping[str, object]], header: bool) -> None:
        with self._path.open(mode, newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            if header:
                table.writeheader()
            table.writerows(rows)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
