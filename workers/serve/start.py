"""Starting the backend on Ray Serve, and stopping it."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from pipeline.errors import ConfigError, ReadloopError
from workers.cluster import ray_session
from workers.serve.deployment import Answering, Server
from workers.serve.job import ServeJob
from workers.serve.model import ServedModel
from workers.serve.settings import ServeSettings

APP = "readloop"
SPARE_REQUESTS = 64
"""Requests beyond the line that a replica still takes, to refuse them with a reason."""


@contextmanager
def serving(
    job: ServeJob, make: Callable[[ServedModel], Answering], secret: SecretStr
) -> Iterator[None]:
    """Serve inside of the ``with``: one replica, so that a task's requests meet in one place.

    Raises:
        ConfigError: Ray cannot be reached, the port is taken, or the backend does not start.
        StoppedError: the process was asked to end while Ray started.
    """
    settings = job.settings
    _check_free(settings)
    with ray_session(job.pool):
        from ray import serve  # noqa: PLC0415  (its environment is set before)
        from ray.serve.config import HTTPOptions  # noqa: PLC0415

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(
            proxy_location="HeadOnly",
            http_options=HTTPOptions(host=settings.host, port=settings.port),
        )
        deployment = serve.deployment(
            name="backend",
            num_replicas=1,
            max_ongoing_requests=settings.waiting + SPARE_REQUESTS,
            ray_actor_options={"num_cpus": job.pool.cpus, "num_gpus": job.pool.gpus},
        )(Server)
        try:
            serve.run(deployment.bind(job, make, secret), name=APP, route_prefix="/")
            yield
        except ReadloopError:
            raise
        except RuntimeError as error:
            raise ConfigError(f"the backend does not start: {error}") from error
        finally:
            serve.delete(APP)  # what else a cluster serves stays


def _check_free(settings: ServeSettings) -> None:
    """Make sure that nobody listens where the backend is to, if that is this machine."""
    if os.environ.get("RAY_ADDRESS") is not None:
        return
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigError(
                f"serve: cannot listen on {settings.host}:{settings.port} ({error.strerror}); "
                "choose another serve.host or serve.port"
            ) from error
