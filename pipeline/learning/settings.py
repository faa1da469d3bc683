"""The ``data`` and ``gate`` parts of ``finetune`` in a run file."""

import hashlib
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.settings import Settings
from pipeline.storage.training_sets import GroupedBy

Share = Annotated[float, Field(ge=0, le=1)]
Inner = Annotated[float, Field(gt=0, lt=1)]
Metric = Literal["iou", "giou", "ciou"]


def _one_seg(text: str) -> str:
    if text.count("[SEG]") != 1:
        raise ValueError("must hold [SEG] once: the mask that a person left is one")
    return text


def _no_seg(text: str) -> str:
    if "[SEG]" in text:
        raise ValueError("must not hold [SEG]: it denies that the object is there")
    return text


class AnswerSettings(Settings):
    """What the model learns to say. ``{label}`` is the query's label.

    ``unnamed`` stands for ``absent`` where a label names nothing (``query 1``).
    """

    present: Annotated[str, AfterValidator(_one_seg)] = "Sure, it is [SEG]."
    absent: Annotated[str, AfterValidator(_no_seg)] = "There is no {label} in this image."
    unnamed: Annotated[str, AfterValidator(_no_seg)] = "There is no such thing in this image."


class SceneSettings(Settings):
    """Generated scenes to learn from again (``seed``), and others to be judged by."""

    difficulty: Literal["easy", "hard"] = "easy"
    seed: Annotated[int, Field(ge=0)] = 20_240
    count: Annotated[int, Field(ge=0)] = 2_000
    judge_seed: Annotated[int, Field(ge=0)] = 7_001
    judged: Annotated[int, Field(ge=0)] = 40
    side: Annotated[int, Field(ge=32)] = 256


class ReplaySettings(Settings):
    """What is learned again so that it is not forgotten.

    ``earlier``: share of the rows that the current model has learned from. ``stores``: stores
    whose corrections (imported sets, say) the model came from. ``scenes``: generated ones.
    ``dialogue``: a ``.jsonl`` file of ``question`` and ``answer``; without it, the bundled one.
    (What the gate judges dialogue by is another.)
    """

    earlier: Share = 1.0
    stores: tuple[str, ...] = ()
    scenes: SceneSettings | None = None
    dialogue: str | None = None


class DataSettings(Settings):
    """How a training set is frozen.

    ``holdout`` is the share of groups that no training ever sees. ``grouping`` is for images whose
    manifest names no group: by ``folder``, by ``likeness`` (pictures whose hashes differ in at most
    ``similar_bits`` of 64), or ``auto``: by folder if there are several. ``emphasis`` is the
    further weight of a row in which everything was changed.
    """

    holdout: Inner = 0.2
    grouping: GroupedBy | Literal["auto"] = "auto"
    similar_bits: Annotated[int, Field(ge=0, le=32)] = 10
    emphasis: Annotated[float, Field(ge=0)] = 1.0
    answers: AnswerSettings = AnswerSettings()
    replay: ReplaySettings = ReplaySettings()


class MarginSettings(Settings):
    """How far each guarded measure may fall (the dialogue's loss: rise) before it forbids."""

    ciou: Annotated[float, Field(ge=0)] = 0.02
    presence: Annotated[float, Field(ge=0)] = 0.02
    accepted: Annotated[float, Field(ge=0)] = 0.02
    replay_iou: Annotated[float, Field(ge=0)] = 0.05
    replay_denied: Annotated[float, Field(ge=0)] = 0.05
    dialogue_loss: Annotated[float, Field(ge=0)] = 0.1


class GateSettings(Settings):
    """When a candidate is better: see ``docs/learning.md``.

    ``metric``: ``iou`` over present queries, ``giou`` over all, or ``ciou``. ``acceptable`` is the
    IoU from which a person would accept a mask. ``groups`` is the least number of held-out groups
    that enter the gain. ``merge_tolerance`` bounds the relative error of a stored weight.
    """

    metric: Metric = "iou"
    acceptable: Inner = 0.8
    margins: MarginSettings = MarginSettings()
    groups: Annotated[int, Field(ge=2)] = 3
    merge_tolerance: Annotated[float, Field(gt=0)] = 1 / 256

    @property
    def digest(self) -> str:
        """8 hexadecimal digits that name a decision by all that changes it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]
