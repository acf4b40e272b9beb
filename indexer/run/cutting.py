"""Cutting the files of a run into shards: small ones first, then of some minutes, at the end small.

Nothing is cut before somebody is there to embed it: how much a worker does in a minute is known
only then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from indexer.arrays import Integers
from indexer.library.files import FileList

#: What a shard is to take a worker, in seconds: it is lost with the worker, and begins with reading
#: the ledger of the store, which takes seconds for millions of files.
SHARD_S = 180.0
#: And towards the end, at least; shorter ones would be made of that beginning alone.
LEAST_S = 10.0
#: Size of a shard while nobody knows how fast workers are: six minutes of a compact disc.
FIRST_BYTES = 64 << 20
#: Files in a shard, at most: the list of them is sent to its worker, 100 bytes each or so.
MOST_FILES = 20_000
#: What a file costs beside its bytes: to open it takes about as long as to read as many.
_FILE_BYTES = 1 << 16
#: Each shard is this share of what every worker has left to do, at most, so that all end together.
_SHARES = 2


@dataclass(slots=True, eq=False)
class Shard:
    """Files that one worker is given at a time.

    Attributes:
        number: From 0 on, in the order of cutting.
        files: In reading order.
        num_bytes: Of them, see `weights`.
        attempt: How often it was given to a worker.
        num_deaths: How often that worker died, and its machine did not.
    """

    number: int
    files: FileList
    num_bytes: int
    attempt: int = 0
    num_deaths: int = 0

    @property
    def folder_name(self) -> str:
        """What its folder is called; another one for each attempt."""
        return f"{self.number:06d}-{self.attempt}"


class Cutter:
    """Cuts a list of files, from its beginning to its end.

    Attributes:
        num_bytes: Of all files.
        bytes_left: Of those that are in no shard yet.
    """

    def __init__(self, files: FileList) -> None:
        """Prepare; nothing is cut yet."""
        self._files = files
        self._at = self._number = 0
        self._weights = weights(files)
        self.num_bytes = self.bytes_left = int(self._weights.sum())
        self._bytes = self._seconds = 0.0  # of shards that are done

    @property
    def files_left(self) -> int:
        """How many files are in no shard yet."""
        return len(self._files) - self._at

    def learn(self, shard: Shard, seconds: float) -> None:
        """Note how long a worker took for a shard."""
        self._bytes += shard.num_bytes
        self._seconds += seconds

    def next(self, num_workers: int) -> Shard | None:
        """Return the files that come next, at least one; None if there are no more.

        Args:
            num_workers: That share what is left.
        """
        if not self.files_left:
            return None
        ends = np.cumsum(self._weights[self._at : self._at + MOST_FILES])
        count = max(int(np.searchsorted(ends, self._size(num_workers), "right")), 1)
        shard = self._shard(self._at, self._at + count)
        self._at += count
        self.bytes_left -= shard.num_bytes
        return shard

    def halve(self, shard: Shard) -> list[Shard]:
        """Return both halves of a shard of several files; each counts as one death, and no more."""
        files, middle = list(shard.files), len(shard.files) // 2
        halves = [self._of(FileList(files[:middle])), self._of(FileList(files[middle:]))]
        for half in halves:
            half.num_deaths = 1
        return halves

    def _size(self, num_workers: int) -> float:
        share = self.bytes_left / (_SHARES * max(num_workers, 1))
        if not self._seconds:
            return min(FIRST_BYTES, share)
        speed = self._bytes / self._seconds
        return min(speed * SHARD_S, max(share, speed * LEAST_S))

    def _shard(self, begin: int, end: int) -> Shard:
        return self._of(FileList(self._files[at] for at in range(begin, end)))

    def _of(self, files: FileList) -> Shard:
        self._number += 1
        return Shard(self._number - 1, files, int(weights(files).sum()))


def weights(files: FileList) -> Integers:
    """Return (num_files,) int64: bytes of each, and what it takes to open it."""
    return files.sizes + _FILE_BYTES
