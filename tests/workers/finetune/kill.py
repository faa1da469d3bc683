"""Run a pickled job in this process and kill it after a step: ``python kill.py JOB STEP``."""

import os
import pickle
import signal
import sys
from pathlib import Path

from workers.finetune.loop import train
from workers.finetune.parallel import World
from workers.finetune.records import StepReport


def main() -> None:
    """Train until the step, then end as if the machine had."""
    last = int(sys.argv[2])

    def report(step: StepReport) -> None:
        if step.step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    train(pickle.loads(Path(sys.argv[1]).read_bytes()), World(), report)  # noqa: S301


if __name__ == "__main__":
    main()
