"""Fixtures for every test: optional reference data, a real S3 server, a real Label Studio."""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.server import ThreadedMotoServer

from labelstudio.environment import PROJECT
from labelstudio.server import LabelStudioServer

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; tests skip where it is absent."""
    folder = Path(os.environ.get("READLOOP_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder} (set READLOOP_SHARED)")
    return folder


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[str]:
    """Two local Ray nodes with a pretended GPU each, for the whole suite: their address."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415  (takes seconds)

    with socket.create_server(("127.0.0.1", 0)) as free:  # another Ray may hold the usual port
        port = free.getsockname()[1]
    head = {"num_cpus": 1, "num_gpus": 1, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1, num_gpus=1)
    yield cluster.address
    cluster.shutdown()


_REGION = "us-east-1"
_ALLOW_ALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}


@dataclass(frozen=True)
class S3Server:
    """A running server; the credentials it accepts are in the environment."""

    endpoint: str
    access_key: str
    secret_key: str

    def make_bucket(self, name: str, objects: Mapping[str, bytes] | None = None) -> str:
        """Create a bucket (3 characters at least) with objects; return its ``s3://`` address."""
        client = boto3.client("s3", endpoint_url=self.endpoint, region_name=_REGION)
        client.create_bucket(Bucket=name)
        for key, body in (objects or {}).items():
            client.put_object(Bucket=name, Key=key, Body=body)
        return f"s3://{name}"


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 protocol server in a thread (moto) that checks signatures.

    Its credentials are in the environment; each test makes buckets of its own.
    """
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moto.server.MotoRequestHandler.log", lambda *_: None)
        patch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", float("inf"))
        patch.setattr(ActionAuthenticatorMixin, "request_count", 0)
        server.start()
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        access_key, secret_key = _make_user(endpoint)
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
        patch.setenv("AWS_DEFAULT_REGION", _REGION)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
        yield S3Server(endpoint, access_key, secret_key)
        server.stop()


def _make_user(endpoint: str) -> tuple[str, str]:
    iam = boto3.client(
        "iam",
        endpoint_url=endpoint,
        region_name=_REGION,
        aws_access_key_id="setup",
        aws_secret_access_key="setup",
    )
    iam.create_user(UserName="readloop")
    iam.put_user_policy(
        UserName="readloop", PolicyName="all", PolicyDocument=json.dumps(_ALLOW_ALL)
    )
    key = iam.create_access_key(UserName="readloop")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@pytest.fixture(scope="session")
def label_studio_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return a maker of data folders whose database is set up, which takes a minute once."""
    version = hashlib.sha256((PROJECT / "uv.lock").read_bytes()).hexdigest()[:12]
    template = REPOSITORY / ".cache" / f"labelstudio-data-{version}"

    def make() -> Path:
        if not template.exists():
            fresh = template.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            with LabelStudioServer(fresh, progress=print):
                pass
            fresh.rename(template)
        return shutil.copytree(template, tmp_path_factory.mktemp("labelstudio") / "data")

    return make


@pytest.fixture(scope="session")
def label_studio(label_studio_data: Callable[[], Path]) -> Iterator[LabelStudioServer]:
    """A real Label Studio server for the whole suite; each test makes projects of its own.

    It shows files from everywhere and has no S3 credentials of its own.
    """
    server = LabelStudioServer(label_studio_data(), document_root=Path("/"), progress=print)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        server.start()
    with server:
        yield server
