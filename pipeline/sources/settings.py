"""The ``source`` part of a run file."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from pipeline.settings import Settings

Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; write what to look for")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]


class QuerySettings(Settings):
    """One query that is applied to every image; without a label, one is made from its place.

    ``wordings`` are other ways to say it, which may turn out to be better ones.
    """

    label: Label | None = None
    text: Text
    wordings: tuple[Text, ...] = ()


class SourceSettings(Settings):
    """Images (directory, ``s3://`` prefix or manifest) and queries (a list, or a file of them)."""

    images: str
    queries: list[QuerySettings] | str = Field(default_factory=list)
