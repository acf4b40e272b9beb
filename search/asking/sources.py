"""Where the questions of a batch come from: the windows of stores, and audio files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import ID_DTYPE, Float32, Ids, id_bytes
from indexer.errors import QueryError
from indexer.paths import local_path, text_from_bytes
from indexer.store.reader import STORE_FILE
from indexer.store.schema import Identity
from indexer.windows import SAMPLE_RATE_HZ
from search.asking.opened import OpenedStore
from search.nearest.bulk import live_rows

if TYPE_CHECKING:  # torch takes seconds to import; stores do not need it
    from indexer.embedding.extractor import Extractor
    from search.asking.embed import Clip

#: Windows of audio that are collected before they are asked about.
_HEARD_WINDOWS = 256


class Queries(NamedTuple):
    """Questions, one for each window.

    Attributes:
        vectors: (n, 768) float32 of length 1.
        window_ids: (n,) int64 Arrow array; null for audio that is in no store.
        recording_ids: (n,) 16-byte ids.
        paths: (n,) Arrow array of strings, as `first_paths` gives them.
        start_s: (n,) float64, in seconds.
        end_s: (n,) float64, in seconds.
    """

    vectors: Float32
    window_ids: pa.Array
    recording_ids: Ids
    paths: pa.Array
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]

    def take(self, at: Any) -> Queries:
        """Return some of the questions."""
        return Queries(*(column[at] for column in self))


@dataclass(slots=True)
class Sources:
    """What asks.

    Attributes:
        stores: Each of their windows is a query.
        files: Each window of these audio files is one.
        failures: A line for each folder that could not be listed, or file that could not be read.
    """

    stores: list[OpenedStore] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def num_steps(self) -> int:
        """Windows of stores, and files."""
        return sum(one.generation.num_windows for one in self.stores) + len(self.files)


def find_sources(places: Sequence[Path], asked: OpenedStore) -> Sources:
    """Tell stores, folders of audio and audio files apart, and list the files.

    Args:
        places: Paths of any of these kinds.
        asked: The store that will be asked; the others must have been computed the same way.

    Raises:
        QueryError: If there is nothing at a path.
        LibraryError: If a folder has no audio in it.
        StoreError: If a store has no index yet.
        IdentityError: If a store was computed in another way.
    """
    sources = Sources()
    for path in places:
        if (path / STORE_FILE).is_file():
            sources.stores.append(asked.beside(path))
        elif path.is_dir():
            from indexer.library.walk import walk  # noqa: PLC0415 - it imports torch

            found = walk(path)
            sources.files += [found.root / local_path(file.path) for file in found.files]
            sources.failures += [f"{found.root / place}: {why}" for place, why in found.unreadable]
        elif path.exists():
            sources.files.append(path.absolute())
        else:
            raise QueryError(f"nothing at {path}; a query is audio, a folder of it, or a store")
    return sources


def stored_queries(
    opened: OpenedStore, num_rows: int, advance: Callable[[int], None]
) -> Iterator[Queries]:
    """Ask with each live window of a store, in the order of its index.

    Args:
        opened: The store.
        num_rows: Windows in a block, at most.
        advance: Called after a block was dealt with, with its length.
    """
    rows = live_rows(opened.generation)
    for first in range(0, len(rows), num_rows):
        block = rows[first : first + num_rows]
        windows = opened.generation.windows(block)
        yield Queries(
            vectors=opened.generation.vectors(block),
            window_ids=pa.array(windows.window_id),
            recording_ids=windows.recording_id,
            paths=named(opened, windows.recording_id)[1],
            start_s=windows.start_sample / SAMPLE_RATE_HZ,
            end_s=(windows.start_sample + windows.num_samples) / SAMPLE_RATE_HZ,
        )
        advance(len(block))


def heard_queries(
    sources: Sources, extractor: Extractor, identity: Identity, advance: Callable[[int], None]
) -> Iterator[Queries]:
    """Ask with each window of each audio file; what cannot be read is added to the failures.

    Args:
        sources: Whose files are read.
        extractor: Of the store's checkpoint.
        identity: Of the store.
        advance: Called after every file, with 1.
    """
    from search.asking.embed import embed_clip  # noqa: PLC0415 - it imports torch

    clips: list[tuple[Path, Clip]] = []
    for file in sources.files:
        try:
            clips.append((file, embed_clip(file, extractor, identity)))
        except QueryError as error:
            sources.failures.append(str(error))
        if sum(len(clip.windows) for _, clip in clips) >= _HEARD_WINDOWS:
            yield _of_clips(clips)
            clips = []
        advance(1)
    if clips:
        yield _of_clips(clips)


def _of_clips(clips: Sequence[tuple[Path, Clip]]) -> Queries:
    windows = [window for _, clip in clips for window in clip.windows]
    paths = [text_of(file) for file, clip in clips for _ in clip.windows]
    return Queries(
        vectors=np.concatenate([clip.vectors for _, clip in clips]),
        window_ids=pa.nulls(len(windows), pa.int64()),
        recording_ids=np.array([window.recording_id for window in windows], ID_DTYPE),
        paths=pa.array(paths, pa.string()),
        start_s=np.array([window.start_s for window in windows]),
        end_s=np.array([window.end_s for window in windows]),
    )


def named(opened: OpenedStore, recording_ids: Ids) -> tuple[pa.Array, pa.Array]:
    """Return the ids of recordings in hex, and the first place of each.

    Each recording is looked up once, however many rows it has.

    Args:
        opened: A store that has the recordings.
        recording_ids: (n,) ids.

    Returns:
        Two (n,) Arrow arrays of strings; paths as `text_of` writes them.
    """
    distinct, which = np.unique(recording_ids, return_inverse=True)
    recordings = opened.generation.recordings
    places = recordings.table.take(pa.array(recordings.first_rows(distinct)))
    libraries = places["library_id"].combine_chunks().dictionary_encode()
    roots = [
        text_of(opened.roots.get(library_id, Path(f"(library {library_id})"))).rstrip("/")
        for library_id in libraries.dictionary.to_pylist()
    ]
    of_each = pa.array(roots, pa.string()).take(libraries.indices)
    paths = pc.binary_join_element_wise(of_each, places["path"].combine_chunks(), "/")
    in_hex = pa.array([id_bytes(one).hex() for one in distinct], pa.string())
    return in_hex.take(pa.array(which)), paths.take(pa.array(which))


def text_of(path: Path) -> str:
    r"""Return a path as text: bytes that are not UTF-8, and the backslash, as `\xNN`."""
    return text_from_bytes(os.fsencode(path))
