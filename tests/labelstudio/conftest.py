"""Fixtures for everything that speaks to Label Studio."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def samples(shared: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Return the brush regions found anywhere in a recorded message of a real server."""

    def brush_regions(value: Any) -> list[dict[str, Any]]:
        if isinstance(value, dict):
            if value.get("type") == "brushlabels" and "value" in value:
                return [value]
            return [region for part in value.values() for region in brush_regions(part)]
        if isinstance(value, list) and value and not isinstance(value[0], int):
            return [region for part in value for region in brush_regions(part)]
        return []

    def load(name: str) -> list[dict[str, Any]]:
        text = (shared / "labelstudio-samples" / name).read_text(encoding="utf-8")
        regions = brush_regions(json.loads(text))
        assert regions
        return regions

    return load
