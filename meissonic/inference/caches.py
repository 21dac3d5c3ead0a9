"""Values computed before, kept by their keys."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Cache(Generic[KeyT, ValueT]):
    """Keeps values until there are more than `size`, and then those of the last call."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[KeyT, ValueT] = {}

    def get_all(
        self, keys: Sequence[KeyT], compute: Callable[[Sequence[KeyT]], Sequence[ValueT]]
    ) -> list[ValueT]:
        """The keys' values; `compute` gives those of keys that are not kept."""
        values = {key: self._kept[key] for key in keys if key in self._kept}
        if missing := [key for key in dict.fromkeys(keys) if key not in values]:
            values |= zip(missing, compute(missing), strict=True)
        kept = self._kept | values
        self._kept = kept if len(kept) <= self._size else dict(list(values.items())[: self._size])
        return [values[key] for key in keys]
