"""Helpers of the pipeline's tests: sources, and results as a replica would make them."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipeline.masks import empty, encode
from pipeline.records import Failure, ImageTasks, Point, Prediction, Timings
from pipeline.sources.settings import SourceSettings
from pipeline.sources.tasks import image_tasks
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import Store, open_store

if TYPE_CHECKING:
    from tests.conftest import S3Server


@pytest.fixture
def tasks_of() -> Callable[..., list[ImageTasks]]:
    """Return the tasks of a source: ``tasks_of("photos", ["the road"])``."""

    def make(
        images: str | Path,
        queries: str | Iterable[str | dict[str, Any]] = ("the road",),
        limit: int | None = None,
        s3: S3Settings | None = None,
        model: str = "m1",
        *,
        reword_share: float = 0.0,
    ) -> list[ImageTasks]:
        if not isinstance(queries, str):
            queries = [{"text": query} if isinstance(query, str) else query for query in queries]
        source = SourceSettings.model_validate({"images": str(images), "queries": queries})
        found = image_tasks(
            source, s3 or S3Settings(), model, "{}", limit, reword_share=reword_share
        )
        return list(found)

    return make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store on the disk."""
    return open_store(str(tmp_path / "store"), S3Settings())


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


def key_of(image: int, query: str) -> str:
    return hashlib.sha256(f"{image} {query}".encode()).hexdigest()[:32]


@pytest.fixture
def predict() -> Callable[[int, str], Prediction]:
    """Return a prediction that depends on an image number and a query only."""

    def make(image: int, query: str = "road") -> Prediction:
        random = np.random.default_rng([image, len(query)])
        present = query != "absent"
        vector = tuple(float(x) for x in random.standard_normal(256, dtype=np.float32))
        point = Point(float(np.float32(1.1)), 2.0, 1, float(np.float32(0.7)))
        return Prediction(
            key=key_of(image, query),
            id="",
            image_id=f"id {image}",
            image=f"file:///photos/{image}.jpg",
            image_size=1000 + image,
            etag="abc",
            group="file:///photos",
            width=20,
            height=10,
            label=query,
            query=f"the {query}",
            present=present,
            answer="Sure, [SEG]." if present else "There is none.",
            seg_probability=0.1 + image / 1000,
            seg_vectors=(vector, vector) if present else (),
            mask=encode(random.random((10, 20)) > 0.5) if present else empty(10, 20),
            points=(point, Point(3.0, 4.0, -1, 0.25)) if present else (),
            predicted_iou=0.9,
            stability=0.8,
            model_version="m1",
            timings=Timings(0.1, 0.2, 0.3, 0.4, 0.5),
        )

    return make


@pytest.fixture
def fail() -> Callable[..., Failure]:
    """Return a failure of the same unit of work."""

    def make(
        image: int, query: str = "road", *, retryable: bool = False, reason: str = "x"
    ) -> Failure:
        return Failure(
            key=key_of(image, query),
            id="",
            image_id=f"id {image}",
            image=f"file:///photos/{image}.jpg",
            etag="abc",
            label=query,
            query=f"the {query}",
            stage="fetch",
            reason=reason,
            retryable=retryable,
            model_version="m1",
        )

    return make
