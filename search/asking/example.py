"""An example clip as a question sees it, and what tells that a store has heard it before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16, Float32, Mask
from indexer.audio.content import asked_with, recording_digest
from indexer.errors import QueryError
from indexer.windows import Decibels, Window
from search.asking.levels import SILENT_BELOW_DB, is_silent, which_ask
from search.asking.locate import Pattern, stored_patterns
from search.asking.sound_index import SoundIndex

Patterns = tuple[Pattern | None, ...]

#: What cannot be read is told of so many files.
_SHOWN = 3


def recording_of(file: Path) -> bytes:
    """Return the digest of a file's bytes, which is the id of its recording.

    Raises:
        QueryError: If the file is not there or cannot be read.
    """
    with asked_with(file):
        return recording_digest(file)


def nothing_heard(failures: Sequence[str]) -> QueryError:
    """Return the error for a question whose files can all not be read.

    Args:
        failures: A line for each of them.
    """
    if len(failures) == 1:
        return QueryError(failures[0])
    more = f"; and {len(failures) - _SHOWN:,} more" if len(failures) > _SHOWN else ""
    return QueryError(
        f"none of {len(failures):,} that ask can be read: {'; '.join(failures[:_SHOWN])}{more}"
    )


class Louder(NamedTuple):
    """What a quiet clip asks with at full scale.

    Attributes:
        vectors: (n, 768) float32 of length 1, one for each of its windows.
        tags: (n, 527) probabilities of what is heard in each.
        by_db: How much louder that is, in dB.
        patterns: n of them: what is looked for inside windows.
    """

    vectors: Float32
    tags: Float32
    by_db: float
    patterns: Patterns = ()


class Asking(NamedTuple):
    """What asks, a line for each vector.

    Attributes:
        vectors: (q, 768) float32 of length 1.
        tags: (q, 527) probabilities; None of vectors of a user.
        starts_s: (q,) where its window begins in its file, in seconds; NaN of vectors of a user.
        patterns: q of them: what is looked for inside windows; None of a window as long as they.
        is_silent: Whether nothing is heard in any of these windows.
    """

    vectors: Float32
    tags: Float16 | Float32 | None
    starts_s: npt.NDArray[np.float64]
    patterns: Patterns
    is_silent: bool

    @classmethod
    def of_vectors(cls, vectors: Float32) -> Self:
        """Return what vectors of a user ask, of which nothing else is known."""
        number = len(vectors)
        return cls(vectors, None, np.full(number, np.nan), (None,) * number, is_silent=False)


class Example(NamedTuple):
    """What an audio file asks with.

    Attributes:
        vectors: (n, 768) float32 of length 1, one for each of its windows.
        recording_id: Digest of the file's bytes, so that the same recording can be left out.
        windows: Where each of them is in the file.
        tags: (n, 527) probabilities of what is heard in each.
        asks: (n,) which of them ask, see `which_ask`.
        levels_db: (n,) the highest peak of each, in dBFS; NaN where it is not known.
        louder: The same at full scale, if it is quiet and asks so, too.
        patterns: n of them: what is looked for inside windows, of windows that are shorter.
    """

    vectors: Float32
    recording_id: bytes
    windows: list[Window]
    tags: Float16 | Float32
    asks: Mask
    levels_db: Decibels
    louder: Louder | None = None
    patterns: Patterns = ()

    def asking(self, which: Mask | slice) -> Asking:
        """Return what asks: some windows, and the same louder, if it asks so, too."""
        at = np.arange(len(self.windows))[which]
        starts_s = np.array([self.windows[one].start_s for one in at])
        vectors, tags = self.vectors[at], self.tags[at].astype(np.float32)
        if self.louder is not None:
            vectors = np.concatenate([vectors, self.louder.vectors[at]])
            tags = np.concatenate([tags, self.louder.tags[at]])
            starts_s = np.tile(starts_s, 2)
        each = [self.patterns, *([self.louder.patterns] if self.louder else [])]
        patterns = tuple(some[one] for some in each for one in at)
        return Asking(vectors, tags, starts_s, patterns, is_silent(self.levels_db[at]))

    def notes(self, name: str) -> Iterator[str]:
        """Say what of it asks, if that is not all of it as it is."""
        if self.louder is not None:
            yield (
                f"{name} is quiet, its peak is {self.louder.by_db:.0f} dB below full scale: asked "
                f"as it is, and louder by so much; the better counts"
            )
        if is_silent(self.levels_db[self.asks]):
            yield f"{name} is silent: what is like it says nothing, but for silence"
        num_silent = int((~self.asks[:-1]).sum())
        if num_silent:
            yield (
                f"{num_silent:,} of {len(self.asks):,} windows of {name} are {SILENT_BELOW_DB:g} "
                f"dB below its loudest or more, and do not ask"
            )
        if not self.asks[-1]:
            rest = self.windows[-1]
            yield (
                f"the last {rest.end_s - rest.start_s:.1f} s of {name} do not ask: less than a "
                f"window, or silence beside the rest"
            )


def find_stored(index: SoundIndex, recording_id: bytes) -> Example | None:
    """Return a recording as an example, if a store holds the whole of it: nothing is embedded then.

    Args:
        index: The stores.
        recording_id: Of the recording.
    """
    stored = index.whole_recording(recording_id)
    if stored is None:
        return None
    vectors, windows, tags, rows = stored
    levels = index.column("level_db", rows)
    asks = which_ask(windows, levels, index.identity.geometry)
    patterns = stored_patterns(index, rows)
    return Example(vectors, recording_id, windows, tags, asks, levels, patterns=patterns)
