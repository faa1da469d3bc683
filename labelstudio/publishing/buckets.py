"""S3 buckets as source storages, so that the server presigns ``s3://`` addresses for browsers.

Who signs: the server, with credentials of its own if those reach the bucket. Otherwise it is
given the run's, but only lasting ones, and only over https or on this machine.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from labelstudio.client import LabelStudioClient
from labelstudio.connection import is_loopback
from pipeline.errors import LabelStudioError, StorageError
from pipeline.storage.addresses import Address
from pipeline.storage.clients import S3Access
from pipeline.storage.settings import S3Settings

NOTHING = "^$"
"""A filter that no object's name passes: an accidental sync makes no tasks."""

_KIND = "s3"
_LINK_MINUTES = 60


class Buckets:
    """The buckets that a project's images lie in."""

    def __init__(self, client: LabelStudioClient, project: int, s3: S3Settings) -> None:
        self._client = client
        self._project = project
        self._s3 = s3

    def connect(self, places: Sequence[Address]) -> None:
        """Connect the bucket of each place unless it is connected already.

        Raises:
            LabelStudioError: the server does not reach a bucket; says why.
        """
        for place in places:
            if place.bucket not in self._connected:
                self._connect(place)
                self._connected.add(place.bucket)

    @cached_property
    def _connected(self) -> set[str]:
        return {row["bucket"] for row in self._client.storages(_KIND, self._project)}

    @cached_property
    def _access(self) -> S3Access:
        return S3Access(self._s3)

    def _connect(self, place: Address) -> None:
        row = {
            "project": self._project,
            "title": f"readloop: s3://{place.bucket}",
            "bucket": place.bucket,
            "prefix": place.parent.path,
            "region_name": self._access.region,
            "s3_endpoint": self._access.endpoint,
            "presign": True,
            "presign_ttl": _LINK_MINUTES,
            "use_blob_urls": True,
            "regex_filter": NOTHING,
        }
        reasons = []
        for whose, credentials in self._credentials():
            reason = self._client.connect_storage(_KIND, {**row, **credentials})
            if not reason:
                return
            reasons.append(f"{whose}: {reason}")
        raise LabelStudioError(
            f"Label Studio at {self._client.url} does not reach s3://{place.bucket} "
            f"({'; '.join(reasons)}): give the server credentials of its own, or connect the "
            "bucket in the project's settings under Cloud Storage"
        )

    def _credentials(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Yield the server's own credentials (none are sent), then ours if they may be sent."""
        yield "with its own credentials", {}
        if not (self._client.url.startswith("https://") or is_loopback(self._client.url)):
            return
        try:
            ours = self._access.credential()
        except StorageError:
            return
        if not ours.get("token"):
            yield (
                "with those of this run",
                {
                    "aws_access_key_id": ours["access_key_id"],
                    "aws_secret_access_key": ours["secret_access_key"],
                },
            )
