"""What the tiny model is trained on: READ's losses, and eight that make training from scratch fast.

A small model that starts from noise learns to place points only after a long while, and SAM's
encoder has no pretrained features to offer. The auxiliary losses give both something direct to
learn; the heads that six of them need are thrown away at export.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.read.auxiliary import central_coverage, map_entropy, of_best_cell
from workers.read.config import ReadConfig
from workers.read.model import ReadModel, image_place
from workers.read.train import IGNORED, TrainingBatch, states_at, training_step_losses
from workers.tiny.recipe import Recipe, Stage

PARTS = (
    *("ce", "bce", "dice", "similarity", "quality", "presence", "search"),
    *("relations", "tokens", "token_places", "patches", "patch_places", "outlines"),
)
"""All losses, in the order of the loss curve; those of parts that rest are missing from it."""

_MASK_PARTS = ("bce", "dice", "quality")

PLACE = 3
"""Numbers that say where an object is and how large: see :class:`SceneTargets`."""

SUBPIXELS = 4  # foreground is asked for at so many places a side of SAM's image cells


@dataclass(frozen=True, slots=True)
class SceneTargets:
    """Dense truth of a step, for B pictures with Q classes (background, colors, shapes) a cell.

    ``tower_views`` (E, 3, c, c) and ``outline_views`` (O, 3, s, s) are pictures beside the B that
    only the CLIP tower and only SAM's encoder see. Shares of each cell by class, where the first is
    background, then come colors, then shapes: ``token_classes`` (B, T, Q), ``tower_classes``
    (E, T, Q) and ``sam_classes`` (B + O, g * g, Q); ``colors`` counts the colors. ``foreground``
    (B + O, 4g, 4g): share of each place that any object covers. The B are missing from the last two
    when none of their masks is going to be compared.

    ``token_places`` (B, T, 4) and ``tower_places`` (E, T, 4) tell of the object that covers most of
    a cell: how much of the cell it covers, its center from the left and from the top, and half the
    logarithm of its area, in sides of the central square.

    ``relations`` (R, 3) tell of the R rows: 1 where a relation is asked for, else 0, and how far to
    its side the anchor, and the foremost of what is asked for, lie from the middle of the square.
    Whether the latter lies further says whether there is such a thing.
    """

    token_classes: Tensor
    token_places: Tensor
    sam_classes: Tensor
    foreground: Tensor
    tower_views: Tensor
    tower_classes: Tensor
    tower_places: Tensor
    outline_views: Tensor
    relations: Tensor
    colors: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one training step sees; ``batch`` is None when nothing is asked about any picture."""

    batch: TrainingBatch | None
    targets: SceneTargets


class AuxiliaryHeads(nn.Module):
    """Linear read-outs of the projected patches, the language model's image states, and SAM's."""

    def __init__(self, config: ReadConfig, classes: int) -> None:
        super().__init__()
        self.tokens = nn.Linear(config.llama.hidden, classes)
        self.cells = nn.Linear(config.sam.prompt, classes)
        self.foreground = nn.Linear(config.sam.prompt, SUBPIXELS**2)
        self.patches = nn.Linear(config.llama.hidden, classes)
        self.token_places = nn.Linear(config.llama.hidden, PLACE)
        self.patch_places = nn.Linear(config.llama.hidden, PLACE)
        self.relations = nn.Linear(config.llama.hidden, 2)


@dataclass(frozen=True, slots=True)
class TinyLosses:
    """The sum () to minimize, and each part's value for the loss curve."""

    total: Tensor
    parts: dict[str, float]


