"""Queries: lists, files of them, and the labels they get."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import InputError, MissingError
from pipeline.records import ImageTasks
from pipeline.storage.settings import S3Settings

TasksOf = Callable[..., list[ImageTasks]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/1.jpg").write_bytes(b"x")
    return tmp_path / "photos"


def asked(tasks: list[ImageTasks]) -> list[tuple[str, str]]:
    return [(unit.label, unit.query) for unit in tasks[0].tasks]


def test_queries_without_labels_are_numbered_among_themselves(
    photos: Path, tasks_of: TasksOf
) -> None:
    queries = ["the road", {"label": "sky", "text": "the sky"}, "a car"]
    assert asked(tasks_of(photos, queries)) == [
        ("query 1", "the road"),
        ("sky", "the sky"),
        ("query 2", "a car"),
    ]


def test_identical_queries_count_once_and_are_reported(
    photos: Path, tasks_of: TasksOf, caplog: pytest.LogCaptureFixture
) -> None:
    sky = {"label": "sky", "text": "the sky"}
    queries = ["the road", sky, "the road", sky, "a car"]
    assert [label for label, _ in asked(tasks_of(photos, queries))] == ["query 1", "sky", "query 2"]
    assert "2 queries were asked twice" in caplog.text


def test_one_label_for_two_queries_names_both(photos: Path, tasks_of: TasksOf) -> None:
    queries = [{"label": "road", "text": "the road"}, {"label": "road", "text": "a street"}]
    with pytest.raises(InputError, match=r"entry 1 and .* entry 2 .*'road'; give them distinct"):
        tasks_of(photos, queries)
    with pytest.raises(InputError, match=r"under one label, 'query 1'"):
        tasks_of(photos, [{"label": "query 1", "text": "x"}, "y"])


FILES = {
    "q.txt": "the road\n\n  the sky \n",
    "q.csv": "label,text\nroad,the road\n,the sky\n",
    "q.jsonl": '{"label": "road", "text": "the road"}\n\n{"text": "the sky"}\n',
    "q.yaml": "- {label: road, text: the road}\n- {text: the sky}\n",
    "bom.csv": "\ufefftext\nthe road\nthe sky\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_queries_is_read(photos: Path, tasks_of: TasksOf, s3: Any, name: str) -> None:
    file = photos.parent / name
    file.write_text(FILES[name], encoding="utf-8")
    labels, texts = zip(*asked(tasks_of(photos, str(file))), strict=True)
    assert texts == ("the road", "the sky")
    assert labels[0] == ("query 1" if name in ("q.txt", "bom.csv") else "road")
    bucket = s3.make_bucket(f"queries-{name.replace('.', '-')}", {name: file.read_bytes()})
    remote = tasks_of(photos, f"{bucket}/{name}", s3=S3Settings(endpoint=s3.endpoint))
    assert asked(remote) == list(zip(labels, texts, strict=True))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.txt", b"\n", "holds no queries"),
        ("q.txt", b"\xff\xfe", "is not UTF-8; save it"),
        ("q.csv", b"text\nroad\n\xff\n", "is not UTF-8; save it"),
        ("q.jsonl", b'{"text": "\xff"}', "is not UTF-8; save it"),
        ("q.doc", b"x", r"a file of queries is \.txt"),
        ("q.csv", b"text,colour\nx,y\n", "unknown column 'colour'; known ones are label, text"),
        ("q.csv", b"label\nx\n", "has no column 'text'"),
        ("q.csv", b'text\nroad\n""\n', "row 2: text: .*is empty; write what to look for"),
        ("q.csv", b"label,text\nx\n", "row 1 has 1 cells, the header 2"),
        ("q.csv", b'text\n"the road', "row 1 is not CSV"),
        ("q.csv", b"text,text\nx,y\n", "names a column twice"),
        ("q.jsonl", b'{"text": "x"}\n{"text"', "row 2 is not JSON"),
        ("q.jsonl", b"[1]", "row 1 is not a JSON object"),
        ("q.jsonl", b'{"text": 7}', "row 1: 'text' is 7, write a string"),
        ("q.jsonl", b'{"text": "\\ude00"}', r"row 1: 'text' holds half a character, '\\ude00'"),
        ("q.jsonl", b'{"label": "x", "text": null}', "row 1: text"),
        ("q.yaml", b"label: road", "must be a list of entries"),
        ("q.yaml", b"- {text: [", "is not YAML"),
        ("q.yaml", b"- the road", "row 1: .*dictionary"),
        ("q.yaml", b"- {text: x, color: red}", "row 1: color: Extra inputs"),
    ],
)
def test_a_wrong_file_of_queries_names_file_and_row(
    photos: Path, tasks_of: TasksOf, name: str, content: bytes, message: str
) -> None:
    (photos.parent / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.*{message}"):
        tasks_of(photos, str(photos.parent / name))


def test_a_missing_file_of_queries_is_named(photos: Path, tasks_of: TasksOf) -> None:
    with pytest.raises(MissingError, match=r"gone\.txt: does not exist"):
        tasks_of(photos, str(photos.parent / "gone.txt"))


def test_images_without_any_query_are_an_error(photos: Path, tasks_of: TasksOf) -> None:
    with pytest.raises(InputError, match=r"1\.jpg: has no query; add some under source\.queries"):
        tasks_of(photos, [])


@pytest.mark.parametrize("entry", [{"text": " "}, {"text": ""}, {"label": "", "text": "x"}])
def test_an_empty_query_in_the_run_file_is_an_error(
    photos: Path, tasks_of: TasksOf, entry: dict[str, str]
) -> None:
    with pytest.raises(ValidationError, match=r"queries.*1"):
        tasks_of(photos, ["x", entry])


def test_an_overlong_query_is_left_to_the_replica(photos: Path, tasks_of: TasksOf) -> None:
    text = json.dumps("x" * 10_000)
    assert asked(tasks_of(photos, [text])) == [("query 1", text)]
