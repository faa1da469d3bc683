"""A process that publishes and kills itself (SIGKILL) at a chosen point; see ``test_kills.py``.

``doomed.py STORE URL TITLE METHOD WHEN COUNT < KEYS``: the predictions with those keys, one a
line, go from the store's table to the project. The process dies ``before`` or ``after`` (WHEN) the
COUNTth call of METHOD, one of the client's or ``write`` of the ledger; ``none`` spares it. The
token comes from the environment.
"""

import os
import signal
import sys
from typing import Any

from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.errors import TOKEN_VARIABLE
from labelstudio.publishing import reconcile
from labelstudio.publishing.ledger import Ledger
from labelstudio.publishing.publish import publish
from labelstudio.settings import LabelStudioSettings
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store
from pipeline.storage.tables import PredictionTables

# The server is on this machine and has little to do.
SETTLE_SECONDS = 3.0


def doom(method: str, when: str, count: int) -> None:
    """Let the process die at a call of a method."""
    owner: Any = Ledger if method == "write" else LabelStudioClient
    real = getattr(owner, method)
    calls: list[int] = []

    def deadly(self: Any, *request: Any) -> Any:
        calls.append(1)
        if when == "before" and len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(self, *request)
        if when == "after" and len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, method, deadly)


def main() -> None:
    """Publish, or die."""
    place, url, title, method, when, count = sys.argv[1:]
    if method != "none":
        doom(method, when, int(count))
    reconcile.SETTLE_SECONDS = SETTLE_SECONDS
    store = open_store(place, S3Settings())
    publish(
        PredictionTables(store).read_by_image(sys.stdin.read().splitlines()),
        run="street",
        settings=LabelStudioSettings(url=url, project=title, batch_tasks=2, tasks_per_project=9),
        token=SecretStr(os.environ[TOKEN_VARIABLE]),
        store=store,
        s3=S3Settings(),
        labels=("road", "sky"),
        progress=lambda _: None,
    )


if __name__ == "__main__":
    main()
