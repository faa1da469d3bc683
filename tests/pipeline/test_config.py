"""Run files: what is right loads, what is wrong is named."""

from pathlib import Path

import pytest

from pipeline.config import load_run_file
from pipeline.errors import ConfigError

GOOD = """
name: street
store: runs/street
source:
  images: photos/
  queries:
    - {label: " road ", text: the road}
    - {text: the sky}
model: configs/models/tiny
s3: {endpoint: "http://127.0.0.1:9000"}
"""


def test_a_run_file_loads(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(GOOD)
    run = load_run_file(tmp_path / "run.yaml")
    assert run.source.images == "photos/"
    assert isinstance(run.source.queries, list)
    assert [query.label for query in run.source.queries] == ["road", None]
    assert run.s3.endpoint == "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: street", "name: a/b", r"name: String should match pattern"),
        ("name: street", "nmae: street", r"nmae: unknown key; remove it or check its spelling"),
        ("name: street", "name: 3", "name: Input should be a valid string, found 3"),
        ("store: runs/street\n", "", "store: Field required"),
        ("{text: the sky}", '{text: " "}', r"queries.*1\.text: .*is empty; write what to look for"),
        ("{text: the sky}", "{txt: the sky}", r"queries.*1\.txt: unknown key"),
        ("{text: the sky}", "{label: '', text: x}", r"queries.*1\.label: String should have at"),
        ('"http://127.0.0.1:9000"', "minio:9000", r"s3\.endpoint: String should match pattern"),
        ("model: configs", "pool: {replicas: 0}\nmodel: configs", r"pool\.replicas: .* greater"),
        (
            "model: configs",
            "pool: {gpus: 1.5}\nmodel: configs",
            r"pool\.gpus: .* part of one GPU",
        ),
        (
            "model: configs",
            "finetune: {start: first, data: {replay: {earlier: 0.5}}}\nmodel: configs",
            r"finetune: .*start: first begins with a model that has learned nothing",
        ),
        (GOOD, "- a list", "must hold keys such as 'name'"),
        (GOOD, "a: [", "is not YAML"),
    ],
)
def test_a_wrong_run_file_names_file_and_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "run.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=rf"(?s)run\.yaml: .*{message}"):
        load_run_file(path)


def test_a_missing_run_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file"):
        load_run_file(tmp_path / "none.yaml")
