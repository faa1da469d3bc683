"""Checks entries of foreign files, and says in one line what is wrong with one."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import InputError

Entry = TypeVar("Entry", bound=BaseModel)


def checked(kind: type[Entry], entry: object, where: str) -> Entry:
    """Return an entry as a ``kind``.

    Raises:
        InputError: a field is missing or wrong; the message names it after ``where``.
    """
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: {field or 'the whole'}: {first['msg']}") from error
