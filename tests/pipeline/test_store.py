"""Stores on a disk and on a real S3 server behave alike."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from pipeline.errors import InputError, MissingError, StorageError
from pipeline.storage.addresses import locate
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import ObjectReader, Store, open_store

NAMES = ["a b.jpg", "c#d.jpg", "e%20f.jpg", "g%h.jpg", "ü/日本.jpg", "i+j.jpg", "k?l&m.jpg"]


T = TypeVar("T")


def sent(value: T) -> T:
    """What another process gets when it is sent a value."""
    copy: T = pickle.loads(pickle.dumps(value))  # noqa: S301
    return copy


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "disk":
        return open_store(str(tmp_path / "store"), S3Settings())
    server = request.getfixturevalue("s3")
    bucket = server.make_bucket(f"store-{abs(hash(request.node.name)) % 10**9}")
    return open_store(f"{bucket}/some/prefix", S3Settings(endpoint=server.endpoint, retries=1))


def test_what_is_put_is_listed_and_read_back(store: Store) -> None:
    for name in NAMES:
        store.put(name, name.encode())
    listed = list(store.list())
    assert {locate(info.uri) for info in listed} == {store.address.child(name) for name in NAMES}
    reader = sent(ObjectReader(store.s3))
    for info in listed:
        body = reader.get(info.uri, max_bytes=100, etag=info.etag)
        assert locate(info.uri) == store.address.child(body.decode())
        assert reader.head(info.uri) == info


def test_a_listing_is_sorted_and_stays_below_its_folder(store: Store) -> None:
    for name in ["b/2", "b/10", "a", "bc/1"]:
        store.put(name, b"")
    assert [info.uri.removeprefix(store.uri) for info in store.list("b")] == ["/b/10", "/b/2"]
    assert list(store.list("nothing/here")) == []


def test_only_one_of_many_creates_an_object(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.put_new("lock", str(number).encode()), range(8)))
    assert sum(won) == 1
    assert store.get("lock") == str(won.index(True)).encode()


def test_who_did_not_hear_that_an_object_was_made_finds_that_it_is_his(any_store: Store) -> None:
    assert any_store.put_new("lock", b"mine")
    assert any_store.put_new("lock", b"mine")
    assert not any_store.put_new("lock", b"theirs")


def test_a_changed_object_has_another_etag_and_is_not_taken_for_the_old(store: Store) -> None:
    store.put("x", b"one")
    before = store.head("x")
    store.put("x", b"three")
    assert store.head("x").etag != before.etag
    with pytest.raises(StorageError, match=r"x: has changed since it was listed") as caught:
        ObjectReader(store.s3).get(before.uri, etag=before.etag)
    assert caught.value.retryable


def test_a_missing_object_is_named(store: Store) -> None:
    assert not store.exists("nope")
    for act in (store.get, store.head):
        with pytest.raises(MissingError, match="nope: does not exist") as caught:
            act("nope")
        assert not caught.value.retryable


def test_too_large_is_said_before_the_body_is_read(store: Store) -> None:
    store.put("big", b"0" * 1001)
    with pytest.raises(StorageError, match=r"big: 1,001 bytes are more than the limit of 1,000"):
        store.get("big", max_bytes=1000)


def test_delete_takes_what_is_there(store: Store) -> None:
    store.put("x", b"")
    store.put("y", b"")
    store.delete(["gone", "x", "y"])
    store.delete([])
    assert list(store.list()) == []


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", ".."])
def test_a_path_cannot_leave_the_store(store: Store, path: str) -> None:
    with pytest.raises(InputError, match="leads outside"):
        store.get(path)


def test_a_store_can_be_sent_to_another_process(store: Store) -> None:
    store.put("x", b"hello")
    assert sent(store).get("x") == b"hello"


def test_many_threads_share_a_store(store: Store) -> None:
    store.put("x", b"hello")
    same = sent(store)
    barrier = threading.Barrier(8)

    def read(_: int) -> bytes:
        barrier.wait()
        return bytes(same.get("x"))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {b"hello"}
