"""A query's form gets from the task to the engine; a query without one is passed on as it is."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline.records import ImageRef, ImageTasks, LabelTask
from workers.read.errors import QueryError
from workers.read.prompt import FormedQuery
from workers.rows import tasks_from_table, tasks_to_table
from workers.settings import LimitSettings
from workers.steps import Asked, Fetched, label_image

WORK = ImageTasks(
    ImageRef("i", "file:///i.png", 1, "e", "g"),
    (LabelTask("k1", "l", "who is left", "phrase"), LabelTask("k2", "l", "the road")),
)


class Listener:
    """Keeps what it is asked and refuses to answer."""

    version = settings_json = ""

    def predict(
        self, image: np.ndarray, queries: Sequence[Asked], *, max_query_characters: int
    ) -> list[QueryError]:
        """Keep the queries."""
        self.heard = list(queries)
        return [QueryError(f"{image.shape} {max_query_characters}") for _ in queries]


def test_the_form_comes_through_rays_tables() -> None:
    assert tasks_from_table(tasks_to_table([WORK])) == [WORK]


def test_the_engine_is_told_the_form_where_there_is_one() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    listener = Listener()
    rows = label_image(Fetched(WORK, buffer.getvalue(), 0.0), listener, LimitSettings(), "v")
    assert listener.heard == [FormedQuery("who is left", "phrase"), "the road"]
    assert [row.query for row in rows] == ["who is left", "the road"]
