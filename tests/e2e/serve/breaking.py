"""A server whose first replica meets a broken device at its first request (``test_replaced.py``).

``breaking.py STORE MODEL PORT``: the secret comes from the environment. It prints ``{}`` once it is
up, and ends with SIGTERM. Its answers tell the process that makes them.
"""

import os
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from pipeline.cli.terminal import chatter_on_stderr, stop_on_signals
from pipeline.storage.settings import S3Settings
from workers.models import plan_model
from workers.serve.deployment import Json
from workers.serve.gate import SECRET_VARIABLE, checked_secret
from workers.serve.job import ServeJob
from workers.serve.model import ServedModel
from workers.serve.settings import ServeSettings
from workers.serve.start import serving
from workers.settings import LimitSettings, PoolSettings

FAULT = "CUDA error: an illegal memory access was encountered"


class Breaking:
    """Answers with its process; of all that share a note, the first one fails once."""

    def __init__(self, _: ServedModel, note: Path) -> None:
        self._note = note

    def read(self, _: object) -> SimpleNamespace:
        """Take every body for a request about one task."""
        return SimpleNamespace(task=1)

    def answer(self, _: object) -> Json:
        """Fail if nobody has yet, and note which process did."""
        if self._note.exists():
            return {"pid": os.getpid()}
        self._note.write_text(str(os.getpid()), encoding="utf-8")
        raise RuntimeError(FAULT)

    def nothing(self) -> Json:
        """Answer nothing."""
        return {}


def main() -> None:
    """Serve until SIGTERM."""
    store, model, port = sys.argv[1:]
    job = ServeJob(
        store=store,
        s3=S3Settings(),
        limits=LimitSettings(),
        pool=PoolSettings(),
        settings=ServeSettings(port=int(port)),
        model=plan_model(model, S3Settings(), "float32"),
    )
    make = partial(Breaking, note=Path(store, "broken"))
    secret = checked_secret(os.environ[SECRET_VARIABLE])
    with chatter_on_stderr() as results, stop_on_signals() as stop, serving(job, make, secret):
        print("{}", file=results, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
