"""Compacting a whole store: its parts, and the index that is made from them."""

from __future__ import annotations

from pathlib import Path

from indexer.progress import Listen, ignore
from indexer.store.compaction import CompactReport
from indexer.store.compaction import compact as compact_parts
from indexer.store.lock import sole_writer
from indexer.store.reader import Store
from indexer.store.staging import clear_leftovers
from search.generation.missing import require_all_parts
from search.upkeep.build import build, has_index, tidy


def compact(path: Path, listen: Listen = ignore) -> CompactReport:
    """Remove dead windows and old ledger rows from a store, and make few parts of many.

    The store can be read and searched all the time. Ended in the middle, however that happens, it
    is whole: what was not compacted yet will be the next time.

    Args:
        path: Directory of the store.
        listen: Hears how many rows are written, first of the parts, then of the index; and which
            other process has to end first, if one has.

    Raises:
        StoreError: If there is no store at `path`, or the disk is full or read-only.
        DamagedStoreError: If a part that would be written anew is not as it was written, or one
            that the index was made from is missing, and windows that queries see with it.
    """
    store = Store.open(path)
    with sole_writer(path, listen):
        clear_leftovers(store)
        require_all_parts(store)  # what only they say is live would be removed
        report = compact_parts(store, listen=listen)
        if has_index(store):
            build(store, listen=listen)
        else:
            tidy(store)
    return report
