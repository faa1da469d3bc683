"""Where Label Studio finds the backend."""

import pytest

from workers.serve.settings import ServeSettings


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "http://127.0.0.1:9090"),
        ({"host": "::1", "port": 9000}, "http://[::1]:9000"),
        ({"url": "https://masks.example.com/"}, "https://masks.example.com"),
    ],
)
def test_the_address_is_one_that_paths_can_be_put_behind(
    settings: dict[str, object], address: str
) -> None:
    assert ServeSettings.model_validate(settings).address == address
