"""Packs in a library, each taken for a folder of its members; and a pack that is a library."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from indexer.audio.content import has_name, look_ahead
from indexer.audio.packs.held import (
    held,
    inside,
    is_compressed_tar,
    is_named_as_archive,
    is_named_as_pack,
    split,
)
from indexer.audio.packs.members import Members
from indexer.audio.packs.pack import NotAPackError
from indexer.audio.remote.objects import objects, require_reader
from indexer.errors import AudioError, LibraryError
from indexer.library.files import FoundFile
from indexer.library.passed_over import (
    OF_THE_SYSTEM,
    PassedOver,
    is_hidden,
    is_included,
    matches,
    why_passed_over,
)
from indexer.paths import Address, address_of, local_path, text_from_bytes

_NEEDS = (
    "a library is a folder of audio, or a pack: HDF5 with audio_name and waveform, Parquet with a "
    "column of bytes and path, tar or zip"
)


def library_root(library: Path) -> Path:
    """Return the absolute path of a library, which need not be there.

    Args:
        library: A folder; or a pack, whose root is the folder that its members seem to lie in:
            `eval.h5!` for `eval.h5`. Of a link that is called a pack and leads to something that
            is not, as in caches of downloads, that is the link's. An address is its own root, but
            for that of an archive.
    """
    if (pack := pack_at(library)) is None:
        return address_of(library) or library.resolve()
    if address_of(pack):
        return inside(pack)
    behind = pack.resolve()
    is_named = is_named_as_pack(behind.name)
    return inside(behind if is_named else pack.parent.resolve() / pack.name)


def pack_at(library: Path) -> Path | None:
    """Return the file that `eval.h5` or `eval.h5!` means, if it is there and may be a pack.

    A prefix in a bucket may be called so, and is none: there is no object of that name.
    """
    as_folder = inside(library) if is_named_as_pack(library.name) else library
    found = split(as_folder)
    if found is None or found[1]:
        return None
    if as_folder is not library and (address := address_of(found[0])):
        try:
            objects.state_of(address)
        except FileNotFoundError:
            return None
        except OSError:  # for whoever opens it to report
            pass
    return found[0]


def no_folder(root: Path) -> LibraryError:
    """Return what to say of a file in the place of a library."""
    return LibraryError(
        f"{root} is not a folder; name the folder that it is in, or listen to it alone", about="tag"
    )


def require_folder(root: Path) -> Path:
    """Return the absolute path of a library, see `library_root`.

    Raises:
        LibraryError: If it is neither a folder nor a pack.
    """
    address, parts = address_of(root), split(root)
    if address:
        require_reader(address)
        objects.doubt(parts[0] if parts else address)
    if pack := pack_at(root):
        _require_pack(pack)
        return library_root(root)
    if parts and parts[1]:
        raise _in_a_pack(root, parts[0], os.fsdecode(parts[1]))
    if address:
        _require_prefix(address)
        return address
    if not root.exists():
        what = "pack" if is_named_as_pack(root.name) else "folder"
        raise LibraryError(f"no such {what}: {root}")
    if is_compressed_tar(root.name) and root.is_file():
        raise _compressed(root)
    if not root.is_dir():
        raise no_folder(root)
    return root.resolve()


def _in_a_pack(root: Path, pack: Path, within: str) -> LibraryError:
    return LibraryError(
        f"{root} is in a pack, which is a library as a whole: name {pack}, and include {within!r} "
        f"or '{within}/*' alone"
    )


def _compressed(root: Path) -> LibraryError:
    return LibraryError(
        f"{root} is compressed as a whole, and nothing in it can be read by itself; unpack it to "
        f".tar, or into a folder"
    )


def _require_prefix(address: Address) -> None:
    """Raise if what is below an address is no library for what it is called.

    Raises:
        LibraryError: Of what is in an archive as in a folder, and of objects that are no archives.
    """
    for parent in address.parents:
        if is_named_as_archive(parent.name) and is_pack(parent):
            raise _in_a_pack(address, parent, str(address.relative_to(parent)))
    is_tar, is_table = is_compressed_tar(address.name), is_named_as_pack(address.name)
    if (is_tar or is_table) and has_name(address):
        if is_tar:
            raise _compressed(address)
        raise LibraryError(
            f"{address} lies in a bucket, where tars and zips are read, and no other packs; copy "
            f"it to a disk"
        )


def _require_pack(pack: Path) -> None:
    """Raise unless a file can be walked as a pack.

    Raises:
        LibraryError: If it is none, or cannot be listed.
    """
    try:
        held(pack)
    except NotAPackError as error:
        raise LibraryError(f"{pack} is no pack: {error}; {_NEEDS}") from error
    except (AudioError, OSError) as error:
        raise LibraryError(_not_listed(error).replace("the pack", f"the pack {pack}", 1)) from error


def is_pack(path: Path) -> bool:
    """Whether a file is a pack that can be listed."""
    try:
        return pack_at(path) is not None and held(path) is not None
    except (NotAPackError, AudioError, OSError):
        return False


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, packs as folders of their members too; or those of members.

    Raises:
        OSError: If it cannot be listed.
    """
    if pack := pack_at(folder):
        try:
            return [os.fsdecode(one.name) for one in held(pack).members]
        except (NotAPackError, AudioError):
            return []
    names = os.listdir(folder)  # noqa: PTH208 - names, not paths
    return [*names, *(inside(Path(name)).name for name in names if is_named_as_pack(name))]


