"""Which image of a run a name in somebody else's file means.

A name is compared, never opened: ``../`` or an absolute path in it leads nowhere.
"""

from collections.abc import Iterable

from pipeline.exchange.found import UnfitError
from pipeline.exchange.names import stem

Parts = tuple[str, ...]
_SHOWN = 3


class Matcher:
    """Finds names by their last parts: ``val/a.jpg`` is ``a.jpg`` and ``/data/val/a.jpg``.

    Args:
        names: of the run's images.
        with_suffix: whether the names to find end in the images' suffixes.
    """

    def __init__(self, names: Iterable[str], *, with_suffix: bool) -> None:
        self._by_last: dict[str, list[tuple[Parts, str]]] = {}
        for name in names:
            parts = _parts(name if with_suffix else stem(name))
            self._by_last.setdefault(parts[-1], []).append((parts, name))

    def find(self, text: str) -> str:
        """Return the one name that is meant.

        Raises:
            UnfitError: none or several could be.
        """
        parts = _parts(text)
        if not parts or ".." in parts:
            raise UnfitError("is not a path of an image")
        candidates = self._by_last.get(parts[-1], [])
        same = [name for known, name in candidates if known == parts]
        alike = same or [name for known, name in candidates if _ends_alike(known, parts)]
        if not alike:
            raise UnfitError("is no image of the run's source")
        if len(alike) > 1:
            listed = ", ".join(alike[:_SHOWN]) + (", …" if len(alike) > _SHOWN else "")
            raise UnfitError(f"could be any of {listed}: write more of its path")
        return alike[0]


def _parts(text: str) -> Parts:
    slashed = text if "/" in text else text.replace("\\", "/")
    return tuple(part for part in slashed.split("/") if part not in ("", "."))


def _ends_alike(one: Parts, other: Parts) -> bool:
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]
