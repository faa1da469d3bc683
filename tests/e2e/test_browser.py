"""What a person sees in Label Studio: masks and points, in pixels, where the table has them."""

import io
import json
import os
import secrets
import time
from collections.abc import Callable
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
from labelstudio.interface import colors
from labelstudio.publishing.publish import publish
from labelstudio.publishing.spread import shown_points
from labelstudio.server import LabelStudioServer
from labelstudio.settings import LabelStudioSettings
from pipeline import masks
from pipeline.records import Point, Prediction, Timings
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import open_store

pytestmark = [pytest.mark.labelstudio, pytest.mark.browser]

WIDTH, HEIGHT, GREY = 640, 480, 120
WAIT_SECONDS = 120
Pixels = NDArray[np.int64]


@dataclass(frozen=True)
class Scene:
    """A published picture with two queries, and what has to be seen on it."""

    url: str
    project: int
    task: int
    rows: tuple[Prediction, ...]

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return what the table says of a query, (HEIGHT, WIDTH)."""
        return masks.decode(self.rows[index].mask)


def prediction(image: str, label: str, mask: NDArray[np.bool_]) -> Prediction:
    """Make a prediction whose points lie on a ring, inside ones and outside ones."""
    rows, columns = np.nonzero(mask)
    x, y, reach = columns.mean(), rows.mean(), (columns.max() - columns.min()) / 2
    points = tuple(
        Point(x + reach * part * np.cos(angle), y + reach * part * np.sin(angle), sign, part)
        for sign, part in ((1, 0.5), (0, 1.7))
        for angle in np.arange(6) * np.pi / 3
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
        present=True,
        answer="[SEG].",
        seg_probability=0.9,
        seg_vectors=((0.0,) * 256,),
        mask=masks.encode(mask),
        points=points,
        predicted_iou=0.9,
        stability=0.9,
        model_version="tiny@1",
        timings=Timings(0, 0, 0, 0, 0),
    )


@pytest.fixture(scope="module")
def scene(label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A grey picture with a disc on its left and a rounded bar on its right."""
    folder = tmp_path_factory.mktemp("scene")
    Image.new("RGB", (WIDTH, HEIGHT), (GREY, GREY, GREY)).save(folder / "grey.png")
    image = (folder / "grey.png").as_uri()
    disc, bar = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    cv2.circle(disc, (160, 200), 70, 1, -1)
    cv2.ellipse(bar, (440, 260), (90, 50), 20, 0, 360, 1, -1)
    rows = (prediction(image, "disc", disc > 0), prediction(image, "bar", bar > 0))
    token = SecretStr(label_studio.token)
    settings = LabelStudioSettings(url=label_studio.url, project=f"seen {secrets.token_hex(4)}")
    summary = publish(
        [rows],
        run="scene",
        settings=settings,
        token=token,
        store=open_store(str(folder / "store"), S3Settings()),
        s3=S3Settings(),
        labels=("disc", "bar"),
        progress=lambda _: None,
    )
    (project,) = summary.projects
    (task,) = LabelStudioClient(label_studio.url, token).tasks(project)
    return Scene(label_studio.url, project, task["id"], rows)


