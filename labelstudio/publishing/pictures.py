"""Where a task's browser finds its image: through storages connected to the project.

A file is served by Label Studio itself, if it lies in a folder below the server's document root;
an object in S3 is presigned by the server whenever somebody looks at it. Storages are connected
but never synced (a sync would make tasks of its own); a filter that no name passes makes sure.
"""

import os
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import PurePosixPath
from urllib.parse import quote, urlsplit

from labelstudio.client import LabelStudioClient
from labelstudio.publishing.buckets import NOTHING, Buckets
from pipeline.errors import LabelStudioError
from pipeline.storage.addresses import locate
from pipeline.storage.settings import S3Settings

_KIND = "localfiles"
_MOST_FOLDERS = 20
_ROOT = re.compile(r'LOCAL_FILES_DOCUMENT_ROOT="([^"]*)"')
_HOW = (
    "start it with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
    "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT set to a folder above your images"
)


class Pictures:
    """Makes image addresses for the tasks of one project, connecting storages as needed."""

    def __init__(self, client: LabelStudioClient, project: int, s3: S3Settings) -> None:
        self._client = client
        self._project = project
        self._buckets = Buckets(client, project, s3)

    def addresses(self, uris: Iterable[str]) -> dict[str, str]:
        """Return what a task has to hold for each image address, ``file:///…`` or ``s3://…``.

        Raises:
            LabelStudioError: the server cannot show an image; says how it could.
        """
        found = {uri: locate(uri) for uri in uris}
        local = {uri: place.local for uri, place in found.items() if place.local is not None}
        files = {uri: self._below_root(PurePosixPath(path)) for uri, path in local.items()}
        self._connect_folders(files.values())
        self._buckets.connect([place for place in found.values() if place.bucket])
        served = {uri: self._served(path) for uri, path in files.items()}
        return {uri: served.get(uri, place.uri) for uri, place in found.items()}

    @cached_property
    def _root(self) -> PurePosixPath:
        """The server's document root: it names it when asked for a folder it must refuse."""
        reason = self._client.try_storage(_KIND, {"project": self._project, "path": "/"})
        named = _ROOT.search(reason)
        if named is None:
            raise LabelStudioError(
                f"Label Studio at {self._client.url} does not say where its local files are "
                f"({reason}); to show files, {_HOW}"
            )
        return PurePosixPath(named.group(1))

    @cached_property
    def _connected(self) -> set[PurePosixPath]:
        rows = self._client.storages(_KIND, self._project)
        return {PurePosixPath(row["path"]) for row in rows if row["path"]}

    def _below_root(self, path: PurePosixPath) -> PurePosixPath:
        """Return the path as the server knows it; links on the way are tried too."""
        for seen, root in (
            (path, self._root),
            (PurePosixPath(os.path.realpath(path)), PurePosixPath(os.path.realpath(self._root))),
        ):
            if root in seen.parent.parents:
                return self._root / seen.relative_to(root)
        raise LabelStudioError(
            f"Label Studio at {self._client.url} cannot show {path}: it serves folders below "
            f"{self._root} (its document root, never files in it itself); {_HOW}"
        )

    def _connect_folders(self, files: Iterable[PurePosixPath]) -> None:
        """Connect the folders of ``files``, or few folders above them when they are many."""
        needed = {
            file.parent: file for file in files if not self._connected.intersection(file.parents)
        }
        folders = set(needed)
        if len(folders) + len(self._connected) > _MOST_FOLDERS:
            depth = len(self._root.parts) + 1
            folders = {PurePosixPath(*folder.parts[:depth]) for folder in folders}
        for folder in sorted(folders):
            self._connect(folder)
            example = next(
                file for parent, file in needed.items() if folder in (parent, *parent.parents)
            )
            if not self._client.serves(self._served(example)):
                raise LabelStudioError(
                    f"Label Studio at {self._client.url} does not find {example}: it must run on "
                    "this machine, or see the same files at the same place"
                )

    def _connect(self, folder: PurePosixPath) -> None:
        reason = self._client.connect_storage(
            _KIND,
            {
                "project": self._project,
                "title": f"readloop: {folder}"[:256],
                "path": str(folder),
                "use_blob_urls": True,
                "regex_filter": NOTHING,
            },
        )
        if reason:
            raise LabelStudioError(
                f"Label Studio at {self._client.url} does not serve {folder} ({reason}); {_HOW}"
            )
        self._connected.add(folder)

    def _served(self, file: PurePosixPath) -> str:
        base = urlsplit(self._client.url).path
        return f"{base}/data/local-files/?d={quote(str(file.relative_to(self._root)))}"
