"""How stores are reached."""

from pipeline.settings import Settings


class S3Settings(Settings):
    """How to reach ``s3://`` addresses; credentials come from boto3's chain."""

    endpoint: str | None = None
    region: str | None = None
