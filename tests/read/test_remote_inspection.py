"""Checkpoints in a bucket described by byte ranges: few bytes, and the same refusals as on disk."""

import json
import pickle
import shutil
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import ModelUnusableError
from pipeline.storage.store import Store
from workers.inspected import inspect_model
from workers.read.inspection import inspect_folder

if TYPE_CHECKING:
    from tests.conftest import S3Server

WEIGHTS = "model.safetensors"


@pytest.fixture
def transferred(monkeypatch: pytest.MonkeyPatch, s3: "S3Server", tmp_path: Path) -> dict[str, int]:
    """Bytes that came from the bucket, by file; nothing else of an object is read."""
    counts: dict[str, int] = {}
    get_range = Store.get_range

    def counted(store: Store, path: str, start: int, end: int) -> bytes:
        data = get_range(store, path, start, end)
        counts[path] = counts.get(path, 0) + len(data)
        return data

    monkeypatch.setattr(Store, "get_range", counted)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return counts


def stored(s3: "S3Server", name: str, folder: Path) -> str:
    """Put a folder into a bucket of its own; returns the address of the checkpoint there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    objects = {f"read/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files}
    return s3.make_bucket(name, objects) + "/read"


def as_pickles(folder: Path) -> Path:
    """Turn a checkpoint's weights into two shards of pickles."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    keys = sorted(weights)
    shards = {"pytorch_model-1.bin": keys[::2], "pytorch_model-2.bin": keys[1::2]}
    for shard, held in shards.items():
        torch.save({key: weights[key] for key in held}, folder / shard)
    index = {"weight_map": {key: shard for shard, held in shards.items() for key in held}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("form", ["safetensors", "pickles"])
def test_a_bucket_is_described_like_a_folder_from_a_small_part_of_its_bytes(
    s3: "S3Server", transferred: dict[str, int], tiny_folder: Path, tmp_path: Path, form: str
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    if form == "pickles":
        as_pickles(folder)
    source = stored(s3, f"inspect-{form}", folder)
    pinned, found = inspect_model(source)
    here = inspect_folder(folder).to_json()
    assert pinned == source
    assert found.to_json() == here | {"vision_tower": f"{source}/clip"}
    weights = [name for name in transferred if name.endswith((".safetensors", ".bin"))]
    assert len(weights) == (2 if form == "safetensors" else 3)
    if form == "safetensors":
        for name in weights:
            assert 0 < transferred[name] < (folder / name).stat().st_size / 5


def test_of_large_weights_only_headers_come(
    s3: "S3Server", transferred: dict[str, int], tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    as_pickles(folder)
    shard = folder / "pytorch_model-1.bin"
    weights = torch.load(shard, weights_only=True)
    torch.save(weights | {"large": torch.zeros(2**22)}, shard)
    _, found = inspect_model(stored(s3, "inspect-large", folder))
    assert found.differences.unexpected == ("large",)
    assert transferred[shard.name] < shard.stat().st_size / 50


def hostile(length: int | None, header: bytes) -> bytes:
    """A safetensors file with a header as given, and eight bytes of data."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + bytes(8)


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


HEADER = b'{"a":{"dtype":"%s","shape":[2],"data_offsets":[%d,%d]},"b":{"dtype":"F16","shape":[2],"data_offsets":[%d,8]}}'  # noqa: E501


@pytest.mark.parametrize(
    "content",
    [
        hostile(2**63, b"{}"),
        hostile(99_999_999, b"{}"),
        hostile(None, b"no JSON"),
        hostile(None, HEADER % (b"F16", 0, 4, 2)),
        hostile(None, HEADER % (b"F99", 0, 4, 4)),
        hostile(None, HEADER % (b"F16", 0, 8, 4)),
        hostile(None, HEADER % (b"I8", 0, 4, 4)),
        b"short",
        b"",
    ],
    ids=[
        "huge",
        "longer than the file",
        "no JSON",
        "overlap",
        "type",
        "size",
        "int8",
        "cut",
        "empty",
    ],
)
def test_hostile_headers_are_refused_by_name(
    s3: "S3Server",
    transferred: dict[str, int],
    tiny_folder: Path,
    tmp_path: Path,
    content: bytes,
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    (folder / WEIGHTS).write_bytes(content)
    source = stored(s3, f"hostile-{sha256(content).hexdigest()[:8]}", folder)
    with pytest.raises(ModelUnusableError, match=f"{source}/{WEIGHTS}: cannot be read as plain"):
        inspect_model(source)
    assert transferred.get(WEIGHTS, 0) <= len(content)


def test_a_pickle_with_code_and_a_cut_one_are_refused_by_name(
    s3: "S3Server",
    transferred: dict[str, int],
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = as_pickles(Path(shutil.copytree(tiny_folder, tmp_path / "copy")))
    shard = folder / "pytorch_model-2.bin"
    whole = shard.read_bytes()
    for number, write in enumerate(
        (
            lambda: torch.save({"x": _Code()}, shard),
            lambda: shard.write_bytes(pickle.dumps(_Code())),
            lambda: shard.write_bytes(whole[:-100]),
        )
    ):
        write()
        with pytest.raises(ModelUnusableError, match=rf"/read/{shard.name}: "):
            inspect_model(stored(s3, f"code-{number}", folder))
    assert capsys.readouterr().out == ""
    assert transferred
