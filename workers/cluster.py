"""Connecting to Ray: the cluster that ``RAY_ADDRESS`` names, else one of our own, on loopback."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pipeline.errors import ConfigError, StoppedError
from workers.quiet import without_native_logs
from workers.settings import PoolSettings

LOCAL_ENVIRONMENT = {
    # Ray's own switch for "this is one machine": all of its ports then listen on loopback only.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}
LOOPBACK = "127.0.0.1"
KNOCK_SECONDS = 10.0


@contextmanager
def ray_session(pool: PoolSettings) -> Iterator[None]:
    """Connect to Ray and disconnect at the end; an existing connection is used and kept.

    Must come before the first import of ``ray``, which reads its environment only then.

    Raises:
        ConfigError: the cluster cannot be reached, or this machine cannot hold a replica.
        StoppedError: the process was asked to end while Ray started.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        for name, value in LOCAL_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    import ray  # noqa: PLC0415

    with ExitStack() as stack:
        stack.enter_context(without_native_logs())
        stack.callback(ray.shutdown)
        _connect(address)
        check_room("pool", "a replica", pool.cpus, pool.gpus)
        yield


def _connect(address: str | None) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            _start_here()
        else:
            _join(address)
    except SystemExit as error:  # Ray's own handler of SIGTERM
        raise StoppedError("stopped while Ray started; nothing was lost") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _join(address: str) -> None:
    import ray  # noqa: PLC0415

    try:
        _knock(address)
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the Ray cluster at RAY_ADDRESS={address} cannot be reached: {error}"
        ) from error


def _knock(address: str) -> None:
    """Make sure that somebody listens at ``host:port``: Ray itself would wait for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()


def _start_here() -> None:
    """Start Ray on this machine. It gives up after 30 s, which a busy machine may need."""
    import ray  # noqa: PLC0415

    for last in (False, False, True):
        try:
            ray.init(
                "local",
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _node_ip_address=LOOPBACK,
            )
        except Exception as error:  # Ray raises just that when it gives up
            ray.shutdown()
            if last:
                raise ConfigError(f"Ray does not start on this machine: {error}") from error
        else:
            return


def check_room(part: str, who: str, cpus: float, gpus: float) -> None:
    """Make sure that this machine holds what is about to start, in a session of its own.

    On a cluster, which may grow, nothing is checked.

    Args:
        part: the part of the run file that asks for it.
        who: what asks for it, for the message.
        cpus: CPUs wanted, altogether.
        gpus: GPUs wanted, altogether.

    Raises:
        ConfigError: it does not; names the field.
    """
    import ray  # noqa: PLC0415

    if os.environ.get("RAY_ADDRESS") is not None:
        return
    here: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, knob, wanted in (("CPU", "cpus", cpus), ("GPU", "gpus", gpus)):
        if wanted > here.get(name, 0):
            raise ConfigError(
                f"{part}.{knob}: {who} wants {wanted:g} {name}, "
                f"this machine has {here.get(name, 0):g}; "
                f"lower it, or set RAY_ADDRESS to a cluster that has more"
            )
