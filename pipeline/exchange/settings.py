"""The ``exclusive`` part of a run file: labels of which a pixel has at most one."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

_Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
ExclusiveGroup = Annotated[tuple[_Label, ...], Field(min_length=2)]


def _each_once(groups: tuple[ExclusiveGroup, ...]) -> tuple[ExclusiveGroup, ...]:
    seen: set[str] = set()
    for group in groups:
        for label in group:
            if label in seen:
                raise ValueError(f"names {label!r} twice; a label belongs to one group, once")
            seen.add(label)
    return groups


ExclusiveGroups = Annotated[tuple[ExclusiveGroup, ...], AfterValidator(_each_once)]
"""Groups of labels, each of which shares no pixel with another of its group."""
