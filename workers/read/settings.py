"""``readloop.json``: how a checkpoint is used. Defaults by family and size where it is absent."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args

from workers.read.config import Family, ReadSettings, SasPSettings
from workers.read.errors import CheckpointError
from workers.read.files import read_json
from workers.read.prompt import PromptSettings

FILE = "readloop.json"
TOWER = "vision_tower"
OWN_TOWER = "clip"
"""Key of ``readloop.json``, and the folder that it names where a checkpoint holds its own tower."""

ARCHITECTURES: dict[Family, str] = {
    "read": "READForCausalLM",
    "sesame": "SESAMEForCausalLM",
    "lisa": "LISAForCausalLM",
}
FAMILIES = ", ".join(get_args(Family))
LARGE_HIDDEN = 5120
"""Hidden size of LLaMA 13B: its READ checkpoint was evaluated with more points."""

LARGE_SASP = SasPSettings(num_points=60, t_pos=0.6, t_neg=0.2, down_sample=1)


def read_settings(folder: Path, llava: Mapping[str, Any]) -> tuple[ReadSettings, str | None]:
    """Read the settings of a checkpoint folder and, if it has its own, the place of its tower.

    ``llava`` is the content of ``config.json``; what ``readloop.json`` leaves out has the default
    of the family and size. ``"sasp": null`` switches SasP off, an object switches it on.

    Raises:
        CheckpointError: a key is unknown or a value is of the wrong type.
    """
    path = folder / FILE
    content = read_json(path) if path.is_file() else {}
    hidden = llava.get("hidden_size", 0)
    if not isinstance(hidden, int):
        raise CheckpointError(
            f"{folder / 'config.json'}: 'hidden_size' must be a whole number, found {hidden!r}"
        )
    try:
        return _settings(content, llava), content.get(TOWER)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def default_settings(family: Family, hidden_size: int) -> ReadSettings:
    """Settings of a family's releases; SasP belongs to READ alone."""
    sasp = default_sasp(hidden_size) if family == "read" else None
    return ReadSettings(family=family, sasp=sasp)


def default_sasp(hidden_size: int) -> SasPSettings:
    """Points of a READ checkpoint of this size, and of others where SasP is switched on."""
    return LARGE_SASP if hidden_size >= LARGE_HIDDEN else SasPSettings()


def settings_json(settings: ReadSettings, **more: str) -> str:
    """Write settings as canonical JSON: sorted keys, no spaces."""
    return json.dumps({**asdict(settings), **more}, sort_keys=True, separators=(",", ":"))


def _settings(content: Mapping[str, Any], llava: Mapping[str, Any]) -> ReadSettings:
    _refuse_unknown(content, [*(field.name for field in fields(ReadSettings)), TOWER])
    hidden = llava.get("hidden_size", 0)
    settings = default_settings(_family(content, llava), hidden)
    if "prompt" in content:
        prompt = PromptSettings.from_dict(_object("prompt", content["prompt"]))
        settings = replace(settings, prompt=prompt)
    if "sasp" in content:
        base = settings.sasp or default_sasp(hidden)
        sasp = None if content["sasp"] is None else _sasp(base, content["sasp"])
        settings = replace(settings, sasp=sasp)
    if "max_new_tokens" in content:
        settings = replace(settings, max_new_tokens=_count(content, "max_new_tokens"))
    if not isinstance(content.get(TOWER, ""), str):
        raise CheckpointError(f"{TOWER} must name a folder, found {content[TOWER]!r}")
    return settings


def _family(content: Mapping[str, Any], llava: Mapping[str, Any]) -> Family:
    if "family" in content:
        if content["family"] not in get_args(Family):
            raise CheckpointError(f"family {content['family']!r} is none of {FAMILIES}")
        return content["family"]
    said = llava.get("architectures")
    architectures = said if isinstance(said, list) else []
    named = {str(architecture).lower() for architecture in architectures}  # "LisaForCausalLM" too
    for family, architecture in ARCHITECTURES.items():
        if architecture.lower() in named:
            return family
    raise CheckpointError(
        f"no 'family', and the architectures {said!r} of config.json name none; "
        f"write one of {FAMILIES}"
    )


def _sasp(base: SasPSettings, content: object) -> SasPSettings:
    values = _object("sasp", content)
    _refuse_unknown(values, [field.name for field in fields(SasPSettings)])
    for key in ("num_points", "down_sample"):
        if key in values:
            _count(values, key)
    for key in ("t_pos", "t_neg"):
        value = values.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise CheckpointError(f"sasp.{key} must lie between 0 and 1, found {value!r}")
    return replace(base, **values)


def _object(name: str, content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise CheckpointError(f"{name!r} must be an object, found {content!r}")
    return content


def _count(values: Mapping[str, Any], key: str) -> int:
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{key} must be a positive integer, found {value!r}")
    return value


def _refuse_unknown(content: Mapping[str, Any], known: list[str]) -> None:
    unknown = sorted(content.keys() - set(known))
    if unknown:
        raise CheckpointError(
            f"unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
