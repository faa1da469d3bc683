"""How stores are reached."""

from typing import Annotated

from pydantic import Field

from pipeline.settings import Settings


class S3Settings(Settings):
    """How to reach ``s3://`` addresses; credentials come from boto3's chain.

    Without ``endpoint`` and ``region``, boto3's own configuration decides them as well.
    ``retries`` is how often a throttled, failed or refused request is sent again.
    """

    endpoint: Annotated[str, Field(pattern=r"^https?://[^/\s]+/?$")] | None = None
    region: str | None = None
    retries: Annotated[int, Field(ge=0, le=20)] = 6
