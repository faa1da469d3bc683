"""Versions to register: small files stand for weights, which the registry never opens."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.registry.lineage import Lineage
from pipeline.registry.registry import Registry
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store

if TYPE_CHECKING:
    from tests.conftest import S3Server

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["disk", "s3"])
def any_store(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """An empty store, on the disk and in S3."""
    if request.param == "disk":
        return open_store(str(tmp_path / "with blank" / "store"), S3Settings())
    server: S3Server = request.getfixturevalue("s3")
    bucket = server.make_bucket(tmp_path_factory.mktemp("bucket").name.replace("_", "-"))
    return open_store(f"{bucket}/runs", S3Settings(endpoint=server.endpoint))


def lineage(version: str, minute: int = 0, **changes: object) -> Lineage:
    """Return what is written down about a version made at a minute."""
    values: dict[str, object] = {
        "parent": "",
        "snapshot": "",
        "source": "somewhere",
        "code": "0.1.0",
        "created_at": _BEGIN + timedelta(minutes=minute),
    }
    return Lineage(version=version, **{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Put a version with two files into a registry."""

    def add(registry: Registry, version: str, minute: int = 0, **changes: object) -> None:
        folder = tmp_path / "checkpoints" / version
        (folder / "clip").mkdir(parents=True)
        (folder / "config.json").write_text(version)
        (folder / "clip" / "model 1.safetensors").write_bytes(b"weights")
        registry.upload(folder, version)
        assert registry.record(lineage(version, minute, **changes))

    return add
