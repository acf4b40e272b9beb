"""Where many questions come from: the windows of stores, and audio files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import Integers, Mask, id_bytes
from indexer.audio.content import exists
from indexer.audio.times import FileSpan, file_span
from indexer.errors import QueryError
from indexer.library.packs import is_pack
from indexer.library.walk import walk
from indexer.paths import address_of, as_place, local_path
from indexer.store.schema import STORE_FILE
from indexer.windows import SAMPLE_RATE_HZ
from search.asking.example import Example
from search.asking.find import Question
from search.asking.left_out import LeftOut
from search.asking.levels import is_silent
from search.asking.locate import patterns_of
from search.asking.opened import OpenedStore
from search.generation.recordings import path_text

#: Whether each window asks on its own, or all windows of a clip together.
Per = Literal["window", "clip"]
#: Windows of audio that are collected before they are asked about.
_HEARD_WINDOWS = 256


class Asking(NamedTuple):
    """Questions, and who asks them.

    Attributes:
        questions: n of them.
        window_ids: (n,) int64 Arrow array; null for audio that is in no store, and for clips.
        paths: (n,) Arrow array of strings, as `path_text` writes them.
        start_s: (n,) float64, in seconds.
        end_s: (n,) float64, in seconds.
    """

    questions: list[Question]
    window_ids: pa.Array
    paths: pa.Array
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]

    def split(self, size: int) -> Iterator[Asking]:
        """Yield the same, at most `size` questions at a time."""
        for first in range(0, len(self.questions), size):
            at = slice(first, first + size)
            yield Asking(*(column[at] for column in self))  # type: ignore[arg-type]


@dataclass(slots=True)
class Sources:
    """What asks.

    Attributes:
        stores: Each of their windows, or recordings, is a question.
        files: Each window of these audio files, or parts of them, is one, or each of them.
        failures: A line for each folder that could not be listed, or file that could not be read.
    """

    stores: list[OpenedStore] = field(default_factory=list)
    files: list[FileSpan] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def num_steps(self) -> int:
        """Windows of stores, and files."""
        return sum(one.generation.num_windows for one in self.stores) + len(self.files)


def find_sources(places: Sequence[Path], asked: OpenedStore) -> Sources:
    """Tell stores, folders of audio and audio files apart, and list the files.

    Args:
        places: Paths of any of these kinds; "hour.wav@31:10-31:13" is a part of a file.
        asked: A store that will be asked; the others must have been computed the same way.

    Raises:
        QueryError: If there is nothing at a path.
        LibraryError: If a folder has no audio in it.
        StoreError: If a store has no index yet.
        IdentityError: If a store was computed in another way.
    """
    sources = Sources()
    for path in map(as_place, places):
        if (path / STORE_FILE).is_file():
            sources.stores.append(asked.beside(path))
        elif path.is_dir() or is_pack(path):
            found = walk(path)
            sources.files += [FileSpan(found.root / local_path(one.path)) for one in found.files]
            sources.failures += [f"{found.root / place}: {why}" for place, why in found.unreadable]
        elif exists((part := file_span(path)).file):
            sources.files.append(part._replace(file=part.file.absolute()))
        elif address_of(path):  # nothing has the very name, but there may be objects below it
            sources.files += [FileSpan(one.local(path)) for one in walk(path).files]
        else:
            raise QueryError(f"nothing at {path}; a query is audio, a folder of it, or a store")
    return sources


def ask_with_stored(
    opened: OpenedStore, per: Per, num_rows: int, advance: Callable[[int], None]
) -> Iterator[Asking]:
    """Ask with the live windows of a store in the order of their paths, or with its recordings.

    Args:
        opened: The store.
        per: Whether each window asks, or each recording with all of its windows.
        num_rows: Windows in a block, at most; a longer recording is a block of its own.
        advance: Called after a block was dealt with, with its windows.
    """
    rows, ends = _grouped(opened, per)
    first = 0
    while first < len(ends):
        begin = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, begin + num_rows, "right")))
        yield _of_rows(opened, rows[begin : ends[last - 1]], ends[first:last] - begin, per)
        advance(int(ends[last - 1]) - begin)
        first = last


def _grouped(opened: OpenedStore, per: Per) -> tuple[Integers, Integers]:
    """Return (n,) live rows, and where the rows of each question end among them."""
    rows = opened.generation.live_rows()
    ids = opened.generation.recording_ids(rows)
    distinct, which = np.unique(ids, return_inverse=True)
    by_path = pc.rank(opened.places.first_paths(distinct), tiebreaker="first").to_numpy()
    order = np.lexsort((opened.generation.column("start_sample", rows), by_path[which]))
    rows, ids = rows[order], ids[order]
    if per == "window":
        return rows, np.arange(1, len(rows) + 1)
    return rows, np.flatnonzero(np.append(ids[1:] != ids[:-1], True)[: len(ids)]) + 1


def _of_rows(opened: OpenedStore, rows: Integers, ends: Integers, per: Per) -> Asking:
    generation = opened.generation
    vectors, windows, tags = (
        generation.vectors(rows),
        generation.windows(rows),
        generation.tags(rows),
    )
    starts = np.append(0, ends[:-1])
    recordings, patterns = windows.recording_id[starts], patterns_of(opened, rows)
    levels = generation.column("level_db", rows)
    questions = [
        Question(
            vectors[start:end],
            frozenset((LeftOut(id_bytes(recording)),)),
            tags[start:end],
            patterns=patterns[start:end],
            is_silent=is_silent(levels[start:end]),
        )
        for start, end, recording in zip(starts.tolist(), ends.tolist(), recordings, strict=True)
    ]
    stops = windows.start_sample + windows.num_samples
    ids = pa.array(windows.window_id) if per == "window" else pa.nulls(len(ends), pa.int64())
    return Asking(
        questions=questions,
        window_ids=ids,
        paths=opened.places.first_paths(recordings),
        start_s=np.minimum.reduceat(windows.start_sample, starts) / SAMPLE_RATE_HZ,
        end_s=np.maximum.reduceat(stops, starts) / SAMPLE_RATE_HZ,
    )


def ask_with_audio(
    sources: Sources, per: Per, hear: Callable[[FileSpan], Example], advance: Callable[[int], None]
) -> Iterator[Asking]:
    """Ask with the audio files; what cannot be read is added to the failures.

    Args:
        sources: Whose files are read.
        per: Whether each window asks, or each file with all of its windows.
        hear: Makes an example of a file.
        advance: Called after every file, with 1.
    """
    heard: list[tuple[FileSpan, Example]] = []
    for file in sources.files:
        try:
            heard.append((file, hear(file)))
        except QueryError as error:
            sources.failures.append(str(error))
        if sum(len(one.windows) for _, one in heard) >= _HEARD_WINDOWS:
            yield _of_examples(heard, per)
            heard = []
        advance(1)
    if heard:
        yield _of_examples(heard, per)


def _of_examples(heard: Sequence[tuple[FileSpan, Example]], per: Per) -> Asking:
    parts = [
        (file, one, part)
        for file, one in heard
        for part in (
            [slice(None)]
            if per == "clip"
            else [slice(at, at + 1) for at in range(len(one.windows))]
        )
    ]
    return Asking(
        questions=[
            _question(file, one, one.asks if per == "clip" else part) for file, one, part in parts
        ],
        window_ids=pa.nulls(len(parts), pa.int64()),
        paths=pa.array([path_text(file.file) for file, _, _ in parts], pa.string()),
        start_s=np.array([one.windows[part][0].start_s for _, one, part in parts]),
        end_s=np.array([one.windows[part][-1].end_s for _, one, part in parts]),
    )


def _question(file: FileSpan, example: Example, which: Mask | slice) -> Question:
    asking = example.asking(which)
    own = frozenset((LeftOut.of_file(example.recording_id, file),))
    return Question(
        asking.vectors,
        own,
        asking.tags,
        patterns=asking.patterns,
        is_silent=asking.is_silent,
    )
