"""Curves of a job on the store: one JSON line a step, and TensorBoard's event files."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from tensorboardX import SummaryWriter

from pipeline.storage.store import Store
from workers.finetune.parallel import LOSSES
from workers.finetune.records import StepReport

CURVE = "curve.jsonl"
_SCALARS = ("loss", *LOSSES, "rate", "norm")


class Curves:
    """Collects the steps since the last checkpoint, and writes them with the next.

    ``step`` is where the job goes on: lines of later steps, which a killed worker left, are
    written again.
    """

    def __init__(self, store: Store, folder: str, step: int) -> None:
        self._store = store
        self._folder = folder
        self._lines = [line for line in self._read() if json.loads(line)["step"] < step]
        self._events = tempfile.TemporaryDirectory()
        self._board = SummaryWriter(self._events.name)

    def add(self, report: StepReport) -> None:
        """Take one step."""
        self._lines.append(json.dumps({**asdict(report), "loss": report.loss}))
        for name in _SCALARS:
            self._board.add_scalar(f"train/{name}", getattr(report, name), report.step)

    def save(self) -> None:
        """Write everything so far."""
        text = "".join(f"{line}\n" for line in self._lines)
        self._store.put(f"{self._folder}/{CURVE}", text.encode())
        self._board.flush()
        for path in Path(self._events.name).iterdir():
            self._store.put(f"{self._folder}/tensorboard/{path.name}", path.read_bytes())

    def close(self) -> None:
        """Give the temporary files back."""
        self._board.close()
        self._events.cleanup()

    def _read(self) -> list[str]:
        path = f"{self._folder}/{CURVE}"
        return self._store.get(path).decode().splitlines() if self._store.exists(path) else []
