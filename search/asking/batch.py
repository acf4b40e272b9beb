"""Thousands of questions to one store, and their answers in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from indexer.arrays import Float32, Integers, Mask
from indexer.errors import QueryError
from indexer.windows import SAMPLE_RATE_HZ
from search.asking.opened import OpenedStore
from search.asking.sources import (
    Queries,
    Sources,
    find_sources,
    heard_queries,
    named,
    stored_queries,
)
from search.asking.tables import Write, require_table, writing_table
from search.filters.tags import TagFilter
from search.nearest.bulk import Nearest, block_size, nearest_rows

#: The table that a batch writes: a row for each hit.
SCHEMA = pa.schema(
    [
        pa.field("query_window_id", pa.int64()),
        pa.field("query_path", pa.string(), nullable=False),
        pa.field("query_start_s", pa.float64(), nullable=False),
        pa.field("query_end_s", pa.float64(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("window_id", pa.int64(), nullable=False),
        pa.field("recording_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
    ]
)
#: Rows fetched beyond k, for windows of the query's own recording.
_SPARE = 8
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What is asked of each window.

    Attributes:
        k: How many hits, at most.
        filter: Which windows may be hits.
        min_score: Hits below it are left out.
        include_self: Whether a query's own recording may be among its hits.
        exact: Whether only exact answers will do, however long they take.
        checkpoint: For audio queries: name or file; None for the one that the store names.
        device: For audio queries: "auto", "cpu", "cuda" or "cuda:N".
    """

    k: int = 10
    filter: TagFilter = field(default_factory=TagFilter)
    min_score: float | None = None
    include_self: bool = False
    exact: bool = False
    checkpoint: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise QueryError(f"k must be at least 1, got {self.k}")
        if self.min_score is not None and np.isnan(self.min_score):
            raise QueryError("the least score is a number, got nan")


@dataclass(slots=True)
class BatchReport:
    """What a batch did.

    Attributes:
        num_queries: Windows that were asked about.
        num_hits: Rows of the table.
        num_new_parts: Parts of the store that its index does not hold yet.
        failures: A line for each file or folder that could not be read.
    """

    num_queries: int = 0
    num_hits: int = 0
    num_new_parts: int = 0
    failures: list[str] = field(default_factory=list)


def run_batch(
    store: Path,
    queries: Sequence[Path],
    output: Path,
    options: BatchOptions | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    show_download: Callable[[int, int | None], None] | None = None,
) -> BatchReport:
    """Ask a store about every window of some audio files or stores, and write down what is found.

    Memory is bounded: windows are asked about in blocks, and each block's hits are written at once.

    Args:
        store: Directory of the store that is asked.
        queries: Audio files, folders of audio, and stores (`store` itself among them).
        output: The table, see `SCHEMA`: .parquet, or .jsonl for JSON lines. It is whole or absent.
        options: What is asked.
        progress: Called with how far the run is, and the total: windows of stores plus files.
        show_download: Called while a checkpoint is downloaded, with (bytes so far, bytes in all).

    Returns:
        What was done. A file that cannot be read stops nothing: it is among the failures.

    Raises:
        QueryError: If there is nothing at a path, or the table cannot be written.
        LibraryError: If a folder has no audio in it.
        StoreError: If a store is not there, or has no index yet.
        IdentityError: If a store was computed in another way than the one that is asked.
        CheckpointError: If audio asks, and the store's checkpoint is not there.
        UnknownTagError: If the filter names a tag that cannot be filtered by.
    """
    options = options or BatchOptions()
    require_table(output)
    resolved = options.filter.resolve()  # a misspelt tag is found before anything is opened
    opened = OpenedStore.at(store)
    sources = find_sources(queries, opened)
    allowed = opened.allowed(resolved if options.filter else None, frozenset())
    num_done = 0

    def advance(number: int) -> None:
        nonlocal num_done
        num_done += number
        if progress:
            progress(num_done, sources.num_steps)

    report = BatchReport(num_new_parts=opened.num_new_parts(), failures=sources.failures)
    with writing_table(output, SCHEMA) as write:
        for block in _blocks(sources, opened, options, advance, show_download):
            _answer(block, opened, allowed, options, write, report)
    return report


