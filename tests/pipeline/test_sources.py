"""Directories and prefixes as sources: which images, in which order, with which identity."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError, MissingError, StorageError
from pipeline.records import ImageTasks
from pipeline.storage.settings import S3Settings

TasksOf = Callable[..., list[ImageTasks]]

FILES = ["b/2.JPG", "b/10.png", "a b#1%.webp", "notes.txt", ".hidden.jpg", ".git/x.jpg", "ü/+.jpeg"]
SHOWN = ["a%20b%231%25.webp", "b/10.png", "b/2.JPG", "%C3%BC/%2B.jpeg"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


def test_a_directory_gives_its_images_in_order(photos: Path, tasks_of: TasksOf) -> None:
    images = [task.image for task in tasks_of(photos)]
    assert [image.uri for image in images] == sorted(f"{photos.as_uri()}/{name}" for name in SHOWN)
    assert {image.id for image in images} == {image.uri for image in images}
    assert [image.size for image in images if image.uri.endswith("10.png")] == [8]


def test_a_prefix_gives_the_same_images(s3: Any, tasks_of: TasksOf) -> None:
    bucket = s3.make_bucket("photos", {f"in/{name}": b"x" for name in [*FILES, "sub/"]})
    s3.make_bucket("photos-other", {"x.jpg": b""})
    tasks = tasks_of(f"{bucket}/in/", s3=S3Settings(endpoint=s3.endpoint))
    assert [task.image.uri for task in tasks] == [
        f"{bucket}/in/{name}" for name in ["a b#1%.webp", "b/10.png", "b/2.JPG", "ü/+.jpeg"]
    ]
    assert {task.image.etag for task in tasks} == {"9dd4e461268c8034f5c8564e155c67a6"}


def test_images_are_grouped_by_their_folder(photos: Path, tasks_of: TasksOf) -> None:
    groups = {task.image.uri.rpartition("/")[2]: task.image.group for task in tasks_of(photos)}
    assert groups["2.JPG"] == groups["10.png"] == f"{photos.as_uri()}/b"
    assert groups["a%20b%231%25.webp"] == photos.as_uri()


def test_a_limit_counts_images(photos: Path, tasks_of: TasksOf) -> None:
    some = tasks_of(photos, ["x", "y"], limit=2)
    assert some == tasks_of(photos, ["x", "y"])[:2]
    assert [len(task.tasks) for task in some] == [2, 2]


def test_another_wording_is_one_that_is_not_the_text(photos: Path, tasks_of: TasksOf) -> None:
    chosen = {"text": "a street", "wordings": ["a street", "the road"]}
    only = {"text": "the sky", "wordings": ["the sky"]}
    for image in tasks_of(photos, [chosen, only], reword_share=1.0):
        street, sky, reworded = image.tasks
        assert [task.query for task in image.tasks] == ["a street", "the sky", "the road"]
        assert (street.rewords, sky.rewords, reworded.rewords) == ("", "", street.key)


def test_keys_are_stable_and_follow_content_query_label_and_model(
    photos: Path, tasks_of: TasksOf
) -> None:
    def keys(**changes: str) -> set[str]:
        queries = [{"label": changes.get("label", "l"), "text": changes.get("text", "t")}]
        tasks = tasks_of(photos, queries, model=changes.get("model", "m1"))
        return {unit.key for task in tasks for unit in task.tasks}

    before = keys()
    assert keys() == before
    assert len(before) == 4
    for change in ({"label": "m"}, {"text": "u"}, {"model": "m2"}):
        assert not keys(**change) & before
    os.utime(photos / "b/2.JPG", ns=(1, 10**18))
    assert len(keys() & before) == 3


def test_a_linked_folder_is_followed(photos: Path, tmp_path: Path, tasks_of: TasksOf) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/photos").symlink_to(photos)
    assert len(tasks_of(tmp_path / "linked")) == 4


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("nowhere", r"/nowhere: there is no such directory; check source\.images"),
        ("photos/notes.txt", r"notes\.txt: is a file; source\.images is a directory"),
        ("empty", r"/empty: no images there; looked for \*\.bmp"),
        ("ftp://host/x", r"ftp:// is not supported"),
    ],
)
def test_a_source_without_images_says_what_was_looked_for(
    photos: Path, tasks_of: TasksOf, monkeypatch: pytest.MonkeyPatch, images: str, message: str
) -> None:
    (photos.parent / "empty").mkdir()
    monkeypatch.chdir(photos.parent)
    with pytest.raises(InputError, match=message):
        tasks_of(images)


def test_a_missing_bucket_and_an_empty_prefix_are_named(s3: Any, tasks_of: TasksOf) -> None:
    settings = S3Settings(endpoint=s3.endpoint)
    bucket = s3.make_bucket("images-empty")
    with pytest.raises(InputError, match="s3://images-empty/x: no images there"):
        tasks_of(f"{bucket}/x", s3=settings)
    with pytest.raises(MissingError, match="s3://images-absent: the bucket does not exist"):
        tasks_of("s3://images-absent", s3=settings)


def test_a_name_that_is_no_text_is_an_error(photos: Path, tasks_of: TasksOf) -> None:
    (photos / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"")
    with pytest.raises(StorageError, match="non-unicode"):
        tasks_of(photos)
