"""How fast images come out of S3: obstore, as the project uses it, against boto3 and pyarrow.

All clients read the same objects from the same server in the same run, in turns; the best of
three rounds counts. Without ``--endpoint`` a moto server is started as a process of its own: it
is slow, so the objects per second are bounded by it and CPU time says more. With ``--endpoint``,
credentials come from the environment, and a bucket is created and emptied again.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from obstore.store import S3Store
from pyarrow.fs import S3FileSystem

from pipeline.storage.clients import S3Access
from pipeline.storage.settings import S3Settings
from pipeline.storage.store import ObjectReader

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "readloop-benchmark"
ROUNDS = 3


@dataclass(frozen=True)
class Speed:
    """What one client managed: objects a second, and CPU milliseconds an object."""

    objects_per_second: float
    cpu_ms: float


@dataclass(frozen=True)
class Load:
    """What is read, from where, with how many threads."""

    endpoint: str
    keys: list[str]
    size: int
    threads: int

    def in_threads(self, get: Callable[[str], bytes]) -> None:
        """Read every object once and check its size."""
        with ThreadPoolExecutor(self.threads) as pool:
            assert all(len(body) == self.size for body in pool.map(get, self.keys))


def with_boto3(load: Load) -> Callable[[], None]:
    """Return the job of reading all objects with one boto3 client and threads."""
    client = _boto3(load.endpoint, load.threads)
    return lambda: load.in_threads(
        lambda key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    )


def with_pyarrow(load: Load) -> Callable[[], None]:
    """Return the job of reading all objects with pyarrow's S3 file system and threads."""
    address = urlsplit(load.endpoint)
    files = S3FileSystem(endpoint_override=address.netloc, scheme=address.scheme)

    def get(key: str) -> bytes:
        with files.open_input_file(f"{BUCKET}/{key}") as file:
            return bytes(file.readall())

    return lambda: load.in_threads(get)


def with_readloop(load: Load) -> Callable[[], None]:
    """Return the job as replicas do it: the project's reader (obstore) and threads."""
    reader = ObjectReader(S3Settings(endpoint=load.endpoint))
    return lambda: load.in_threads(lambda key: reader.get(f"s3://{BUCKET}/{key}", load.size))


def with_obstore_async(load: Load) -> Callable[[], None]:
    """Return the job of reading all objects with obstore in one event loop."""
    store: S3Store = S3Access(S3Settings(endpoint=load.endpoint)).client(BUCKET)

    async def get(key: str, slots: asyncio.Semaphore) -> int:
        async with slots:
            return len(await (await store.get_async(key)).bytes_async())

    async def all_of_them() -> None:
        slots = asyncio.Semaphore(load.threads)
        sizes = await asyncio.gather(*(get(key, slots) for key in load.keys))
        assert set(sizes) == {load.size}

    return lambda: asyncio.run(all_of_them())


CLIENTS = {
    "boto3": with_boto3,
    "pyarrow": with_pyarrow,
    "readloop": with_readloop,
    "obstore_async": with_obstore_async,
}


def measure(load: Load) -> dict[str, Speed]:
    """Return each client's best round; the clients take turns."""
    jobs = {name: make(load) for name, make in CLIENTS.items()}
    best: dict[str, Speed] = {}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            started, cpu = time.perf_counter(), time.process_time()
            job()
            wall, used = time.perf_counter() - started, time.process_time() - cpu
            speed = Speed(len(load.keys) / wall, 1000 * used / len(load.keys))
            if name not in best or speed.objects_per_second > best[name].objects_per_second:
                best[name] = speed
    return best


@contextmanager
def moto_server() -> Iterator[str]:
    """Run a moto server as a process of its own; give its endpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any")  # noqa: S106
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@contextmanager
def objects(endpoint: str, count: int, size: int, threads: int) -> Iterator[Load]:
    """Put random objects into a bucket, and take them out again at the end."""
    client = _boto3(endpoint, threads)
    client.create_bucket(Bucket=BUCKET)
    keys = [f"images/{number:06d}.jpg" for number in range(count)]
    body = os.urandom(size)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=body), keys))
        yield Load(endpoint, keys, size, threads)
        list(pool.map(lambda key: client.delete_object(Bucket=BUCKET, Key=key), keys))
    client.delete_bucket(Bucket=BUCKET)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", help="an S3 server that runs already")
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--bytes", type=int, default=150_000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    if arguments.endpoint:
        speeds = _run(arguments.endpoint, arguments)
    else:
        with moto_server() as endpoint:
            speeds = _run(endpoint, arguments)
    ratio = speeds["readloop"].objects_per_second / speeds["boto3"].objects_per_second
    if arguments.json:
        clients = {name: asdict(speed) for name, speed in speeds.items()}
        print(json.dumps({"clients": clients, "readloop_over_boto3": ratio}))
        return
    for name, speed in speeds.items():
        print(
            f"{name:14} {speed.objects_per_second:8.0f} objects/s {speed.cpu_ms:6.2f} CPU ms each"
        )
    print(f"readloop reads {ratio:.1f} times as fast as boto3")


def _run(endpoint: str, arguments: argparse.Namespace) -> dict[str, Speed]:
    with objects(endpoint, arguments.objects, arguments.bytes, arguments.threads) as load:
        return measure(load)


def _boto3(endpoint: str, threads: int) -> "S3Client":
    config = Config(max_pool_connections=threads)
    return boto3.client("s3", endpoint_url=endpoint, config=config)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the moto server did not start within 60 s")


if __name__ == "__main__":
    main()
