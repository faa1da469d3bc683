"""Manifests: rows in any order become images with their queries."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError, MissingError
from pipeline.records import ImageTasks
from pipeline.storage.settings import S3Settings

TasksOf = Callable[..., list[ImageTasks]]
Rows = list[dict[str, Any]]

ROWS: Rows = [
    {"image": "in/b 1.jpg", "query": "the road", "label": "road", "id": "B", "group": "g1"},
    {"image": "in/a#.jpg", "query": "the sky", "label": "", "id": "A", "group": ""},
    {"image": "./in/b 1.jpg", "query": "a car", "label": "", "id": "", "group": "g1"},
    {"image": "gone.jpg", "query": "", "label": "empty", "id": "G", "group": ""},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lists/in").mkdir(parents=True)
    (tmp_path / "lists/in/b 1.jpg").write_bytes(b"bb")
    (tmp_path / "lists/in/a#.jpg").write_bytes(b"a")
    return tmp_path / "lists"


def write(path: Path, rows: Rows) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        pa.csv.write_csv(pa.Table.from_pylist(rows), path)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def shown(tasks: list[ImageTasks]) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (task.image.uri.rpartition("/")[2], [(u.label, u.query) for u in task.tasks])
        for task in tasks
    ]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_manifest_gives_images_with_their_queries(
    folder: Path, tasks_of: TasksOf, suffix: str
) -> None:
    tasks = tasks_of(write(folder / f"m{suffix}", ROWS), queries=[])
    assert shown(tasks) == [
        ("b%201.jpg", [("road", "the road"), ("query 1", "a car")]),
        ("a%23.jpg", [("query 1", "the sky")]),
        ("gone.jpg", [("empty", "")]),
    ]
    assert [[unit.id for unit in task.tasks] for task in tasks] == [["B", ""], ["A"], ["G"]]
    images = [task.image for task in tasks]
    assert [image.size for image in images] == [2, 1, 0]
    assert [bool(image.etag) for image in images] == [True, True, False]
    assert [image.group for image in images] == ["g1", f"{folder.as_uri()}/in", folder.as_uri()]


def test_a_manifest_on_s3_finds_its_images_beside_it(
    s3: Any, folder: Path, tasks_of: TasksOf
) -> None:
    manifest = write(folder / "m.csv", ROWS[:2]).read_bytes()
    bucket = s3.make_bucket("manifests", {"x/m.csv": manifest, "x/in/b 1.jpg": b"bb"})
    tasks = tasks_of(f"{bucket}/x/m.csv", [], s3=S3Settings(endpoint=s3.endpoint))
    assert [task.image.uri for task in tasks] == [
        "s3://manifests/x/in/b 1.jpg",
        "s3://manifests/x/in/a#.jpg",
    ]
    assert [task.image.size for task in tasks] == [2, 0]


def test_a_local_manifest_may_name_images_on_s3(s3: Any, folder: Path, tasks_of: TasksOf) -> None:
    bucket = s3.make_bucket("manifest-images", {"1.jpg": b"abc"})
    manifest = write(folder / "m.jsonl", [{"image": f"{bucket}/1.jpg", "query": "x"}])
    assert tasks_of(manifest, [], s3=S3Settings(endpoint=s3.endpoint))[0].image.size == 3


def test_the_run_files_queries_come_first_on_every_image(folder: Path, tasks_of: TasksOf) -> None:
    rows = [{"image": "1.jpg", "query": "a car"}, {"image": "2.jpg", "query": "the road"}]
    tasks = tasks_of(write(folder / "m.jsonl", rows), ["the road"])
    assert [task[1] for task in shown(tasks)] == [
        [("query 1", "the road"), ("query 2", "a car")],
        [("query 1", "the road")],
    ]


def test_images_without_queries_of_their_own_get_the_run_files(
    folder: Path, tasks_of: TasksOf
) -> None:
    without = write(folder / "m.csv", [{"image": "1.jpg"}, {"image": "2.jpg"}])
    null = write(folder / "n.jsonl", [{"image": "1.jpg", "query": None}, {"image": "2.jpg"}])
    for manifest in (without, null):
        assert [task[1] for task in shown(tasks_of(manifest))] == [[("query 1", "the road")]] * 2
    with pytest.raises(InputError, match=r"1\.jpg: has no query"):
        tasks_of(without, [])


def test_numbers_are_good_ids_and_groups(folder: Path, tasks_of: TasksOf) -> None:
    rows: Rows = [{"image": "1.jpg", "query": "x", "id": 7, "group": 3}]
    for suffix in (".csv", ".jsonl", ".parquet"):
        (work,) = tasks_of(write(folder / f"m{suffix}", rows), [])
        assert (work.tasks[0].id, work.image.group) == ("7", "3")


def test_an_id_names_a_row_and_changes_no_key(folder: Path, tasks_of: TasksOf) -> None:
    rows: Rows = [{"image": "1.jpg", "query": "x"}, {"image": "1.jpg", "query": "y"}]
    named: Rows = [{**row, "id": f"row {number}"} for number, row in enumerate(rows)]
    (before,), (after,) = (tasks_of(write(folder / "m.jsonl", each), []) for each in (rows, named))
    assert [unit.id for unit in after.tasks] == ["row 0", "row 1"]
    assert [unit.key for unit in after.tasks] == [unit.key for unit in before.tasks]


def test_an_id_survives_where_the_run_file_asks(folder: Path, tasks_of: TasksOf) -> None:
    rows: Rows = [
        {"image": "1.jpg", "id": "bare"},
        {"image": "2.jpg", "query": "the road", "id": "asked twice"},
    ]
    tasks = tasks_of(write(folder / "m.jsonl", rows), ["the road"])
    assert [[unit.id for unit in task.tasks] for task in tasks] == [["bare"], ["asked twice"]]


WRONG: list[tuple[str, bytes, str]] = [
    ("m.csv", b"", "has no rows"),
    ("m.csv", b"image,query\n", "has no rows"),
    ("m.csv", b"query\nx\n", "has no column 'image'"),
    ("m.csv", b"image,colour\nx,y\n", "unknown column 'colour'; known ones are image, query"),
    ("m.csv", b"image,query\na.jpg,x\n,y\n", "row 2 names no image"),
    ("m.csv", b"image,query\na.jpg,x\nb.jpg\n", "row 2 has 1 cells, the header 2"),
    ("m.csv", b"image\na.jpg\nhttp://h/b.jpg\n", r"row 2: http://h/b\.jpg: http:// is not"),
    ("m.csv", b"image,group\na.jpg,1\na.jpg,\na.jpg,2\n", "rows 1 and 3 .* two groups"),
    (
        "m.csv",
        b"image,query,label\na.jpg,q," + b"x" * 101,
        "row 1: the label has 101 characters, 100",
    ),
    (
        "m.csv",
        b"image,query,label\na.jpg,one,l\nb.jpg,x,y\na.jpg,two,l\n",
        r"m\.csv row 1 and .*m\.csv row 3 ask for 'one' and 'two' under one label, 'l'",
    ),
    ("m.jsonl", b'{"image": "a.jpg"}\n{"query": "x"}', "row 2: has no column 'image'"),
    ("m.jsonl", b'{"image": "a.jpg", "label": "l"}', "row 1: has a label, 'l', but no query"),
    ("m.jsonl", b'{"image": 3}', "row 1: 'image' is 3, write a string"),
    ("m.jsonl", b'{"image": "a.jpg", "id": true}', "row 1: 'id' is true, write a string"),
    (
        "m.jsonl",
        b'{"image": "a.jpg"}\n{"image": "a.jpg", "query": "a \\ud83d"}',
        r"row 2: 'query' holds half a character, '\\ud83d'; write the whole of it",
    ),
    ("m.parquet", b"PAR1 but not really", "is not Parquet"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG)
def test_a_wrong_manifest_names_row_and_column(
    folder: Path, tasks_of: TasksOf, name: str, content: bytes, message: str
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        tasks_of(folder / name)


def test_a_parquet_column_of_another_kind_is_named(folder: Path, tasks_of: TasksOf) -> None:
    manifest = write(folder / "m.parquet", [{"image": "a.jpg", "query": 1.5}])
    with pytest.raises(InputError, match="column 'query' holds double, it must hold strings"):
        tasks_of(manifest)


def test_parquet_that_is_damaged_inside_is_named(folder: Path, tasks_of: TasksOf) -> None:
    manifest = write(folder / "m.parquet", ROWS)
    data = manifest.read_bytes()
    manifest.write_bytes(data[:4] + b"garbage" + data[11:])
    with pytest.raises(InputError, match=r"m\.parquet: is not Parquet, or damaged: "):
        tasks_of(manifest)


def test_a_missing_manifest_is_named(folder: Path, tasks_of: TasksOf) -> None:
    with pytest.raises(MissingError, match=r"none\.csv: does not exist"):
        tasks_of(folder / "none.csv")


def test_many_rows_in_any_order_are_grouped(folder: Path, tasks_of: TasksOf) -> None:
    rows = [{"image": f"{n % 1000}.jpg", "query": f"q {n // 1000}"} for n in range(4000)]
    tasks = tasks_of(write(folder / "m.parquet", rows), [])
    assert [task.image.uri.rpartition("/")[2] for task in tasks] == [
        f"{n}.jpg" for n in range(1000)
    ]
    assert {tuple(u.query for u in task.tasks) for task in tasks} == {("q 0", "q 1", "q 2", "q 3")}
