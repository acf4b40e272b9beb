"""What was asked, for those who tell of it: clips, windows, vectors and words, and the terms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from indexer.audio.times import FileSpan
from indexer.windows import Window
from search.asking.terms import Terms


class GivenWindow(NamedTuple):
    """A window of a store that asks.

    Attributes:
        window_id: Its id.
        paths: All places of its recording, as in `Hit`.
        start_s: Where it begins in that, in seconds.
        end_s: Where it ends, in seconds.
    """

    window_id: int
    paths: tuple[Path, ...]
    start_s: float
    end_s: float

    @classmethod
    def each(
        cls, window_ids: Iterable[int], windows: Iterable[Window], paths: Iterable[tuple[Path, ...]]
    ) -> Iterator[Self]:
        """Yield some windows, of which the ids, the spans and the paths are known."""
        for window_id, window, places in zip(window_ids, windows, paths, strict=True):
            yield cls(window_id, places, window.start_s, window.end_s)


class GivenVectors(NamedTuple):
    """Vectors of a user that ask, of which nothing else is known."""

    number: int


#: What was given: a file or a part of it, a window, vectors, or words.
Named = FileSpan | GivenWindow | GivenVectors | str


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it was asked.

    Attributes:
        like: What hits are to be like; nothing asks by the terms alone.
        unlike: What they are not to be like.
        terms: What counts as a hit.
    """

    like: tuple[Named, ...]
    unlike: tuple[Named, ...]
    terms: Terms
