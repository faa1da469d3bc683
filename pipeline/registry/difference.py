"""What tells two versions apart: their lineage, settings and measures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.registry.lineage import Lineage

_OWN = ("parent", "snapshot", "source", "code")


@dataclass(frozen=True, slots=True)
class Difference:
    """Values that differ, each as (of the first, of the second); None where one has none.

    Keys of ``settings`` and ``metrics`` are joined by dots.
    """

    lineage: dict[str, tuple[Any, Any]]
    settings: dict[str, tuple[Any, Any]]
    metrics: dict[str, tuple[Any, Any]]


def difference(first: Lineage, second: Lineage) -> Difference:
    """Return what differs between two versions."""
    one, other = asdict(first), asdict(second)
    return Difference(
        lineage=_different({key: one[key] for key in _OWN}, {key: other[key] for key in _OWN}),
        settings=_different(_flat(first.settings), _flat(second.settings)),
        metrics=_different(_flat(first.metrics), _flat(second.metrics)),
    )


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = sorted(one.keys() | other.keys())
    pairs = {key: (one.get(key), other.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
