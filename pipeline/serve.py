"""The interactive backend, from a run file to a server that Label Studio asks. The recipe.

The server answers from the run's predictions table and images; nothing is written but what it
is told to keep.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import httpx

from labelstudio.client import LabelStudioClient
from labelstudio.connection import is_loopback
from labelstudio.interactive.backend import Backend
from labelstudio.interactive.connect import connect
from labelstudio.settings import LabelStudioSettings
from labelstudio.token import checked_token
from pipeline.config import RunFile
from pipeline.errors import ConfigError, InputError
from pipeline.registry.resolve import model_source
from pipeline.storage.store import open_store
from pipeline.versions import chosen_model, current_of
from workers.serve.gate import SECRET_VARIABLE, USER, checked_secret
from workers.serve.job import ServeJob
from workers.serve.model import ServedModel
from workers.serve.pointer import forget_choice
from workers.serve.start import serving

SWAP_SECONDS = 600.0
SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Served:
    """A backend that is up: its address, its weights, and the projects that ask it."""

    address: str
    model_version: str
    projects: tuple[int, ...]


def serve(
    run: RunFile,
    stop: threading.Event,
    *,
    connecting: bool,
    say: Callable[[str], None],
    ready: Callable[[Served], None],
) -> None:
    """Serve until ``stop`` is set.

    Args:
        run: the run file.
        stop: ends the server.
        connecting: make the run's project ask this backend.
        say: told what takes long.
        ready: called once the server answers and the project is connected.

    Raises:
        ReadloopError: the secret is missing, or the model, the store, Ray or Label Studio cannot
            be used.
    """
    secret = checked_secret(os.environ.get(SECRET_VARIABLE, ""))
    settings = run.labelstudio or LabelStudioSettings(url="http://localhost", project="none")
    if connecting and run.labelstudio is None:
        raise ConfigError(f"run {run.name}: no 'labelstudio' part, so nothing to connect to")
    token = checked_token(settings) if connecting else None
    store = open_store(run.store, run.s3)
    model = chosen_model(run, store, None)
    forget_choice(store)
    look = current_of(run, store) if run.serve.follow_seconds else None
    job = ServeJob(store.uri, run.s3, run.limits, run.pool, run.serve, model, look)
    make = partial(_backend, settings=settings, most_points=run.serve.points)
    say("starting Ray and loading the model")
    with serving(job, make, secret):
        projects: list[int] = []
        if token is not None:
            projects = connect(
                LabelStudioClient(settings.url, token),
                settings,
                address=run.serve.address,
                user=USER,
                secret=secret,
                asking=run.serve.asking,
            )
        ready(Served(run.serve.address, model.version, tuple(projects)))
        stop.wait()


def use_model(run: RunFile, source: str) -> str:
    """Make the run's server, which is up, answer with other weights; returns their version.

    Raises:
        ReadloopError: the server is not there, or cannot use them.
    """
    secret = checked_secret(os.environ.get(SECRET_VARIABLE, ""))
    address = run.serve.address
    source = model_source(source, run.finetune.base, open_store(run.store, run.s3))
    try:
        answer = httpx.put(
            f"{address}/model",
            json={"model": source},
            auth=(USER, secret.get_secret_value()),
            timeout=SWAP_SECONDS,
            trust_env=not is_loopback(address),
        )
    except httpx.HTTPError as error:
        raise ConfigError(f"no backend answers at {address}: {error}") from None
    try:
        found = answer.json()
    except ValueError:  # not JSON, or not UTF-8
        raise InputError(
            f"{address} answers with status {answer.status_code} and no JSON, so it is no backend, "
            f"or a broken one whose log says more: {answer.text[:SHOWN_CHARACTERS]!r}"
        ) from None
    if answer.is_error:
        raise InputError(f"the backend at {address} keeps its weights: {found.get('error')}")
    return str(found["model_version"])


def _backend(masks: ServedModel, settings: LabelStudioSettings, most_points: int) -> Backend:
    return Backend(masks, settings, most_points=most_points)
