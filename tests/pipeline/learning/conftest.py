"""Corrections of real pictures, put straight into a store's table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.masks import empty, encode
from pipeline.records import Correction
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import Store

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HEIGHT, WIDTH = 48, 64


@dataclass
class People:
    """Somebody who looks at pictures in a folder and says what is there."""

    store: Store
    folder: Path
    minute: int = 0
    pictures: dict[str, Path] = field(default_factory=dict)

    def picture(self, name: str, seed: int, *, shift: int = 0) -> Path:
        """Write a smooth random picture; ``shift`` moves it by pixels, as the next frame would."""
        small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
        large = cv2.resize(small, (WIDTH + 16, HEIGHT), interpolation=cv2.INTER_CUBIC)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), large[:, shift : shift + WIDTH])
        self.pictures[name] = path
        return path

    def says(self, name: str, label: str = "road", **changes: Any) -> Correction:
        """Return a correction of a picture, which is found as a source finds it."""
        path = self.pictures[name]
        info = self.store_reader().head(path.as_uri())
        self.minute += 1
        present = bool(changes.get("present", True))
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[10:30, 10 : 20 + len(label)] = True
        values: dict[str, Any] = {
            "id": f"{name} {label}",
            "key": f"key {name} {label}",
            "project": 1,
            "task": 1,
            "annotation": 1,
            "image_id": info.uri,
            "image": info.uri,
            "etag": info.etag,
            "group": path.parent.as_uri(),
            "width": WIDTH,
            "height": HEIGHT,
            "label": label,
            "query": f"the {label}",
            "model_version": "m1",
            "arm": "shown",
            "verdict": "edited" if present else "absent",
            "present": present,
            "mask": encode(mask) if present else empty(HEIGHT, WIDTH),
            "points": (),
            "iou": 0.5 if present else 0.0,
            "boundary_f": 0.5,
            "annotator": "7",
            "seconds": 10.0,
            "updated_at": BEGIN + timedelta(minutes=self.minute),
        }
        return Correction(**{**values, **changes})

    def store_reader(self) -> Any:
        """Return what sources read with."""
        from pipeline.storage.store import ObjectReader  # noqa: PLC0415

        return ObjectReader(self.store.s3)

    def commit(self, *rows: Correction) -> None:
        """Append corrections to the table."""
        CorrectionTable(self.store).append(rows)


@pytest.fixture
def people(store: Store, tmp_path: Path) -> People:
    """People whose pictures lie in one folder."""
    return People(store, tmp_path / "photos")


@pytest.fixture
def many(people: People) -> Callable[[int], People]:
    """Commit corrections of so many different pictures, from where the last call ended."""

    def make(count: int) -> People:
        start = len(people.pictures)
        names = [f"{number:03d}.png" for number in range(start, start + count)]
        for number, name in enumerate(names, start):
            people.picture(name, seed=number)
        people.commit(*(people.says(name, label) for name in names for label in ("road", "car")))
        return people

    return make
