"""The ``labelstudio`` part of a run file."""

from typing import Annotated

from pydantic import Field

from pipeline.settings import Settings


class LabelStudioSettings(Settings):
    """Where predictions are shown; the token comes from ``LABEL_STUDIO_API_KEY``.

    Further projects of a large run are called ``project`` and a number: Label Studio takes
    titles of up to 50 characters.
    """

    url: Annotated[str, Field(pattern=r"^https?://")]
    project: Annotated[str, Field(min_length=3, max_length=46)]
    queries_per_task: Annotated[int, Field(ge=1, le=100)] = 20
    task_bytes: Annotated[int, Field(ge=10_000)] = 5_000_000
    points_per_sign: Annotated[int, Field(ge=0, le=30)] = 4
    batch_tasks: Annotated[int, Field(ge=1, le=1000)] = 100
    tasks_per_project: Annotated[int, Field(ge=1, le=100_000)] = 10_000
