"""Cases of kind ``checkpoint``: the forms in which a folder holds its weights are all the same."""

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from workers.read.checkpoint import load_model
from workers.read.conformance.cases import CaseResult, count
from workers.read.conformance.subject import Subject
from workers.read.weights import read_headers

KEYS, SAFETENSORS, FULL_CLIP = "checkpoint_keys.json", "checkpoint_st", "clip_full"


def names(subject: Subject, kind: str) -> list[str]:  # noqa: ARG001  (every runner has this form)
    """What there is beside the checkpoint and tower that everything else is run with."""
    forms = (KEYS, SAFETENSORS, FULL_CLIP)
    used = (subject.checkpoint.name, subject.tower.name)
    return [name for name in forms if name not in used and (subject.folder / name).exists()]


def run(subject: Subject, kind: str, name: str) -> Iterator[CaseResult]:
    """Count keys of another shape or type, or weights that differ from the other form's."""
    if name == KEYS:
        recorded = json.loads((subject.folder / name).read_text(encoding="utf-8"))
        yield count(name, kind, "keys", _differing_keys(recorded, read_headers(subject.checkpoint)))
        return
    checkpoint = subject.folder / name if name == SAFETENSORS else subject.checkpoint
    tower = subject.folder / name if name == FULL_CLIP else subject.tower
    other = load_model(checkpoint, clip=tower).state_dict()
    ours = subject.model.state_dict()
    differing = sum(not torch.equal(other[key], value) for key, value in ours.items())
    yield count(name, kind, "weights", differing + len(ours.keys() ^ other.keys()))


def _differing_keys(recorded: Mapping[str, object], headers: Mapping[str, Tensor]) -> int:
    """Number of keys that only one side has, or with another shape or type."""
    found = {key: [list(value.shape), str(value.dtype)] for key, value in headers.items()}
    return sum(found.get(key) != recorded.get(key) for key in found.keys() | recorded.keys())
