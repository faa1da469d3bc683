"""The settings of SasP, apart from everything else: drivers and other models use them alone."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SasPSettings:
    """How the similarity map becomes points (READ, section "Similarity as points").

    ``num_points`` points are kept; cells at or above ``t_pos`` are positive, cells at or below
    ``t_neg`` negative; the map is resized to ``side // down_sample`` before.
    """

    num_points: int = 30
    t_pos: float = 0.8
    t_neg: float = 0.2
    down_sample: int = 2
