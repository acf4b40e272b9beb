"""Names of files as people write them: the same letters may be other bytes.

An accented letter is one character in one normal form of Unicode (NFC), and a letter and an accent
in another (NFD). Keyboards and most programs write the first; disks of Macs held the second.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Generic, TypeVar

from indexer.audio.content import has_name
from indexer.audio.packs.held import split
from indexer.library.packs import names_in, pack_at
from indexer.paths import address_of

Thing = TypeVar("Thing")


def composed(name: str) -> str:
    """Return a name with each accented letter as one character."""
    return unicodedata.normalize("NFC", name)


class ByName(Generic[Thing]):
    """Things by their names: those of exactly that name, or else of the same letters."""

    def __init__(self, named: Iterable[tuple[str, Thing]]) -> None:
        """Take pairs of a name and a thing; several may have one name."""
        self._exact: dict[str, list[Thing]] = defaultdict(list)
        self._composed: dict[str, list[Thing]] = defaultdict(list)
        for name, thing in named:
            self._exact[name].append(thing)
            self._composed[composed(name)].append(thing)

    def __getitem__(self, name: str) -> list[Thing]:
        return self._exact.get(name) or self._composed.get(composed(name), [])


class Spelling:
    """How the names of files are written on a disk; folders are listed when it is needed, once."""

    def __init__(self, root: Path) -> None:
        """Take the folder that names are relative to."""
        self._root = root
        self._listed: dict[Path, ByName[str]] = {}

    def on_disk(self, relative: str) -> str:
        """Return a relative path as the disk has it, if it has the same letters in other bytes.

        And as a pack has it: what a member is called there is one name, slashes included.
        """
        if relative.isascii():
            return relative
        whole = self._root / relative
        if (address_of(whole) and not split(whole)) or has_name(whole):
            return relative
        folder, rest = self._root, list(PurePath(relative).parts)
        while rest:
            name = "/".join(rest) if pack_at(folder) else rest[0]
            rest = [] if pack_at(folder) else rest[1:]
            alike = [name] if has_name(folder / name) else self._names(folder)[name]
            folder /= alike[0] if len(alike) == 1 else name
        return os.fspath(folder.relative_to(self._root))

    def _names(self, folder: Path) -> ByName[str]:
        if folder not in self._listed:
            try:
                names = names_in(folder)
            except OSError:  # it is not there: as the list says, for the decoder to report
                names = []
            self._listed[folder] = ByName((name, name) for name in names)
        return self._listed[folder]
