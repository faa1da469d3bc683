"""The labeling interface: what an annotator can do with one image and all of its queries.

Each query has one row: its text, its brush label, a point label for "inside" and one for
"outside", and its verdict. All masks share one brush control and all points share one point
control, because Label Studio shows one tool for every control; the rows line up by fixed heights.

The controls, by name (``<slug>`` is :func:`slug` of the label)::

    mask              BrushLabels     <label>
    points            KeyPointLabels  <label> +, <label> -
    verdict_<slug>    Choices         present, absent, wrong
    note              TextArea        anything worth saying

An interface for an interactive backend (``asking``) has one more row, for :data:`ASKED`, and::

    ask               TextArea        something else to look for; sent to the backend when added
"""

import colorsys
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from pipeline.errors import LabelStudioError

IMAGE = "image"
MASK = "mask"
POINTS = "points"
NOTE = "note"
VERDICT = "verdict_"
ASK = "ask"
ASKED = "something else"
"""Label of what an annotator asks for beyond the task's own queries; no query may have it."""
VERDICTS = ("present", "absent", "wrong")

_COLUMN_WIDTHS = (140, 112, 110)
_ROW_HEIGHT = 64
_TEXT_HEIGHT = 22
_SELECT_MARGIN = 14
_CUT = "white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
_TEXT_STYLE = f"margin:0;font-size:14px;line-height:20px;{_CUT}"


@dataclass(frozen=True, slots=True)
class Control:
    """One control of an interface: its tag, the object it works on and its labels."""

    tag: str
    to_name: str
    labels: frozenset[str]


def positive(label: str) -> str:
    """Return the name of the label's "inside" points."""
    return f"{label} +"


def negative(label: str) -> str:
    """Return the name of the label's "outside" points."""
    return f"{label} -"


def verdict(label: str) -> str:
    """Return the name of the label's verdict control."""
    return f"{VERDICT}{slug(label)}"


def slug(label: str) -> str:
    """Return a short identifier of letters, digits and ``_`` that is the label's alone."""
    plain = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")[:24]
    if plain == label:
        return plain
    digest = hashlib.sha256(label.encode()).hexdigest()[:6]
    return f"{plain}_{digest}" if plain else digest


def expected_controls(labels: Iterable[str]) -> dict[str, Control]:
    """Return the controls, by name, that :func:`build` makes for ``labels``."""
    chosen = frozenset(labels)
    points = frozenset(name(label) for label in chosen for name in (positive, negative))
    verdicts = {verdict(label): Control("Choices", IMAGE, frozenset(VERDICTS)) for label in chosen}
    return {
        MASK: Control("BrushLabels", IMAGE, chosen),
        POINTS: Control("KeyPointLabels", IMAGE, points),
        NOTE: Control("TextArea", IMAGE, frozenset()),
        **verdicts,
    }


