"""What a person sees: the mask follows the points, a question is answered."""

import io
import os
import time

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, Response

from labelstudio import brush
from labelstudio.interactive.request import PointRegion
from labelstudio.interface import ASKED
from labelstudio.publishing.payload import regions_of
from pipeline import masks
from tests.e2e.serve.conftest import QUERIES, SETTINGS, Mask, Served
from workers.read.engine import Answer

pytestmark = [pytest.mark.labelstudio, pytest.mark.browser]

SEEN_SECONDS = 60
READY = """() => window.Htx && Htx.autoAnnotation && !Htx.awaitingSuggestions
    && Htx.annotationStore.selected && Htx.annotationStore.selected.regions.length"""


class Annotator:
    """A person at the task: gestures in pixels of the picture, and what they see."""

    def __init__(self, page: Page, served: Served) -> None:
        self.page = page
        self.served = served
        page.add_init_script(
            "localStorage.setItem('autoAnnotation', 'true');"
            "localStorage.setItem('autoAcceptSuggestions', 'true')"
        )
        self.asked: list[str] = []
        page.on("response", self._note)
        page.goto(f"{served.label_studio}/projects/{served.project}/data?task={served.task}")
        page.wait_for_selector(".lsf-image canvas")
        page.wait_for_function(READY)
        page.wait_for_timeout(3_000)

    def _note(self, response: Response) -> None:
        if "interactive-annotating" in response.url:
            self.asked.append(f"{response.status} {response.text()[:300]}")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a pixel of the picture is on the screen."""
        box = self.page.locator(".lsf-image img").first.bounding_box()
        assert box is not None
        height, width = self.served.pixels.shape[:2]
        return box["x"] + x * box["width"] / width, box["y"] + y * box["height"] / height

    def smart(self, label: str, sign: str, x: float, y: float) -> None:
        """Add a point with the smart tool; Ctrl lets it go through a mask."""
        self.page.keyboard.press("Escape")
        self.page.locator(".lsf-tool_smart").first.click(force=True)
        index = [*QUERIES, ASKED].index(label)
        shown = {"+": "+", "-": "\N{MINUS SIGN}"}[sign]
        self.page.locator(".lsf-label", has_text=shown).nth(index).click()
        self.page.keyboard.down("Control")
        self.page.mouse.click(*self.place(x, y))
        self.page.keyboard.up("Control")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag with the move tool."""
        self.page.keyboard.press("Escape")
        self.page.locator(".lsf-tool[aria-label=move-tool]").first.click(force=True)
        self.page.mouse.move(*self.place(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(*end), steps=8)
        self.page.mouse.up()
        self.page.keyboard.press("Escape")

    def points(self, label: str) -> list[PointRegion]:
        """Return the points of a query as the browser has them."""
        found = self.page.evaluate(
            "() => Htx.annotationStore.selected.regions.filter(r => r.type == 'keypointregion')"
            ".map(r => [r.cleanId, r.labelName, r.x, r.y])"
        )
        return [
            PointRegion(name, label, sign, sign, x, y, 1, "", "", False)
            for name, shown, x, y in found
            for sign in [1 if shown[-1] == "+" else 0]
            if shown[:-2] == label
        ]

    def masks(self) -> dict[str, int]:
        """Return how many mask regions each label has."""
        names: list[str] = self.page.evaluate(
            "() => Htx.annotationStore.selected.regions.filter(r => r.type == 'brushregion')"
            ".map(r => r.labelName)"
        )
        return {name: names.count(name) for name in names}

    def look(self) -> NDArray[np.int64]:
        """Return the screen's colour at every pixel of the picture."""
        shot = np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"), np.int64)
        height, width = self.served.pixels.shape[:2]
        left, top = self.place(0, 0)
        right, bottom = self.place(width, height)
        columns = left + (np.arange(width) + 0.5) * (right - left) / width
        rows = top + (np.arange(height) + 0.5) * (bottom - top) / height
        assert rows[-1] < shot.shape[0]
        assert columns[-1] < shot.shape[1]
        return shot[np.ix_(rows.astype(int), columns.astype(int))]

    def save(self, name: str) -> None:
        """Keep a picture for the documentation, if READLOOP_SCREENSHOTS names a folder."""
        if folder := os.environ.get("READLOOP_SCREENSHOTS"):
            box = self.page.locator(".lsf-image").first.bounding_box()
            self.page.screenshot(path=f"{folder}/{name}.png", clip=box)


def change_problems(
    before: NDArray[np.int64], after: NDArray[np.int64], old: Mask, new: Mask, dots: Mask
) -> list[str]:
    """Say where the screen did not change as the mask did; edges and points are left out."""
    changed = np.abs(after - before).max(axis=2) > 12
    differs = (old != new).astype(np.uint8)
    hidden = dots.copy()
    hidden[:, -110:] = True  # the toolbar
    core = cv2.erode(differs, np.ones((5, 5))).astype(bool) & ~hidden
    rest = ~cv2.dilate(differs, np.ones((9, 9))).astype(bool) & ~hidden
    assert core.sum() > 200, "the gesture has to change enough to be seen"
    problems = []
    if (share := changed[core].mean()) < 0.95:
        problems.append(f"{share:.2f} of what the mask gained or lost has changed")
    if (share := changed[rest].mean()) > 0.01:
        problems.append(f"{share:.2f} of the rest has changed")
    return problems


def dots(shape: tuple[int, int], points: list[PointRegion]) -> Mask:
    drawn = np.zeros(shape, np.uint8)
    for point in points:
        center = (round(point.x * shape[1] / 100), round(point.y * shape[0] / 100))
        cv2.circle(drawn, center, 16, 1, -1)
    return drawn > 0


def test_the_mask_follows_the_points(page: Page, served: Served) -> None:
    """Add a positive and a negative point, drag a predicted one: the screen shows each mask."""
    person = Annotator(page, served)
    height, width = served.pixels.shape[:2]
    mask = masks.decode(served.rows[0].mask)
    rows, columns = np.nonzero(mask)
    inside = min(
        zip(columns, rows, strict=True),
        key=lambda xy: (xy[0] - columns.mean()) ** 2 + (xy[1] - rows.mean()) ** 2,
    )
    predicted_point = next(p for p in person.points("square") if p.sign == 1)
    at = (predicted_point.x * width / 100, predicted_point.y * height / 100)
    steps = {
        "negative": lambda: person.smart("square", "-", float(inside[0]), float(inside[1])),
        "positive": lambda: person.smart("square", "+", width * 0.1, height * 0.9),
        "dragged": lambda: (
            person.drag(at, (width * 0.2, height * 0.15)),
            person.smart("square", "+", width * 0.25, height * 0.15),
        ),
    }
    person.save("points-before")
    known = person.points("square")
    for name, gesture in steps.items():
        before = person.look()
        gesture()
        mask = expect_followed(person, before, mask, known, name)
        known = person.points("square")
        person.save(f"points-{name}")
    assert person.masks() == {"square": 1, "circle": 1}
    assert len(person.points("circle")) == len(
        [r for r in regions_of(served.rows[1], SETTINGS).regions if r["type"] == "keypointlabels"]
    )


def expect_followed(
    person: Annotator, before: NDArray[np.int64], old: Mask, known: list[PointRegion], name: str
) -> Mask:
    """Wait until the screen shows the mask of the query's points, one more; return that mask."""
    end = time.monotonic() + SEEN_SECONDS
    while True:
        points = person.points("square")
        problems = [f"{len(points)} points, {len(known) + 1} were expected"]
        if len(points) == len(known) + 1:
            new = person.served.refined("square", points)
            skipped = dots(new.shape, [*points, *known, *person.points("circle")])
            problems = change_problems(before, person.look(), old, new, skipped)
            if not problems:
                return new
        if time.monotonic() > end:
            raise AssertionError(f"{name}: {'; '.join(problems)}; answers: {person.asked}")
        person.page.wait_for_timeout(500)


def test_a_new_question_is_answered(page: Page, served: Served) -> None:
    person = Annotator(page, served)
    box = page.get_by_placeholder("Ask for something else")
    box.fill("the white thing")
    box.press("Enter")
    (answer,) = served.engine.predict(served.pixels, ["the white thing"])
    assert isinstance(answer, Answer)
    assert answer.present
    end = time.monotonic() + SEEN_SECONDS
    while person.masks().get(ASKED, 0) != 1:
        assert time.monotonic() < end, person.masks()
        page.wait_for_timeout(500)
    page.wait_for_timeout(6_000)  # the draft is saved
    headers = {"Authorization": f"Token {served.token}"}
    address = f"{served.label_studio}/api/tasks/{served.task}/drafts"
    drafts = httpx.get(address, headers=headers, timeout=30).json()
    newest = max(drafts, key=lambda draft: str(draft["updated_at"]))
    (region,) = (
        region for region in newest["result"] if region["value"].get("brushlabels") == [ASKED]
    )
    assert region["meta"] == {"text": ["the white thing"]}
    height, width = served.pixels.shape[:2]
    drawn = brush.decode(region["value"]["rle"], height, width) > brush.PAINTED_ABOVE
    assert np.array_equal(drawn, answer.segments[0].mask)
    count = len(person.points(ASKED))
    person.smart(ASKED, "-", width * 0.5, height * 0.9)
    while len(person.points(ASKED)) != count + 1 or person.masks()[ASKED] != 1:
        assert time.monotonic() < end + SEEN_SECONDS
        page.wait_for_timeout(500)
