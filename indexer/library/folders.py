"""The files in a folder and below it: folders are listed ahead, by threads, as a network is slow.

A listing waits for the disk and for little else. What is found, and in which order, does not depend
on the threads.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from indexer.errors import LibraryError
from indexer.library.passed_over import OF_THE_SYSTEM, is_hidden
from indexer.paths import text_from_bytes

#: Folders that are listed at a time, and those that wait for it: of a disk with 5 ms a folder,
#: 16 threads list 3,000 a second.
_NUM_THREADS, _NUM_AHEAD = 16, 64
#: Names that are listed and not wanted yet, beside those of the folders in hand: 20 MB.
_MOST_WAITING = 1 << 17
#: What a folder holds that is a store.
_STORE_NAMES = {"store.json", "parts", "head.safetensors"}


class _Entry(NamedTuple):
    """A name in a folder."""

    name: str
    is_folder: bool
    is_link: bool


class _Listed(NamedTuple):
    """A folder: what tells it from others under any name, and what is in it or why nobody knows."""

    place: tuple[int, int] | None
    entries: list[_Entry]
    error: OSError | None = None


def files_in_folders(root: Path, unreadable: list[tuple[str, str]]) -> Iterator[str]:
    """Yield the relative path, as stored, of every file: first what is visible and no link.

    Then come folders behind links, and then hidden ones: each folder once, under the name that
    comes first.

    Args:
        root: The library.
        unreadable: Takes (path, reason) of folders that cannot be listed.

    Raises:
        LibraryError: If the library itself cannot be listed.
    """
    queues = [""], list[str](), list[str]()
    visited: set[tuple[int, int]] = set()
    ahead = _Ahead(root, visited)
    try:
        while waiting := next((queue for queue in queues if queue), None):
            ahead.begin(reversed(waiting[-_NUM_AHEAD:]))  # the last is wanted next
            folder = waiting.pop()
            place, entries, error = ahead.take(folder)
            if place in visited:
                continue
            if place:
                visited.add(place)
            if error:
                reason = f"the folder cannot be listed: {error.strerror}"
                if not folder:
                    raise LibraryError(f"{root}: {reason}") from error
                unreadable.append((text_from_bytes(os.fsencode(folder)), reason))
            yield from _files_among(folder, entries, *queues)
    finally:
        ahead.end()


class _Ahead:
    """Folders that are listed before they are wanted, as long as there is room for their names."""

    def __init__(self, root: Path, visited: Container[tuple[int, int]]) -> None:
        self._root, self._visited = root, visited
        self._threads = ThreadPoolExecutor(_NUM_THREADS, "folders")
        self._begun: dict[str, Future[_Listed | None]] = {}
        self._num_waiting, self._lock = 0, Lock()

    def begin(self, folders: Iterable[str]) -> None:
        """Begin to list folders, in the order in which they are wanted."""
        for folder in folders:
            if self._num_waiting >= _MOST_WAITING:
                return
            if folder not in self._begun:
                self._begun[folder] = self._threads.submit(self._list_if_room, folder)

    def take(self, folder: str) -> _Listed:
        """Return what is in a folder; of one that was visited, its place may be all."""
        begun = self._begun.pop(folder, None)
        listed = begun and begun.result()
        if not listed:
            return _list(self._root / folder, self._visited)
        self._count(-len(listed.entries))
        return listed

    def end(self) -> None:
        """List nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _list_if_room(self, folder: str) -> _Listed | None:
        if self._num_waiting >= _MOST_WAITING:
            self._begun.pop(folder, None)  # to be begun again
            return None
        listed = _list(self._root / folder, self._visited)
        self._count(len(listed.entries))
        return listed

    def _count(self, number: int) -> None:
        with self._lock:
            self._num_waiting += number


def _files_among(
    folder: str, entries: list[_Entry], visible: list[str], links: list[str], hidden: list[str]
) -> Iterator[str]:
    """Yield the files of a folder, and put the folders in it where they wait to be listed."""
    if {entry.name for entry in entries} >= _STORE_NAMES:
        return  # a store of ours: nothing in it is audio
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if OF_THE_SYSTEM.fullmatch(entry.name):
            continue
        if not entry.is_folder:
            yield text_from_bytes(os.fsencode(path))
        elif is_hidden(path):
            hidden.append(path)
        else:
            (links if entry.is_link else visible).append(path)


def _list(folder: Path, visited: Container[tuple[int, int]]) -> _Listed:
    place = None
    try:
        status = folder.stat()
        place = status.st_dev, status.st_ino
        if place in visited:  # by another link: thousands may lead to one folder
            return _Listed(place, [])
        with os.scandir(folder) as scan:
            entries = [_Entry(one.name, _is_folder(one), one.is_symlink()) for one in scan]
    except OSError as error:
        return _Listed(place, [], error)
    return _Listed(place, entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle: for the decoder to report, as one file
        return False
