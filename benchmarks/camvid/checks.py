"""Did ``collect`` bring what the annotators submitted? Asked after each round, of the table."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from benchmarks.camvid.annotators import Corrected
from benchmarks.camvid.photos import Truth
from pipeline import masks
from pipeline.errors import InputError
from pipeline.records import Correction
from pipeline.storage.addresses import locate
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.store import Store


def check_corrections(
    store: Store, corrected: Sequence[Corrected], truths: Mapping[str, Truth]
) -> None:
    """Make sure that the table holds exactly one correction a picture and class, as submitted.

    Raises:
        InputError: it does not; names the picture and the class.
    """
    found: dict[str, dict[str, Correction]] = {one.name: {} for one in corrected}
    for row in CorrectionTable(store).latest():
        name = PurePosixPath(locate(row.image).path).stem
        if name not in found:
            continue
        if row.label in found[name]:
            raise InputError(f"{name}, {row.label}: is in the table of corrections twice")
        found[name][row.label] = row
    for one in corrected:
        for label in one.verdicts:
            _check(one, label, found[one.name].get(label), truths[one.name])


def _check(one: Corrected, label: str, row: Correction | None, truth: Truth) -> None:
    where = f"{one.name}, {label}"
    if row is None:
        raise InputError(f"{where}: no correction was collected")
    if row.verdict != one.verdicts[label]:
        raise InputError(f"{where}: collected as {row.verdict}, not {one.verdicts[label]}")
    if row.present != truth.present(label):
        raise InputError(f"{where}: collected as present={row.present}")
    if not np.array_equal(masks.decode(row.mask), truth.masks[label]):
        raise InputError(f"{where}: the collected mask is not the one that was submitted")
