"""Which weights a running server was told to use, for a replica that takes a dead one's place."""

import json
import logging
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import MissingError
from pipeline.storage.store import Store

PATH = "serving/model.json"
_log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody chose by hand, for one start of the server.

    ``begun`` is the version that the server was started with. ``number`` is the registry's entry
    that was current then, 0 without one: the choice holds until there is a later entry.
    """

    begun: str
    source: str
    number: int = 0


def read_choice(store: Store, begun: str) -> Choice | None:
    """Return what was chosen since this start; None for nothing, or nothing that can be read.

    Raises:
        StorageError: the store failed.
    """
    try:
        noted = TypeAdapter(Choice).validate_json(store.get(PATH))
    except MissingError:
        return None
    except ValidationError:
        _log.warning("%s: is no note of a choice, so it counts for nothing", PATH)
        return None
    return noted if noted.begun == begun else None


def write_choice(store: Store, choice: Choice) -> None:
    """Note the model to use from now on."""
    store.put(PATH, json.dumps(asdict(choice)).encode())


def forget_choice(store: Store) -> None:
    """Begin with the run file's model again."""
    store.delete([PATH])
