"""A Ray of our own: on loopback only, and it leaves the process's signals alone."""

import json
import os
import subprocess
import sys

import pytest
import ray

from pipeline.errors import ConfigError
from workers.cluster import LOCAL_ENVIRONMENT, ray_session
from workers.settings import PoolSettings

REPORT = """
import json, os, signal
from pathlib import Path
from workers.cluster import LOCAL_ENVIRONMENT, ray_session
from workers.settings import PoolSettings

def kin(pid):
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for process in found:
        found += parents.get(process, [])
    return found

def sockets(pid):
    links = (os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").glob("*") if fd.is_symlink())
    return {link[8:-1] for link in links if link.startswith("socket:[")}

handler = lambda *_: None
signal.signal(signal.SIGTERM, handler)
with ray_session(PoolSettings()):
    own = set().union(*(sockets(pid) for pid in kin(os.getpid())))
    rows = [row.split() for name in ("tcp", "tcp6")
            for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = [row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in own]
    kept = signal.getsignal(signal.SIGTERM) is handler
print(json.dumps({"listening": listening, "kept": kept}))
"""
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1 as Linux's /proc/net writes them."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_ray_of_our_own_listens_on_loopback_only_and_keeps_our_signal_handlers() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", REPORT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["listening"]) >= 3
    assert set(report["listening"]) <= LOOPBACK
    assert report["kept"]


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with (
        pytest.raises(ConfigError, match=r"RAY_ADDRESS=127\.0\.0\.1:9"),
        ray_session(PoolSettings()),
    ):
        pass


def test_a_connection_that_is_there_is_used_and_the_environment_left_alone(
    ray_nodes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", *LOCAL_ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)
    ray.init(ray_nodes, log_to_driver=False, logging_level="ERROR")
    with ray_session(PoolSettings()):
        assert not LOCAL_ENVIRONMENT.keys() & os.environ.keys()
    assert ray.is_initialized()
    ray.shutdown()
