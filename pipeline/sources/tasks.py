"""From a source to units of work: every image with all of its queries and their keys."""

from collections.abc import Iterator

from pipeline.records import ImageTasks
from pipeline.sources.settings import SourceSettings
from pipeline.storage.settings import S3Settings


def image_tasks(
    source: SourceSettings,
    s3: S3Settings,
    model_version: str,
    settings_json: str,
    limit: int | None = None,
) -> Iterator[ImageTasks]:
    """Yield the images of a source in a stable order, at most ``limit`` of them.

    Queries are not judged here: an empty or overlong one becomes a task, for the replica to
    refuse and record.

    Raises:
        InputError: the source is missing or empty, or a manifest or query file is wrong.
        StorageError: a store refused or broke.
    """
    raise NotImplementedError
