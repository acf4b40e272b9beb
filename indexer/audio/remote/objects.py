"""Objects as a process sees them: their states, their content once it is fetched, and lists.

Nothing here speaks to a network: that is done by a process of its own, see `fetcher`, which is
started by the first question, and anew in a process that was forked.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from importlib.util import find_spec
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from xxhash import xxh3_64_intdigest

from indexer.audio.file import State, read_at, unnamed_file
from indexer.audio.remote.wire import Receiver, send
from indexer.errors import AudioError, LibraryError
from indexer.paths import Address

#: What was heard of an object is believed for so long, and what was fetched may be opened, in
#: seconds: whoever has a digest opens what it is of, be it a while later.
BELIEVED_S, _OPENED_S = 60.0, 3600.0
#: States that are remembered, and contents that are held: so many, or all together so many bytes.
_MOST_STATES, _MOST_HELD, _MOST_HELD_BYTES = 1 << 16, 8, 256 << 20
#: How often somebody who waits for the network says that it is alive, in seconds.
_BEAT_S = 1.0
#: How often a question is asked if what fetches ends: it may be killed for want of memory.
_MOST_TRIES = 3
_SECOND_NS = 10**9
_OF_STORES = re.compile(r"(AWS|GOOGLE|AZURE|SSL_CERT)_|.*_proxy$", re.IGNORECASE)
#: Of these, EIO alone leaves open whether anybody was there.
_ERRNOS = {
    "absent": errno.ENOENT,
    "refused": errno.EACCES,
    "misnamed": errno.EINVAL,
    "unable": errno.EOPNOTSUPP,
}


class Found(NamedTuple):
    """An object in a list: its path below what was listed, and its state."""

    path: str
    state: State


class _Content(NamedTuple):
    """An object as it was fetched; `file` is never read from where it stands."""

    file: FileIO
    state: State
    digest: bytes
    since_s: float


class _EndedError(OSError):
    """What fetches has ended before it answered."""


def require_reader(address: object) -> None:
    """Raise unless what fetches objects is installed.

    Raises:
        LibraryError: If it is not.
    """
    if find_spec("obstore") is None:
        raise LibraryError(
            f"{address} lies elsewhere, and obstore, which fetches from there, is not installed",
            about="remote_extra",
        )


class Objects:
    """What this process knows of objects; threads share it."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Know nothing: what a process had before it was forked is its parent's."""
        # It is kept, since what starts processes complains of one that it loses.
        self._of_parent = getattr(self, "_link", None)
        self._lock = threading.Lock()
        self._link: _Link | None = None
        self._states: OrderedDict[str, tuple[State | OSError, float]] = OrderedDict()
        self._contents: OrderedDict[str, _Content] = OrderedDict()
        self._under_way: dict[tuple[str, str], Future[Any]] = {}

    def close(self) -> None:
        """End the process that fetches, and forget all; the next question begins anew."""
        if self._link is not None:
            self._link.end()
        self.begin_anew()

    def state_of(self, path: Path) -> State:
        """Return the state of an object, as it was within the last minute.

        Raises:
            OSError: If it is not there (FileNotFoundError), or that cannot be told.
        """
        url = str(path)
        with self._lock:
            self._linked()  # with other variables nothing is known
            known, since_s = self._states.get(url, (None, 0.0))
        if known is None or time.monotonic() - since_s > BELIEVED_S:
            known = self._finish("head", url)
        if isinstance(known, OSError):
            raise OSError(known.errno, known.strerror)  # its own, or its trace would grow
        return known

    def look_ahead(self, paths: Iterable[Path]) -> None:
        """Ask for the states of some objects at once; whoever wants one does not wait for each."""
        for path in paths:
            url, now = str(path), time.monotonic()
            with self._lock:
                _, since_s = self._states.get(url, (None, -BELIEVED_S))
            if now - since_s >= BELIEVED_S:
                with suppress(OSError):
                    self._begin("head", url)

    def fetch_ahead(self, path: Path) -> None:
        """Begin to fetch an object that is read soon."""
        with suppress(OSError):  # for whoever reads it to report
            if self._held(str(path), BELIEVED_S) is None:
                self._begin("get", str(path))

    def open(self, path: Path, beat: Callable[[], None] | None = None) -> FileIO:
        """Return an object's content as an open file, at its beginning.

        Args:
            path: Of the object.
            beat: Called now and then while the network is waited for.

        Raises:
            AudioError: With stage "access", if it cannot be had; "open", if it is empty.
        """
        content = self._content(str(path), beat, _OPENED_S)
        if not content.state.size:
            raise AudioError("open", "empty file (0 bytes)")
        return _opened_anew(content.file)

    def digest(self, path: Path, beat: Callable[[], None] | None = None) -> bytes:
        """Return the 16-byte BLAKE2b of an object's bytes, see `open`."""
        return self._content(str(path), beat, BELIEVED_S).digest

    def below(self, root: Path) -> Iterator[Found]:
        """Yield all objects below an address, in the order in which the store names them.

        Raises:
            OSError: If they cannot be listed.
        """
        url = str(root)
        begun = self._ask("list", url)[0]
        while page := self._ask("page", url, list=begun["list"])[0]["page"]:
            yield from (Found(one["path"], _state(one)) for one in page)

    def _held(self, url: str, most_s: float) -> _Content | None:
        with self._lock:
            self._linked()  # with other variables nothing is held
            content = self._contents.get(url)
            if content is None or time.monotonic() - content.since_s > most_s:
                return None
            self._contents.move_to_end(url)
            return content

    def _content(self, url: str, beat: Callable[[], None] | None, most_s: float) -> _Content:
        try:
            if content := self._held(url, most_s):
                return content
            with self._lock:
                content = self._contents.get(url)
            if content and self.state_of(Address(url)) == content.state:
                return content
            got: _Content | OSError = self._finish("get", url, beat)
        except OSError as error:
            raise AudioError("access", error.strerror or str(error)) from error
        if isinstance(got, OSError):
            raise AudioError("access", got.strerror or str(got)) from got
        return got

    def _begin(self, do: str, url: str) -> Future[Any]:
        with self._lock:
            if (do, url) not in self._under_way:
                self._under_way[do, url] = self._linked().ask({"do": do, "url": url})
            return self._under_way[do, url]

    def _finish(self, do: str, url: str, beat: Callable[[], None] | None = None) -> Any:
        """Wait for an answer; remember it, and what it says of the state."""
        answer: State | _Content | OSError | None = None
        for _ in range(_MOST_TRIES):
            asked = self._begin(do, url)
            answer = _answer_of(asked, beat)
            has_ended = isinstance(answer, _EndedError)
            with self._lock:
                if self._under_way.get((do, url)) is asked:  # no other thread has been here
                    del self._under_way[do, url]
                    if not has_ended:
                        self._remember(url, answer)
            if not has_ended:
                break
        return answer

    def _remember(self, url: str, answer: State | _Content | OSError) -> None:
        state = answer.state if isinstance(answer, _Content) else answer
        self._states[url] = state, time.monotonic()
        self._states.move_to_end(url)
        while len(self._states) > _MOST_STATES:
            self._states.popitem(last=False)
        if not isinstance(answer, _Content):
            return
        self._contents[url] = answer
        self._contents.move_to_end(url)
        while len(self._contents) > 1 and (
            len(self._contents) > _MOST_HELD
            or sum(one.state.size for one in self._contents.values()) > _MOST_HELD_BYTES
        ):
            self._contents.popitem(last=False)  # closed when nobody reads it any more

    def _ask(self, do: str, url: str, **more: Any) -> tuple[dict[str, Any], FileIO | None]:
        with self._lock:
            asked = self._linked().ask({"do": do, "url": url, **more})
        return _wait(asked, None)

    def _linked(self) -> _Link:
        if self._link is None or self._link.is_lost or self._link.variables != _variables():
            # What was refused, not found, or something else, may be had with other variables.
            self._states.clear()
            self._contents.clear()
            if self._link is not None:
                self._link.end()
            self._link = _Link()
        return self._link


