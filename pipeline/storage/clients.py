"""obstore clients with boto3's credentials, made on first use in each process."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError
from obstore.store import LocalStore, S3Store

from pipeline.errors import StorageError
from pipeline.storage.addresses import Address, endpoint_host
from pipeline.storage.faults import mapped_faults
from pipeline.storage.settings import S3Settings

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from obstore.store import S3Credential

Client = LocalStore | S3Store

# boto3 renews credentials 10 minutes before they expire and obstore asks 5 minutes before this.
_CREDENTIAL_LIFE = timedelta(minutes=10)
_CONNECT_SECONDS = 10
_REQUEST_SECONDS = 120


class S3Access:
    """What boto3's chain says about S3: endpoint, region and credentials that are renewed."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._session = boto3.Session(region_name=settings.region)

    @cached_property
    def endpoint(self) -> str | None:
        """The configured endpoint, None for AWS itself."""
        configured: str | None = self._settings.endpoint
        if configured is None:
            configured = self._session.client("s3", region_name=self.region).meta.endpoint_url
        own = "s3.amazonaws.com", f"s3.{self.region}.amazonaws.com"
        return None if endpoint_host(configured) in own else configured.rstrip("/")

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return self._session.region_name or "us-east-1"

    def credential(self) -> "S3Credential":
        """Return the current credentials in obstore's form."""
        frozen = self._credentials.get_frozen_credentials()
        if frozen.access_key is None or frozen.secret_key is None:
            raise StorageError("S3: the credentials that boto3 found are incomplete")
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIAL_LIFE,
        }

    def client(self, bucket: str) -> S3Store:
        """Return a client for one bucket."""
        config: dict[str, Any] = {"endpoint": self.endpoint} if self.endpoint else {}
        assert self._credentials
        return S3Store(
            bucket,
            region=self.region,
            credential_provider=self.credential,
            client_options={
                "allow_http": self.allow_http,
                "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
                "timeout": timedelta(seconds=_REQUEST_SECONDS),
            },
            retry_config={
                "max_retries": self._settings.retries,
                "backoff": {"init_backoff": timedelta(milliseconds=200), "base": 2},
            },
            **config,
        )

    def delta_options(self) -> dict[str, str]:
        """Return deltalake's storage options; they hold the secret key, so never show them."""
        credential = self.credential()
        options = {
            "aws_access_key_id": credential["access_key_id"],
            "aws_secret_access_key": credential["secret_access_key"],
            "aws_session_token": credential.get("token"),
            "aws_region": self.region,
            "aws_endpoint_url": self.endpoint,
            "aws_allow_http": "true" if self.allow_http else "false",
            "aws_conditional_put": "etag",
            "max_retries": str(self._settings.retries),
            "connect_timeout": f"{_CONNECT_SECONDS}s",
            "timeout": f"{_REQUEST_SECONDS}s",
        }
        return {name: value for name, value in options.items() if value is not None}

    @property
    def allow_http(self) -> bool:
        """Whether the endpoint was given as ``http://``; nothing else is sent in clear."""
        return self.endpoint is not None and self.endpoint.startswith("http://")

    @cached_property
    def _credentials(self) -> "Credentials":
        found: Credentials | None = self._session.get_credentials()
        if found is None:
            raise StorageError(
                "S3: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "AWS_PROFILE, or give this machine a role",
                retryable=True,
            )
        return found


class Clients:
    """The clients of one process: one for the disk, one a bucket. Pickles as its settings."""

    def __init__(self, s3: S3Settings) -> None:
        self.s3 = s3
        self._lock = Lock()
        self._made: dict[str, Client] = {}

    def __reduce__(self) -> tuple[type["Clients"], tuple[S3Settings]]:
        return Clients, (self.s3,)

    def get(self, bucket: str) -> Client:
        """Return the client for a bucket, or for the disk where ``bucket`` is empty.

        Raises:
            StorageError: boto3 finds no credentials or its configuration is wrong.
        """
        with self._lock:
            if bucket not in self._made:
                self._made[bucket] = self.access.client(bucket) if bucket else LocalStore()
            return self._made[bucket]

    @cached_property
    def access(self) -> S3Access:
        """boto3's view of S3, asked for once a process.

        Raises:
            StorageError: boto3's configuration is wrong (an unknown profile, say).
        """
        try:
            return S3Access(self.s3)
        except BotoCoreError as error:
            raise StorageError(f"S3: boto3 cannot be configured: {error}") from error

    @contextmanager
    def reach(self, address: Address) -> Iterator[Client]:
        """Give the client for an address; its errors become :class:`StorageError`."""
        with mapped_faults(address.uri, self.endpoint(address.bucket)):
            yield self.get(address.bucket)

    def endpoint(self, bucket: str) -> str | None:
        """Return the endpoint that a bucket is reached at, None for AWS or the disk."""
        return self.access.endpoint if bucket else None
