"""What is in the packs of a library, one after the other; archives in buckets are listed ahead."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Self, TypeAlias, TypeVar

from indexer.audio.packs.held import is_named_as_archive
from indexer.audio.remote.objects import objects
from indexer.library.packs import PackFolder, members_of
from indexer.paths import address_of, local_path
from indexer.progress import Listen, Step, ignore

#: Archives in a bucket that are listed at a time, and files that wait for that: as many as the
#: fetcher asks for their states at a time.
_NUM_LISTERS, _NUM_AHEAD = 8, 32
#: How often a listener hears of it, in seconds.
_LISTEN_S = 0.5

Thing = TypeVar("Thing")
#: What is in a file, see `members_of`, and what of it is unreadable.
_Listed: TypeAlias = "tuple[PackFolder | tuple[()] | None, list[tuple[str, str]]]"


def with_members(
    root: Path,
    things: Iterable[Thing],
    path_of: Callable[[Thing], str],
    unreadable: list[tuple[str, str]],
    listen: Listen = ignore,
) -> Iterator[tuple[Thing, PackFolder | tuple[()] | None]]:
    """Yield files of a library, and of each what is in it, see `members_of`.

    Archives that lie elsewhere are listed ahead, by threads: each waits for the network.

    Args:
        root: Of the library.
        things: The files.
        path_of: Tells the path of one, as stored.
        unreadable: See `members_of`.
        listen: Hears, while archives that lie elsewhere are listed, how much was fetched for it.
    """
    if address_of(root) is None:
        yield from ((thing, members_of(root, path_of(thing), unreadable)) for thing in things)
        return
    with _Listers(root) as listers:
        waiting: deque[tuple[Thing, Future[_Listed] | None]] = deque()
        for thing in things:
            waiting.append((thing, listers.begin(path_of(thing))))
            while waiting and (waiting[0][1] is None or len(waiting) > _NUM_AHEAD):
                thing, listed = waiting.popleft()
                yield thing, listers.wait(listed, path_of(thing), unreadable, listen)
        for thing, listed in waiting:
            yield thing, listers.wait(listed, path_of(thing), unreadable, listen)


class _Listers:
    """Threads that list the archives of a library; nobody waits for them if they are not needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._asked: SimpleQueue[tuple[str, Future[_Listed]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._num_bytes_before = objects.num_bytes

    def __enter__(self) -> Self:
        return self

    def begin(self, path: str) -> Future[_Listed] | None:
        """Have a file listed that may be an archive; None for another."""
        if path and not is_named_as_archive(path):
            return None
        if len(self._threads) < _NUM_LISTERS:
            self._threads.append(threading.Thread(target=self._list, daemon=True))
            self._threads[-1].start()
        asked = path, Future[_Listed]()
        if path:  # its state, which a list may say otherwise than whoever gives a part of it
            objects.look_ahead([self._root / local_path(path)])
        self._asked.put(asked)
        return asked[1]

    def wait(
        self,
        listed: Future[_Listed] | None,
        path: str,
        unreadable: list[tuple[str, str]],
        listen: Listen,
    ) -> PackFolder | tuple[()] | None:
        """Return what is in a file, and say meanwhile how much was fetched to know it."""
        while listed is not None:
            num_bytes = objects.num_bytes - self._num_bytes_before
            listen(Step("listing archives", num_bytes, None, "byte", name=path))
            with contextlib.suppress(NotYet):
                members, reasons = listed.result(_LISTEN_S)
                unreadable += reasons
                return members
        return None

    def _list(self) -> None:
        while asked := self._asked.get():
            path, listed = asked
            reasons: list[tuple[str, str]] = []
            try:
                listed.set_result((members_of(self._root, path, reasons), reasons))
            except Exception as error:  # noqa: BLE001 - for who waits for it
                listed.set_exception(error)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._asked.get_nowait()
        for _one in self._threads:
            self._asked.put(None)
