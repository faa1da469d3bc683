"""What the fine-tuning job is told, what it says while it runs, and what it ends with."""

from dataclasses import dataclass

from pipeline.storage.settings import S3Settings
from workers.finetune.settings import TrainSettings
from workers.settings import LimitSettings


@dataclass(frozen=True, slots=True)
class FinetuneJob:
    """One job; it is pickled. The same job started again goes on where it stopped.

    ``folder`` (in the store) is its own: checkpoints, curves, result. ``snapshot`` names the
    training set, ``start`` leads to the checkpoint it begins with. The new checkpoint goes to
    ``<models>/<version>``, ``models`` being a folder of the store.
    """

    store: str
    s3: S3Settings
    limits: LimitSettings
    folder: str
    snapshot: str
    start: str
    models: str
    settings: TrainSettings


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step: weighted losses, the rate, the gradients' norm before it is clipped.

    The worker of rank 0 was shown ``rows``; ``seconds`` is the wall time of the step; ``total`` is
    the number of steps of the job.
    """

    step: int
    total: int
    ce: float
    bce: float
    dice: float
    similarity: float
    quality: float
    readout: float
    rate: float
    norm: float
    rows: int
    seconds: float

    @property
    def loss(self) -> float:
        """The sum of the losses."""
        own = self.ce + self.bce + self.dice
        return own + self.similarity + self.quality + self.readout


@dataclass(frozen=True, slots=True)
class MergeCheck:
    """How far the stored checkpoint is from the model that was trained.

    ``weight_error``: the largest difference of a stored weight from base plus adapter, as a share;
    bfloat16 rounds by at most 1/256. ``merged_loss`` and ``stored_loss``: the absolute difference
    of the loss on a probe, after merging and after storing.
    """

    weight_error: float
    merged_loss: float
    stored_loss: float


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """A finished job. ``peak_bytes`` is the accelerator's, or the process's without one.

    ``refused`` counts the corrections that were not taught, because the model cannot be asked
    their query or they do not fit its context.
    """

    version: str
    start: str
    snapshot: str
    steps: int
    images: int
    rows: int
    loss: float
    seconds: float
    peak_bytes: int
    merge: MergeCheck
    refused: int = 0
