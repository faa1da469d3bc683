"""Names of weights: ours against the released ones, one table used both ways."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from workers.read.errors import CheckpointError

CLIP_PART = "clip."
PARTS: tuple[tuple[str, str], ...] = (
    ("llama.model.", "model."),
    ("llama.lm_head.", "lm_head."),
    ("projector.", "model.mm_projector."),
    ("query_head.", "model.text_hidden_fcs.0."),
    ("sam.", "model.visual_model."),
    (CLIP_PART, "vision_model."),
)
"""(prefix in ReadModel, prefix in released files). CLIP's files lie in a folder of their own."""

COMPUTED = re.compile(
    r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq|vision_model\.embeddings\.position_ids"
)
"""Released keys that hold what is computed exactly here; some were stored rounded to bfloat16."""

CLIP_UNUSED = re.compile(r"text_model\..*|text_projection\..*|visual_projection\..*|logit_scale")
"""Keys of a full CLIP model that its vision tower does not have."""

SHOWN = 8


def released_key(key: str) -> str:
    """Released name of a weight of ReadModel."""
    for ours, theirs in PARTS:
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    raise AssertionError(f"no released name for {key}")


def wanted(tensors: Mapping[str, Tensor], unused: re.Pattern[str] = COMPUTED) -> dict[str, Tensor]:
    """Drop keys that no model needs: computed ones and those that match ``unused``."""
    return {
        key: value
        for key, value in tensors.items()
        if not COMPUTED.fullmatch(key) and not unused.fullmatch(key)
    }


def released_tensors(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a ReadModel's state into a checkpoint's and its tower's, under released names."""
    main: dict[str, Tensor] = {}
    tower: dict[str, Tensor] = {}
    for key, value in state.items():
        (tower if key.startswith(CLIP_PART) else main)[released_key(key)] = value
    return main, tower


@dataclass(frozen=True, slots=True)
class KeyDifferences:
    """Keys that a model needs and a checkpoint lacks, the other way round, and of wrong shapes.

    ``misshapen`` holds the key, the shape found and the shape expected.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)


def compare_keys(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> KeyDifferences:
    """Compare names and shapes."""
    return KeyDifferences(
        tuple(sorted(expected.keys() - found.keys())),
        tuple(sorted(found.keys() - expected.keys())),
        tuple(
            (key, tuple(found[key].shape), tuple(expected[key].shape))
            for key in sorted(expected.keys() & found.keys())
            if expected[key].shape != found[key].shape
        ),
    )


def check_keys(where: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Check that ``found`` holds exactly the keys and shapes of ``expected``.

    Raises:
        CheckpointError: names the missing, unexpected and misshapen keys, and the folder.
    """
    differences = compare_keys(expected, found)
    if differences:
        misshapen = [f"{key} (found {a}, expected {b})" for key, a, b in differences.misshapen]
        problems = [
            _listed("missing", differences.missing),
            _listed("unexpected", differences.unexpected),
            _listed("of another shape", misshapen),
        ]
        told = "; ".join(problem for problem in problems if problem)
        raise CheckpointError(f"{where}: weights do not fit the model; {told}")


def _listed(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"
