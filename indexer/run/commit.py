"""Committing shards: what several processes staged is published into the store, each shard once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from indexer.errors import DamagedStoreError, StoreError
from indexer.library.shards import Shard, is_folder_name
from indexer.progress import Listen, Step, ignore
from indexer.store.creation import library_at
from indexer.store.lock import sole_writer
from indexer.store.part import Part, reading, without_sequence
from indexer.store.published import note_published, published_names
from indexer.store.publishing import (
    Arrived,
    publish_parts,
    require_sound,
)
from indexer.store.reader import LIBRARIES_FILE, Store
from indexer.store.schema import STORE_FILE
from indexer.store.stage import Seal, open_parts, read_seal
from indexer.store.staging import clear_leftovers


class Refused(NamedTuple):
    """A shard that was not published, and why."""

    path: Path
    reason: str


@dataclass(slots=True)
class CommitReport:
    """What a commit did.

    Attributes:
        published: Shards that were published now.
        already: Shards of which everything was in the store before.
        refused: Shards that were not published.
        num_parts: Parts that came into the store.
        num_windows: Windows in them; what the store had already counts once all the same.
        num_files: Files of which they say what became of them.
        num_left_out: Files that the shards took for copies of what the store had, and has no more:
            the next run reads them.
    """

    published: list[Path] = field(default_factory=list)
    already: list[Path] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    num_parts: int = 0
    num_windows: int = 0
    num_files: int = 0
    num_left_out: int = 0


def commit(path: Path, folders: Sequence[Path], listen: Listen = ignore) -> CommitReport:
    """Publish shards that were staged beside a store: each once, in any order.

    A shard that is not done, or was made in another way, is refused, and the others are published.
    So is one that is not there, beside others of the same folder.
    The files of the shards stay where they are.

    Args:
        path: Directory of the store.
        folders: Of shards, or of folders of shards.
        listen: Hears who has to end first, if somebody writes to the store, and how far this is.

    Raises:
        StoreError: If there is no store, or it cannot be written; if there is no shard in a folder.
    """
    store, places = Store.open(path), _find_shards(folders)
    report = CommitReport(refused=list(_absent(folders)))
    with sole_writer(path, listen):
        clear_leftovers(store)
        noted = published_names(path)
        there = noted | set(map(without_sequence, store.part_names()))
        known = [store.ledger().known]
        for number, place in enumerate(places):
            listen(Step("publishing", number, len(places), "shard"))
            try:
                shard, parts = _open_shard(store, place)
                require_sound([part for part in parts if without_sequence(part.name) not in there])
            except StoreError as error:
                report.refused.append(Refused(place, _why(place, error)))
                continue
            names = {without_sequence(part.name) for part in parts}
            if names <= there:
                report.already.append(place)
            else:
                report.published.append(place)
                if shard.library_id not in store.libraries():  # one that is known may have moved
                    library_at(store, shard.root, shard.library_id)
                _add(report, publish_parts(store, parts, known, there))
                there |= names
            if not names <= noted:
                noted |= names
                note_published(path, noted)
        listen(Step("publishing", len(places), len(places), "shard"))
    return report


def _find_shards(folders: Sequence[Path]) -> list[Path]:
    """Return the folders of the shards in some folders, each once."""
    found: dict[Path, Path] = {}
    for folder in folders:
        shards = list(_shards_in(folder))
        if not shards:
            what = "there is no shard in" if folder.is_dir() else "no such folder:"
            raise StoreError(f"{what} {folder}; shards are staged first", about="stage")
        found.update((shard.resolve(), shard) for shard in shards)
    return list(found.values())


def _absent(folders: Sequence[Path]) -> Iterator[Refused]:
    """Name the shards that are missing beside others of as many: their tasks never began."""
    for folder in folders:
        names = [one.name for one in _shards_in(folder) if one != folder]
        for total in sorted({int(one.rpartition("-")[2]) for one in names if is_folder_name(one)}):
            for number in range(1, total + 1):
                shard = Shard(number, total)
                if shard.folder_name not in names:
                    told = f"{folder / shard.folder_name} is not there: shard {shard} never began"
                    yield Refused(folder / shard.folder_name, told)


def _shards_in(folder: Path) -> Iterator[Path]:
    with reading(folder):
        if (folder / STORE_FILE).exists():
            yield folder
        elif folder.is_dir():
            yield from sorted(one for one in folder.iterdir() if (one / STORE_FILE).exists())


def _open_shard(store: Store, place: Path) -> tuple[Seal, list[Part]]:
    """Return what says that a shard is done, and its parts, if it fits the store.

    Raises:
        StoreError: If it is not, does not, or cannot be read.
    """
    shard = Store.open(place)
    store.identity.require(
        shard.identity,
        f"{place} was made in another way than {store.path}",
        "Stage it for this store",
    )
    seal = read_seal(place)
    if seal is None:
        is_store = (place / LIBRARIES_FILE).exists()
        raise StoreError(
            f"{place} is a store, and no shard of one; ask both together instead"
            if is_store
            else f"{place} is not done: its run was cut short, or goes on; run it again to its end"
        )
    known = store.libraries()
    if seal.library_id not in known and seal.root in known.values():
        raise StoreError(
            f"{place} was staged for another store than {store.path}, which has its library "
            f"{seal.root} under another name; stage it for this one"
        )
    return seal, open_parts(place, seal)


def _why(place: Path, error: StoreError) -> str:
    """Say why a shard is not published. To verify the store is no help: nothing of it is there."""
    if isinstance(error, DamagedStoreError) and error.about == "verify":
        remedy = f"remove {place}, and stage it anew"
        return str(DamagedStoreError(error.path, error.reason, remedy))
    return str(error)


def _add(report: CommitReport, arrived: Arrived) -> None:
    report.num_parts += arrived.num_parts
    report.num_windows += arrived.num_windows
    report.num_files += arrived.num_files
    report.num_left_out += arrived.num_left_out
