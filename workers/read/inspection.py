"""What a checkpoint folder holds, told from its configuration and headers: no weight is read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from workers.read.checkpoint import refuse_other_models
from workers.read.config import CLIP_L_336, ReadConfig, ReadSettings
from workers.read.errors import CheckpointError
from workers.read.files import read_json, weight_files
from workers.read.hub import sketch_from_hub, split_revision
from workers.read.identity import TOWER_FILES, TOWER_PATTERNS, tower_folder
from workers.read.keys import CLIP_UNUSED, KeyDifferences, compare_keys, released_tensors, wanted
from workers.read.layout import planned_config, read_config
from workers.read.model import lay_out
from workers.read.settings import read_settings
from workers.read.tokenizer import ReadTokenizer
from workers.read.weights import read_headers

PUBLISHED_TOWERS = {
    "openai/clip-vit-large-patch14-336": CLIP_L_336,
    "openai/clip-vit-large-patch14": replace(CLIP_L_336, image=224),
}
"""Towers that published checkpoints name, whose sizes are known without their files."""

PARTS = {
    "language_model": ("model.layers.", "model.embed_tokens.", "model.norm.", "lm_head."),
    "projector": ("model.mm_projector.",),
    "query_head": ("model.text_hidden_fcs.",),
    "sam_image_encoder": ("model.visual_model.image_encoder.",),
    "sam_prompt_encoder": ("model.visual_model.prompt_encoder.",),
    "sam_mask_decoder": ("model.visual_model.mask_decoder.",),
    "vision_tower": ("vision_model.",),
}
"""Parts of a model and the released names that their weights begin with."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """A checkpoint as its files describe it.

    ``special_ids`` by token role. ``files`` hold the weights, none where there are only
    configurations; ``dtypes`` counts keys by type; ``keys`` were found, of which ``ignored`` are
    computed by the program instead; ``expected_keys`` are needed, the tower's not counted.
    ``parameters`` counts the model's numbers by part, ``total`` among them. ``tower`` is the
    vision tower's folder, or its hub id with the commit, or None where ``tower_problem`` says why
    it is not at hand; its keys and numbers are then left out.
    """

    config: ReadConfig
    settings: ReadSettings
    special_ids: Mapping[str, int]
    files: tuple[str, ...]
    dtypes: Mapping[str, int]
    keys: int
    ignored: int
    expected_keys: int
    parameters: Mapping[str, int]
    differences: KeyDifferences
    tower: str | None
    tower_problem: str | None

    @property
    def ok(self) -> bool:
        """Whether every key is there, expected and of the right shape."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """Return everything under the names of the fields, settings and sizes spelled out."""
        differences = self.differences
        return {
            "ok": self.ok,
            "family": self.settings.family,
            "sizes": asdict(self.config),
            "special_ids": dict(self.special_ids),
            "settings": asdict(self.settings),
            "vision_tower": self.tower,
            "vision_tower_problem": self.tower_problem,
            "files": list(self.files),
            "dtypes": dict(self.dtypes),
            "keys": self.keys,
            "ignored_keys": self.ignored,
            "expected_keys": self.expected_keys,
            "parameters": dict(self.parameters),
            "missing": list(differences.missing),
            "unexpected": list(differences.unexpected),
            "misshapen": [
                {"key": key, "found": list(found), "expected": list(expected)}
                for key, found, expected in differences.misshapen
            ],
        }


def inspect_folder(folder: str | Path, clip: str | Path | None = None) -> Inspection:
    """Describe a checkpoint folder; ``clip`` overrides the place of the vision tower.

    A folder without weights is described from ``config.json``, with the published SAM.

    Raises:
        CheckpointError: a file is unreadable, no checkpoint of these families, or lacks what
            tells its sizes.
    """
    with TemporaryDirectory(prefix="readloop-tower-") as scratch:
        return _inspect(Path(folder), clip, _HubTower(Path(scratch)))


class _HubTower:
    """Gets a named tower's sketch from the hub, and keeps how it is called there."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self.source: str | None = None

    def __call__(self, name: str) -> Path:
        repository, revision = split_revision(name)
        commit, folder = sketch_from_hub(repository, revision, self._scratch, TOWER_PATTERNS)
        self.source = f"{repository}@{commit}"
        return folder