def tiny_losses(
    model: ReadModel, heads: AuxiliaryHeads, step: Step, recipe: Recipe, stage: Stage
) -> TinyLosses:
    """Run the forward pass of a stage's step and return the losses of all that see something."""
    targets, weights = step.targets, recipe.auxiliary
    parts: dict[str, Tensor] = {}
    seen, embeddings, patches = [], [], []
    if step.batch is not None:
        losses = training_step_losses(
            model, step.batch, recipe.losses, compared_masks(step.batch, stage.masks)
        )
        resting = () if losses.segments else _MASK_PARTS
        parts |= {name: getattr(losses, name) for name in PARTS[:5] if name not in resting}
        first = _first_states(model, losses.hidden, step.batch)
        presence = _presence_loss(model, first, step.batch)
        states = _image_states(model, losses.hidden, step.batch)
        tokens = class_loss(heads.tokens(states), targets.token_classes, targets.colors)
        places = place_loss(heads.token_places(states), targets.token_places)
        parts |= {
            "presence": weights.presence * presence,
            "search": weights.search * search_loss(first, states, losses.seg_states, step.batch),
            "relations": weights.relations * place_loss(heads.relations(first), targets.relations),
            "tokens": weights.tokens * tokens,
            "token_places": weights.places * places,
        }
        seen = sorted({step.batch.image_index[row] for row in losses.segment_rows})
        embeddings = [losses.embedding] if seen else []
        patches.append(losses.image_tokens)
    if len(targets.tower_views):
        patches.append(model.image_tokens(model.clip_features(targets.tower_views)))
    if patches:
        states = torch.cat(patches)
        classes = torch.cat([targets.token_classes, targets.tower_classes])
        truth = torch.cat([targets.token_places, targets.tower_places])
        loss = class_loss(heads.patches(states), classes, targets.colors)
        places = place_loss(heads.patch_places(states), truth)
        parts |= {"patches": weights.patches * loss, "patch_places": weights.places * places}
    if len(targets.outline_views):
        asked = len(targets.foreground) - len(targets.outline_views)
        seen += range(asked, len(targets.foreground))
        embeddings.append(model.sam_embedding(targets.outline_views))
    if embeddings:
        loss = _outline_loss(heads, torch.cat(embeddings), targets, seen)
        parts["outlines"] = weights.outlines * loss
    total = torch.stack([loss.to(heads.patches.weight.device) for loss in parts.values()]).sum()
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


def _first_tokens(batch: TrainingBatch) -> tuple[Tensor, Tensor]:
    """Rows (R,) and the columns (R,) of the first token of their answers."""
    first = (batch.labels != IGNORED).int().argmax(dim=1)
    return torch.arange(len(first), device=first.device), first


def _first_states(model: ReadModel, hidden: Tensor, batch: TrainingBatch) -> Tensor:
    """States (R, D), of ``hidden`` (R, L, D), that predict the first token of every answer."""
    rows, first = _first_tokens(batch)
    count = model.config.clip.side**2
    return states_at(hidden, rows, first + count - 2)  # count - 1 more positions, one token earlier


def _presence_loss(model: ReadModel, first: Tensor, batch: TrainingBatch) -> Tensor:
    """Cross-entropy () of the first token of every answer, of the states (R, D) before it."""
    return functional.cross_entropy(model.logits(first), batch.labels[_first_tokens(batch)])


def search_loss(
    first: Tensor, states: Tensor, seg_states: Sequence[tuple[int, int]], batch: TrainingBatch
) -> Tensor:
    """Cross-entropy () of the similarity of the states before an answer (R, D) to image tokens.

    It shall be that to the tokens of the object, of ``states`` (B, T, D), and none where the object
    is absent: who has to say yes or no learns to look.
    """
    seen = states.index_select(0, torch.tensor(batch.image_index, device=states.device))
    maps = (seen * first[:, None]).float().sum(dim=-1)
    wanted = torch.zeros_like(maps)
    if seg_states:
        coverage = central_coverage(batch.masks, round(maps.shape[1] ** 0.5))
        wanted[[row for row, _ in seg_states]] = of_best_cell(coverage)
    return map_entropy(maps, wanted, first.shape[1])


def place_loss(told: Tensor, truth: Tensor) -> Tensor:
    """Mean distance () of places (..., n) from the true ones (..., 1 + n), weighted by the first.

    That is how much of a cell an object covers, or whether a row asks for a relation.
    """
    weight = truth[..., 0]
    distance = (told.float() - truth[..., 1:]).abs().sum(dim=-1)
    return (distance * weight).sum() / weight.sum().clamp(min=1)


def _image_states(model: ReadModel, hidden: Tensor, batch: TrainingBatch) -> Tensor:
    """The states (B, T, D) of the pictures' image tokens, of states (R, L, D)."""
    place, count = image_place(batch.input_ids[0]), model.config.clip.side**2
    first_rows = [list(batch.image_index).index(image) for image in range(len(batch.clip_views))]
    rows = torch.tensor(first_rows, device=hidden.device)
    return hidden.narrow(1, place, count).index_select(0, rows)


def _outline_loss(
    heads: AuxiliaryHeads, embedding: Tensor, targets: SceneTargets, seen: list[int]
) -> Tensor:
    """Cross-entropy () of the cells and the foreground of the ``seen`` pictures' embedding."""
    cells = embedding.flatten(2).transpose(1, 2)
    classes = class_loss(heads.cells(cells), targets.sam_classes[seen], targets.colors)
    side = embedding.shape[-1]
    fine = heads.foreground(cells).unflatten(1, (side, side)).unflatten(3, (SUBPIXELS, SUBPIXELS))
    fine = fine.permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)
    outline = functional.binary_cross_entropy_with_logits(fine, targets.foreground[seen])
    return classes + 2 * outline
