"""Names of weights: ours against the released ones, one table used both ways."""

import re
from collections.abc import Iterable, Mapping

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


def check_keys(where: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Check that ``found`` holds exactly the keys and shapes of ``expected``.

    Raises:
        CheckpointError: names the missing, unexpected and misshapen keys, and the folder.
    """
    problems = [
        _listed("missing", expected.keys() - found.keys()),
        _listed("unexpected", found.keys() - expected.keys()),
        _listed(
            "of another shape",
            (
                f"{key} (found {tuple(found[key].shape)}, expected {tuple(expected[key].shape)})"
                for key in expected.keys() & found.keys()
                if expected[key].shape != found[key].shape
            ),
        ),
    ]
    told = [problem for problem in problems if problem]
    if told:
        raise CheckpointError(f"{where}: weights do not fit the model; " + "; ".join(told))


def _listed(what: str, keys: Iterable[str]) -> str:
    names = sorted(keys)
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"
