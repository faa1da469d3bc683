"""Plain dialogue: questions that ask for no mask, so that a model does not forget to just talk."""

import json
from importlib.resources import files
from typing import Annotated

from pydantic import Field, ValidationError

from pipeline.errors import InputError
from pipeline.settings import Settings
from pipeline.storage.addresses import locate
from pipeline.storage.store import ObjectReader
from pipeline.storage.training_sets import Dialogue

_BUNDLED = "dialogue.jsonl"
_MAX_BYTES = 4_000_000
_MAX_LINES = 5_000

Words = Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"^[^\[\]<>]*$")]


class _Line(Settings):
    question: Words
    answer: Words


def read_dialogue(address: str | None, reader: ObjectReader) -> tuple[Dialogue, ...]:
    """Return the turns of a ``.jsonl`` file, or the bundled ones.

    Raises:
        InputError: a line is no object with ``question`` and ``answer``, or there are too many.
        StorageError: the file cannot be read.
    """
    if address is None:
        where = _BUNDLED
        data = files("pipeline.learning").joinpath(_BUNDLED).read_bytes()
    else:
        where = locate(address).uri
        data = reader.get(where, _MAX_BYTES)
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    if len(lines) > _MAX_LINES:
        raise InputError(f"{where}: has {len(lines)} lines, {_MAX_LINES} are allowed")
    return tuple(_turn(line, f"{where}: row {number}") for number, line in enumerate(lines, 1))


def _turn(line: str, where: str) -> Dialogue:
    try:
        found = _Line.model_validate(json.loads(line))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {error}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(map(str, problem["loc"])) or "the line"
        raise InputError(f"{where}: {name}: {problem['msg']}") from error
    return Dialogue(found.question, found.answer)
