"""Image embeddings: the most recent in memory, all of them in the store if it is told to."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from pipeline.errors import MissingError
from pipeline.storage.store import Store
from workers.read.errors import ReadError
from workers.read.masks import EmbeddedImage
from workers.read.model import ReadModel
from workers.read.repointing import from_bytes, size_of, to_bytes

FOLDER = "embeddings"


class EmbeddingCache:
    """Embeddings by image and weights; the least recently used go first.

    One thread at a time may ask for them; any may clear.

    Args:
        most_bytes: bound on what memory holds; one embedding may be over it.
        store: where embeddings are kept too, None for nowhere. Nothing there is deleted.
    """

    def __init__(self, most_bytes: int, store: Store | None) -> None:
        self._most = most_bytes
        self._store = store
        self._held: OrderedDict[str, EmbeddedImage] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.encoded = 0

    def get(
        self, image: str, version: str, model: ReadModel, encode: Callable[[], EmbeddedImage]
    ) -> EmbeddedImage:
        """Return an image's embedding, from memory, the store or, at last, ``encode``.

        ``image`` tells it from any other and changes with its content.

        Raises:
            StorageError: the store failed.
        """
        name = hashlib.sha256(f"{version}\n{image}".encode()).hexdigest()
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
                return self._held[name]
        found = self._stored(name, model)
        if found is None:
            found = encode()
            self.encoded += 1
            if self._store is not None:
                self._store.put(_path(name), to_bytes(found))
        self._hold(name, found)
        return found

    def clear(self) -> None:
        """Forget what memory holds."""
        with self._lock:
            self._held.clear()
            self._bytes = 0

    def _stored(self, name: str, model: ReadModel) -> EmbeddedImage | None:
        if self._store is None:
            return None
        try:
            return from_bytes(self._store.get(_path(name)), model)
        except (MissingError, ReadError):  # not there, or left half by somebody: made anew
            return None

    def _hold(self, name: str, image: EmbeddedImage) -> None:
        with self._lock:
            self._held[name] = image
            self._bytes += size_of(image)
            while self._bytes > self._most and len(self._held) > 1:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= size_of(oldest)


def _path(name: str) -> str:
    return f"{FOLDER}/{name[:2]}/{name}.safetensors"
