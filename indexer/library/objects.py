"""Objects below an address, as the files of a library."""

from __future__ import annotations

import time
from collections.abc import Iterator

from indexer.audio.file import State
from indexer.audio.remote.objects import objects
from indexer.errors import LibraryError
from indexer.paths import Address, text_from_bytes

#: Parts that a name may have in a bucket, and no path.
_NO_PARTS = {"", ".", ".."}
#: A store that was reached is believed to be there for so long, in seconds; and when that was.
_BELIEVED_S = 60.0
_reached_s: dict[Address, float] = {}


def objects_below(root: Address, unreadable: list[tuple[str, str]]) -> Iterator[tuple[str, State]]:
    """Yield the relative path of each object, as stored, and its state.

    Args:
        root: Address of the library.
        unreadable: Gets the names that no path can have, and says so.

    Raises:
        LibraryError: If they cannot be listed.
    """
    for name, state in objects.below(root):
        path = text_from_bytes(name.encode())
        if _NO_PARTS.isdisjoint(name.split("/")):
            yield path, state
        else:
            unreadable.append((path, "it has a name that no path can have"))


def is_reachable(root: Address) -> bool:
    """Whether what is below an address could be listed within the last minute, or can be now."""
    now = time.monotonic()
    if now - _reached_s.get(root, -_BELIEVED_S) < _BELIEVED_S:
        return True
    try:
        next(objects.below(root), None)
    except LibraryError:
        return False
    _reached_s[root] = now
    return True
