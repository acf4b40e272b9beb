"""Which recording of a store a row of a table is about: by a list, by its clip, number or name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, Protocol

from indexer.audio.content import exists
from indexer.errors import SoundalikeError
from indexer.library.names import ByName
from indexer.store.reader import Store
from indexer.store.snapshot import Snapshot
from search.datasets.captions import Captioned
from search.datasets.clips import StoredClips
from search.datasets.matches import matched
from search.datasets.splits import Role, role_of, role_of_folder

#: Whose tables they are; "paths" are those of somebody's own, which say where each file is.
Dataset = Literal["AudioCaps", "Clotho", "paths"]


#: In which ways a path is looked for, in this order.
PATHS_ARE = "as the store has it, below a library, or from the current folder"


class Unused(NamedTuple):
    """What a list of which file is which sound says to no avail.

    Attributes:
        paths: Those that no file of the store has.
        ids: Those that no table has.
    """

    paths: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


class Finder(Protocol):
    """Finds the recording of a sound."""

    def __call__(self, captioned: Captioned, split: str) -> bytes | None:
        """Return its id; None if the store has none.

        Args:
            captioned: The row of a table.
            split: What the table is called.
        """
        ...


def finder(
    store: Store, snapshot: Snapshot, dataset: Dataset, matches: Mapping[str, str]
) -> Finder:
    """Return what finds the sounds of a published set, or of a table of paths.

    What people say of a sound counts before its name. A clip of AudioCaps is found by YouTube id
    and start, or else by one of its audiocap_ids, if a file is called by nothing else; a sound of
    Clotho by its file's name, whatever folder it lies in; one of a table of paths by its path, or
    else by its file's name.

    Args:
        store: With the sounds in it.
        snapshot: Of it.
        dataset: Whose tables they are.
        matches: What sounds are called → a path, see `matches_of`.
    """
    at_path = _at_path(store)
    ways: tuple[Finder, ...] = (_by_file_name(store),)
    if dataset == "AudioCaps":
        ways = (_by_clip(store, snapshot), _by_number(store))
    elif dataset == "paths":
        ways = (lambda captioned, _: by_path(captioned.file_id), *ways)

    def by_path(path: str) -> bytes | None:
        return _only_one(at_path(path), path)

    def find(captioned: Captioned, split: str) -> bytes | None:
        if path := matched(captioned, matches):
            return by_path(path)
        return next((found for way in ways if (found := way(captioned, split))), None)

    return find


def unused(
    store: Store, matches: Mapping[str, str], tables: Iterable[Sequence[Captioned]]
) -> Unused:
    """Return what of a list of which file is which sound finds nothing.

    Args:
        store: With the sounds in it.
        matches: What sounds are called → a path, see `matches_of`.
        tables: Of captions, all that are looked at.

    Raises:
        SoundalikeError: If none of the paths is in the store.
    """
    if not matches:
        return Unused()
    at_path = _at_path(store)
    paths = list(dict.fromkeys(matches.values()))
    absent = tuple(path for path in paths if not at_path(path))
    if len(absent) == len(paths):
        there = next((path for path, _ in store.live_files()), "nothing")
        raise SoundalikeError(
            f"none of the files that are matched with sounds, {paths[0]!r} for one, is in "
            f"{store.path}; it has {there!r}; a path is looked for {PATHS_ARE}"
        )
    names = {name for table in tables for one in table for name in one.names}
    return Unused(absent, tuple(one for one in matches if one not in names))


def _at_path(store: Store) -> Callable[[str], set[bytes]]:
    """Return what finds the recordings at a path, of which two libraries may have one each."""
    recordings = ByName(store.live_files())
    roots = tuple(store.libraries().values())

    def below(path: Path) -> set[bytes]:
        names = [path.relative_to(root) for root in roots if path.is_relative_to(root)]
        return {one for name in names for one in recordings[name.as_posix()]}

    def find(given: str) -> set[bytes]:
        path = Path(given)  # which leaves out ./
        if found := {*recordings[path.as_posix()], *below(path)}:
            return found
        # A folder on the way may be a link, by which the library was not named.
        here = (Path(os.path.abspath(path)), path.parent.resolve() / path.name)  # noqa: PTH100
        return {one for way in here for one in below(way)} if exists(path) else set()

    return find


def _by_clip(store: Store, snapshot: Snapshot) -> Finder:
    clips = StoredClips(store, snapshot)

    def find(captioned: Captioned, split: str) -> bytes | None:
        clip = clips.find(captioned.youtube_id or "", captioned.start_s)
        return None if clip is None else clips.recording(clip)

    return find


def _by_number(store: Store) -> Finder:
    """Find files that are called as a row of AudioCaps is, `91139.wav`.

    A number may be anything: a file in the folder of another split is none of this one.
    """
    numbers = ByName(_placed(store, lambda path: path.stem))

    def find(captioned: Captioned, split: str) -> bytes | None:
        for number in filter(str.isdecimal, captioned.audiocap_ids):
            if found := _of_split(numbers[number], split, others=False):
                return _only_one(found, number)
        return None

    return find


def _by_file_name(store: Store) -> Finder:
    names = ByName(_placed(store, lambda path: path.name))

    def find(captioned: Captioned, split: str) -> bytes | None:
        name = captioned.file_id
        return _only_one(_of_split(names[name], split, others=True), name)

    return find


_Placed = tuple[Role | None, bytes]


def _placed(store: Store, called: Callable[[PurePosixPath], str]) -> Iterable[tuple[str, _Placed]]:
    for path, recording in store.live_files():
        yield called(PurePosixPath(path)), (role_of_folder(path), recording)


def _of_split(found: Iterable[_Placed], split: str, *, others: bool) -> set[bytes]:
    """Return the recordings that lie in a folder of a split, or else in one that names none.

    Args:
        found: Those of one name.
        split: What the table is called; one that is called by no split takes all.
        others: Whether those in folders of other splits are taken if there is nothing else.
    """
    by_role: dict[Role | None, set[bytes]] = defaultdict(set)
    for where, recording in found:
        by_role[where].add(recording)
    everywhere, role = set().union(*by_role.values()), role_of(split)
    if role is None:
        return everywhere
    return by_role[role] or by_role[None] or (everywhere if others else set())


def _only_one(found: set[bytes], name: str) -> bytes | None:
    if len(found) > 1:
        raise SoundalikeError(
            f"several files with different content are called {name}; export each split from a "
            f"store of its own"
        )
    return next(iter(found), None)
