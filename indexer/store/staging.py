"""Staged shards in a store: what the workers of one run embed, until the run publishes it.

    STORE/staging/<run>/<shard>-<attempt>/      a stage, see `indexer.store.stage`

A run deletes each as soon as it has published it. One that died leaves some behind: whoever writes
to the store next publishes those that are sealed, before anything else, and deletes the others.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from indexer.errors import DamagedStoreError, IdentityError
from indexer.store.disk import remove_all, require_own_folder, writing
from indexer.store.part import Part, without_sequence
from indexer.store.publishing import publish_parts, require_sound
from indexer.store.reader import STAGING_FOLDER, Store
from indexer.store.schema import STORE_FILE
from indexer.store.stage import open_parts, read_seal
from indexer.store.writer import remove_leftovers


@contextmanager
def staging(store: Store) -> Iterator[Path]:
    """Make the folder in which one run stages shards; at the end, what is sealed is published.

    Whoever uses it holds `indexer.store.lock.sole_writer`.

    Raises:
        StoreError: If it cannot be written.
    """
    folder = store.path / STAGING_FOLDER / uuid.uuid4().hex
    with writing(store.path):
        require_own_folder(folder.parent)
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        take_up(store)


def sealed_parts(store: Store, stage: Path) -> list[Part] | None:
    """Return the parts of a shard that is staged in a store, oldest first; None if it is not done.

    Nor is one without its store.json: whoever deleted it was ended in the middle.

    Raises:
        DamagedStoreError: If one of them, or the seal, is not what was written.
        IdentityError: If the shard was made in another way than the store.
    """
    seal = read_seal(stage)
    if seal is None or not (stage / STORE_FILE).exists():
        return None
    store.identity.require(
        Store.open(stage).identity,
        f"{stage} was made in another way than {store.path}",
        "Run again: its files are read anew",
    )
    return open_parts(stage, seal)


def clear_leftovers(store: Store) -> None:
    """Settle what processes left behind that ended in the middle of writing.

    Whoever calls this holds `indexer.store.lock.sole_writer`, so that nobody is writing now.

    Raises:
        StoreError: If the store cannot be read or written.
    """
    remove_leftovers(store)
    take_up(store)


def take_up(store: Store) -> None:
    """Publish what is sealed of what is staged in a store, and delete all of it.

    Whoever calls this holds `indexer.store.lock.sole_writer`.

    Raises:
        StoreError: If the store cannot be read or written.
    """
    folder = store.path / STAGING_FOLDER
    require_own_folder(folder)
    if not folder.is_dir():
        return
    sealed = [parts for stage in _stages_in(folder) if (parts := _sound_parts(store, stage))]
    there = set(map(without_sequence, store.part_names()))
    known = [store.ledger().known] if sealed else []
    for parts in sealed:
        publish_parts(store, parts, known, there)
    for run in list(folder.iterdir()):
        remove_all(run)
    with suppress(OSError):  # a worker that nobody reaches any more may have written meanwhile
        folder.rmdir()


def _stages_in(folder: Path) -> list[Path]:
    runs = [one for one in folder.iterdir() if one.is_dir() and not one.is_symlink()]
    stages = sorted(stage for run in runs for stage in run.iterdir())
    return [one for one in stages if one.is_dir() and not one.is_symlink()]


def _sound_parts(store: Store, stage: Path) -> list[Part] | None:
    """Return the parts of a shard that is done; None if it is not, or if they are damaged.

    What is damaged here is in no store yet: its files are read anew.
    """
    try:
        parts = sealed_parts(store, stage)
        require_sound(parts or ())
    except (DamagedStoreError, IdentityError):
        return None
    return parts
