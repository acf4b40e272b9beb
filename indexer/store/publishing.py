"""Publishing shards: what was embedded in stages becomes parts of the store.

A shard is embedded by one process and published by another, perhaps hours later, so a store may
have changed meanwhile. Windows are named by their content: what two shards embedded counts once.
What a shard says of files that it did not embed, because the store knew their content, holds only
if the store still does, and is left out otherwise; the next run reads those files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import ID_DTYPE, Ids, Mask, contains, ids_from_column
from indexer.errors import DamagedStoreError
from indexer.store.disk import (
    TEMPORARY_PREFIX,
    open_own,
    remove_all,
    sync_file,
    sync_folder,
    writing,
)
from indexer.store.ledger import LEDGER_COLUMNS, Ledger, content_ids
from indexer.store.parquet import FILES_FILE
from indexer.store.part import MANIFEST_FILE, Part, without_sequence
from indexer.store.reader import PARTS_FOLDER, Store
from indexer.store.schema import FILES_SCHEMA
from indexer.store.writer import PartWriter, publish

_NO_IDS: Ids = np.empty(0, ID_DTYPE)
#: Arrays of ids that are looked through one after the other before they are merged.
_MOST_ARRAYS = 32


class Arrived(NamedTuple):
    """What came into a store with a shard.

    Attributes:
        num_parts: Parts that were not there before.
        num_windows: Windows in them; what the store had already counts once all the same.
        num_files: Words on files in them.
        num_left_out: Words on files whose content the store no longer has.
        recording_id: (n,) recordings that the store had before, at other paths.
        paths: n paths where the shard found them.
    """

    num_parts: int
    num_windows: int
    num_files: int
    num_left_out: int
    recording_id: Ids
    paths: tuple[str, ...]


def require_sound(parts: Sequence[Part]) -> None:
    """Raise unless every byte of a shard's parts is what was written: a copy would hide it.

    Raises:
        DamagedStoreError: If one is damaged, or says that it stands for parts of the store.
    """
    for part in parts:
        if part.replaces:
            raise DamagedStoreError(part.path, "it stands for other parts, as no shard's does")
        part.require_intact(*part.files)


def publish_parts(store: Store, parts: Sequence[Part], known: list[Ids], done: set[str]) -> Arrived:
    """Make the parts of a shard parts of a store.

    They are linked where that is possible, and copied otherwise; those of the shard stay. Whoever
    calls this holds `indexer.store.lock.sole_writer`. Broken off, it can be called again.

    Args:
        store: Where to.
        parts: Of the shard, oldest first.
        known: Sorted content ids of everything that the store has embedded, in one array or
            several; what the parts bring is added.
        done: Names of parts that are there already.

    Raises:
        StoreError: If the disk is full or read-only.
        DamagedStoreError: If a part is not what was written.
    """
    arrived = list[Arrived]()
    for part in (one for one in parts if without_sequence(one.name) not in done):
        if part.is_claim:
            arrived.append(_publish_claim(store, part, known))
            continue
        with writing(store.path):
            here = Part.open(publish(_bring(part, store)))
        ledger = Ledger(here.ledger(LEDGER_COLUMNS))
        _remember(known, ledger.known)
        arrived.append(Arrived(1, here.num_windows, len(ledger), 0, _NO_IDS, ()))
    return Arrived(
        num_parts=sum(one.num_parts for one in arrived),
        num_windows=sum(one.num_windows for one in arrived),
        num_files=sum(one.num_files for one in arrived),
        num_left_out=sum(one.num_left_out for one in arrived),
        recording_id=np.concatenate([_NO_IDS, *(one.recording_id for one in arrived)]),
        paths=tuple(path for one in arrived for path in one.paths),
    )


def _remember(known: list[Ids], more: Ids) -> None:
    """Add sorted ids to those that are known: small arrays are merged, and the large one is not."""
    known.append(more)
    if len(known) > _MOST_ARRAYS:
        known[1:] = [np.unique(np.concatenate(known[1:]))]


def _publish_claim(store: Store, part: Part, known: Sequence[Ids]) -> Arrived:
    """Publish those words of a part whose content the store has; the others are left out."""
    num_left_out, ids, paths = 0, [_NO_IDS], list[str]()
    with PartWriter(store, part.origin) as writer:
        for batch in part.ledger(FILES_SCHEMA.names):
            holds = _holds(batch, known)
            kept = batch.filter(pa.array(holds))
            num_left_out += int((~holds).sum())
            ids.append(ids_from_column(kept["recording_id"]))
            paths += kept["path"].to_pylist()
            writer.add_rows(FILES_FILE, pa.Table.from_batches([kept]))
        num_files = writer.num_ledger_rows
        num_parts = int(writer.commit() is not None)
    return Arrived(num_parts, 0, num_files, num_left_out, np.concatenate(ids), tuple(paths))


def _holds(batch: pa.RecordBatch, known: Sequence[Ids]) -> Mask:
    """Return (n,) which words are on content that is known, or say nothing of content."""
    wanted = content_ids(batch)
    is_known = np.logical_or.reduce([contains(one, wanted) for one in known])
    is_ok = pc.equal(batch["status"], "ok").to_numpy(zero_copy_only=False)
    return np.asarray(is_known | ~is_ok)


def _bring(part: Part, store: Store) -> Path:
    """Bring the files of a part among those of a store, under a temporary name."""
    folder = store.path / PARTS_FOLDER / f"{TEMPORARY_PREFIX}{without_sequence(part.name)}"
    remove_all(folder)  # of an attempt that was broken off
    folder.mkdir()
    for name in (*part.files, MANIFEST_FILE):
        source, target = part.path / name, folder / name
        try:
            os.link(source, target, follow_symlinks=False)
        except (OSError, NotImplementedError):  # another disk, or one without links
            with open_own(source) as read, target.open("xb") as written:
                shutil.copyfileobj(read, written)
            sync_file(target)
    sync_folder(folder)
    return folder
