"""Which parts came into a store with shards: a compaction would make them unknown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from indexer.store.disk import read_sealed, seal, write_whole, writing
from indexer.store.part import reading

PUBLISHED_FILE = "published.json"

_REMEDY = (
    "remove it: shards that were published before may then be published once more, which changes "
    "no answer"
)


def published_names(store: Path) -> set[str]:
    """Return what all parts are called that came into a store with shards, without the sequence.

    Raises:
        DamagedStoreError: If the file that has them is not what was written.
    """
    file = store / PUBLISHED_FILE
    with reading(file, _REMEDY):
        try:
            return set(map(str, read_sealed(file)["parts"]))
        except FileNotFoundError:
            return set()


def note_published(store: Path, names: Iterable[str]) -> None:
    """Remember what all parts are called that came into a store with shards.

    Args:
        store: Its folder.
        names: Of all of them, those that were remembered before too.

    Raises:
        StoreError: If it cannot be written.
    """
    with writing(store):
        write_whole(store / PUBLISHED_FILE, seal({"parts": sorted(names)}))
