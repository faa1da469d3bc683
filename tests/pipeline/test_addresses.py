"""Addresses: what is written in settings and manifests, and what it means."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.storage.addresses import Address, locate


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("/data/a b.jpg", "file:///data/a%20b.jpg"),
        ("/data/50%#1.jpg", "file:///data/50%25%231.jpg"),
        ("file:///data/a%20b.jpg", "file:///data/a%20b.jpg"),
        ("FILE://localhost/data/ü+.jpg", "file:///data/%C3%BC%2B.jpg"),
        ("/data/../etc/./x", "file:///etc/x"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a b/50%20#1+.jpg", "s3://bucket/a b/50%20#1+.jpg"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
    ],
)
def test_an_absolute_address_means_one_place(text: str, uri: str) -> None:
    assert locate(text).uri == uri
    assert locate(uri) == locate(text)


def test_a_relative_path_starts_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("runs/x").local == tmp_path / "runs/x"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/x").local == tmp_path / "x"


@pytest.mark.parametrize(
    ("base", "text", "uri"),
    [
        ("s3://b/lists", "a/1.jpg", "s3://b/lists/a/1.jpg"),
        ("s3://b/lists", "../a.jpg", "s3://b/a.jpg"),
        ("s3://b", "a.jpg", "s3://b/a.jpg"),
        ("s3://b/lists", "s3://c/x", "s3://c/x"),
        ("s3://b/lists", "/disk/x", "file:///disk/x"),
        ("/lists", "a.jpg", "file:///lists/a.jpg"),
        ("/lists", "../a.jpg", "file:///a.jpg"),
        ("/lists", "s3://c/x", "s3://c/x"),
    ],
)
def test_a_relative_path_starts_in_its_base(base: str, text: str, uri: str) -> None:
    assert locate(text, locate(base)).uri == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gs://b/x",
        "https://h/x.jpg",
        "s3://",
        "s3:///x",
        "s3://b/a//c",
        "s3://b/../x",
        "file://host/x",
        "file://x",
        "a\x00b",
    ],
)
def test_an_address_that_cannot_be_used_says_why(text: str) -> None:
    with pytest.raises(InputError, match=r"not a path|not supported|write |are not supported"):
        locate(text)


def test_a_relative_path_cannot_leave_its_bucket() -> None:
    with pytest.raises(InputError, match="leads above the first folder"):
        locate("../../x", locate("s3://b/lists"))


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1))
def test_every_file_name_survives_its_uri(name: str) -> None:
    address = Address("", f"folder/x{name}")
    assert locate(address.uri) == address


def test_parents_and_children_belong_together() -> None:
    folder = Address("b", "x")
    assert folder.child("a/b.jpg") == Address("b", "x/a/b.jpg")
    assert folder.child("a/b.jpg").parent == Address("b", "x/a")
    assert folder.child("") == folder
    assert Address("b", "x").parent == Address("b", "")


@pytest.mark.parametrize("folder", [Address("b", ""), Address("b", "x y"), Address("", "x")])
def test_a_place_knows_its_path_below_a_folder(folder: Address) -> None:
    assert folder.child("a/1.jpg").below(folder) == "a/1.jpg"
    assert Address("other", "x y/a").below(folder) is None


def test_a_folder_whose_name_begins_alike_is_elsewhere() -> None:
    assert Address("b", "xy/a").below(Address("b", "x")) is None
