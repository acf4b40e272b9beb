"""Objects as a process sees them: their states, their content once it is fetched, and lists.

Nothing here speaks to a network: that is done by a process of its own, see `fetcher`, which is
started by the first question, and anew in a process that was forked.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from xxhash import xxh3_64_intdigest

from indexer.audio.file import State, read_at, unnamed_file
from indexer.audio.remote.link import EndedError, Link, variables, wait
from indexer.errors import AudioError, LibraryError
from indexer.paths import Address

#: What was heard of an object is believed for so long, and what was fetched may be opened, in
#: seconds: whoever has a digest opens what it is of, be it a while later.
BELIEVED_S, _OPENED_S = 60.0, 3600.0
#: Likewise that it could not be had, which may pass; that it is not there is believed as the rest.
_ERRORS_BELIEVED_S = 1.0
#: States that are remembered, and contents that are held: so many, or all together so many bytes.
_MOST_STATES, _MOST_HELD, _MOST_HELD_BYTES = 1 << 16, 8, 256 << 20
#: How often a question is asked if what fetches ends: it may be killed for want of memory.
_MOST_TRIES = 3
_SECOND_NS = 10**9


class Found(NamedTuple):
    """An object in a list: its path below what was listed, and its state."""

    path: str
    state: State


class Part(NamedTuple):
    """Some bytes of an object as it was: where they begin, how many there are, and its state."""

    first: int
    num_bytes: int
    state: State


class _Wanted(NamedTuple):
    """An object, or a part of it."""

    url: str
    part: Part | None = None


class Content(NamedTuple):
    """An object as it was fetched, or a part of it.

    Attributes:
        file: With its bytes; never read from where it stands.
        state: Of the object.
        num_bytes: How many there are.
        digest: 16-byte BLAKE2b of them.
        since_s: When that was, on the clock of `time.monotonic`.
    """

    file: FileIO
    state: State
    num_bytes: int
    digest: bytes
    since_s: float


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
    """What this process knows of objects; threads share it.

    Attributes:
        num_bytes: How many were fetched.
    """

    def __init__(self) -> None:
        self.num_bytes = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Know nothing: what a process had before it was forked is its parent's."""
        # It is kept, since what starts processes complains of one that it loses.
        self._of_parent = getattr(self, "_link", None)
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._waiting = threading.local()
        self._states: OrderedDict[str, tuple[State | OSError, float]] = OrderedDict()
        self._contents: OrderedDict[_Wanted, Content] = OrderedDict()
        self._under_way: dict[tuple[str, _Wanted], Future[Any]] = {}

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
            known = self._known(url)
        if known is None:
            known = self._finish("head", _Wanted(url))
        if isinstance(known, OSError):
            raise OSError(known.errno, known.strerror)  # its own, or its trace would grow
        return known

    def look_ahead(self, paths: Iterable[Path]) -> None:
        """Ask for the states of some objects at once; whoever wants one does not wait for each."""
        for path in paths:
            with self._lock:
                known = self._known(str(path))
            if known is None:
                with suppress(OSError):
                    self._begin("head", _Wanted(str(path)))

    def doubt(self, path: Path) -> None:
        """Ask for the state of an object anew when it is wanted next."""
        with self._lock:
            self._states.pop(str(path), None)

    @contextmanager
    def beating(self, beat: Callable[[], None] | None) -> Iterator[None]:
        """Have something called now and then while this thread waits for the network."""
        before, self._waiting.beat = self._beat, beat
        try:
            yield
        finally:
            self._waiting.beat = before

    def fetch_ahead(self, path: Path, part: Part | None = None) -> None:
        """Begin to fetch an object that is read soon, or a part of it."""
        wanted, most_s = _Wanted(str(path), part), _OPENED_S if part else BELIEVED_S
        with suppress(OSError):  # for whoever reads it to report
            if self._held(wanted, most_s) is None:
                self._begin("get", wanted)

    def open(self, path: Path) -> FileIO:
        """Return an object's content as an open file, at its beginning.

        Raises:
            AudioError: With stage "access", if it cannot be had; "open", if it is empty.
        """
        content = self._content(str(path), _OPENED_S)
        if not content.state.size:
            raise AudioError("open", "empty file (0 bytes)")
        return opened_anew(content.file)

    def digest(self, path: Path) -> bytes:
        """Return the 16-byte BLAKE2b of an object's bytes, see `open`."""
        return self._content(str(path), BELIEVED_S).digest

    def part(self, path: Path, part: Part) -> Content:
        """Return some bytes of an object: at least one.

        Raises:
            AudioError: With stage "access", if they cannot be had, or the object is another.
        """
        wanted = _Wanted(str(path), part)
        content = self._held(wanted, _OPENED_S) or self._fetched(wanted)
        if content.state != part.state:
            raise AudioError("access", "the object changed while it was read; run again")
        return content

    def forgo_part(self, path: Path, part: Part) -> None:
        """Say that what was begun to be fetched is not read after all."""
        with self._lock:
            self._under_way.pop(("get", _Wanted(str(path), part)), None)

    def below(self, root: Path) -> Iterator[Found]:
        """Yield all objects below an address, in the order in which the store names them.

        Raises:
            OSError: If they cannot be listed.
        """
        url = str(root)
        begun = self._ask(do="list", url=url)
        while page := self._ask(do="page", url=url, list=begun["list"])["page"]:
            yield from (Found(one["path"], _state(one)) for one in page)

    @property
    def _beat(self) -> Callable[[], None] | None:
        return getattr(self._waiting, "beat", None)

    def _known(self, url: str) -> State | OSError | None:
        """Return what is known of an object and still believed: a failure may soon pass."""
        self._linked()  # with other variables nothing is known
        known, since_s = self._states.get(url, (None, 0.0))
        may_pass = isinstance(known, OSError) and known.errno != errno.ENOENT
        most_s = _ERRORS_BELIEVED_S if may_pass else BELIEVED_S
        return known if time.monotonic() - since_s <= most_s else None

    def _held(self, wanted: _Wanted, most_s: float) -> Content | None:
        with self._lock:
            self._linked()  # with other variables nothing is held
            content = self._contents.get(wanted)
            if content is None or time.monotonic() - content.since_s > most_s:
                return None
            self._contents.move_to_end(wanted)
            return content

    def _content(self, url: str, most_s: float) -> Content:
        wanted = _Wanted(url)
        try:
            if content := self._held(wanted, most_s):
                return content
            with self._lock:
                content = self._contents.get(wanted)
            if content and self.state_of(Address(url)) == content.state:
                return content
        except OSError as error:
            raise AudioError("access", error.strerror or str(error)) from error
        return self._fetched(wanted)

    def _fetched(self, wanted: _Wanted) -> Content:
        try:
            got: Content | OSError = self._finish("get", wanted)
        except OSError as error:
            raise AudioError("access", error.strerror or str(error)) from error
        if isinstance(got, OSError):
            raise AudioError("access", got.strerror or str(got)) from got
        return got

    def _begin(self, do: str, wanted: _Wanted) -> Future[Any]:
        with self._lock:
            if (do, wanted) not in self._under_way:
                link, part = self._linked(), wanted.part and wanted.part[:2]
                asked = link.ask({"do": do, "url": wanted.url, "part": part})
                self._forget_former(wanted)
                self._under_way[do, wanted] = asked
            return self._under_way[do, wanted]

    def _forget_former(self, wanted: _Wanted) -> None:
        """Let go of parts that were begun of what an object was before: nobody asks for them."""
        if wanted.part:
            for key in list(self._under_way):
                url, part = key[1]
                if url == wanted.url and part and part.state != wanted.part.state:
                    del self._under_way[key]

    def _finish(self, do: str, wanted: _Wanted) -> Any:
        """Wait for an answer; remember it, and what it says of the state."""
        answer: State | Content | OSError | None = None
        for _ in range(_MOST_TRIES):
            asked = self._begin(do, wanted)
            answer, since_s = _answer_of(asked, self._beat)
            has_ended = isinstance(answer, EndedError)
            with self._lock:
                if self._under_way.get((do, wanted)) is asked:  # no other thread has been here
                    del self._under_way[do, wanted]
                    if not has_ended:
                        self._remember(wanted, answer, since_s)
            # What was asked for ahead, and not wanted then, may be old.
            is_old = do == "head" and time.monotonic() - since_s > BELIEVED_S
            if not has_ended and not is_old:
                break
        return answer

    def _remember(self, wanted: _Wanted, answer: State | Content | OSError, since_s: float) -> None:
        state = answer.state if isinstance(answer, Content) else answer
        # Of a part that cannot be had, the rest may be.
        if wanted.part is None or not isinstance(state, OSError):
            self._remember_state(wanted.url, state, since_s)
        self.num_bytes += answer.num_bytes if isinstance(answer, Content) else 0
        if not isinstance(answer, Content) or (wanted.part and wanted.part.state != state):
            return
        self._contents[wanted] = answer
        self._contents.move_to_end(wanted)
        while len(self._contents) > 1 and (
            len(self._contents) > _MOST_HELD
            or sum(one.num_bytes for one in self._contents.values()) > _MOST_HELD_BYTES
        ):
            self._contents.popitem(last=False)  # closed when nobody reads it any more

    def _remember_state(self, url: str, state: State | OSError, since_s: float) -> None:
        _, known_since_s = self._states.get(url, (None, 0.0))
        if since_s < known_since_s:  # what was fetched ahead may be older than what is known
            return
        self._states[url] = state, since_s
        self._states.move_to_end(url)
        while len(self._states) > _MOST_STATES:
            self._states.popitem(last=False)

    def _ask(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            asked = self._linked().ask(request)
        return wait(asked, None)[0]

    def _linked(self) -> Link:
        if self._link is None or self._link.is_lost or self._link.variables != variables():
            # What was refused, not found, or something else, may be had with other variables.
            self._states.clear()
            self._contents.clear()
            self._under_way.clear()
            if self._link is not None:
                self._link.end()
            self._link = Link()
        return self._link


def _answer_of(
    asked: Future[tuple[dict[str, Any], FileIO | None]], beat: Callable[[], None] | None
) -> tuple[State | Content | OSError, float]:
    """Return an answer, and when it came."""
    try:
        told, file = wait(asked, beat)
    except OSError as error:
        # It may be remembered, and would keep what was called.
        return error.with_traceback(None), time.monotonic()
    state, since_s = _state(told), told["since_s"]
    if file is None:
        return state, since_s
    digest = bytes.fromhex(told["digest"])
    return Content(file, state, told["num_bytes"], digest, since_s), since_s


def _state(told: dict[str, Any]) -> State:
    version = xxh3_64_intdigest(told["etag"].encode()) if told["etag"] else 0
    return State(told["size"], told["changed_s"] * _SECOND_NS + version % _SECOND_NS)


def opened_anew(file: FileIO) -> FileIO:
    """Return a file of the same content that stands at its beginning, wherever the other stands."""
    if sys.platform == "linux":
        return FileIO(f"/proc/self/fd/{file.fileno()}", "rb")
    size = os.fstat(file.fileno()).st_size
    return unnamed_file([read_at(file.fileno(), size, 0)], size)


objects = Objects()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=objects.begin_anew)
