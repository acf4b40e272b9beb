"""A store in shards: processes go through some of its segments each.

A shard is a range of the segments of one generation. Whoever asks has the whole generation open as
well, reads there what is known of the hits, and merges what the shards find, see `merged`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from indexer.arrays import Integers
from indexer.errors import DamagedStoreError, StoreError
from indexer.store.verify import digest_problems
from search.asking.left_out import AllLeftOut
from search.asking.matching import MatchingHere
from search.asking.opened import OpenedStore
from search.filters.tags import Condition
from search.generation.frames import places_file
from search.generation.manifest import GENERATION_FILE, Manifest, digests, mended_by_building
from search.generation.segments import (
    INDEX_FOLDER,
    Generation,
    alive_file,
    recordings_file,
)
from search.nearest.structure import open_index

#: Which rows match is kept of so many of the last questions: of each a byte a row. One question
#: asks for them three times or more.
_NUM_KEPT = 8

T = TypeVar("T")
#: What is asked of the rows of a shard, there: a function that another process can import.
Ask = Callable[[MatchingHere], T]


class Piece(NamedTuple):
    """What a shard has: some segments of a generation.

    Attributes:
        store: Folder of the store.
        generation: Name of the generation.
        first: Number of the first of its segments.
        end: Number of the first that is not one of its own.
    """

    store: Path
    generation: str
    first: int
    end: int


class Chosen(NamedTuple):
    """Which rows are asked, as a shard is told.

    Attributes:
        condition: They match it; None for all that are alive.
        key: Digest of the condition, by which a shard knows it again.
        is_heard: Whether those in which nothing is heard are no part of them.
        own: What overlaps it is no part of them.
        num_bytes: How large the condition is, pickled.
    """

    condition: Condition | None
    key: bytes
    is_heard: bool = False
    own: AllLeftOut = frozenset()
    num_bytes: int = 0


class Shard:
    """Some segments of a generation, open in the process that goes through them."""

    def __init__(self, piece: Piece) -> None:
        """Open them, of this generation and no other.

        Raises:
            StoreError: If it is not there, or not as it was written.
        """
        try:
            self._index = open_index(_open(piece))
        except DamagedStoreError as error:
            raise mended_by_building(piece.store, error) from error
        self._kept: OrderedDict[tuple[bytes, bool, AllLeftOut], MatchingHere] = OrderedDict()

    def ask(self, chosen: Chosen, ask: Ask[T]) -> T:
        """Return what is asked of some rows."""
        return ask(self._matching(chosen))

    def _matching(self, chosen: Chosen) -> MatchingHere:
        key = chosen.key, chosen.is_heard, chosen.own
        found = self._kept.get(key)
        if found is None:
            if chosen.own:
                found = self._matching(chosen._replace(own=frozenset())).without(chosen.own)
            elif chosen.is_heard:
                found = self._matching(chosen._replace(is_heard=False)).heard()
            else:
                found = MatchingHere.of(self._index, chosen.condition)
        self._kept[key] = found
        self._kept.move_to_end(key)
        while len(self._kept) > _NUM_KEPT:
            self._kept.popitem(last=False)
        return found


def _open(piece: Piece) -> Generation:
    """Open some segments as a generation of their own, whose rows begin with theirs."""
    folder = piece.store / INDEX_FOLDER / piece.generation
    if not folder.is_dir():
        raise StoreError(
            f"{folder} is not there: the index was built anew meanwhile, or the disk of the store "
            f"is not on this machine"
        )
    manifest = Manifest.read(folder / GENERATION_FILE)
    segments = manifest.segments
    others = {
        file(folder, entry.name).name
        for entry in (*segments[: piece.first], *segments[piece.end :])
        for file in (alive_file, recordings_file)
    }
    others |= {places_file(folder, entry.name).name for entry in segments}  # no frames are read
    files = {name: one for name, one in manifest.files.items() if name not in others}
    for problem in digest_problems(folder, digests(files)):
        raise DamagedStoreError(problem.path, problem.reason, problem.remedy)
    some = replace(manifest, segments=segments[piece.first : piece.end], files=files)
    opened = Generation.of_manifest(folder, some)
    num_windows = sum(int(np.count_nonzero(one.alive)) for one in opened.segments)
    return replace(opened, num_windows=num_windows)


def cut(opened: Sequence[OpenedStore], number: int) -> list[list[Piece]]:
    """Cut stores into about so many pieces with about as many rows: at least one of each store.

    Args:
        opened: The stores.
        number: How many pieces are wanted, of all stores together.

    Returns:
        The pieces of each store, in order: no more than it has segments.
    """
    ends = np.cumsum([one.generation.starts[-1] for one in opened])
    shares = np.diff(np.round(number * ends / max(1, ends[-1])), prepend=0).astype(int)
    return [
        [
            Piece(one.store.path.absolute(), one.generation.path.name, first, end)
            for first, end in _cut(one.generation.starts, max(1, share))
        ]
        for one, share in zip(opened, shares.tolist(), strict=True)
    ]


def _cut(starts: Integers, number: int) -> list[tuple[int, int]]:
    """Return first and end of so many ranges of segments, or of as many as there are segments."""
    num_segments = len(starts) - 1
    number = min(number, num_segments)
    bounds = [0]
    for at in range(1, number):
        wanted = starts[-1] * at / number
        nearest = int(np.abs(starts - wanted).argmin())
        bounds.append(min(max(nearest, bounds[-1] + 1), num_segments - number + at))
    return list(zip(bounds, [*bounds[1:], num_segments], strict=True)) if number else []
