"""What a person does in the browser, and what becomes of it in the table of corrections."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page
from pydantic import SecretStr

from labelstudio.client import LabelStudioClient
from labelstudio.collecting.collect import Collector, Tally
from labelstudio.publishing.publish import publish
from labelstudio.server import LabelStudioServer
from labelstudio.settings import LabelStudioSettings
from pipeline import masks
from pipeline.records import Correction, Point, Prediction, Timings
from pipeline.storage.corrections import CorrectionTable
from pipeline.storage.settings import S3Settings
from pipeline.storage.shards import write_shard
from pipeline.storage.store import Store, open_store
from pipeline.storage.tables import PredictionTables

pytestmark = [pytest.mark.labelstudio, pytest.mark.browser]

WIDTH, HEIGHT = 640, 480
LABELS = ("disc", "bar", "ghost")
Place = tuple[float, float]


def prediction(image: str, label: str, mask: NDArray[np.uint8]) -> Prediction:
    """Make a prediction with points on a ring around the middle of its mask, if it has one."""
    present = bool(mask.any())
    rows, columns = np.nonzero(mask) if present else (np.zeros(1), np.zeros(1))
    points = tuple(
        Point(columns.mean() + reach * np.cos(angle), rows.mean() + reach * np.sin(angle), sign, 1)
        for sign, reach in ((1, 30), (0, 110))
        for angle in np.arange(4) * np.pi / 2
    )
    return Prediction(
        key=f"{image} {label}",
        id="",
        image_id=image,
        image=image,
        image_size=1,
        etag="1",
        group="",
        width=WIDTH,
        height=HEIGHT,
        label=label,
        query=f"the {label}",
        present=present,
        answer="[SEG].",
        seg_probability=0.9,
        seg_vectors=(),
        mask=masks.encode(mask > 0),
        points=points if present else (),
        predicted_iou=0.9,
        stability=0.9,
        model_version="tiny@1",
        timings=Timings(0, 0, 0, 0, 0),
    )


@dataclass(frozen=True)
class Desk:
    """One published picture, the page that it is open in, and the store it came from."""

    page: Page
    client: LabelStudioClient
    settings: LabelStudioSettings
    store: Store
    rows: Sequence[Prediction]

    def at(self, place: Place) -> Place:
        """Return where a pixel of the picture is on the screen."""
        box = self.page.locator(".lsf-image img").first.bounding_box()
        assert box is not None
        return (
            box["x"] + place[0] * box["width"] / WIDTH,
            box["y"] + place[1] * box["height"] / HEIGHT,
        )

    def drag(self, *places: Place) -> None:
        """Move the mouse from place to place with its button down."""
        self.page.mouse.move(*self.at(places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.at(place), steps=8)
        self.page.mouse.up()
        self.page.wait_for_timeout(500)

    def tool(self, name: str) -> None:
        """Take a tool from the toolbar."""
        self.page.locator(f"[aria-label={name}]").click()
        self.page.wait_for_timeout(300)

    def select(self, label: str) -> None:
        """Select the mask of a label in the list of regions."""
        self.page.locator("[class*=outliner-item]").filter(has_text=label).first.click()
        self.page.wait_for_timeout(300)

    def judge(self, label: str, choice: str) -> None:
        """Choose another verdict."""
        place = LABELS.index(label)
        self.page.locator(".lsf-choices_layout_select button").nth(place).click()
        self.page.get_by_role("option", name=choice).click()
        self.page.wait_for_timeout(300)

    def press(self, button: str, path: str) -> None:
        """Press a button that sends something to a path, and wait for the answer."""
        with self.page.expect_response(
            lambda answer: path in answer.url and answer.request.method in ("POST", "PATCH")
        ):
            self.page.get_by_role("button", name=button).click()

    def collect(self) -> dict[str, Correction]:
        """Collect, and return the corrections by label."""
        tally = Tally()
        Collector(self.client, self.settings, self.store, lambda _: None).poll(tally)
        assert tally.failures == []
        return {row.label: row for row in CorrectionTable(self.store).latest()}


@pytest.fixture
def desk(page: Page, label_studio: LabelStudioServer, tmp_path: Path) -> Desk:
    """A grey picture with a disc and a bar, and a query that nothing answers to."""
    Image.new("RGB", (WIDTH, HEIGHT), (120, 120, 120)).save(tmp_path / "grey.png")
    image = (tmp_path / "grey.png").as_uri()
    disc, bar, nothing = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    cv2.circle(disc, (160, 200), 70, 1, -1)
    cv2.ellipse(bar, (420, 260), (90, 50), 20, 0, 360, 1, -1)
    shapes = zip(LABELS, (disc, bar, nothing), strict=True)
    rows = [prediction(image, label, mask) for label, mask in shapes]
    store = open_store(str(tmp_path / "store"), S3Settings())
    PredictionTables(store).commit([write_shard(store, rows)])
    token = SecretStr(label_studio.token)
    settings = LabelStudioSettings(url=label_studio.url, project=f"desk {secrets.token_hex(4)}")
    summary = publish(
        [rows],
        run="desk",
        settings=settings,
        token=token,
        store=store,
        s3=S3Settings(),
        labels=LABELS,
        progress=lambda _: None,
    )
    page.goto(f"{label_studio.url}/projects/{summary.projects[0]}/data")
    page.get_by_role("button", name="Label All Tasks").click()
    page.wait_for_selector(".lsf-image canvas")
    page.wait_for_selector("[class*=outliner-item]")
    page.wait_for_timeout(3000)
    return Desk(page, LabelStudioClient(label_studio.url, token), settings, store, rows)


def test_submitted_as_shown_is_accepted_pixel_by_pixel(desk: Desk) -> None:
    desk.press("Submit current annotation", "/annotations")
    found = desk.collect()
    assert {row.verdict for row in found.values()} == {"accepted"}
    for row in desk.rows:
        assert found[row.label].mask == row.mask
        assert {point.fate for point in found[row.label].points} <= {"kept"}
    assert all(row.seconds > 0 for row in found.values())


def test_a_stroke_a_moved_point_and_a_verdict(desk: Desk) -> None:
    desk.select("disc")
    desk.tool("brush-tool")
    desk.drag((230, 200), (300, 200))
    desk.page.keyboard.press("Escape")
    desk.tool("move-tool")
    start = desk.rows[1].points[0]
    desk.drag((start.x, start.y), (start.x + 20, start.y + 15))
    desk.judge("ghost", "wrong")
    desk.press("Submit current annotation", "/annotations")
    found = desk.collect()
    table, left = masks.decode(desk.rows[0].mask), masks.decode(found["disc"].mask)
    gained = np.argwhere(left & ~table)
    assert found["disc"].verdict == "edited"
    assert not (table & ~left).any()
    assert gained[:, 1].min() >= 225
    assert gained[:, 1].max() <= 320
    assert 0.8 < found["disc"].iou < 1
    assert found["bar"].verdict == "edited"
    assert found["bar"].mask == desk.rows[1].mask
    (moved,) = (point for point in found["bar"].points if point.fate == "moved")
    assert (moved.from_x, moved.from_y) == pytest.approx((start.x, start.y), abs=0.01)
    assert (moved.x - start.x, moved.y - start.y) == pytest.approx((20, 15), abs=2)
    assert (found["ghost"].verdict, found["ghost"].choice) == ("skipped", "wrong")


def test_erasing_and_points_added_and_removed(desk: Desk) -> None:
    desk.select("disc")
    desk.tool("eraser")
    desk.drag((100, 200), (220, 200))
    desk.page.keyboard.press("Escape")
    desk.page.locator(".lsf-label", has_text="+").first.click()
    desk.page.keyboard.down("Control")  # without it, the click selects the mask below
    desk.page.mouse.click(*desk.at((160, 250)))
    desk.page.keyboard.up("Control")
    desk.page.wait_for_timeout(500)
    desk.page.keyboard.press("Escape")
    desk.select("disc -")
    desk.page.keyboard.press("Backspace")
    desk.page.wait_for_timeout(500)
    desk.press("Submit current annotation", "/annotations")
    found = desk.collect()
    table, left = masks.decode(desk.rows[0].mask), masks.decode(found["disc"].mask)
    assert found["disc"].verdict == "edited"
    assert left.any()
    assert (table & ~left).any()
    assert not (left & ~table).any()
    fates = sorted(point.fate for point in found["disc"].points)
    assert fates == ["added", *["kept"] * 7, "removed"]
    (added,) = (point for point in found["disc"].points if point.fate == "added")
    assert added.label == 1
    assert (added.x, added.y) == pytest.approx((160, 250), abs=2)
    assert found["bar"].verdict == found["ghost"].verdict == "accepted"


def test_what_is_drawn_for_an_absence_is_redrawn(desk: Desk) -> None:
    desk.page.locator(".lsf-label", has_text="ghost").first.click()
    desk.tool("brush-tool")
    desk.drag((500, 100), (600, 100))
    desk.page.keyboard.press("Escape")
    desk.judge("bar", "absent")
    desk.press("Submit current annotation", "/annotations")
    found = desk.collect()
    assert (found["ghost"].verdict, found["ghost"].present) == ("redrawn", True)
    assert masks.area(found["ghost"].mask) > 500
    assert found["disc"].verdict == "accepted"
    assert (found["bar"].verdict, found["bar"].present) == ("absent", False)


def test_a_draft_does_not_count_and_a_skip_is_a_skip(desk: Desk) -> None:
    desk.select("disc")
    desk.tool("brush-tool")
    with desk.page.expect_response(lambda answer: "/drafts" in answer.url):
        desk.drag((230, 200), (300, 200))
    assert desk.collect() == {}
    desk.page.reload()
    desk.page.wait_for_selector("[class*=outliner-item]")
    desk.page.wait_for_timeout(3000)
    desk.press("Skip", "/annotations")
    found = desk.collect()
    assert {row.verdict for row in found.values()} == {"skipped"}
    assert {row.key for row in found.values()} == {row.key for row in desk.rows}
