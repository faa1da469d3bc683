"""The ``serve`` part of a run file."""

from typing import Annotated

from pydantic import Field

from pipeline.settings import Settings


class ServeSettings(Settings):
    """Where the interactive backend listens, and what a request may cost.

    ``url`` is how Label Studio reaches it, if not by host and port. ``cache_bytes`` bounds image
    embeddings in memory; ``keep_embeddings`` also keeps them in the run's store for good.
    ``waiting`` bounds the requests that wait for the model: those beyond it get status 429.
    ``follow_seconds`` is how often the server looks whether another version is current, where the
    run's model is ``registry``; 0 for never.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 9090
    url: Annotated[str | None, Field(pattern=r"^https?://")] = None
    asking: bool = True
    cache_bytes: Annotated[int, Field(ge=0)] = 512_000_000
    keep_embeddings: bool = False
    waiting: Annotated[int, Field(ge=1, le=10_000)] = 64
    body_bytes: Annotated[int, Field(ge=1_000)] = 64_000_000
    points: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    follow_seconds: Annotated[float, Field(ge=0)] = 10.0

    @property
    def address(self) -> str:
        """Where Label Studio finds the backend."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.url.rstrip("/") if self.url else f"http://{host}:{self.port}"
