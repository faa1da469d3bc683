"""From what was shown and what was left to a verdict.

What a person changed counts, not what was filled in for them. In this order:

1. *wrong*: with a mask that they changed it is that mask; otherwise nobody knows the truth, and the
   query is ``skipped``.
2. *absent*, unless it was filled in and they drew a mask: the object is not there. ``accepted``
   where the model said so, else ``absent``.
3. A mask is left: ``accepted`` with mask and points as shown, ``edited`` if either differs,
   ``redrawn`` if the mask shares no pixel with the predicted one, or none was shown.
4. No mask is left: all of it was erased, so ``absent``. If none was shown, or the person began at
   no prediction and worked on other queries only, nothing was said: the query is ``skipped``.
"""

from dataclasses import dataclass

from pipeline.records import Choice, Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """One query as a person left it, beside what they saw.

    ``shown`` and ``drawn`` say whether there was and is a mask, ``changed`` whether they differ,
    ``overlaps`` whether the mask that is left shares a pixel with the predicted one,
    ``points_changed`` whether a point was moved, added, removed or flipped. ``prefilled`` is the
    choice that was filled in. ``own`` says that the person worked in an annotation of their own,
    which began at no prediction.
    """

    choice: Choice
    prefilled: Choice
    predicted: bool
    shown: bool
    drawn: bool
    changed: bool
    overlaps: bool
    points_changed: bool
    own: bool


def decide(query: Judged) -> tuple[Verdict, bool]:
    """Return the verdict on a query, and whether its object is there."""
    if query.choice == "wrong" and not (query.drawn and query.changed):
        return "skipped", query.drawn
    if query.choice == "absent" and not (query.prefilled == "absent" and query.drawn):
        return ("absent" if query.predicted else "accepted"), False
    if query.drawn:
        return _mask_verdict(query), True
    erased = query.shown and not query.own
    return ("absent" if erased else "skipped"), False


def _mask_verdict(query: Judged) -> Verdict:
    if not query.shown or not query.overlaps:
        return "redrawn"
    return "edited" if query.changed or query.points_changed else "accepted"
