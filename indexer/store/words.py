"""The ledger as it lies in the parts: the last word on each path, as columns and not objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from indexer.arrays import Integers, contains, last_of_each
from indexer.store.parquet import FILES_FILE
from indexer.store.part import Part
from indexer.store.schema import FILES_SCHEMA


def ledger_schema(columns: Sequence[str]) -> pa.Schema:
    """Return the schema of some columns of the ledger."""
    return pa.schema([FILES_SCHEMA.field(name) for name in columns])


def last_words(parts: Sequence[Part], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the last ledger row of every path, a few thousand at a time, the oldest first.

    Args:
        parts: Oldest first.
        columns: What of the rows is yielded.
    """
    path_ids = np.concatenate([np.empty(0, np.int64), *map(_path_ids, parts)])
    is_last, start = np.zeros(len(path_ids), bool), 0
    is_last[last_of_each(path_ids)] = True
    for batch in (one for part in parts for one in part.ledger(columns)):
        yield batch.filter(pa.array(is_last[start : start + len(batch)]))
        start += len(batch)


def words_on(parts: Sequence[Part], path_ids: Integers, columns: Sequence[str]) -> pa.Table:
    """Return the last ledger row of some paths, ordered by path_id, and read nothing else.

    Args:
        parts: Oldest first; they are read from the newest on.
        path_ids: Sorted keys of the paths.
        columns: What of the rows is returned.
    """
    kept = list(dict.fromkeys(["path_id", *columns]))
    found, wanted = [ledger_schema(kept).empty_table()], path_ids
    for part in reversed(parts):
        path_id = _path_ids(part)
        rows = np.flatnonzero(contains(wanted, path_id))
        rows = np.sort(rows[last_of_each(path_id[rows])])
        tables = (table.select(kept) for table in part.tables(FILES_FILE, rows))
        found += [table.cast(ledger_schema(kept)) for table in tables]
        wanted = np.setdiff1d(wanted, path_id[rows], assume_unique=True)
    return pa.concat_tables(found).sort_by("path_id").select(list(columns))


def _path_ids(part: Part) -> Integers:
    batches = [one["path_id"].to_numpy() for one in part.ledger(("path_id",))]
    return np.concatenate([np.empty(0, np.int64), *batches])
