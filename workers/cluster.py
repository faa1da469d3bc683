"""Connecting to Ray: the cluster that ``RAY_ADDRESS`` names, else one of our own, on loopback."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pipeline.errors import ConfigError, StoppedError
from workers.quiet import without_native_logs
from workers.settings import PoolSettings

LOCAL_ENVIRONMENT = {
    # Ray's own switch for "this is one machine": all of its ports then listen on loopback only.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}
LOOPBACK = "127.0.0.1"


@contextmanager
def ray_session(pool: PoolSettings) -> Iterator[None]:
    """Connect to Ray and disconnect at the end; an existing connection is used and kept.

    Must come before the first import of ``ray``, which reads its environment only then.

    Raises:
        ConfigError: the cluster cannot be reached, or this machine cannot hold a replica.
        StoppedError: the process was asked to end while Ray started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        for name, value in LOCAL_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    import ray  # noqa: PLC0415

    if ray.is_initialized():
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(without_native_logs())
        stack.callback(ray.shutdown)
        _connect(address)
        if address is None:
            _check_room(pool)
        yield


def _connect(address: str | None) -> None:
    import ray  # noqa: PLC0415

    local: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": LOOPBACK}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address or "local",
            logging_level=logging.ERROR,
            log_to_driver=False,
            **({} if address else local),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at RAY_ADDRESS={address}" if address else "a local Ray"
        raise ConfigError(f"{where} cannot be reached: {error}") from error
    except SystemExit as error:  # Ray's own handler of SIGTERM
        raise StoppedError("stopped while Ray started; nothing was lost") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _check_room(pool: PoolSettings) -> None:
    import ray  # noqa: PLC0415

    here: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, knob, wanted in (("CPU", "cpus", pool.cpus), ("GPU", "gpus", pool.gpus)):
        if wanted > here.get(name, 0):
            raise ConfigError(
                f"pool.{knob}: a replica wants {wanted:g} {name}, "
                f"this machine has {here.get(name, 0):g}; "
                f"lower it, or set RAY_ADDRESS to a cluster that has more"
            )
