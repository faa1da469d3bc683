"""Where the fine-tuning jobs of a store lie.

::

    training/<snapshot>-<settings>/job.json      written when the job begins
    training/<snapshot>-<settings>/states/…      from which it goes on
    training/<snapshot>-<settings>/stale.txt     why its set may not be taught any more
    training/<snapshot>-<settings>/result.json   what it ended with, the new version among it
"""

import json
from collections.abc import Iterator

from pipeline.storage.store import Store

JOBS = "training"
MARKER = "job.json"
STALE = "stale.txt"
RESULT = "result.json"


def trained_versions(store: Store) -> Iterator[tuple[str, str]]:
    """Yield the name of each job that is done, and the version that it ended with.

    Raises:
        StorageError: the store failed.
    """
    for info in store.list(JOBS):
        *_, folder, job, name = info.uri.split("/")
        if (folder, name) == (JOBS, RESULT):
            yield job, json.loads(store.get(f"{JOBS}/{job}/{RESULT}"))["version"]
