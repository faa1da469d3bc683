"""The ``review`` part of a run file: what people see first, and what need not be seen."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Independent = Literal["auto", "image", "group"]


class ReviewSettings(Settings):
    """Shares are of images, drawn by a hash of their names.

    ``blank_share`` are shown without predictions. ``reword_share`` are also asked the first of a
    query's other ``wordings``. With ``accept``, images whose lowest expected IoU is over a
    threshold are not sent to people, except for ``audit_share``; the threshold is the lowest at
    which at most ``accept_error`` of such images hold a mask below ``accept_iou``, with
    ``accept_confidence``. ``independent`` says what is taken as independent of each other.
    """

    blank_share: Share = 0.05
    reword_share: Share = 0.1
    accept: bool = False
    accept_iou: OpenShare = 0.8
    accept_error: OpenShare = 0.05
    accept_confidence: OpenShare = 0.95
    audit_share: OpenShare = 0.1
    independent: Independent = "auto"
