"""Shards of a library: which of its files one of several processes reads, on any machines."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple, Self

from indexer.errors import QueryError
from indexer.library.files import FileList
from indexer.library.walk import Walk
from indexer.paths import share_of

#: More shards than any scheduler starts at once; a number beyond is a mistake.
MOST_SHARDS = 100_000

_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})")


def is_folder_name(name: str) -> bool:
    """Whether a folder of that name is that of a shard, see `Shard.folder_name`."""
    return re.fullmatch(r"shard-\d{1,6}-of-[1-9]\d{0,5}", name) is not None


class Shard(NamedTuple):
    """One of several shares of a library.

    Which share a file is in follows from its path alone, so that every file is in one and the same
    share for all, though each walks the library itself, and it changes meanwhile. Copies of a file
    may be in several.

    Attributes:
        number: From 1 on.
        total: How many there are.
    """

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a shard as people write it: "3/16" is the third of sixteen.

        Raises:
            QueryError: If it is none.
        """
        found = _SHARD.fullmatch(text) if isinstance(text, str) else None
        shard = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.total <= MOST_SHARDS:
            raise QueryError(
                f"a shard is its number and how many there are, as in 3/16, of at most "
                f"{MOST_SHARDS:,}; got {text!r}",
                about="shard",
            )
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    @property
    def folder_name(self) -> str:
        """What its folder is called: names sort as the numbers do."""
        return f"shard-{self.number:0{len(str(self.total))}d}-of-{self.total}"

    def of(self, found: Walk) -> Walk:
        """Return what of a library is in this shard.

        It says nothing of what is gone: who has the whole library in view can tell that.
        """
        return replace(
            found,
            files=FileList(file for file in found.files if self._has(file.path)),
            hidden=FileList(file for file in found.hidden if self._has(file.path)),
            unreadable=[one for one in found.unreadable if self._has(one[0])],
            is_complete=False,
        )

    def _has(self, path: str) -> bool:
        return share_of(path, self.total) == self.number - 1