def seen(page: Page) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return the screen's colour at every pixel of the picture, and which of them it shows.

    Label Studio may crop a picture by the width of its toolbar until its window is resized.
    """
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), dtype=np.int64)
    box = page.locator(".lsf-image img").first.bounding_box()
    frame = page.locator(".lsf-image").first.bounding_box()
    assert box is not None
    assert frame is not None
    x = box["x"] + (np.arange(WIDTH) + 0.5) * box["width"] / WIDTH
    y = box["y"] + (np.arange(HEIGHT) + 0.5) * box["height"] / HEIGHT
    across = (x >= frame["x"]) & (x < min(frame["x"] + frame["width"], shot.shape[1]))
    down = (y >= frame["y"]) & (y < min(frame["y"] + frame["height"], shot.shape[0]))
    columns, rows = np.where(across, x, 0).astype(int), np.where(down, y, 0).astype(int)
    return shot[np.ix_(rows, columns)], np.outer(down, across)


def rgb(color: str) -> Pixels:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])


def near(row: Prediction) -> NDArray[np.bool_]:
    """Return where points are drawn, with room around them."""
    dots = np.zeros((HEIGHT, WIDTH), np.uint8)
    for point in row.points:
        cv2.circle(dots, (round(point.x), round(point.y)), 12, 1, -1)
    return dots > 0


def mask_problems(scene: Scene, picture: Pixels, visible: NDArray[np.bool_]) -> list[str]:
    """Compare every visible pixel, but for those on edges, under points and under the toolbar."""
    tint = np.abs(picture - GREY).max(axis=2) > 25
    skipped = near(scene.rows[0]) | near(scene.rows[1]) | ~visible
    skipped[:, -90:] = True
    problems = []
    for index, row in enumerate(scene.rows):
        mask = scene.mask(index).astype(np.uint8)
        assert visible[mask > 0].mean() > 0.9
        core = cv2.erode(mask, np.ones((7, 7))).astype(bool) & ~skipped
        skipped |= cv2.dilate(mask, np.ones((7, 7))).astype(bool)
        towards = (picture[core] - GREY) @ (rgb(colors(index)[0]) - GREY)
        if (share := (tint[core] & (towards > 0)).mean()) < 0.99:
            problems.append(f"{share:.2f} of {row.label!r} has its colour")
    if (share := tint[~skipped].mean()) > 0.01:
        problems.append(f"{share:.2f} of the rest is tinted")
    return problems


def point_problems(scene: Scene, picture: Pixels) -> list[str]:
    problems = []
    for index, row in enumerate(scene.rows):
        _, inside, outside = colors(index)
        chosen = [row.points[place] for place in shown_points(row.points, 4)]
        assert len(chosen) == 8
        for point in chosen:
            wanted = rgb(inside if point.label == 1 else outside)
            x, y = round(point.x), round(point.y)
            around = picture[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3)
            if (best := np.abs(around - wanted).max(axis=1).min()) > 30:
                problems.append(f"a point of {row.label!r} at {x}, {y} is {best} levels off")
    return problems


def expect_drawn(page: Page, scene: Scene) -> None:
    """Wait until masks and points are where the predictions have them."""
    page.wait_for_selector(".lsf-image canvas")
    end = time.monotonic() + WAIT_SECONDS
    while True:
        picture, visible = seen(page)
        problems = mask_problems(scene, picture, visible) + point_problems(scene, picture)
        if not problems:
            return
        if time.monotonic() > end:
            pytest.fail("; ".join(problems))
        page.wait_for_timeout(500)


def test_an_opened_task_shows_masks_and_points(page: Page, scene: Scene) -> None:
    page.goto(f"{scene.url}/projects/{scene.project}/data?task={scene.task}")
    expect_drawn(page, scene)
    assert page.get_by_text("the disc").count() >= 1
    assert page.get_by_text("present").count() >= 2


def test_label_all_tasks_shows_them_too(page: Page, scene: Scene) -> None:
    page.goto(f"{scene.url}/projects/{scene.project}/data")
    page.get_by_role("button", name="Label All Tasks").click()
    expect_drawn(page, scene)


def test_a_tool_for_every_query(page: Page, scene: Scene) -> None:
    page.goto(f"{scene.url}/projects/{scene.project}/data?task={scene.task}")
    expect_drawn(page, scene)
    assert page.locator(".lsf-label", has_text="disc").count() >= 1
    assert page.locator(".lsf-label", has_text="+").count() == 2
    assert page.locator(".lsf-choices_layout_select").count() == 2


@pytest.mark.skipif(
    "READLOOP_SCREENSHOT" not in os.environ,
    reason="READLOOP_SCREENSHOT names no file to save a picture of the running demo to",
)
def test_take_a_picture_of_the_demo(log_in: Callable[..., Page], repository: Path) -> None:
    state = json.loads((repository / ".demo" / "state.json").read_text(encoding="utf-8"))
    client = LabelStudioClient(state["url"], SecretStr(state["token"]))
    tasks = client.tasks(state["project"], fields="all")
    fullest = max(tasks, key=lambda task: len(task["predictions"][0]["result"]))
    page = log_in(state["url"], state["user"], state["password"])
    page.set_viewport_size({"width": 1800, "height": 860})
    page.goto(f"{state['url']}/projects/{state['project']}/data?task={fullest['id']}")
    page.wait_for_selector(".lsf-image canvas")
    page.wait_for_timeout(5_000)
    page.screenshot(path=os.environ["READLOOP_SCREENSHOT"])
