"""The deployment on Ray Serve: HTTP in, JSON out. What it answers comes from elsewhere."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse

from pipeline.errors import InputError, ReadloopError, StorageError
from pipeline.records import ModelChange
from workers.serve.gate import TooLargeError, bounded_body, may_enter
from workers.serve.job import ServeJob
from workers.serve.line import BusyError, Line, SupersededError
from workers.serve.model import ServedModel
from workers.serve.swapping import Swapper
from workers.steps import PREDICT_ERRORS, is_device_fault

Json = Mapping[str, Any]
_log = logging.getLogger("ray.serve")


class Answering(Protocol):
    """What makes answers: see :class:`labelstudio.interactive.backend.Backend`."""

    def read(self, body: object) -> Any:  # noqa: ANN401 - its own kind of gesture
        """Read a body and take note of it."""

    def answer(self, request: Any) -> Json:  # noqa: ANN401
        """Answer what was read."""

    def nothing(self) -> Json:
        """Answer in a way that changes nothing."""


@dataclass(frozen=True)
class Refused:
    """An answer that says no."""

    status: int
    error: str

    def response(self) -> JSONResponse:
        """Return it as JSON."""
        return JSONResponse({"error": self.error}, self.status)


class Server:
    """One replica. ``make`` is given the model and returns what answers with it.

    It has to be made on the event loop that it answers on, where it also follows the registry.
    Once its device is broken, Ray Serve has to put another one in its place.
    """

    def __init__(
        self, job: ServeJob, make: Callable[[ServedModel], Answering], secret: SecretStr
    ) -> None:
        self._job = job
        self._secret = secret
        self._swapper = Swapper(job)
        self._model = self._swapper.model
        self._answering = make(self._model)
        self._line: Line[Json] = Line(job.settings.waiting)
        self._broken = ""
        self._loop = asyncio.get_running_loop()
        following = job.look is not None and job.settings.follow_seconds > 0
        self._following = self._loop.create_task(self._follow()) if following else None

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer one HTTP request."""
        if not may_enter(request.headers.get("authorization", ""), self._secret):
            headers = {"WWW-Authenticate": "Basic"}
            return JSONResponse({"error": "the secret is missing or wrong"}, 401, headers)
        if self._broken:
            return Refused(503, self._broken).response()
        try:
            handle = self._routes()[request.method, request.url.path.rstrip("/")]
        except KeyError:
            return Refused(404, "there is nothing at this address").response()
        try:
            length = request.headers.get("content-length", "")
            most = self._job.settings.body_bytes
            return JSONResponse(await handle(await bounded_body(request.stream(), length, most)))
        except (TooLargeError, BusyError, ReadloopError) as error:
            refused = self._refused(error)
            _log.warning("refused with %d: %s", refused.status, refused.error)
            return refused.response()
        except PREDICT_ERRORS as error:
            if not is_device_fault(error):
                raise
            self._break(error)
            return Refused(503, self._broken).response()

    def check_health(self) -> None:
        """Be asked by Ray Serve whether this replica can go on.

        Raises:
            RuntimeError: its device is broken.
        """
        if self._broken:
            raise RuntimeError(self._broken)

    def _break(self, error: Exception) -> None:
        """Answer nothing any more until Ray Serve has put another replica in this one's place."""
        self._broken = f"the device is broken, another replica is to come ({error})"
        _log.error(self._broken)

    def _refused(self, error: Exception) -> Refused:
        settings = self._job.settings
        if isinstance(error, TooLargeError):
            return Refused(413, f"the body is over the limit of {settings.body_bytes} bytes")
        if isinstance(error, BusyError):
            return Refused(429, f"{settings.waiting} requests wait already; try again")
        return Refused(503 if isinstance(error, StorageError) else 400, str(error))

    def _routes(self) -> dict[tuple[str, str], Callable[[bytes], Any]]:
        return {
            ("GET", "/health"): self._health,
            ("POST", "/setup"): self._setup,
            ("POST", "/predict"): self._predict,
            ("POST", "/webhook"): self._webhook,
            ("PUT", "/model"): self._use,
            ("DELETE", "/cache"): self._forget,
        }

    async def _health(self, _body: bytes) -> Json:
        return {
            "status": "UP",
            "model_version": self._model.version,
            "images_encoded": self._model.encoded,
            "dropped": self._line.dropped,
            "shared": self._line.shared,
            "following": self._following is not None and not self._following.done(),
            "swaps": self._swapper.swaps,
            "last_swap": _swap(self._swapper.last),
            "not_loaded": _trouble(self._swapper.trouble),
        }

    async def _follow(self) -> None:
        """Look whether another version is current, again and again while the device works."""
        while not self._broken:
            await asyncio.sleep(self._job.settings.follow_seconds)
            try:
                await asyncio.to_thread(self._swapper.follow, self._between)
            except PREDICT_ERRORS as error:
                if not is_device_fault(error):
                    raise
                self._break(error)

    def _between(self, work: Callable[[], None]) -> float:
        """Run something between two requests, from another thread than the loop's."""
        return asyncio.run_coroutine_threadsafe(self._line.between(work), self._loop).result()

    async def _setup(self, _body: bytes) -> Json:
        """Say who answers. The body holds a person's API token; it is not even parsed."""
        return {"model_version": self._model.version}

    async def _webhook(self, _body: bytes) -> Json:
        """Take events: nothing follows from them here."""
        return {}

    async def _predict(self, body: bytes) -> Json:
        begun = time.perf_counter()
        request = self._answering.read(await asyncio.to_thread(_parsed, body))
        digest = hashlib.sha256(body).hexdigest()
        try:
            answer = await self._line.run(
                request.task, digest, lambda: self._answering.answer(request)
            )
        except SupersededError:
            return self._answering.nothing()
        _log.info("task %d answered in %.0f ms", request.task, 1e3 * (time.perf_counter() - begun))
        return answer

    async def _use(self, body: bytes) -> Json:
        """Answer with other weights from now on; requests go on with the old ones meanwhile."""
        wanted = _parsed(body)
        if not isinstance(wanted, dict) or not isinstance(wanted.get("model"), str):
            raise InputError('say which weights: {"model": "FOLDER, s3:// address or hub id"}')
        chosen = await asyncio.to_thread(self._swapper.use, wanted["model"], self._between)
        return {"model_version": chosen}

    async def _forget(self, _body: bytes) -> Json:
        self._model.forget_images()
        return {}


def _swap(change: ModelChange | None) -> Json | None:
    if change is None:
        return None
    return {
        "before": change.before,
        "after": change.after,
        "pause_seconds": change.pause,
        "load_seconds": change.load,
    }


def _trouble(change: ModelChange | None) -> Json | None:
    return {"model_version": change.after, "reason": change.reason} if change else None


def _parsed(body: bytes) -> object:
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("the body is not JSON") from error
    return parsed
