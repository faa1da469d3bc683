"""Ray's native log lines stay off standard error, everything else passes."""

import os
import sys

import pytest

from workers.quiet import without_native_logs

NOISE = b"[2026-11-23 21:53:46,669 E 8287 8287] core_worker.cc:2465: Actor with class name: X\n"


def test_native_log_lines_are_dropped_and_other_lines_pass(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with without_native_logs():
        os.write(2, NOISE + b"Segmentation fault\n" + NOISE)
        sys.stderr.write("from python\n")
    os.write(2, b"afterwards\n")
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines) == ["Segmentation fault", "afterwards", "from python"]


def test_standard_error_comes_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr
    with pytest.raises(KeyError), without_native_logs():
        raise KeyError
    assert sys.stderr is before
    os.write(2, NOISE)
    assert "core_worker" in capfd.readouterr().err
