"""What a serving replica is told."""

from dataclasses import dataclass

from pipeline.storage.settings import S3Settings
from workers.follow import Look
from workers.models import PlannedModel
from workers.serve.settings import ServeSettings
from workers.settings import LimitSettings, PoolSettings


@dataclass(frozen=True)
class ServeJob:
    """The run's store and limits, and the model to begin with; it is pickled.

    ``look`` asks which version is current, None where the run names one model.
    """

    store: str
    s3: S3Settings
    limits: LimitSettings
    pool: PoolSettings
    settings: ServeSettings
    model: PlannedModel
    look: Look | None = None