def _blocks(
    sources: Sources,
    opened: OpenedStore,
    options: BatchOptions,
    advance: Callable[[int], None],
    show_download: Callable[[int, int | None], None] | None,
) -> Iterator[Queries]:
    size = block_size(options.k)
    for one in sources.stores:
        yield from stored_queries(one, size, advance)
    if sources.files:
        from search.asking.embed import extractor_for  # noqa: PLC0415 - torch takes seconds to import

        extractor = extractor_for(opened.store, options.checkpoint, options.device, show_download)
        for heard in heard_queries(sources, extractor, opened.store.identity, advance):
            for first in range(0, len(heard.vectors), size):
                yield heard.take(slice(first, first + size))


class _Hits(NamedTuple):
    """Hits of a block of queries, as columns.

    Attributes:
        asked: (n,) position of the query in its block.
        ranks: (n,) from 1 on.
        scores: (n,) float32.
        rows: (n,) positions in the generation.
    """

    asked: Integers
    ranks: Integers
    scores: Float32
    rows: Integers

    def take(self, at: Any) -> _Hits:
        return _Hits(*(column[at] for column in self))


def _answer(
    queries: Queries,
    opened: OpenedStore,
    allowed: Sequence[Mask],
    options: BatchOptions,
    write: Write,
    report: BatchReport,
) -> None:
    """Write the hits of a block of queries, query by query, the best first."""
    generation = opened.generation
    least = -np.inf if options.min_score is None else options.min_score

    def hits(found: Nearest) -> Mask:
        wanted = (found.rows >= 0) & (found.scores >= least)
        if not options.include_self:
            of_hits = generation.recording_ids(np.maximum(found.rows, 0).ravel())
            wanted &= of_hits.reshape(wanted.shape) != queries.recording_ids[found.at, None]
        return np.asarray(wanted)

    def is_complete(found: Nearest) -> Mask:
        return np.asarray((hits(found).sum(1) >= options.k) | (found.scores[:, -1] < least))

    num_asked = options.k if options.include_self else options.k + _SPARE
    ranked = [_Hits(_NONE, _NONE, np.empty(0, np.float32), _NONE)]
    for found in nearest_rows(
        opened.index, queries.vectors, num_asked, allowed, is_complete, exact=options.exact
    ):
        wanted = hits(found)
        ranks = np.cumsum(wanted, axis=1, dtype=np.int64)
        at = np.nonzero(wanted & (ranks <= options.k))
        ranked.append(_Hits(found.at[at[0]], ranks[at], found.scores[at], found.rows[at]))
    found_hits = _Hits(*(np.concatenate(column) for column in zip(*ranked, strict=True)))
    order = np.lexsort((found_hits.ranks, found_hits.asked))
    write(_table(queries, opened, found_hits.take(order)))
    report.num_queries += len(queries.vectors)
    report.num_hits += len(order)


def _table(queries: Queries, opened: OpenedStore, hits: _Hits) -> pa.RecordBatch:
    windows = opened.generation.windows(hits.rows)
    in_hex, paths = named(opened, windows.recording_id)
    columns = {
        "query_window_id": queries.window_ids.take(pa.array(hits.asked)),
        "query_path": queries.paths.take(pa.array(hits.asked)),
        "query_start_s": queries.start_s[hits.asked],
        "query_end_s": queries.end_s[hits.asked],
        "rank": hits.ranks.astype(np.int32),
        "score": hits.scores,
        "window_id": windows.window_id,
        "recording_id": in_hex,
        "path": paths,
        "start_s": windows.start_sample / SAMPLE_RATE_HZ,
        "end_s": (windows.start_sample + windows.num_samples) / SAMPLE_RATE_HZ,
    }
    return pa.RecordBatch.from_pydict(columns, SCHEMA)
