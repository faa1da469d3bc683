"""READ as a standalone library: LLaVA with a ``[SEG]`` token, SAM, and similarity as points.

SasP, which serves any model that has a ``[SEG]``-like token, is offered here by name::

    from workers.read import SasPSettings, sasp_points

    points = sasp_points(similarity, (height, width), SasPSettings())

``similarity`` (S * S,) is any float map over the central square of the image, row-major;
``points.xy`` (N, 2) are (x, y) pixels of the image and carry gradients back to it. The steps are
there too: ``sasp_grid`` lays the map over the image, ``ordered_cells`` chooses its cells,
``cell_pixels`` gives their centers, ``refine`` makes these continuous.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.read.sasp import (
        SasPCells,
        SasPGrid,
        SasPPoints,
        cell_pixels,
        center_crop_padding,
        ordered_cells,
        refine,
        sasp_grid,
        sasp_points,
    )
    from workers.read.sasp_settings import SasPSettings

__all__ = [
    "SasPCells",
    "SasPGrid",
    "SasPPoints",
    "SasPSettings",
    "cell_pixels",
    "center_crop_padding",
    "ordered_cells",
    "refine",
    "sasp_grid",
    "sasp_points",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever has that name)
    """Import SasP when it is asked for: without it this package needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from workers.read import sasp  # noqa: PLC0415

    return getattr(sasp, name)
