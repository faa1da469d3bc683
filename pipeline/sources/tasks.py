"""From a source to units of work: every image with all of its queries and their keys."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

from pipeline.draws import drawn
from pipeline.errors import MissingError
from pipeline.records import ImageRef, ImageTasks, LabelTask, Query, task_key
from pipeline.sources.grouping import ManifestImage, images_of
from pipeline.sources.listing import listed_images
from pipeline.sources.manifest import is_manifest, read_manifest
from pipeline.sources.queries import AskedQuery, everywhere, name_queries
from pipeline.sources.settings import SourceSettings
from pipeline.storage.addresses import Address, locate
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import ObjectReader

_LOG = logging.getLogger(__name__)
_HEADS_AT_ONCE = 32
_IMAGES_AT_ONCE = 512

_Images = Iterator[tuple[ImageRef, Sequence[AskedQuery]]]


def image_tasks(
    source: SourceSettings,
    s3: S3Settings,
    model_version: str,
    settings_json: str,
    limit: int | None = None,
    *,
    reword_share: float = 0.0,
) -> Iterator[ImageTasks]:
    """Yield the images of a source in a stable order, at most ``limit`` of them.

    Queries are not judged here: an empty or overlong one of a manifest becomes a task, for the
    replica to refuse and record. An image of a manifest that does not exist becomes a task too,
    with an empty etag, and fails when it is fetched.

    Args:
        source: the images and the queries.
        s3: how to reach S3.
        model_version: part of every key.
        settings_json: the canonical JSON of everything else that changes a result.
        limit: the most images; None for all.
        reword_share: of the images, drawn by their names, that are also asked the first wording
            of a query that is not its text.

    Raises:
        InputError: the source is missing or empty, or a manifest or query file is wrong.
        StorageError: a store refused or broke.
    """
    reader = ObjectReader(s3)
    common = everywhere(source.queries, reader)
    wordings = {query.text: other for query in common if (other := _other_wording(query))}
    place = locate(source.images)
    if is_manifest(place):
        images = _manifest_images(place, reader, common)
    else:
        images = ((image, common) for image in listed_images(place, s3))
    dropped = 0
    for image, asked in islice(images, limit):
        queries, twice = name_queries(asked, image.uri)
        dropped += twice
        tasks = [_task(image, query, model_version, settings_json) for query in queries]
        if wordings and drawn("reword", image.id, reword_share):
            tasks += [
                _reworded(image, task, wordings[task.query], model_version, settings_json)
                for task in tasks
                if task.query in wordings
            ]
        yield ImageTasks(image, tuple(tasks))
    if dropped:
        _LOG.warning("%s: %d queries were asked twice and count once", place.uri, dropped)


def _other_wording(query: AskedQuery) -> str | None:
    """Return the first wording that says it otherwise: the text may have been one of them."""
    return next((wording for wording in query.wordings if wording != query.text), None)


def _task(image: ImageRef, query: Query, model_version: str, settings: str) -> LabelTask:
    key = task_key(image, query, model_version, settings)
    return LabelTask(key, query.label, query.text, query.form, query.id)


def _reworded(
    image: ImageRef, task: LabelTask, text: str, model_version: str, settings: str
) -> LabelTask:
    key = task_key(image, Query(task.label, text), model_version, settings)
    return LabelTask(key, task.label, text, rewords=task.key)


def _manifest_images(
    place: Address, reader: ObjectReader, common: tuple[AskedQuery, ...]
) -> _Images:
    images = images_of(read_manifest(place, reader), place)
    with ThreadPoolExecutor(_HEADS_AT_ONCE) as pool:
        while block := list(islice(images, _IMAGES_AT_ONCE)):
            references = pool.map(lambda image: _reference(image, reader), block)
            for image, reference in zip(block, references, strict=True):
                named = [replace(query, id=image.id) for query in common] if image.id else common
                yield reference, (*named, *image.asked)


def _reference(image: ManifestImage, reader: ObjectReader) -> ImageRef:
    try:
        info = reader.head(image.uri)
        size, etag = info.size, info.etag
    except MissingError:
        size, etag = 0, ""
    group = image.group or locate(image.uri).parent.uri
    return ImageRef(image.uri, image.uri, size, etag, group)
