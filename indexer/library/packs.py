"""Packs in a library, each taken for a folder of its members; and a pack that is a library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from indexer.audio.packs.held import held, inside, is_named_as_pack, split
from indexer.audio.packs.members import Members
from indexer.audio.packs.pack import NotAPackError
from indexer.errors import AudioError, LibraryError
from indexer.library.files import FoundFile
from indexer.paths import local_path, text_from_bytes

_NEEDS = (
    "a library is a folder of audio, or a pack: HDF5 with audio_name and waveform, or Parquet with "
    "a column of bytes and path"
)


def library_root(library: Path) -> Path:
    """Return the absolute path of a library, which need not be there.

    Args:
        library: A folder; or a pack, whose root is the folder that its members seem to lie in:
            `eval.h5!` for `eval.h5`.
    """
    pack = pack_at(library)
    return library.resolve() if pack is None else inside(pack.resolve())


def pack_at(library: Path) -> Path | None:
    """Return the file that `eval.h5` or `eval.h5!` means, if it is there and may be a pack."""
    as_folder = inside(library) if is_named_as_pack(library.name) else library
    found = split(as_folder)
    return found[0] if found is not None and not found[1] else None


def require_pack(pack: Path) -> None:
    """Raise unless a file can be walked as a pack.

    Raises:
        LibraryError: If it is none, or cannot be listed.
    """
    try:
        held(pack)
    except NotAPackError as error:
        raise LibraryError(f"{pack} is no pack: {error}; {_NEEDS}") from error
    except (AudioError, OSError) as error:
        raise LibraryError(f"the pack {pack} cannot be listed: {_reason(error)}") from error


def is_pack(path: Path) -> bool:
    """Whether a file is a pack that can be listed."""
    try:
        return pack_at(path) is not None and held(path) is not None
    except (NotAPackError, AudioError, OSError):
        return False


@dataclass(frozen=True, slots=True)
class PackFolder:
    """What is in a pack of a library, as files, in the order in which they are read best.

    Attributes:
        prefix: What stands before the names of members in their paths.
        members: Of the pack.
    """

    prefix: str
    members: Members

    def __iter__(self) -> Iterator[FoundFile]:
        for name, size, mtime_ns in self.members:
            yield FoundFile(self.prefix + text_from_bytes(name), size, mtime_ns)


def members_of(
    root: Path, path: str, unreadable: list[tuple[str, str]]
) -> PackFolder | tuple[()] | None:
    """Return what is in a file of a library that is a pack; None of one that is none.

    Args:
        root: Of the library.
        path: Of the file, as stored; empty if it is the library.
        unreadable: Gets the path of a pack that cannot be listed, and why. There is nothing in it.
    """
    if path and not is_named_as_pack(path):
        return None
    pack = pack_at(root / local_path(path) if path else root)
    if pack is None:  # its members would have the names of files in a folder
        return None
    try:
        return PackFolder(f"{path}!/" if path else "", held(pack).members)
    except NotAPackError:
        return None
    except (AudioError, OSError) as error:
        unreadable.append((path or ".", f"the pack cannot be listed: {_reason(error)}"))
        return ()


def _reason(error: AudioError | OSError) -> str:
    return error.reason if isinstance(error, AudioError) else error.strerror or str(error)
