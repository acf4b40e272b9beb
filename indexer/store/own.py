"""What people add to a store: documents that no run, build or compaction changes or deletes.

    samples.soundalike/own/NAME.json

They are of one store, and stay in it however often its index is built anew. Those of a store that
may only be read are kept in a folder elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from indexer.errors import QueryError, StoreError
from indexer.store.disk import (
    read_sealed,
    require_own_folder,
    seal,
    write_whole,
    writing,
)
from indexer.store.part import reading

OWN_FOLDER = "own"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SUFFIX = ".json"
_REMEDY = "bring it back from a copy, or remove it"


@dataclass(frozen=True, slots=True)
class Own:
    """The documents of a folder: JSON objects, each of which carries its own digest.

    Attributes:
        folder: Where they are; made by the first that is written.
    """

    folder: Path

    @classmethod
    def of(cls, store: Path, elsewhere: Path | None = None) -> Self:
        """Return what was added to a store.

        Args:
            store: Its directory.
            elsewhere: Folder for it, where it is not to be in the store.
        """
        return cls(elsewhere or store / OWN_FOLDER)

    def names(self) -> list[str]:
        """Return the names of the documents, sorted; other files in the folder are none of ours.

        Raises:
            StoreError: If the folder cannot be listed, or is a link.
        """
        with reading(self.folder, _REMEDY):
            require_own_folder(self.folder)
            files = self.folder.iterdir() if self.folder.exists() else ()
            stems = [file.stem for file in files if file.suffix == _SUFFIX]
        return sorted(stem for stem in stems if _NAME.fullmatch(stem))

    def read(self, name: str) -> dict[str, Any]:
        """Return a document; an empty one if there is none of that name.

        Raises:
            DamagedStoreError: If it is not as it was written.
            StoreError: If it cannot be read.
        """
        file = self._file(name)
        with reading(file, _REMEDY), suppress(FileNotFoundError):
            require_own_folder(self.folder)
            return read_sealed(file)
        return {}

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Write a document in the place of that of the same name: whole, or not at all.

        Raises:
            QueryError: If that is no name for a document.
            StoreError: If the folder cannot be written.
        """
        file = self._file(name)
        with writing(self.folder):
            require_own_folder(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(file, seal(document))

    def problems(self) -> Iterator[tuple[Path, StoreError]]:
        """Yield each file that is not as it was written, and why."""
        try:
            names = self.names()
        except StoreError as error:
            yield self.folder, error
            return
        for name in names:
            try:
                self.read(name)
            except StoreError as error:
                yield self._file(name), error

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise QueryError(
                f"{name!r} is no name for what is added to a store: up to 64 small letters, "
                f"digits, - and _"
            )
        return self.folder / f"{name}{_SUFFIX}"
