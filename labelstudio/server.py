"""A real Label Studio server of our own, for the demo and the tests.

It listens on loopback only, in an environment and with a data folder of its own. The data folder
keeps the login, so that a later start on it finds the same projects with the same token.
"""

import atexit
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import httpx

from labelstudio.environment import executable, ready_environment
from pipeline.errors import LabelStudioError

HOST = "127.0.0.1"
START_SECONDS = 600.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.25
PROGRESS_SECONDS = 10.0
LOG_TAIL_LINES = 25
# Ends the server when our end of the pipe on its input closes: also when this process is killed.
# Asked to end, it ends after the server (the first wait is interrupted), so that its lock is free.
SUPERVISE = """
exec 3<&0
"$@" </dev/null & server=$!
{ read -r line <&3; kill "$server"; } 2>/dev/null &
trap : TERM
wait "$server" || wait "$server"
"""
FOREIGN_PREFIXES = ("LABEL_STUDIO_", "DJANGO_", "POSTGRE_", "HEARTEX_")
FOREIGN_NAMES = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HOST", "PORT")


@dataclass(frozen=True, slots=True)
class Login:
    """Who the server's first user is; made once for a data folder and kept in it."""

    user: str
    password: str
    token: str


def silent(_message: str) -> None:
    """Ignore progress."""


class LabelStudioServer:
    """A server process with ``url``, ``user``, ``password`` and ``token``; a context manager.

    Args:
        data: folder of the server's database and log; made if missing, reused if not.
        environment: the server's Python environment, see
            :func:`labelstudio.environment.ready_environment`.
        port: where to listen; None picks a free port.
        document_root: tasks may show images in folders below this one (never in it itself).
        progress: told in a sentence what takes long.

    Raises:
        LabelStudioError: on start, when the environment cannot be made, another server uses the
            data folder, the port is taken, or the server ends early or never answers.
    """

    def __init__(
        self,
        data: Path,
        *,
        environment: Path | None = None,
        port: int | None = None,
        document_root: Path | None = None,
        progress: Callable[[str], None] = silent,
    ) -> None:
        self._data = data.absolute()
        self._environment = environment
        self._port = port
        self._document_root = document_root
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._login: Login | None = None
        self._url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Address of the running server, without a slash at its end."""
        return self._url

    @property
    def user(self) -> str:
        """E-mail address to log in with."""
        return self._known_login().user

    @property
    def password(self) -> str:
        """Password to log in with."""
        return self._known_login().password

    @property
    def token(self) -> str:
        """Legacy API token of the user."""
        return self._known_login().token

    @property
    def log(self) -> Path:
        """Where the server writes its output."""
        return self._data / "label-studio.log"

    def start(self) -> None:
        """Start the server and wait until it answers to its token; nothing if it runs."""
        if self._process is not None:
            return
        environment = ready_environment(self._environment, self._progress)
        self._data.mkdir(parents=True, exist_ok=True)
        self._lock = _lock_folder(self._data)
        try:
            self._login = _login_of(self._data)
            self._launch(environment, self._port or _free_port())
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the server and everything it started; does nothing when it is not running."""
        atexit.unregister(self.stop)
        if self._process is not None:
            _end_group(self._process)
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _known_login(self) -> Login:
        if self._login is None:
            raise LabelStudioError("the Label Studio server has no login before it is started")
        return self._login

    def _launch(self, environment: Path, port: int) -> None:
        if not _is_free(port):
            raise LabelStudioError(f"port {port} on {HOST} is in use: choose another")
        assert self._lock is not None
        self._url = f"http://{HOST}:{port}"
        command = ["/bin/sh", "-c", SUPERVISE, "sh", str(executable(environment)), "start"]
        command += ["--no-browser", "--internal-host", HOST]
        command += ["--port", str(port), "--data-dir", str(self._data), "--enable-legacy-api-token"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=self._variables(),
                cwd=self._data,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[self._lock.fileno()],
            )

    def _variables(self) -> dict[str, str]:
        """Return the server's environment variables; the login is here to stay off ``ps``."""
        login = self._known_login()
        root = self._document_root
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(FOREIGN_PREFIXES) and key not in FOREIGN_NAMES
        }
        return inherited | {
            "LABEL_STUDIO_USERNAME": login.user,
            "LABEL_STUDIO_PASSWORD": login.password,
            "LABEL_STUDIO_USER_TOKEN": login.token,
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true" if root else "false",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str((root or self._data).absolute()),
            "fflag_feat_utc_210_prediction_validation_15082025": "true",
            # Only a server on loopback may be let at loopback storages and backends.
            "SSRF_PROTECTION_ENABLED": "false",
            "ML_BLOCK_LOCAL_IP": "false",
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "PYTHONUNBUFFERED": "1",
        }

    def _wait_until_healthy(self) -> None:
        assert self._process is not None
        started = told = time.monotonic()
        while not self._answers():
            now = time.monotonic()
            if self._process.poll() is not None:
                raise LabelStudioError(
                    f"the Label Studio server ended while starting\n{self._tail()}"
                )
            if now - started > START_SECONDS:
                raise LabelStudioError(
                    f"Label Studio did not answer in {START_SECONDS:.0f} s\n{self._tail()}"
                )
            if now - told > PROGRESS_SECONDS:
                self._progress(f"waiting for Label Studio ({now - started:.0f} s)")
                told = now
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        headers = {"Authorization": f"Token {self.token}"}
        address = f"{self.url}/api/current-user/whoami"
        try:
            return httpx.get(address, headers=headers, timeout=5, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"the end of {self.log}:", *lines[-LOG_TAIL_LINES:]])


def _login_of(data: Path) -> Login:
    """Return the login kept in ``data``, making one (readable by its owner only) at first."""
    path = data / "login.json"
    if path.exists():
        return Login(**json.loads(path.read_text(encoding="utf-8")))
    login = Login("readloop@localhost.invalid", secrets.token_urlsafe(12), secrets.token_hex(20))
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(login), file)
    part.replace(path)
    return login


def _lock_folder(data: Path) -> IO[str]:
    """Lock ``data``; the server inherits the lock, so it holds as long as either lives."""
    lock = (data / "server.lock").open("a+", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise LabelStudioError(
            f"another Label Studio server uses {data}: stop it first, or choose another data folder"
        ) from error
    return lock


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the process group to end, and make it end when it does not."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(STOP_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
        return
    process.poll()
