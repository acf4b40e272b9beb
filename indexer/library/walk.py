"""Walking a library: which files are there, which are asked for, what could not be listed.

A pack is walked as if it were a folder of its members.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from indexer.audio.content import has_name, look_ahead, reading_order, state_of
from indexer.audio.file import State
from indexer.audio.packs.held import is_compressed_tar, is_named_as_archive, is_named_as_pack
from indexer.errors import LibraryError
from indexer.library.files import FileList, FoundFile
from indexer.library.folders import files_in_folders
from indexer.library.listed import with_members
from indexer.library.lists import read_names
from indexer.library.names import Spelling
from indexer.library.objects import is_reachable, objects_below
from indexer.library.packs import PackFolder, no_folder, pack_at, require_folder
from indexer.library.passed_over import (
    OF_THE_SYSTEM,
    PassedOver,
    is_hidden,
    is_included,
    matches,
    may_reach,
    why_passed_over,
)
from indexer.paths import Address, Span, address_of, text_from_bytes
from indexer.progress import Listen, Step, count, ignore

#: A listener hears of a walk once per this many files.
_FILES_PER_STEP = 1000


@dataclass(slots=True)
class Walk:
    """What a library holds.

    Attributes:
        root: Absolute path of the library.
        files: To look at, in the order of their paths; members of a pack in that of its rows.
        hidden: Would be looked at if names that begin with a dot were.
        unreadable: (path, reason) of folders that could not be listed.
        unlisted: Paths of hidden folders that could not be listed, which nobody asked for.
        unreached: Paths of what may be packs, and that no pattern reaches into.
        num_skipped: Files without an audio extension.
        num_excluded: Files that `include` or `exclude` left out.
        num_unnamed: Rows of packs without a name: clips that were not there to be packed.
        num_outside: Names in packs that would lead out of them, and do not.
        num_links: Links in archives, called as sounds are: nothing follows them there.
        num_compressed: Files, among those that are skipped, that are tars packed as a whole.
        num_no_archives: Likewise files that are called archives, and are empty or something else.
        num_packs_elsewhere: Likewise objects that may be packs, and are no archives.
        is_complete: Whether the whole library was walked, so that an absent file is a deleted one.
        is_list: Whether a list named the files, which need not be there.
        seconds: How long that took, if anybody measured it.
    """

    root: Path
    files: FileList = field(default_factory=FileList)
    hidden: FileList = field(default_factory=FileList)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    unreached: set[str] = field(default_factory=set)
    num_skipped: int = 0
    num_excluded: int = 0
    num_unnamed: int = 0
    num_outside: int = 0
    num_links: int = 0
    num_compressed: int = 0
    num_no_archives: int = 0
    num_packs_elsewhere: int = 0
    is_complete: bool = True
    is_list: bool = False
    seconds: float = 0.0
    _place: tuple[int, int] | None = field(init=False)

    def __post_init__(self) -> None:
        self._place = _place(self.root)

    def is_there(self) -> bool:
        """Whether the root still is the folder that was walked, on the disk that it was on."""
        if isinstance(self.root, Address):
            return is_reachable(self.root, is_list=self.is_list)
        return _place(self.root) == self._place


def walk(
    root: Path,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    listen: Listen = ignore,
    *,
    hidden: bool = False,
    may_be_empty: bool = False,
) -> Walk:
    """List the audio files below a folder.

    Symbolic links are followed, each folder once. Stores are passed over, and what the system keeps
    for itself.

    Args:
        root: The library.
        include: Patterns (`*` crosses folders) of relative paths; if given, only files that match
            one are taken, whatever their extension.
        exclude: Patterns of relative paths that are left out.
        listen: Hears now and then how many files have been seen.
        hidden: Take files and folders, too, whose names begin with a dot.
        may_be_empty: Whether there need be no audio, as in a library that a store knows: all of it
            may have been deleted.

    Raises:
        LibraryError: If `root` is not a folder that can be listed, or holds no audio, or none that
            passes the patterns.
    """
    found = Walk(require_folder(root))
    passed_over: Counter[tuple[PassedOver, bool]] = Counter()
    for number, (path, state) in enumerate(files_below(found)):
        if number % _FILES_PER_STEP == 0:
            listen(Step("walking", number, None, "file"))
        why = why_passed_over(path, include, exclude, hidden=hidden)
        may_be_pack = why is not None and _may_be_pack(path, exclude)
        # To list a pack may be to fetch it: none is listed that no pattern reaches into.
        if why is None or (may_be_pack and may_reach(path, include)):
            found.files.append(_found_file(found.root, path, state=state))
        elif why == "hidden":
            found.hidden.append(_found_file(found.root, path, state=state))
        else:
            if may_be_pack:
                found.unreached.add(path)
            passed_over[why, is_hidden(path)] += 1
            is_tar = why == "ending" and not is_hidden(path) and is_compressed_tar(path)
            found.num_compressed += is_tar
    found.files = _with_members(found, passed_over, (include, exclude), listen, hidden=hidden)
    _tell(found, listen)
    num_hidden = passed_over["ending", True]
    found.num_skipped = passed_over["ending", False] + num_hidden
    found.num_excluded = passed_over["pattern", False] + passed_over["pattern", True]
    if not hidden:  # nothing in them is wanted
        found.unlisted = [path for path, _ in found.unreadable if is_hidden(path)]
        found.unreadable = [one for one in found.unreadable if not is_hidden(one[0])]
    is_asked_for_nothing = bool(found.num_excluded) or not may_be_empty
    if is_asked_for_nothing and not found.files and not found.unreadable:
        raise _nothing_found(found, all_hidden=found.num_skipped == num_hidden)
    return found


def _tell(found: Walk, listen: Listen) -> None:
    """Say what was seen that is no failure, and that nobody may expect."""
    told = {
        "rows of packs that have no name are passed over": found.num_unnamed,
        "names in packs that lead out of them are taken without '..'": found.num_outside,
        "links to sounds in archives are passed over, pack what they lead to": found.num_links,
        "tars that are compressed are skipped, unpack them to .tar": found.num_compressed,
        "files called .tar or .zip that are empty or no archive are skipped": found.num_no_archives,
        "HDF5 and Parquet in buckets are skipped, copy them to a disk": found.num_packs_elsewhere,
    }
    for said, number in told.items():
        if number:
            listen(f"{said}: {number:,}")


def _may_be_pack(path: str, exclude: Sequence[str]) -> bool:
    """Whether a file may be a pack that is not left out."""
    return not path or (is_named_as_pack(path) and not matches(path, exclude))


def _with_members(
    found: Walk,
    passed_over: Counter[tuple[PassedOver, bool]],
    patterns: tuple[Sequence[str], Sequence[str]],
    listen: Listen,
    *,
    hidden: bool,
) -> FileList:
    """Return files in the order of their paths, and in the place of each pack what is in it.

    The members of a pack stay in its own order; those of a hidden one are hidden files. A pattern
    that the pack matches is one that its members match, sounds as far as it is an archive. What is
    no pack is passed over as other files are.
    """
    files, (include, exclude) = FileList(), patterns
    ordered = with_members(
        found.root, found.files.in_order(), lambda file: file.path, found.unreadable, listen
    )
    for file, pack in ordered:
        is_seen = hidden or not is_hidden(file.path)
        if pack is None and (why := why_passed_over(file.path, include, exclude, hidden=True)):
            passed_over[why, is_hidden(file.path)] += 1
            is_archive = is_named_as_archive(file.path)
            found.num_no_archives += why == "ending" and is_archive and is_seen
            is_pack = is_named_as_pack(file.path) and not is_archive
            found.num_packs_elsewhere += is_pack and isinstance(found.root, Address) and is_seen
        elif pack is None:
            (files if is_seen else found.hidden).append(file)
        if not isinstance(pack, PackFolder):
            continue
        if is_seen:
            found.num_unnamed += pack.members.num_unnamed
            found.num_outside += pack.members.num_outside
            found.num_links += pack.members.num_links
        takes_all = is_included(file.path, include)
        for member in pack:
            asked = () if takes_all and not matches(member.path, include) else include
            why = pack.why_passed_over(member.path, asked, exclude, hidden=hidden)
            if why in (None, "hidden"):
                (found.hidden if why else files).append(member)
            else:
                passed_over[why, is_hidden(member.path)] += 1
    return files


def read_list(root: Path, files_from: Path) -> Walk:
    """Take the files that a list names.

    Args:
        root: The library; relative paths are relative to it.
        files_from: See `read_names`.

    Raises:
        LibraryError: If the list cannot be read, or names a file outside the library.
    """
    found = Walk(require_folder(root), is_complete=False, is_list=True)
    # A list may name files by the root as it was given, which is a link on some machines.
    given = address_of(root) or Path(os.path.abspath(root))  # noqa: PTH100 - resolve() follows links
    roots = (found.root, given)
    spelled = Spelling(found.root)
    listed: set[tuple[str, Span | None]] = set()
    for name, span in read_names(files_from):
        relative = _relative(name, roots)
        if relative is None:
            raise LibraryError(
                f"{name} in {files_from} is outside the library {found.root}; "
                f"name a library that holds all of the list"
            )
        text = text_from_bytes(os.fsencode(spelled.on_disk(relative)))
        listed.add((text, span))
    ordered = sorted(listed, key=lambda one: (one[0].encode(), one[1] or (-1, -1)))
    names = look_ahead(ordered, lambda one: FoundFile(one[0], 0, 0).local(found.root))
    files = [_found_file(found.root, text, span) for text, span in names]
    files.sort(key=lambda file: reading_order(file.local(found.root)))  # spans stay in theirs
    found.files = FileList(files)
    if not found.files:
        raise LibraryError(f"the list {files_from} names no file")
    return found


def look_again(
    found: Walk, include: Sequence[str] = (), exclude: Sequence[str] = (), *, hidden: bool = False
) -> Walk:
    """Return what a library holds now, after a long wait.

    Args:
        found: What it held before: all of it, or the files of a list, which are looked at again.
        include: The patterns of the walk.
        exclude: Likewise.
        hidden: Whether it takes hidden files.

    Raises:
        LibraryError: If it is gone, or no longer holds a file that passes the patterns.
    """
    if found.is_complete:
        return walk(found.root, include, exclude, hidden=hidden, may_be_empty=True)
    again = Walk(require_folder(found.root), is_complete=False, is_list=found.is_list)
    for file in look_ahead(found.files, lambda file: file.local(found.root)):
        again.files.append(_found_file(again.root, file.path, file.span))
    return again


def _place(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from whatever takes its name later; None if there is none."""
    try:
        status = (pack_at(folder) or folder).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _nothing_found(found: Walk, *, all_hidden: bool) -> LibraryError:
    """Return what to say of a library without a file to look at.

    Args:
        found: The library.
        all_hidden: Whether the files without an audio extension, if there are any, all are hidden.
    """
    num_hidden = len(found.hidden)
    if isinstance(found.root, Address) and has_name(found.root):
        return no_folder(found.root)
    none = f"no audio in {found.root}"
    if found.num_excluded:
        none = f"no file in {found.root} passes the patterns ({found.num_excluded} left out)"
    if num_hidden:
        whose = "files whose names, or those of their folders, begin"
        if num_hidden == 1:
            whose = "file whose name, or that of one of its folders, begins"
        return LibraryError(
            f"{none} but what is hidden: {num_hidden} {whose} with a dot", about="hidden"
        )
    if found.num_excluded:
        return LibraryError(f"{none}; include more, or exclude less")
    if not found.num_skipped:
        return LibraryError(f"{none}: there is no file in it")
    if found.num_skipped == found.num_compressed:
        tars = count(found.num_compressed, "tar")
        return LibraryError(f"{none} ({tars} compressed as a whole); unpack what is to be read")
    if all_hidden:
        return LibraryError(
            f"{none} ({count(found.num_skipped, 'file')} with other extensions, all of them "
            f"hidden); take what is hidden, and include those that are audio all the same"
        )
    return LibraryError(
        f"{none} ({count(found.num_skipped, 'file')} with other extensions); include those that "
        f"are audio all the same",
        about="include",
    )


