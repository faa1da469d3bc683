"""Comparing one case's arrays with recorded ones: bounds, differences, and nothing overlooked."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

STRIDED = re.compile(r"(?P<base>.+)_s(?P<stride>\d+)(?P<row>_\d+)?")


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How far one array of one case is from the recorded one.

    ``max_abs`` is the difference at the element that comes nearest to its bound or exceeds it most,
    and ``tolerance`` that bound. For things that are only equal or not, ``max_abs`` counts what
    differs. It is None, and ``ok`` False, where nothing could be compared: ``array`` says why.
    """

    name: str
    kind: str
    array: str
    max_abs: float | None
    tolerance: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Element bound ``absolute + relative * |recorded|``; ``of_largest`` adds a share of max."""

    absolute: float
    relative: float = 0.0
    of_largest: float = 0.0

    def bounds(self, recorded: np.ndarray) -> np.ndarray:
        """Allowed difference of each element, float64."""
        size = np.abs(recorded)
        return self.absolute + self.relative * size + self.of_largest * size.max(initial=0.0)


TENSOR = Tolerance(1e-4, relative=1e-4)
EXACT = Tolerance(0.0)
POINT_PIXELS = Tolerance(1e-3)
LOSS = Tolerance(1e-5)
GRADIENT_NORM = Tolerance(1e-6, relative=1e-3)

NEAR_ZERO_LOGIT = 1e-3
"""Mask pixels whose logit is nearer to 0 than this may differ."""


class Computed(Protocol):
    """An array of ours that can be held against a recorded one."""

    def difference(self, recorded: Any, stride: int) -> tuple[float | None, float]:  # noqa: ANN401
        """Worst difference and its bound, see :class:`CaseResult`; None if shapes differ."""


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers of ours; ``strided`` names the axes along which a recording may skip elements.

    Recorded integers and booleans have to be equal whatever ``tolerance`` says.
    """

    value: Tensor | np.ndarray | float | list
    strided: tuple[int, ...] = ()
    tolerance: Tolerance = TENSOR

    def difference(self, recorded: np.ndarray, stride: int) -> tuple[float | None, float]:
        """Compare with ``recorded``, which holds every ``stride``-th element."""
        ours, recorded = _array(self.value), np.asarray(recorded)
        ours = ours[_every(ours.ndim, self.strided, stride)].astype(np.float64)
        tolerance = self.tolerance if recorded.dtype.kind == "f" else EXACT
        if ours.shape != recorded.shape:
            return None, tolerance.absolute
        expected = recorded.astype(np.float64)
        return _worst(np.abs(ours - expected), tolerance.bounds(expected))


@dataclass(frozen=True, slots=True)
class MaskBits:
    """Masks ``logits > 0``, compared with packed bits; ``logits`` have the masks' full shape."""

    logits: Tensor

    def difference(self, recorded: np.ndarray, stride: int) -> tuple[float | None, float]:
        """Count pixels that differ though their logit is not near 0."""
        assert stride == 1, "packed bits are never strided"
        logits = _array(self.logits).ravel()
        if len(recorded) != -(-logits.size // 8):
            return None, EXACT.absolute
        expected = np.unpackbits(recorded, count=logits.size).astype(bool)
        wrong = ((logits > 0) != expected) & ~(np.abs(logits) < NEAR_ZERO_LOGIT)
        return float(wrong.sum()), EXACT.absolute


@dataclass(frozen=True, slots=True)
class Same:
    """A value of ours that a recorded one, of any JSON type, has to equal."""

    value: object

    def difference(self, recorded: object, stride: int) -> tuple[float | None, float]:
        """Return 1 if they differ."""
        assert stride == 1, "values are never strided"
        return float(recorded != self.value), EXACT.absolute


def compare(
    name: str,
    kind: str,
    recorded: Mapping[str, Any],
    computed: Mapping[str, Computed],
    left_out: Collection[str] = (),
) -> Iterator[CaseResult]:
    """Hold every recorded array against the computed one of its name.

    ``x_s4`` and ``x_s4_0`` record every 4th element of ``x`` and ``x_0``. ``left_out`` names
    recorded arrays that are inputs, or that are deliberately not compared; any other array without
    a computed counterpart is a failure, and so is a computed one that was not recorded.
    """
    seen = set()
    for array, values in recorded.items():
        key, stride = _find(array, computed)
        if key is not None:
            seen.add(key)
            yield result(name, kind, array, *computed[key].difference(values, stride))
        elif array not in left_out:
            yield failure(name, kind, f"{array} (nothing computed to compare it with)")
    for key in computed.keys() - seen:
        yield failure(name, kind, f"{key} (not recorded)")


def result(name: str, kind: str, array: str, max_abs: float | None, tolerance: float) -> CaseResult:
    """Judge a difference."""
    if max_abs is None:
        return failure(name, kind, f"{array} (other shape, or NaN)", tolerance)
    return CaseResult(name, kind, array, max_abs, tolerance, ok=max_abs <= tolerance)


def count(name: str, kind: str, array: str, differing: int) -> CaseResult:
    """Judge a number of things that should be equal and are not."""
    return result(name, kind, array, float(differing), EXACT.absolute)


def failure(name: str, kind: str, array: str, tolerance: float = 0.0) -> CaseResult:
    """Something listed could not be compared; ``array`` says what and why."""
    return CaseResult(name, kind, array, None, tolerance, ok=False)


def _find(array: str, computed: Mapping[str, Computed]) -> tuple[str | None, int]:
    """Name of the computed array that ``array`` records, and with which stride."""
    if array in computed:
        return array, 1
    match = STRIDED.fullmatch(array)
    key = match and match["base"] + (match["row"] or "")
    if match and key in computed:
        return key, int(match["stride"])
    return None, 1


def _worst(difference: np.ndarray, bounds: np.ndarray) -> tuple[float | None, float]:
    """Difference and bound where the one exceeds the other most, or stays below it least."""
    if not difference.size:
        return 0.0, float(bounds.min(initial=0.0))
    if np.isnan(difference).any():
        return None, float(bounds.max())
    at = np.unravel_index((difference - bounds).argmax(), difference.shape)
    return float(difference[at]), float(bounds[at])


def _array(value: Tensor | np.ndarray | float | list) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _every(ndim: int, axes: tuple[int, ...], stride: int) -> tuple[slice, ...]:
    steps = [slice(None)] * ndim
    for axis in axes:
        steps[axis] = slice(None, None, stride)
    return tuple(steps)
