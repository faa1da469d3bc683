"""Fixtures for every test: where optional reference data lies."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; tests skip where it is absent."""
    folder = Path(os.environ.get("READLOOP_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder} (set READLOOP_SHARED)")
    return folder