def files_below(found: Walk) -> Iterator[tuple[str, State | None]]:
    """Yield the relative path, as stored, of every file, and its state where the listing has it.

    First comes what is visible and no link, then folders behind links, and then hidden ones: each
    folder once, under the name that comes first. Folders that cannot be listed are added to those
    of the walk. A pack is a file here; the name of the one that is a library is empty.

    Raises:
        LibraryError: If the library itself cannot be listed.
    """
    if pack_at(found.root):
        return iter([("", None)])
    if isinstance(found.root, Address):
        objects = objects_below(found.root)
        return (one for one in objects if not any(map(OF_THE_SYSTEM.fullmatch, one[0].split("/"))))
    return ((path, None) for path in files_in_folders(found.root, found.unreadable))


def _found_file(
    root: Path, text: str, span: Span | None = None, *, state: State | None = None
) -> FoundFile:
    try:
        state = state or state_of(FoundFile(text, 0, 0).local(root))
    except OSError:  # a broken link or a missing file: for the decoder to report
        return FoundFile(text, 0, 0, span)
    return FoundFile(text, *state, span)


def _relative(name: str, roots: Sequence[Path]) -> str | None:
    """Return a listed name relative to the library; None if it is outside of it."""
    for root in roots:
        if isinstance(root, Address):
            address = address_of(name) or root / name
            is_below = address.is_relative_to(root) and ".." not in address.parts
            return str(address.relative_to(root)) if is_below else None
        relative = os.path.relpath(root / name, root)
        if relative != ".." and not relative.startswith("../"):
            return relative
    return None
