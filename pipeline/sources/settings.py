"""The ``source`` part of a run file."""

from typing import Annotated

from pydantic import Field

from pipeline.settings import Settings


class QuerySettings(Settings):
    """One query that is applied to every image; without a label, one is made from its place."""

    label: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    text: Annotated[str, Field(min_length=1)]


class SourceSettings(Settings):
    """Images (directory, ``s3://`` prefix or manifest) and queries (a list, or a file of them)."""

    images: str
    queries: list[QuerySettings] | str = Field(default_factory=list)
