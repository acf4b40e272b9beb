"""Stages: where a shard of a library is embedded beside a store, to be published into it later.

    DIR/shard-03-of-16/
        store.json, head.safetensors, parts/        as in any store
        sealed.json                                 when the shard is done: which parts it has

A stage knows what its store holds, and embeds nothing of it again. It writes nothing to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from indexer.arrays import Ids, Integers
from indexer.errors import DamagedStoreError, StoreError
from indexer.store.creation import create_store
from indexer.store.disk import read_sealed, seal, write_whole, writing
from indexer.store.part import Part, part_names, reading, without_sequence
from indexer.store.published import published_names
from indexer.store.reader import PARTS_FOLDER, Store

SEAL_FILE = "sealed.json"

_T = TypeVar("_T")


class Seal(NamedTuple):
    """What says that a shard is done.

    Attributes:
        parts: Names of its parts, oldest first.
        library_id: Of the library that it is a share of, as the store calls it.
        root: Where that library is.
    """

    parts: tuple[str, ...]
    library_id: str
    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Store):
    """A store that is read together with another, its base, and is written to in its place.

    Attributes:
        base: What its shard will be published into.
    """

    base: Store

    @classmethod
    def beside(cls, base: Store, path: Path) -> Self:
        """Open the stage at a path, or make it.

        Raises:
            StoreError: If the place is taken, or cannot be written.
            IdentityError: If what is there was made in another way than the base.
        """
        made = create_store(
            path,
            base.identity,
            base.head(),
            checkpoint=base.checkpoint,
            known=base.known,
            written_by=f"soundalike {version('soundalike')}",
        )
        told = made.identity, made.checkpoint, made.head_digest, made.known
        return cls(made.path, *told, base=base)

    def from_parts(self, read: Callable[[list[Part]], _T]) -> _T:
        """Read from the parts of the base, and then from its own, see `Store.from_parts`."""
        return self.base.from_parts(
            lambda parts: Store.from_parts(self, lambda own: read([*parts, *own]))
        )

    def libraries(self) -> dict[str, Path]:
        """Return library_id → last known root, as the base has them."""
        return self.base.libraries()

    def partial_windows(self, parts: Sequence[Part], known: Ids) -> dict[bytes, Integers]:
        """Return the windows of recordings that an earlier run of this shard began.

        What a run of the base began is embedded anew, and so is what was published already: a
        compaction of the base may drop it, and what is published has to be whole.
        """
        gone = published_names(self.base.path)
        here = [part for part in parts if part.path.is_relative_to(self.path)]
        own = [part for part in here if without_sequence(part.name) not in gone]
        return Store.partial_windows(self, own, known)

    def require_of(self, library_id: str) -> None:
        """Raise unless all that is staged here is of one library, as the store calls it.

        What else is here would be published with it, be it done or not.

        Raises:
            StoreError: If something is of another.
        """
        words = Store.from_parts(self, lambda own: self.files(("library_id",), own))
        if set(words["library_id"].unique().to_pylist()) - {library_id}:
            raise StoreError(
                f"{self.path} has a shard of another library, or for another store; choose "
                f"another folder for the shards of this one"
            )

    def unseal(self) -> None:
        """Say that the shard is not done; more may come.

        Raises:
            StoreError: If it cannot be written.
        """
        with writing(self.path):
            (self.path / SEAL_FILE).unlink(missing_ok=True)

    def seal(self, library_id: str, root: Path) -> None:
        """Say that the shard is done, with all the parts that it has.

        Args:
            library_id: Of its library.
            root: Where that is.

        Raises:
            StoreError: If it cannot be written.
        """
        told = {"parts": self.part_names(), "library_id": library_id, "root": str(root)}
        with writing(self.path):
            write_whole(self.path / SEAL_FILE, seal(told))


def read_seal(stage: Path) -> Seal | None:
    """Return what says that a shard is done; None if nothing does.

    Raises:
        DamagedStoreError: If it is not what was written.
    """
    file = stage / SEAL_FILE
    with reading(file, "run the shard again"):
        try:
            document = read_sealed(file)
        except FileNotFoundError:
            return None
        names = tuple(map(str, document["parts"]))
        return Seal(names, str(document["library_id"]), Path(document["root"]))


def open_parts(stage: Path, seal: Seal) -> list[Part]:
    """Return the parts that a shard is sealed with, oldest first, each once.

    They are in its own folder: a shard may come from a stranger, and names what it likes.

    Raises:
        DamagedStoreError: If one is not there, or is not what was written.
    """
    folder = stage / PARTS_FOLDER
    with reading(folder):
        there = set(part_names(folder))
    for name in seal.parts:
        if name not in there:
            raise DamagedStoreError(folder / name, "it is missing", "run the shard again")
    return [Part.open(folder / name) for name in dict.fromkeys(seal.parts)]
