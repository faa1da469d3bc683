"""Pickles from outside hold plain data or are refused by name, and none of them runs."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.evaluation.plain_pickle import read_plain_pickle

PLAIN = [{"a": (1, 2.5, True, None), "b": "text \u00e9", 3: [b"bytes", {4}, 10**30]}]


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "refs.p"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_data_comes_through(tmp_path: Path, protocol: int) -> None:
    if protocol == 3:  # sets have no opcode of their own before the fourth
        content = [{key: value for key, value in PLAIN[0].items() if key != 3}]
    else:
        content = PLAIN
    assert read_plain_pickle(write(tmp_path, pickle.dumps(content, protocol))) == content


def test_what_python_2_wrote_comes_through(tmp_path: Path) -> None:
    written = b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xc3\\xa9'\np3\nsS'ref_id'\np4\nI7\nsS'ok'\nI01\nsa."
    assert read_plain_pickle(write(tmp_path, written)) == [
        {"sent": "caf\u00e9", "ref_id": 7, "ok": True}
    ]


def test_code_is_refused_by_name_and_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    path = write(tmp_path, pickle.dumps([Attack(trace)]))
    with pytest.raises(
        InputError, match=r"refs\.p: holds (posix|nt)\.system, which could run code"
    ):
        read_plain_pickle(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (pickle.dumps(OrderedDict(a=1)), r"collections\.OrderedDict"),
        (b"cbuiltins\neval\n(S'1'\ntR.", r"builtins\.eval"),
        (b"(ios\nsystem\n.", r"os\.system"),
        (b"\x80\x02\x82\x01.", "not a pickle|which could run"),
        (b"Pouter\n.", "a reference to an outside object, 'outer'"),
    ],
)
def test_every_way_to_name_a_class_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    with pytest.raises(InputError, match=name):
        read_plain_pickle(write(tmp_path, content))


@pytest.mark.parametrize("content", [b"", b"plain text", pickle.dumps(PLAIN)[:-9], b"\x80\x04]R."])
def test_broken_files_are_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"refs\.p: is not a pickle of plain data"):
        read_plain_pickle(write(tmp_path, content))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.p: cannot be read"):
        read_plain_pickle(tmp_path / "none.p")
