"""Files of one content: the first that brings it is embedded, the others share its fate."""

from __future__ import annotations

import numpy as np

from indexer.dataset import Done, Failure
from indexer.store.ledger import ID_DTYPE, Ids, contains

#: Contents that are held in a set before they are merged into a sorted array, 16 bytes each.
_MAX_RECENT = 1 << 16


class Copies:
    """Who is embedded for whom, while files are read in no particular order."""

    def __init__(self) -> None:
        self._finished: Ids = np.empty(0, ID_DTYPE)
        self._recent: set[bytes] = set()  # finished as well, not merged yet
        self._owner: dict[bytes, int] = {}
        self._waiting: dict[bytes, list[Done]] = {}
        self._failed: dict[bytes, Failure] = {}

    def owns(self, content: bytes, item: int) -> bool:
        """Whether a file is the one to embed for its content; it is if nobody was before."""
        return not self.is_finished(content) and self._owner.setdefault(content, item) == item

    def is_finished(self, content: bytes) -> bool:
        """Whether the whole of a content has been embedded."""
        if content in self._recent:
            return True
        return bool(contains(self._finished, np.array([content], ID_DTYPE))[0])

    def wait(self, content: bytes, copy: Done) -> None:
        """Keep the word of a copy until it is known what became of the content's owner."""
        self._waiting.setdefault(content, []).append(copy)

    def finish(self, content: bytes) -> list[Done]:
        """Note that a content was embedded; return the copies that waited for it."""
        self._recent.add(content)
        if len(self._recent) >= _MAX_RECENT:
            self._finished = np.union1d(self._finished, np.array(list(self._recent), ID_DTYPE))
            self._recent.clear()
        return self.give_up(content)

    def fail(self, content: bytes, failure: Failure) -> list[Done]:
        """Note that nobody can embed a content; return the copies that waited for it."""
        self._failed[content] = failure
        return self._waiting.pop(content, [])

    def failure(self, content: bytes) -> Failure | None:
        """Return why a content cannot be embedded, if it was tried."""
        return self._failed.get(content)

    def give_up(self, content: bytes) -> list[Done]:
        """Note that an owner failed where a copy may not; return those that waited for it."""
        self._owner.pop(content, None)
        return self._waiting.pop(content, [])