def _inspect(folder: Path, clip: str | Path | None, hub: _HubTower) -> Inspection:
    llava = read_json(folder / "config.json")
    settings, own_tower = read_settings(folder, llava)
    try:
        tower, problem = tower_folder(folder, llava, own_tower, clip, hub), None
    except CheckpointError as error:
        tower, problem = None, str(error)
    files = _files(folder)
    headers = read_headers(folder) if files else {}
    if files:
        refuse_other_models(folder, headers)
    kept = wanted(headers)
    config = _config(llava, tower, kept, problem)
    expected, tower_expected = expected_headers(config)
    found, needed = dict(kept), len(expected)
    if tower is not None:
        expected |= tower_expected
        found |= wanted(read_headers(tower), CLIP_UNUSED)
    return Inspection(
        config=config,
        settings=settings,
        special_ids=_special_ids(folder, files),
        files=files,
        dtypes=Counter(str(header.dtype).removeprefix("torch.") for header in headers.values()),
        keys=len(headers),
        ignored=len(headers) - len(kept),
        expected_keys=needed,
        parameters=count_parameters(expected),
        differences=compare_keys(expected, found),
        tower=hub.source or (None if tower is None else str(tower)),
        tower_problem=problem,
    )


def expected_headers(
    config: ReadConfig, *, frequencies: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Released names of all weights, and of the tower's, each with an empty meta tensor.

    ``frequencies`` adds the rotary ``inv_freq`` (head / 2,) of every layer, which old versions of
    transformers stored, and which is never read.
    """
    main, tower = released_tensors(lay_out(config).state_dict())
    if frequencies:
        half = config.llama.hidden // config.llama.heads // 2
        for layer in range(config.llama.layers):
            key = f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"
            main[key] = torch.empty(half, device="meta")
    return main, tower


def count_parameters(headers: Mapping[str, Tensor]) -> dict[str, int]:
    """Count the numbers of each part under its released names, all together as ``total``."""
    counts = {
        part: sum(value.numel() for key, value in headers.items() if key.startswith(prefixes))
        for part, prefixes in PARTS.items()
    }
    return {**counts, "total": sum(counts.values())}


def _files(folder: Path) -> tuple[str, ...]:
    """Names of the weight files; none if the folder holds configurations only."""
    if not any(folder.glob("*.safetensors*")) and not any(folder.glob("*.bin*")):
        return ()
    return tuple(path.name for path in weight_files(folder))


def _config(
    llava: Mapping[str, Any], tower: Path | None, headers: Mapping[str, Tensor], problem: str | None
) -> ReadConfig:
    shapes = {key: tuple(header.shape) for key, header in headers.items()}
    name = str(llava.get("vision_tower") or llava.get("mm_vision_tower"))
    if tower is None and name not in PUBLISHED_TOWERS:
        raise CheckpointError(str(problem))
    if tower is None:
        known = PUBLISHED_TOWERS[name]
        width = llava.get("mm_hidden_size", known.hidden)
        return planned_config(llava, shapes, replace(known, hidden=width))
    clip, preprocessor = (read_json(tower / file) for file in TOWER_FILES)
    return read_config(llava, clip, preprocessor, shapes)


def _special_ids(folder: Path, files: Sequence[str]) -> dict[str, int]:
    if not files and not (folder / "tokenizer.model").is_file():
        return {}
    tokenizer = ReadTokenizer.from_folder(folder)
    roles = ("seg", "im_start", "im_end", "bos", "eos", "unk", "pad")
    return {role: getattr(tokenizer, f"{role}_id") for role in roles}
