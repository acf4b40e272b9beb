"""Compacting a whole store: its parts, and the index that is made from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from indexer.store.compaction import CompactReport
from indexer.store.compaction import compact as compact_parts
from indexer.store.lock import sole_writer
from indexer.store.reader import Store
from indexer.store.writer import remove_leftovers
from search.upkeep.build import build, has_index, tidy


def compact(
    path: Path,
    tell: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CompactReport:
    """Remove dead windows and old ledger rows from a store, and make few parts of many.

    The store can be read and searched all the time. Ended in the middle, however that happens, it
    is whole: what was not compacted yet will be the next time.

    Args:
        path: Directory of the store.
        tell: Called with a sentence for people, if another process has to end first.
        progress: Called with (rows written, rows to write): first of the parts, then of the index.

    Raises:
        StoreError: If there is no store at `path`, or the disk is full or read-only.
        DamagedStoreError: If a part that would be written anew is not as it was written.
    """
    store = Store.open(path)
    with sole_writer(path, tell):
        remove_leftovers(store)
        report = compact_parts(store, progress=progress)
        if has_index(store):
            build(store, progress=progress)
        else:
            tidy(store)
    return report
