"""Windows by their ids, and what is around them in their recordings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from indexer.arrays import Integers
from search.asking.answers import Found, Hit
from search.asking.sound_index import SoundIndex
from search.filters.metadata import Metadata


def look_up(
    index: SoundIndex, window_ids: Iterable[int], metadata: Metadata | None = None
) -> list[Hit]:
    """Return what is known of some windows, in their order; their score is 1, as they were named.

    Raises:
        QueryError: If one of them is in none of the stores.
    """
    return _told_of(index, index.rows_of(window_ids), metadata)


def look_around(index: SoundIndex, window_id: int, number: int) -> list[Hit]:
    """Return a window and as many before and after it in its recording, in order of time.

    Args:
        index: The stores.
        window_id: A window of one of them.
        number: How many before it, and how many after it, at most.

    Raises:
        QueryError: If it is in none of the stores.
    """
    rows = index.rows_of([window_id])
    ((one, local, _),) = index.by_store(rows)
    all_rows = one.generation.rows_of_recording(index.recording_ids(rows)[0].tobytes())
    all_rows = all_rows[np.argsort(one.generation.column("start_sample", all_rows), kind="stable")]
    place = int(np.flatnonzero(all_rows == local[0])[0])
    near = all_rows[max(0, place - number) : place + number + 1]
    return _told_of(index, near + (rows[0] - local[0]))


def _told_of(index: SoundIndex, rows: Integers, metadata: Metadata | None = None) -> list[Hit]:
    nothing = np.zeros(1, np.int64)
    found = Found(
        num_questions=1,
        asked=np.zeros(len(rows), np.int64),
        scores=np.ones(len(rows), np.float32),
        window_ids=index.window_ids(rows),
        rows=rows,
        stands_for=np.ones(len(rows), np.int64),
        num_left_out=nothing,
        num_silent=nothing,
        num_overlooked=nothing,
    )
    return index.hits(found, metadata=metadata)[0]
