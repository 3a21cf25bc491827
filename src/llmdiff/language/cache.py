"""A cache of the encodings made last, bounded by their size."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

from torch import Tensor

DEFAULT_BYTES = 64 * 2**20
"""The size that the encodings in a cache have together at most."""


class EncodingCache:
    """Encodings of single prompts by content, the least recently used dropped first.

    A copy or a pickle of it is empty.
    """

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self.limit = limit
        self.size = 0
        self._entries: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def __reduce__(self) -> tuple[type["EncodingCache"], tuple[int]]:
        return EncodingCache, (self.limit,)

    def get(self, key: Hashable) -> Tensor | None:
        """Returns the encoding (S, D) kept under a key, which counts as used now, or None."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def put(self, key: Hashable, embeds: Tensor) -> None:
        """Keeps an encoding (S, D), which nobody may change any more; one that is larger than the limit is not kept."""
        weight = embeds.nbytes
        if weight > self.limit:
            return
        with self._lock:
            self._drop(key)
            self._entries[key] = embeds
            self.size += weight
            while self.size > self.limit:
                self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Drops all encodings."""
        with self._lock:
            self._entries.clear()
            self.size = 0

    def _drop(self, key: Hashable) -> None:
        dropped = self._entries.pop(key, None)
        self.size -= dropped.nbytes if dropped is not None else 0