@dataclass(frozen=True, slots=True)
class PackFolder:
    """What is in a pack of a library, as files, in the order in which they are read best.

    Attributes:
        prefix: What stands before the names of members in their paths.
        members: Of the pack.
        is_archive: Whether there may be files of any kind in it.
    """

    prefix: str
    members: Members
    is_archive: bool

    def __iter__(self) -> Iterator[FoundFile]:
        for name, size, mtime_ns in self.members:
            text = text_from_bytes(name)
            if not (self.is_archive and any(map(OF_THE_SYSTEM.fullmatch, text.split("/")))):
                yield FoundFile(self.prefix + text, size, mtime_ns)

    def why_passed_over(
        self, path: str, include: Sequence[str], exclude: Sequence[str], *, hidden: bool
    ) -> PassedOver | None:
        """Return why a member is left out; None if it is taken.

        In an archive that is so as in a folder. In other packs all are sounds, whatever they are
        called, and none is hidden unless the pack is. An archive in an archive is none by any
        pattern: nothing looks into it.

        Args:
            path: Of the member, in the library.
            include: Patterns, see `walk`.
            exclude: Likewise.
            hidden: Whether hidden files are taken.
        """
        if self.is_archive:
            why = why_passed_over(path, include, exclude, hidden=hidden)
            return "ending" if why != "pattern" and is_named_as_archive(path) else why
        if matches(path, exclude) or not is_included(path, include):
            return "pattern"
        return "hidden" if is_hidden(self.prefix) and not hidden else None


def members_of(
    root: Path, path: str, unreadable: list[tuple[str, str]]
) -> PackFolder | tuple[()] | None:
    """Return what is in a file of a library that is a pack; None of one that is none.

    Args:
        root: Of the library.
        path: Of the file, as stored; empty if it is the library.
        unreadable: Gets the path of a pack that cannot be listed, and why: there is nothing in it.
            Or of one that is cut off: what was listed is in it.
    """
    if path and not is_named_as_pack(path):
        return None
    found = split(inside(root / local_path(path)) if path else root)
    if found is None:  # its members would have the names of files in a folder
        return None
    pack = found[0]
    try:
        members = held(pack).members
    except NotAPackError:
        return None
    except (AudioError, OSError) as error:
        unreadable.append((path or ".", _not_listed(error)))
        return ()
    if members.flaw:
        unreadable.append((path or ".", f"the pack is {members.flaw}"))
    return PackFolder(f"{path}!/" if path else "", members, is_named_as_archive(pack.name))


def packs_on_the_way(path: str) -> Iterator[str]:
    """Yield what a stored path may lead into, as far as its name says."""
    return (path[: found.start()] for found in re.finditer("!/", path))


def packs_no_more(
    root: Path, paths: Iterable[str], unreached: Set[str]
) -> Iterator[tuple[str, str]]:
    """Yield the files that were packs, since some paths lead into them, and are none; and why.

    An empty file, or one that begins otherwise, may be a pack that somebody is still copying: it
    is one that cannot be listed.

    Args:
        root: Of the library.
        paths: As stored.
        unreached: Packs that are there, and that nobody looks into.
    """
    packs = {pack for path in paths for pack in packs_on_the_way(path)}
    for pack in look_ahead(sorted(packs - unreached), lambda pack: root / local_path(pack)):
        try:
            if is_named_as_pack(pack) and (file := pack_at(root / local_path(pack))):
                held(file)
        except NotAPackError as error:
            yield pack, _not_listed(error)
        except (AudioError, OSError):
            pass


def _not_listed(error: AudioError | NotAPackError | OSError) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return f"the pack cannot be listed: {said or error}"