class _Link:
    """A process that fetches, and what it was asked.

    Attributes:
        is_lost: Whether it has ended.
        variables: Of the environment when it was started, which say where stores are, and who asks.
    """

    def __init__(self) -> None:
        self.variables = _variables()
        if find_spec("obstore") is None:
            raise OSError(errno.ENOSYS, "obstore, which fetches from there, is not installed")
        ours, theirs = socket.socketpair()
        self.is_lost = False
        self._connection = ours
        self._numbers = count()
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._asked: dict[int, Future[tuple[dict[str, Any], FileIO | None]]] = {}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "indexer.audio.remote.fetcher", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C is for the process that asks
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def ask(self, request: dict[str, Any]) -> Future[tuple[dict[str, Any], FileIO | None]]:
        """Send a question; the answer comes to the future."""
        number, answer = next(self._numbers), Future[tuple[dict[str, Any], FileIO | None]]()
        with self._lock:
            self._asked[number] = answer
        try:
            with self._sending:  # answers are heard meanwhile: else both ends might wait to send
                send(self._connection, request | {"id": number})
        except OSError:
            with self._lock:
                self._lose()
        return answer

    def end(self) -> None:
        """Hang up: what was asked is not answered any more."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        receiver = Receiver(self._connection)
        try:
            while True:
                told, file = receiver.receive()
                with self._lock:
                    answer = self._asked.pop(told["id"])
                if "error" in told:
                    number = _ERRNOS.get(told["error"], errno.EIO)
                    answer.set_exception(OSError(number, told["reason"]))
                else:
                    answer.set_result((told, file))
        except (EOFError, OSError):
            with self._lock:
                self._lose()

    def _lose(self) -> None:
        self.is_lost = True
        with suppress(OSError):
            self._connection.close()
        for answer in self._asked.values():
            answer.set_exception(_EndedError(errno.EIO, "the process that fetches has ended"))
        self._asked.clear()
        self._process.kill()
        self._process.wait()


def _variables() -> dict[str, str]:
    """Return what the environment says of stores, of who asks them, and of the way there."""
    return {name: value for name, value in os.environ.items() if _OF_STORES.match(name)}


def _wait(
    answer: Future[tuple[dict[str, Any], FileIO | None]], beat: Callable[[], None] | None
) -> tuple[dict[str, Any], FileIO | None]:
    while True:
        try:
            return answer.result(_BEAT_S)
        except NotYet:  # it takes a minute at most to give up
            if beat:
                beat()


def _answer_of(
    asked: Future[tuple[dict[str, Any], FileIO | None]], beat: Callable[[], None] | None
) -> State | _Content | OSError:
    try:
        told, file = _wait(asked, beat)
    except OSError as error:
        return error.with_traceback(None)  # it may be remembered, and would keep what was called
    if file is None:
        return _state(told)
    return _Content(file, _state(told), bytes.fromhex(told["digest"]), time.monotonic())


def _state(told: dict[str, Any]) -> State:
    version = xxh3_64_intdigest(told["etag"].encode()) if told["etag"] else 0
    return State(told["size"], told["changed_s"] * _SECOND_NS + version % _SECOND_NS)


def _opened_anew(file: FileIO) -> FileIO:
    """Return a file of the same content that stands at its beginning, wherever the other stands."""
    if sys.platform == "linux":
        return FileIO(f"/proc/self/fd/{file.fileno()}", "rb")
    size = os.fstat(file.fileno()).st_size
    return unnamed_file([read_at(file.fileno(), size, 0)], size)


objects = Objects()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=objects.begin_anew)
