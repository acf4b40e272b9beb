"""The engine under test: a real store of the made-up library, built and asked as people do.

It is asked through `soundalike.open`, so that its times are those of whole answers: with the paths
and tags of each hit, and whether the store has changed since.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from search_data import DIMENSION, FILTERS, TAGS, THRESHOLD, Array, Data, Filter
from search_peers import build_cost

import soundalike
from indexer.arrays import ID_DTYPE
from indexer.paths import path_id
from indexer.store.creation import create_store, library_at
from indexer.store.head import Head
from indexer.store.lock import sole_writer
from indexer.store.reader import Store
from indexer.store.schema import NUM_TAGS, Identity, LedgerRow, Origin
from indexer.store.snapshot import Block, WindowTable
from indexer.store.writer import PartWriter
from indexer.tags import TagVocabulary
from indexer.windows import WINDOW_SAMPLES, Window
from search.asking.opened import OpenedStore
from search.asking.scope import Scope
from search.asking.terms import Terms
from search.nearest.index import Neighbours
from search.upkeep.build import build

_RECORDING_WINDOWS = 5
_IDENTITY = Identity("0" * 64, "made-up", "made-up", frames="none")
_ORIGIN = Origin("cpu", "fp32", {}, "2026-01-01T00:00:00+00:00")


class Ours:
    """A store with its index, which chooses the effort."""

    module = "soundalike"
    note = "disk: vectors, all 527 tags and ids as well; the store itself comes on top"

    def __init__(self, folder: Path, data: Data) -> None:
        self._folder = folder
        self._path = folder / "made-up.soundalike"
        self._data = data
        self._terms = [_terms(one, data.k) for one in FILTERS]

    @property
    def _ids_path(self) -> Path:
        return self._folder / "window_ids.npy"

    def write(self) -> None:
        """Write the library as a store, unless it is there."""
        if not self._ids_path.exists():
            shutil.rmtree(self._path, ignore_errors=True)
            np.save(self._ids_path, write_store(self._path, self._data))

    def build(self) -> dict[str, float]:
        return build_cost(lambda: build(Store.open(self._path)))

    def forget(self) -> None:
        """Delete the index; the store, which is the data, stays."""
        shutil.rmtree(self._path / "index", ignore_errors=True)

    def files(self) -> list[Path]:
        return [self._path / "index"]

    def prepare(self) -> None:
        ids = np.load(self._ids_path)
        self._order = np.argsort(ids)
        self._sorted_ids = ids[self._order]

    def open(self) -> None:
        self._sounds = soundalike.open(self._path)

    def efforts(self, share: float) -> Sequence[None]:
        return [None]

    def query(self, vector: Array, number: int, effort: None) -> Any:
        return self._sounds.search(vector, terms=self._terms[number])

    def rows(self, answer: Any) -> Array:
        """Return the library's rows of an answer; not timed, as only the benchmark asks."""
        ids = np.array([hit.window_id for hit in answer], np.int64)
        return self._order[np.searchsorted(self._sorted_ids, ids)]

    def plan(self, answer: Any, effort: None) -> str:
        return answer.steps[0].plan.name

    def batch(self, vectors: Array, effort: None) -> None:
        self._sounds.search_many(list(vectors), terms=self._terms[0])


class OursRows(Ours):
    """The index of the same store alone: a filter, and rows with their scores, as the peers give.

    What `Sounds` adds are paths and tags of the hits, and a look whether the store has changed.
    """

    note = "the index alone: rows and scores, no paths, tags or hits"

    def __init__(self, folder: Path, data: Data) -> None:
        super().__init__(folder.parent / "ours", data)

    def forget(self) -> None:
        """Keep the index: it is that of the other."""

    def open(self) -> None:
        self._opened = OpenedStore.at(self._path)

    def query(self, vector: Array, number: int, effort: None) -> Neighbours:
        terms = self._terms[number]
        (matching,) = Scope.of(terms, [self._opened]).matching
        return matching.search(vector[None], terms.k)()

    def rows(self, answer: Neighbours) -> Array:
        ids = self._opened.generation.window_ids(answer.rows)
        return self._order[np.searchsorted(self._sorted_ids, ids)]

    def plan(self, answer: Neighbours, effort: None) -> str:
        return answer.plan.name

    def batch(self, vectors: Array, effort: None) -> None:
        self._opened.index.search_many(vectors, self._terms[0].k)


