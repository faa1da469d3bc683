"""What a manifest itself records of a case, beside the arrays in the case's file.

Every key of an entry is compared or stands in :data:`NOT_COMPARED` with the reason; any other is a
failure, so that a new kind of recording is noticed.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from workers.read.conformance.cases import CaseResult, Computed, Same, compare
from workers.read.conformance.subject import Subject
from workers.read.images import sam_size
from workers.read.prompt import SYSTEM, PromptSettings, prompt
from workers.read.tokenizer import IM_END, IM_START, IMAGE_PLACEHOLDER

PREFIX = "manifest."

_INPUT = "what the case is made from"
_TIME = "how long the original took on its machine"
_RAISES = "the text of the original's error: there, ours has to give a result"

NOT_COMPARED: Mapping[str, Mapping[str, str]] = {
    "files": dict.fromkeys(("kind", "image", "prompts"), _INPUT),
    "evaluate": {
        **dict.fromkeys(("case", "file", "image", "template", "question"), _INPUT),
        "max_new_tokens": _INPUT,
        "pre": "names a case of kind preprocess, which is compared by itself",
        "seconds": _TIME,
        "hidden_stride": "stands in the arrays' names, which are read instead",
        "mask_stride": "stands in the arrays' names, which are read instead",
        "ext_mask_stride": "stands in the arrays' names, which are read instead",
        "evaluate_raises": _RAISES,
    },
    "train": {
        **dict.fromkeys(("case", "file", "images", "fixed_sizes"), _INPUT),
        **dict.fromkeys(("labels", "offset", "gt_mask_*"), _INPUT),
        "seconds_fwd_bwd": _TIME,
        "raises": _RAISES,
        "pred_* of an image without masks": "the original gives them a shape of no meaning",
        "masks, losses and gradients of rows that got another image's size": (
            "an error of the original (fixed_sizes false, a row without [SEG] before one with it); "
            "the same rows with the right sizes are a case of their own"
        ),
    },
    "val": dict.fromkeys(("case", "file", "image", "prompts"), _INPUT),
    "sasp": {
        **dict.fromkeys(("key", "shape", "params", "sm"), _INPUT),
        "variant": "a name for params",
        "raises": _RAISES,
    },
}
"""By kind: keys of entries and names of arrays that are not compared, and why."""


def compare_listing(subject: Subject, kind: str) -> Iterator[CaseResult]:
    """Hold what the manifest tells of the files of a kind against the files.

    A missing file is left to the case that needs it.
    """
    for name in subject.files(kind):
        if not (subject.folder / "goldens" / name).is_file():
            continue
        entry, computed = subject.manifest["files"][name], {}
        if name.endswith(".npz"):
            arrays = subject.recorded(name).items()
            shapes = {key: [list(value.shape), str(value.dtype)] for key, value in arrays}
            computed["arrays"] = Same(shapes)
        if "sam_mask_shape" in entry:
            size = subject.image(entry["image"]).shape[:2]
            filled = sam_size(size, subject.model.config.sam.image)
            computed["sam_mask_shape"] = Same([list(filled), list(size)])
        yield from compare_entry(name, kind, entry, computed, NOT_COMPARED["files"])


def compare_entry(
    name: str,
    kind: str,
    entry: Mapping[str, Any],
    computed: Mapping[str, Computed],
    left_out: Collection[str] | None = None,
) -> Iterator[CaseResult]:
    """Hold every key of a manifest's entry against ours, see :func:`cases.compare`.

    ``left_out`` names keys that are not compared, those of the kind by default. What ``computed``
    has and the entry has not is no matter: entries leave out what a case lacks.
    """
    left_out = NOT_COMPARED[kind] if left_out is None else left_out
    recorded = {f"{PREFIX}{key}": value for key, value in entry.items() if key not in left_out}
    ours = {f"{PREFIX}{key}": value for key, value in computed.items()}
    yield from compare(name, kind, recorded, {key: ours[key] for key in ours.keys() & recorded})


def prompts_of(rows: list[list[list[str]]], recorded: list[str]) -> Same:
    """Prompts with answers made from the (question, answer) rows of each image.

    An entry does not name its system sentence: it is the one that the first recorded prompt has.
    Without rows there is nothing to make, and the recorded prompts are an input.
    """
    if not rows:
        return Same(recorded)
    user = bool(recorded) and recorded[0].startswith(SYSTEM.replace("{person}", "user"))
    settings = PromptSettings(person="user" if user else "human")
    return Same([prompt(asked, settings, answer) for image in rows for asked, answer in image])


def without_image_tokens(text: str) -> str:
    """The prompt as it is before the tokens around the image are added."""
    return text.replace(f"{IM_START}{IMAGE_PLACEHOLDER}{IM_END}", IMAGE_PLACEHOLDER)