def colors(index: int) -> tuple[str, str, str]:
    """Return the colours of a label's mask, inside points (light) and outside points (dark)."""
    hue = (0.58 + index * 0.61803398875) % 1
    middle = (0.5, 0.42, 0.6)[index // 7 % 3]
    shades = [colorsys.hls_to_rgb(hue, lightness, 0.85) for lightness in (middle, 0.78, 0.2)]
    mask, inside, outside = (
        "#" + "".join(f"{round(255 * part):02x}" for part in s) for s in shades
    )
    return mask, inside, outside


def build(labels: Sequence[str], *, asking: bool = False) -> str:
    """Return the labeling configuration for ``labels``, in their order.

    ``asking`` adds what annotators ask an interactive backend with.

    Raises:
        LabelStudioError: there are no labels, a label is there twice, or one holds characters
            that Label Studio gives a meaning.
    """
    check_labels(labels)
    root = ET.Element("View", style="display:flex;align-items:flex-start;gap:12px")
    panel = ET.SubElement(
        root,
        "View",
        style=f"flex:0 0 {sum(_COLUMN_WIDTHS)}px;max-height:calc(100vh - 150px);overflow-y:auto",
    )
    rows = ET.SubElement(panel, "View", style="display:flex")
    painted = [*labels, ASKED] if asking else labels
    _mask_column(rows, painted)
    _points_column(rows, painted)
    _verdict_column(rows, labels)
    if asking:
        _question(panel)
    _notes(panel)
    picture = ET.SubElement(root, "View", style="flex:1 1 auto;min-width:0")
    ET.SubElement(
        picture,
        "Image",
        name=IMAGE,
        value="$image",
        zoom="true",
        zoomControl="true",
        rotateControl="false",
        brightnessControl="true",
        contrastControl="true",
    )
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def check_labels(labels: Iterable[str]) -> None:
    """Raise a LabelStudioError for labels that no interface can show."""
    seen: set[str] = set()
    for label in labels:
        if label in seen:
            raise LabelStudioError(f"the label {label!r} is there twice")
        if label == ASKED:
            raise LabelStudioError(f"the label {ASKED!r} is kept for what annotators ask for")
        if not label.strip() or label != label.strip():
            raise LabelStudioError(f"the label {label!r} is empty or begins or ends with a space")
        if "$" in label or not label.isprintable():
            raise LabelStudioError(
                f"the label {label!r} holds '$' or an unprintable character, which Label Studio "
                "would not show as it is: choose another label and keep the text"
            )
        seen.add(label)
    if not seen:
        raise LabelStudioError("an interface needs at least one label")


def _column(rows: ET.Element, place: int) -> ET.Element:
    width = _COLUMN_WIDTHS[place]
    return ET.SubElement(rows, "View", style=f"flex:0 0 {width}px;width:{width}px")


def _row(column: ET.Element, style: str, above: int = _TEXT_HEIGHT) -> ET.Element:
    size = f"height:{_ROW_HEIGHT}px;box-sizing:border-box;padding-top:{above}px;"
    return ET.SubElement(column, "View", style=size + style)


def _mask_column(rows: ET.Element, labels: Sequence[str]) -> None:
    """Add the texts and brush labels; a text runs on above the columns to its right."""
    control = ET.SubElement(
        _column(rows, 0), "BrushLabels", name=MASK, toName=IMAGE, smart="false", showInline="false"
    )
    for index, label in enumerate(labels):
        row = _row(control, "position:relative")
        width = sum(_COLUMN_WIDTHS) - 24
        text = ET.SubElement(row, "View", style=f"position:absolute;top:0;left:0;width:{width}px")
        shown = "Your own question" if label == ASKED else f"$texts.{slug(label)}"
        ET.SubElement(text, "Header", value=shown, style=_TEXT_STYLE)
        kept = ET.SubElement(row, "View", style=f"width:{_COLUMN_WIDTHS[0] - 8}px;{_CUT}")
        ET.SubElement(kept, "Label", value=label, background=colors(index)[0])


def _points_column(rows: ET.Element, labels: Sequence[str]) -> None:
    control = ET.SubElement(
        _column(rows, 1),
        "KeyPointLabels",
        name=POINTS,
        toName=IMAGE,
        smart="true",
        showInline="false",
        strokeWidth="4",
        opacity="1",
    )
    for index, label in enumerate(labels):
        row = _row(control, "display:flex;align-items:flex-start")
        _, inside, outside = colors(index)
        signs = ((positive(label), "+", inside), (negative(label), "&minus;", outside))
        for value, html, color in signs:
            ET.SubElement(row, "Label", value=value, html=html, background=color)


def _verdict_column(rows: ET.Element, labels: Sequence[str]) -> None:
    column = _column(rows, 2)
    for label in labels:
        control = ET.SubElement(
            _row(column, "", _TEXT_HEIGHT - _SELECT_MARGIN),
            "Choices",
            name=verdict(label),
            toName=IMAGE,
            smart="false",
            choice="single",
            layout="select",
        )
        for value in VERDICTS:
            ET.SubElement(control, "Choice", value=value)


def _question(panel: ET.Element) -> None:
    ET.SubElement(
        panel,
        "TextArea",
        name=ASK,
        toName=IMAGE,
        smart="true",
        rows="1",
        maxSubmissions="8",
        placeholder="Ask for something else",
    )


def _notes(panel: ET.Element) -> None:
    ET.SubElement(
        panel,
        "TextArea",
        name=NOTE,
        toName=IMAGE,
        smart="false",
        rows="2",
        placeholder="Anything worth saying",
    )
    collapse = ET.SubElement(panel, "Collapse")
    full = ET.SubElement(collapse, "Panel", value="Queries in full")
    ET.SubElement(full, "Header", value="$queries", size="6", style="white-space:pre-line")
