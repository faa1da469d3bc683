"""Which endpoint requests go to."""

import pytest

from pipeline.storage.clients import S3Access
from pipeline.storage.settings import S3Settings

INTERFACE = "https://bucket.vpce-1a2b.s3.eu-west-1.vpce.amazonaws.com"


@pytest.mark.parametrize(
    ("endpoint", "used"),
    [
        (None, None),
        ("https://s3.eu-west-1.amazonaws.com", None),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        (INTERFACE, INTERFACE),
    ],
)
def test_an_endpoint_is_used_unless_it_is_the_one_of_the_region(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None, used: str | None
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert S3Access(S3Settings(endpoint=endpoint, region="eu-west-1")).endpoint == used


def test_an_endpoint_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", INTERFACE)
    assert S3Access(S3Settings(region="eu-west-1")).endpoint == INTERFACE
