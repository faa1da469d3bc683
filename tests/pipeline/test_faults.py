"""What users read when a store refuses, throttles, is missing or is down."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import GenericError

from pipeline.errors import MissingError, StorageError
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.faults import explain
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import PredictionTables


def attempts(store: Store) -> list[object]:
    """Every way of using a store that is not allowed; each must say so."""
    return [
        lambda: store.get("x"),
        lambda: store.head("x"),
        lambda: store.put("x", b""),
        lambda: store.put_new("x", b""),
        lambda: list(store.list()),
        lambda: store.delete(["x"]),
        lambda: PredictionTables(store),
    ]


@pytest.mark.parametrize("number", range(7))
def test_a_wrong_secret_is_refused(s3: Any, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    address = s3.make_bucket(f"refused{number}", {"x": b"x"})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    store = open_store(address, S3Settings(endpoint=s3.endpoint, retries=0))
    with pytest.raises(StorageError, match=r"s3://refused.*refuses the credentials") as caught:
        attempts(store)[number]()
    assert caught.value.retryable
    assert "not-the-secret" not in str(caught.value)
    assert s3.access_key not in str(caught.value)


def test_an_unknown_access_key_is_refused(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = s3.make_bucket("unknown-key", {"x": b"x"})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAAAAAAAAAAAAAAAA")
    with pytest.raises(StorageError, match=r"refuses the credentials .InvalidAccessKeyId"):
        open_store(address, S3Settings(endpoint=s3.endpoint)).get("x")


def test_no_credentials_say_what_to_set(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address = s3.make_bucket("no-credentials")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(StorageError, match="no credentials found; set AWS_ACCESS_KEY_ID"):
        open_store(address, S3Settings(endpoint=s3.endpoint)).get("x")


def test_an_unknown_profile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match=r"profile \(nobody\)"):
        open_store("s3://bucket", S3Settings()).get("x")


def test_boto3s_configuration_decides_endpoint_and_region(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = s3.make_bucket("by-environment", {"x": b"hello"})
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    assert open_store(address, S3Settings()).get("x") == b"hello"


@pytest.mark.parametrize("number", [0, 2, 3, 4, 5, 6])
def test_a_missing_bucket_is_named(s3: Any, number: int) -> None:
    store = open_store("s3://nowhere/x", S3Settings(endpoint=s3.endpoint, retries=0))
    with pytest.raises(MissingError, match=r"s3://nowhere/x.*the bucket does not exist"):
        attempts(store)[number]()


def test_a_server_that_is_down_is_named_by_its_endpoint() -> None:
    settings = S3Settings(endpoint="http://127.0.0.1:1", retries=0)
    with pytest.raises(StorageError, match=r"no connection to http://127.0.0.1:1;") as caught:
        open_store("s3://bucket", settings).get("x")
    assert caught.value.retryable


class SlowDown(BaseHTTPRequestHandler):
    """Throttles until ``left`` requests have been refused, then answers."""

    left = 0
    status = 503

    def do_GET(self) -> None:
        """Refuse or answer."""
        refused = SlowDown.left > 0
        SlowDown.left -= 1
        code = b"<Error><Code>SlowDown</Code><Message>Please slow down.</Message></Error>"
        body = code if refused else b"hello"
        self.send_response(self.status if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 10:00:00 GMT")
        self.send_header("ETag", '"x"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def throttling() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowDown) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("status", [503, 429])
def test_throttling_is_waited_out_and_then_may_pass(
    throttling: str, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(SlowDown, "status", status)
    store = open_store("s3://bucket", S3Settings(endpoint=throttling, retries=2))
    monkeypatch.setattr(SlowDown, "left", 2)
    assert store.get("x") == b"hello"
    monkeypatch.setattr(SlowDown, "left", 3)
    with pytest.raises(StorageError, match=f"throttles requests .{status} SlowDown") as caught:
        store.get("x")
    assert caught.value.retryable


def test_a_file_where_a_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = open_store(str(tmp_path / "file"), S3Settings())
    for act in (lambda: store.put("x", b""), lambda: store.get("x")):
        with pytest.raises(StorageError, match=r"file/x") as caught:
            act()
        assert caught.value.retryable


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Permission denied (os error 13)", "the disk refuses access; check its permissions"),
        ("Input/output error (os error 5)", "Input/output error"),
        ("Stale file handle (os error 116)", "Stale file handle"),
        ("Too many open files (os error 24)", "Too many open files"),
    ],
)
def test_what_a_disk_says_can_be_mended(said: str, told: str) -> None:
    error = GenericError(f"Generic LocalFileSystem error: Unable to open file /x: {said}")
    explained = explain(error, "file:///x", None)
    assert told in str(explained)
    assert explained.retryable


@pytest.mark.usefixtures("s3")
def test_what_a_server_says_of_an_object_can_be_mended(
    throttling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlowDown, "status", 400)
    monkeypatch.setattr(SlowDown, "left", 1)
    with pytest.raises(StorageError, match="the store answered 400 SlowDown") as caught:
        open_store("s3://bucket", S3Settings(endpoint=throttling, retries=0)).get("x")
    assert caught.value.retryable


def test_a_version_that_a_table_does_not_keep_will_not_come_back(tmp_path: Path) -> None:
    table = CorrectionTable(open_store(str(tmp_path / "store"), S3Settings()))
    with pytest.raises(StorageError, match="version 99") as caught:
        table.news(99)
    assert not caught.value.retryable
