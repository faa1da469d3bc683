"""The ``pool`` and ``limits`` parts of a run file."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.settings import Settings

Precision = Literal["float32", "bfloat16", "float16"]


def _whole_or_part(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("is a part of one GPU, or a whole number of them")
    return gpus


class PoolSettings(Settings):
    """Replicas of the model and what each may use.

    A replica with several ``gpus`` spreads one model over them, for what one cannot hold.
    ``follow_seconds`` is how often a replica looks whether another version is current, where the
    run's model is ``registry``; 0 for never.
    """

    replicas: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0), AfterValidator(_whole_or_part)] = 0
    cpus: Annotated[float, Field(gt=0)] = 1
    images_per_batch: Annotated[int, Field(ge=1, le=1024)] = 8
    precision: Precision = "float32"
    follow_seconds: Annotated[float, Field(ge=0)] = 10.0


class LimitSettings(Settings):
    """Bounds on what one row may cost; a row over one of them is recorded as failed."""

    image_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    image_bytes: Annotated[int, Field(ge=1)] = 200_000_000
    query_characters: Annotated[int, Field(ge=1)] = 2_000
