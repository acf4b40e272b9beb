"""Files of one content: the first that brings it is embedded, the others share its fate."""

from __future__ import annotations

import numpy as np

from indexer.arrays import ID_DTYPE, Ids, contains
from indexer.reading.events import Done, Failure

#: Contents that are held in a set before they are sorted.
_MAX_RECENT = 1 << 16


class Contents:
    """Ids of contents that only become more: 16 bytes each, beside the last few.

    They are in sorted arrays of which each is longer than the next, so that an id is moved as often
    as the number of all doubles.
    """

    def __init__(self) -> None:
        self._sorted: list[Ids] = []
        self._recent: set[bytes] = set()  # not sorted yet

    def __contains__(self, content: bytes) -> bool:
        if content in self._recent:
            return True
        wanted = np.array([content], ID_DTYPE)
        return any(contains(one, wanted)[0] for one in self._sorted)

    def add(self, content: bytes) -> None:
        """Take in a content that is not among them."""
        self._recent.add(content)
        if len(self._recent) < _MAX_RECENT:
            return
        ids = np.sort(np.array(list(self._recent), ID_DTYPE))
        self._recent.clear()
        while self._sorted and len(self._sorted[-1]) <= len(ids):
            ids = np.concatenate([self._sorted.pop(), ids])
            ids.sort(kind="stable")  # which merges what is sorted
        self._sorted.append(ids)


class Copies:
    """Who is embedded for whom, while files are read in no particular order.

    Files are named by their position in the work list. One of which a window was dropped, because
    it was a copy then, never becomes the one that is embedded: that window would be missing.
    """

    def __init__(self) -> None:
        self._finished = Contents()
        self._failed: dict[bytes, Failure] = {}
        self.begin_again()

    def begin_again(self) -> None:
        """Forget the files, whose positions will be others; what became of contents stays."""
        self._owner: dict[bytes, int] = {}
        self._owned: dict[int, bytes] = {}
        self._dropped: set[int] = set()
        self._waiting: dict[bytes, list[Done]] = {}

    def takes(self, content: bytes, item: int) -> bool:
        """Whether a window of a file is to be embedded, and not dropped."""
        if self.owns(content, item):
            return True
        self._dropped.add(item)
        return False

    def owns(self, content: bytes, item: int) -> bool:
        """Whether a file is the one to embed for its content; it becomes so if it can."""
        if self._owner.get(content) == item:  # as most windows ask
            return True
        if self.is_finished(content) or content in self._failed:
            return False
        if content not in self._owner and item not in self._dropped:
            self._owner[content] = item
            self._owned[item] = content
        return self._owner.get(content) == item

    def is_finished(self, content: bytes) -> bool:
        """Whether the whole of a content has been embedded."""
        return content in self._finished

    def failure(self, content: bytes) -> Failure | None:
        """Return why a content cannot be embedded, if it was tried."""
        return self._failed.get(content)

    def waits(self, content: bytes, copy: Done) -> bool:
        """Whether a copy that was read to its end has an owner to wait for."""
        if content not in self._owner:
            return False
        self._waiting.setdefault(content, []).append(copy)
        return True

    def finish(self, item: int) -> list[Done]:
        """Note that an owner was embedded to its end; return the copies that waited for it."""
        content = self._owned.pop(item)
        del self._owner[content]
        self._finished.add(content)
        return self._waiting.pop(content, [])

    def fail(self, failure: Failure, *, is_of_content: bool) -> list[Done]:
        """Note that a file failed; return the copies that waited for it, if it was an owner.

        Args:
            failure: Which file, and why.
            is_of_content: Whether the same bytes end in the same way wherever they are.
        """
        content = self._owned.pop(failure.item, None)
        if content is None:
            return []
        del self._owner[content]
        if is_of_content:
            self._failed[content] = failure
        return self._waiting.pop(content, [])
