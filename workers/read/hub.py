"""Checkpoints on the hub: pinned to a commit, read by byte ranges. No torch here."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from httpx2 import HTTPError

from workers.read.errors import CheckpointError
from workers.read.sketch import sketch, weights_and_tower

HUB_ERRORS = (OSError, ValueError, HTTPError)
"""What the hub's client raises: no such name or revision, no network, refusals."""


HUB_FILES = ["*.json", "*.model", "*.safetensors", "*.bin"]
HUB_UNUSED = ["*optimizer*", "*scheduler*", "training_args.bin", "global_step*", "*rng_state*"]
"""What a checkpoint may need of a hub repository, and what lies beside it after a training."""


def split_revision(name: str) -> tuple[str, str | None]:
    """Take ``NAME@REVISION`` apart; without a revision it is None."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


class HubFiles:
    """Files of a repository at a commit, see :class:`workers.read.sketch.RemoteFiles`."""

    def __init__(self, name: str, commit: str) -> None:
        self._name, self._commit = name, commit

    def sizes(self) -> dict[str, int]:
        """Every file and its size in bytes."""
        from huggingface_hub import HfApi  # noqa: PLC0415  (takes long to import)
        from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415

        tree = HfApi().list_repo_tree(self._name, recursive=True, revision=self._commit)
        return {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}

    def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes of a file from ``start`` up to ``end``."""
        from huggingface_hub import hf_hub_url  # noqa: PLC0415
        from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT  # noqa: PLC0415
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # noqa: PLC0415
            build_hf_headers,
            get_session,
            hf_raise_for_status,
        )

        response = get_session().get(
            hf_hub_url(self._name, name, revision=self._commit),
            headers={**build_hf_headers(), "range": f"bytes={start}-{end - 1}"},
            follow_redirects=True,
            timeout=HF_HUB_DOWNLOAD_TIMEOUT,
        )
        hf_raise_for_status(response)
        return response.content


def sketch_from_hub(
    name: str, revision: str | None, folder: Path, patterns: Sequence[str] = HUB_FILES
) -> tuple[str, Path]:
    """Return the commit, and a folder that describes what the hub holds there.

    That is the hub's cache where the weights are in it or there is no network, else a sketch in
    ``folder``, which has to be empty. ``patterns`` are those of a download, so that a cache which
    holds what a download fetches counts as whole.

    Raises:
        CheckpointError: the files are not those of a checkpoint.
        OSError, ValueError, httpx2.HTTPError: there is no such repository or revision, it is not
            in the cache and cannot be reached.
    """
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415
    from huggingface_hub.constants import DEFAULT_REVISION  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    cached_at = partial(
        snapshot_download,
        name,
        allow_patterns=[*patterns],
        ignore_patterns=HUB_UNUSED,
        local_files_only=True,
    )
    try:
        commit = HfApi().model_info(name, revision=revision or DEFAULT_REVISION).sha
    except HfHubHTTPError:
        raise
    except (OSError, HTTPError):
        cached = Path(cached_at(revision=revision))
        if not _whole(cached):
            raise CheckpointError(
                f"{name}: its weights are not in the hub's cache, and the hub cannot be reached"
            ) from None
        return cached.name, cached
    assert commit is not None, "the hub tells every revision's commit"
    try:
        cached = Path(cached_at(revision=commit))
        if _whole(cached):
            return commit, cached
    except OSError:
        pass  # not in the cache, or a part of it
    sketch(HubFiles(name, commit), folder)
    return commit, folder


def _whole(folder: Path) -> bool:
    """Whether a folder of the cache holds weights, its tower's too if it has one of its own."""
    try:
        return bool(weights_and_tower(folder))
    except CheckpointError:
        return False
