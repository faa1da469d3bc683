"""Foreign errors of Label Studio calls, mapped once to :class:`LabelStudioError`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from label_studio_sdk.core.api_error import ApiError
from pydantic import ValidationError

from pipeline.errors import LabelStudioError

TOKEN_VARIABLE = "LABEL_STUDIO_API_KEY"  # noqa: S105 - the name of the variable, not the token
_TOKEN_REFUSED = (401, 403)
_INVALID = 400
_SHOWN = 500


class RefusedError(LabelStudioError):
    """What was sent is not valid to the server; nothing of it was stored."""


@contextmanager
def mapped_errors(url: str, action: str) -> Iterator[None]:
    """Turn errors of the SDK and of HTTP into a LabelStudioError that says what to do.

    Causes are cut off on purpose: the SDK's errors carry headers with session cookies.

    Args:
        url: the server's address, for the message.
        action: what is being done, such as "list projects".

    Raises:
        LabelStudioError: for any of them.
    """
    try:
        yield
    except ApiError as error:
        raise refusal(url, action, error.status_code or 0, error.body) from None
    except httpx.HTTPStatusError as error:
        body = error.response.text
        raise refusal(url, action, error.response.status_code, body) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise LabelStudioError(
            f"Label Studio at {url} cannot be reached to {action} ({_kind(error)}): start it, or "
            "correct 'labelstudio.url' in the run file"
        ) from None
    except (json.JSONDecodeError, ValidationError, KeyError, TypeError) as error:
        raise LabelStudioError(
            f"{url} answered something else than Label Studio does ({type(error).__name__} on "
            f"{action}): check 'labelstudio.url' in the run file"
        ) from None


def refusal(url: str, action: str, status: int, body: object) -> LabelStudioError:
    """Return the error for an answer with a status that means no."""
    if status in _TOKEN_REFUSED:
        return LabelStudioError(
            f"Label Studio at {url} refuses the token in {TOKEN_VARIABLE} ({status} on {action}): "
            "copy a current one from the account page, of a user who may edit the project"
        )
    kind = RefusedError if status == _INVALID else LabelStudioError
    return kind(f"Label Studio at {url} refused to {action} (status {status}): {explain(body)}")


def explain(body: object) -> str:
    """Return the reasons in an error's body, shortened; a page of HTML says nothing."""
    content = _parsed(body)
    if isinstance(content, dict):
        reasons = content.get("validation_errors") or content.get("detail") or content
        content = "; ".join(_sentences(reasons))
    text = " ".join(str(content).split())
    if text.startswith("<"):
        return "no reason given; the server's log has it"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " …"


def _parsed(body: object) -> object:
    if not isinstance(body, str):
        return body
    try:
        parsed: object = json.loads(body)
    except json.JSONDecodeError:
        return body
    return parsed


def _sentences(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        for part in value.values():
            yield from _sentences(part)
    elif isinstance(value, list):
        for part in value:
            yield from _sentences(part)
    elif value not in (None, ""):
        yield str(value)


def _kind(error: Exception) -> str:
    if isinstance(error, httpx.LocalProtocolError):  # its text quotes headers
        return type(error).__name__
    return str(error) or type(error).__name__
