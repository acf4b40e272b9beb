"""Objects below an address, as the files of a library."""

from __future__ import annotations

from collections.abc import Iterator

from indexer.audio.file import State
from indexer.audio.remote.objects import objects
from indexer.errors import LibraryError
from indexer.paths import Address, text_from_bytes

#: Parts that a name may have in a bucket, and no path.
_NO_PARTS = {"", ".", ".."}


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
    """Whether what is below an address can be listed now."""
    try:
        next(objects.below(root), None)
    except LibraryError:
        return False
    return True
