"""The Label Studio server's own Python environment, made from its own lock file.

The server pins numpy, pyarrow and setuptools, so it never shares an environment with readloop.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import LabelStudioError

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = REPOSITORY / "configs" / "labelstudio-server"
ENVIRONMENT_VARIABLE = "READLOOP_LABELSTUDIO_ENV"
UV_VARIABLE = "READLOOP_UV"
OWN_UV = REPOSITORY / ".cache" / "uv" / "bin" / "uv"
STAMP = "readloop-lock.sha256"


def ready_environment(folder: Path | None, progress: Callable[[str], None]) -> Path:
    """Return an environment that holds the server, making it first where needed.

    One that was named is taken as it is; our own is kept as the lock file says.

    Args:
        folder: where the environment is or goes; None means ``READLOOP_LABELSTUDIO_ENV``, else
            ``.cache/labelstudio-env`` in the checkout.
        progress: told in a sentence what takes long.

    Raises:
        LabelStudioError: ``uv`` is missing or cannot install what the lock file lists.
    """
    named = folder or os.environ.get(ENVIRONMENT_VARIABLE)
    chosen = Path(named or REPOSITORY / ".cache" / "labelstudio-env")
    if executable(chosen).exists() and (named or _is_current(chosen)):
        return chosen
    progress(f"installing the Label Studio server into {chosen} (about 1 GB, once)")
    _sync(chosen)
    (chosen / STAMP).write_text(_lock_hash(), encoding="ascii")
    return chosen


def executable(environment: Path) -> Path:
    """Return where ``environment`` keeps the server's command."""
    return environment / "bin" / "label-studio"


def _lock_hash() -> str:
    return hashlib.sha256((PROJECT / "uv.lock").read_bytes()).hexdigest()


def _is_current(environment: Path) -> bool:
    stamp = environment / STAMP
    return stamp.exists() and stamp.read_text(encoding="ascii") == _lock_hash()


def _find_uv() -> str:
    for candidate in (os.environ.get(UV_VARIABLE), shutil.which("uv"), str(OWN_UV)):
        if candidate and Path(candidate).exists():
            return candidate
    raise LabelStudioError(
        f"uv, which installs the Label Studio server, was not found: run scripts/setup, put uv on "
        f"the PATH, or name it in {UV_VARIABLE}"
    )


def _sync(environment: Path) -> None:
    settings = {"UV_PROJECT_ENVIRONMENT": str(environment), "UV_PYTHON_DOWNLOADS": "never"}
    inherited = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    command = [_find_uv(), "sync", "--frozen", "--quiet", "--project", str(PROJECT)]
    result = subprocess.run(
        [*command, "--python", sys.executable],
        env=inherited | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise LabelStudioError(
            f"the Label Studio server could not be installed into {environment}:\n{result.stderr}"
        )
