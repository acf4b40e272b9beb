"""Objects below an address, as the files of a library."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator

from indexer.audio.content import state_of
from indexer.audio.file import State
from indexer.audio.packs.held import split
from indexer.audio.remote.objects import BELIEVED_S, objects
from indexer.errors import LibraryError
from indexer.paths import Address, text_from_bytes

#: When a store was reached: it is believed to be there for a while.
_reached_s: dict[Address, float] = {}


def objects_below(root: Address) -> Iterator[tuple[str, State]]:
    """Yield the relative path of each object, as stored, and its state.

    Raises:
        LibraryError: If they cannot be listed.
    """
    try:
        for name, state in objects.below(root):
            if name:  # consoles put an empty object where a folder shall seem to be
                yield text_from_bytes(name.encode()), state
    except OSError as error:
        said = f"{root} cannot be listed: {error.strerror}"
        if error.errno in {errno.EOPNOTSUPP, errno.EINVAL}:
            raise LibraryError(f"{said}; name the files in a list", about="files_from") from error
        raise LibraryError(said) from error


def is_reachable(root: Address, *, is_list: bool) -> bool:
    """Whether what is below an address could be had within the last minute, or can be now.

    Args:
        root: The address.
        is_list: Whether a list names what is wanted: then any answer will do, since there are
            those who give what they do not list.
    """
    now = time.monotonic()
    if now - _reached_s.get(root, -BELIEVED_S) < BELIEVED_S:
        return True
    try:
        if parts := split(root):
            state_of(parts[0])
        else:
            next(objects.below(root), None)
    except OSError as error:
        if not is_list or error.errno == errno.EIO:
            return False
    _reached_s[root] = now
    return True
