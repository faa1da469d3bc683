"""Where the parts of a set lie: the published archives are unpacked in several ways."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InputError


def first_folder(places: Sequence[Path], what: str) -> Path:
    """Return the first of the places that is a folder.

    Raises:
        InputError: none is; the message lists them.
    """
    for place in places:
        if place.is_dir():
            return place
    looked = "\n  ".join(str(place) for place in places)
    raise InputError(f"{what} was not found; looked for\n  {looked}")