def _terms(condition: Filter, k: int) -> Terms:
    names = list(TAGS)
    all_of, any_of, none_of = (tuple(names[tag] for tag in tags) for tags in condition[1:])
    return Terms(k=k, tags=all_of, any_tags=any_of, not_tags=none_of, threshold=THRESHOLD)


def write_store(path: Path, data: Data) -> Array:
    """Write the library as a store, and return the window id of each row."""
    return write_rows(path, data.num_windows, _with_all_tags(data))


def _with_all_tags(data: Data) -> Iterator[tuple[int, Array, Array]]:
    """Yield first row, vectors, and (n, 527) probabilities of all tags."""
    vocabulary = TagVocabulary.audioset()
    columns = [vocabulary.outputs(vocabulary.resolve(name))[0] for name in TAGS]
    for first, vectors, probabilities in data.blocks():
        # What the model hears faintly nearly everywhere.
        tags = np.random.default_rng(first).random((len(vectors), NUM_TAGS), np.float32)
        tags = (0.1 * tags**8).astype(np.float16)
        tags[:, columns] = probabilities.T
        yield first, vectors, tags


def write_rows(path: Path, num_windows: int, blocks: Iterable[tuple[int, Array, Array]]) -> Array:
    """Write a store of first rows, vectors and tags, and return the window id of each row."""
    head = Head(
        np.zeros((NUM_TAGS, DIMENSION), np.float32),
        np.zeros(NUM_TAGS, np.float32),
        np.ones(DIMENSION, np.float32),
        np.zeros(DIMENSION, np.float32),
    )
    store = create_store(path, _IDENTITY, head, checkpoint="made-up", written_by="bench_search")
    library = library_at(store, path.parent / "sounds")
    ids = np.empty(num_windows, np.int64)
    with sole_writer(store.path), PartWriter(store, _ORIGIN) as writer:
        for first, vectors, tags in blocks:
            windows = _windows(first, len(vectors))
            table = _table(windows)
            ids[first : first + len(vectors)] = table.window_id
            writer.add_windows(Block(table, vectors, tags), None)
            recordings = dict.fromkeys(window.recording_id for window in windows)
            writer.add_ledger([_ledger_row(library, recording) for recording in recordings])
            writer.commit()
    return ids


def _windows(first: int, count: int) -> list[Window]:
    windows = []
    for row in range(first, first + count):
        recording, number = divmod(row, _RECORDING_WINDOWS)
        digest = hashlib.blake2b(recording.to_bytes(8, "little"), digest_size=16).digest()
        windows.append(Window(digest, number * WINDOW_SAMPLES, WINDOW_SAMPLES))
    return windows


def _table(windows: Sequence[Window]) -> WindowTable:
    return WindowTable(
        np.array([window.window_id for window in windows], np.int64),
        np.array([window.recording_id for window in windows], ID_DTYPE),
        np.array([window.start_sample for window in windows], np.int64),
        np.array([window.num_samples for window in windows], np.int32),
    )


def _ledger_row(library: str, recording: bytes) -> LedgerRow:
    path = f"{recording.hex()}.wav"
    return LedgerRow(
        path_id=path_id(library, path),
        library_id=library,
        path=path,
        size=1000,
        mtime_ns=1,
        status="ok",
        recording_id=recording,
        num_samples=_RECORDING_WINDOWS * WINDOW_SAMPLES,
    )
