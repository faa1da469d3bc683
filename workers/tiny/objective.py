"""What the tiny model is trained on: READ's losses, and four that make training from scratch fast.

A small model that starts from noise learns to place points only after a long while, and SAM's
encoder has no pretrained features to offer. The auxiliary losses give both something direct to
learn; the heads that two of them need are thrown away at export.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.read.config import ReadConfig
from workers.read.model import ReadModel, image_place
from workers.read.train import IGNORED, TrainingBatch, training_step_losses
from workers.tiny.recipe import Recipe

SUBPIXELS = 4  # foreground is asked for at so many places a side of SAM's image cells


@dataclass(frozen=True, slots=True)
class SceneTargets:
    """Dense truth of a batch, for B images with Q classes (background, colors, shapes) a cell.

    ``token_classes`` (B, T, Q) and ``sam_classes`` (B, g * g, Q): shares of each cell by class,
    where the first is background, then come colors, then shapes; ``colors`` counts the colors.
    ``extra_views`` (E, 3, c, c) are CLIP views of more scenes, ``extra_classes`` (E, T, Q) theirs.
    ``foreground`` (B, 4g, 4g): share of each place that any object covers.
    """

    token_classes: Tensor
    sam_classes: Tensor
    foreground: Tensor
    extra_views: Tensor
    extra_classes: Tensor
    colors: int


class AuxiliaryHeads(nn.Module):
    """Linear read-outs of the projected patches, the language model's image states, and SAM's."""

    def __init__(self, config: ReadConfig, classes: int) -> None:
        super().__init__()
        self.tokens = nn.Linear(config.llama.hidden, classes)
        self.cells = nn.Linear(config.sam.prompt, classes)
        self.foreground = nn.Linear(config.sam.prompt, SUBPIXELS**2)
        self.patches = nn.Linear(config.llama.hidden, classes)


@dataclass(frozen=True, slots=True)
class TinyLosses:
    """The sum () to minimize, and each part's value for the loss curve."""

    total: Tensor
    parts: dict[str, float]


def tiny_losses(
    model: ReadModel,
    heads: AuxiliaryHeads,
    batch: TrainingBatch,
    targets: SceneTargets,
    recipe: Recipe,
) -> TinyLosses:
    """Run one training step's forward pass and return all losses."""
    place, count = image_place(batch.input_ids[0]), model.config.clip.side**2
    compared = compared_masks(batch, recipe.masks_per_scene)
    losses = training_step_losses(model, batch, recipe.losses, compared)
    weights, hidden = recipe.auxiliary, losses.hidden
    first_rows = [list(batch.image_index).index(image) for image in range(len(batch.clip_views))]
    asked = sorted({batch.image_index[row] for row in losses.segment_rows})
    extra = {
        "presence": weights.presence * _presence_loss(model, hidden, batch, count),
        "tokens": weights.tokens
        * class_loss(
            heads.tokens(hidden[first_rows, place : place + count]),
            targets.token_classes,
            targets.colors,
        ),
        "patches": weights.patches
        * class_loss(
            heads.patches(model.image_tokens(model.clip_features(targets.extra_views))),
            targets.extra_classes,
            targets.colors,
        ),
        "outlines": weights.outlines * _outline_loss(heads, losses.embedding, targets, asked),
    }
    total = losses.loss + torch.stack(list(extra.values())).sum()
    own = {name: getattr(losses, name) for name in ("ce", "bce", "dice", "similarity", "quality")}
    parts = {**own, **extra}
    return TinyLosses(total, {name: float(value.detach()) for name, value in parts.items()})


def compared_masks(batch: TrainingBatch, most: int | None) -> list[int]:
    """Return which of a batch's masks are compared: the first ``most`` of each picture.

    The decoder takes half of a step, and learns to outline from far fewer queries than the language
    model needs to tell them apart.
    """
    answers = (batch.input_ids == batch.seg_id) & (batch.labels != IGNORED)
    images = [batch.image_index[row] for row in answers.nonzero()[:, 0].tolist()]
    if most is None:
        return list(range(len(images)))
    return [index for index, image in enumerate(images) if images[:index].count(image) < most]


def class_loss(logits: Tensor, shares: Tensor, colors: int) -> Tensor:
    """Cross-entropy () of the color and of the shape of cells, logits and shares (..., Q)."""
    total = logits.new_zeros(())
    for chosen in (slice(1, 1 + colors), slice(1 + colors, None)):
        some = torch.cat([logits[..., :1], logits[..., chosen]], dim=-1)
        truth = torch.cat([shares[..., :1], shares[..., chosen]], dim=-1)
        weight = 0.2 + (1 - truth[..., 0])
        entropy = -(some.log_softmax(dim=-1) * truth).sum(dim=-1)
        total = total + (entropy * weight).sum() / weight.sum()
    return total


def _presence_loss(model: ReadModel, hidden: Tensor, batch: TrainingBatch, count: int) -> Tensor:
    """Cross-entropy () of the first token of every answer."""
    first = (batch.labels != IGNORED).int().argmax(dim=1)
    rows = torch.arange(len(first), device=first.device)
    states = hidden[rows, first + count - 2]  # count - 1 more positions, and one token earlier
    return functional.cross_entropy(model.logits(states), batch.labels[rows, first])


def _outline_loss(
    heads: AuxiliaryHeads, embedding: Tensor, targets: SceneTargets, asked: list[int]
) -> Tensor:
    cells = embedding.flatten(2).transpose(1, 2)
    classes = class_loss(heads.cells(cells), targets.sam_classes[asked], targets.colors)
    side = embedding.shape[-1]
    fine = heads.foreground(cells).unflatten(1, (side, side)).unflatten(3, (SUBPIXELS, SUBPIXELS))
    fine = fine.permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)
    outline = functional.binary_cross_entropy_with_logits(fine, targets.foreground[asked])
    return classes + 2 * outline
