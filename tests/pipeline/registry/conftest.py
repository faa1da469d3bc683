"""Versions to register: small files stand for weights, which the registry never opens."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.registry.lineage import Lineage
from pipeline.registry.registry import Registry
from pipeline.storage.training_sets import Manifest

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


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


def manifest(number: int, model: str) -> Manifest:
    """Return a training set of nothing that was frozen while a model was current."""
    return Manifest(
        number=number,
        created_at=_BEGIN,
        model=model,
        tables=(),
        grouping="folder",
        rows="",
        images="",
        digest="0" * 64,
        counts={},
        left_out={},
        settings={},
    )


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
