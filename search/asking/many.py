"""Thousands of questions at once, and their answers in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import pyarrow as pa

from indexer.audio.times import FileSpan
from indexer.errors import QueryError
from indexer.progress import Listen, Step, ignore
from indexer.windows import SAMPLE_RATE_HZ
from search.asking.answers import Found, Match
from search.asking.example import nothing_heard
from search.asking.find import Away, find
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.sources import (
    Asking,
    Per,
    Sources,
    ask_with_audio,
    ask_with_stored,
    find_sources,
)
from search.asking.tables import require_table, writing_table
from search.filters.metadata import Coverage
from search.generation.recordings import hex_ids
from search.nearest.enough import block_size

if TYPE_CHECKING:  # torch takes seconds to import; stores do not need it
    from search.asking.example import Example

#: The table that is written: a row for each hit.
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
        pa.field("stands_for", pa.int32(), nullable=False),
        pa.field("match_start_s", pa.float64()),
        pa.field("match_end_s", pa.float64()),
        pa.field("match_score", pa.float32()),
    ]
)


@dataclass(slots=True)
class ManyReport:
    """What was asked, and what came of it.

    Attributes:
        num_queries: Questions that were asked.
        num_hits: Rows of the table.
        num_new_parts: Parts of the stores that their indexes do not hold yet.
        num_left_out: Windows that are no hits because they are what asks, or overlap it: the sum of
            all questions.
        num_silent: Windows that are no hits because nothing is heard in them, likewise.
        failures: A line for each file or folder that could not be read.
        coverage: How the metadata and the stores fit together; None without metadata.
    """

    num_queries: int = 0
    num_hits: int = 0
    num_new_parts: int = 0
    num_left_out: int = 0
    num_silent: int = 0
    failures: list[str] = field(default_factory=list)
    coverage: Coverage | None = None


def write_answers(  # noqa: PLR0913 - each is a choice of its own
    index: SoundIndex,
    places: Sequence[Path],
    output: Path,
    scope: Scope,
    *,
    hear: Callable[[FileSpan], Example],
    away: Away | None = None,
    per: Per = "window",
    force: bool = False,
    listen: Listen = ignore,
) -> ManyReport:
    """Ask about every window of some audio files or stores, and write down what is found.

    Memory is bounded: windows are asked about in blocks, and each block's hits are written at once.

    Args:
        index: The stores that are asked.
        places: What asks: audio files, folders of audio, and stores, those that are asked too.
        output: The table, see `SCHEMA`: .parquet, or .jsonl for JSON lines. It is whole or absent.
        scope: What counts as a hit in these stores, and how many for each question.
        hear: Makes an example of a file, or a part of it.
        away: What no hit is to be like.
        per: Whether each window is a question, or each file or recording with all of its windows.
        force: Whether a table that is there is replaced.
        listen: Hears how far this is, in windows of stores plus files.

    Returns:
        What was done. A file that cannot be read stops nothing: it is among the failures.

    Raises:
        QueryError: If there is nothing at a path, or nothing that asks can be read.
        OutputError: If the table is there already, or cannot be written.
        LibraryError: If a folder has no audio in it.
        StoreError: If a store that asks is not there, or has no index yet.
        IdentityError: If one was computed in another way than those that are asked.
    """
    require_table(output, force=force)
    if per not in get_args(Per):
        raise QueryError(f"questions are asked per {' or '.join(get_args(Per))}, got {per!r}")
    if scope.terms.locates:
        index.require_frames("where in hits something is cannot be said")
    sources = find_sources(places, index.opened[0])
    num_done = 0

    def advance(number: int) -> None:
        nonlocal num_done
        num_done += number
        listen(Step("asking", num_done, sources.num_steps, "query"))

    report = ManyReport(
        num_new_parts=index.num_new_parts(), failures=sources.failures, coverage=scope.coverage
    )
    with writing_table(output, SCHEMA, force=force) as write:
        size = block_size(scope.terms.num_candidates)
        for asking in _blocks(sources, per, size, hear, advance):
            for some in asking.split(size):
                found = find(index, [one._replace(away=away) for one in some.questions], scope)
                if found.trouble:  # to locate was asked for
                    raise found.trouble
                write(_table(some, index, found))
                report.num_queries += len(some.questions)
                report.num_hits += len(found.rows)
                report.num_left_out += int(found.num_left_out.sum())
                report.num_silent += int(found.num_silent.sum())
        if report.failures and not report.num_queries:
            raise nothing_heard(report.failures)  # and no table is written
    return report


def _blocks(
    sources: Sources,
    per: Per,
    size: int,
    hear: Callable[[FileSpan], Example],
    advance: Callable[[int], None],
) -> Iterator[Asking]:
    for one in sources.stores:
        yield from ask_with_stored(one, per, size, advance)
    if sources.files:
        yield from ask_with_audio(sources, per, hear, advance)


def _table(asking: Asking, index: SoundIndex, found: Found) -> pa.RecordBatch:
    windows, asked = index.windows(found.rows), pa.array(found.asked)
    columns = {
        "query_window_id": asking.window_ids.take(asked),
        "query_path": asking.paths.take(asked),
        "query_start_s": asking.start_s[found.asked],
        "query_end_s": asking.end_s[found.asked],
        "rank": found.ranks.astype(np.int32),
        "score": found.scores,
        "window_id": windows.window_id,
        "recording_id": hex_ids(windows.recording_id),
        "path": index.first_paths(found.rows),
        "start_s": windows.start_sample / SAMPLE_RATE_HZ,
        "end_s": (windows.start_sample + windows.num_samples) / SAMPLE_RATE_HZ,
        "stands_for": found.stands_for.astype(np.int32),
        **_match_columns(found),
    }
    return pa.RecordBatch.from_pydict(columns, SCHEMA)


def _match_columns(found: Found) -> dict[str, pa.Array]:
    """Return where in each hit what asked is; null where that is not known."""
    match = found.match or Match.unknown(len(found.rows))
    names = ("match_start_s", "match_end_s", "match_score")
    return {
        name: pa.array(values, mask=np.isnan(np.asarray(values)))
        for name, values in zip(names, match, strict=True)
    }
