"""The connection of a process to the one that fetches for it, and what was asked over it."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from importlib.util import find_spec
from io import FileIO
from itertools import count
from typing import Any

from indexer.audio.remote.wire import Receiver, send

#: How often somebody who waits for the network says that it is alive, in seconds.
_BEAT_S = 1.0
#: Variables of the environment that say where stores are, and who asks.
_OF_STORES = re.compile(r"(AWS|GOOGLE|AZURE|SSL_CERT)_|.*_proxy$", re.IGNORECASE)
#: Of these, EIO alone leaves open whether anybody was there.
_ERRNOS = {
    "absent": errno.ENOENT,
    "refused": errno.EACCES,
    "misnamed": errno.EINVAL,
    "unable": errno.EOPNOTSUPP,
}


class EndedError(OSError):
    """What fetches has ended before it answered."""


class Link:
    """A process that fetches, and what it was asked.

    Attributes:
        is_lost: Whether it has ended.
        variables: Of the environment when it was started, which say where stores are, and who asks.
    """

    def __init__(self) -> None:
        self.variables = variables()
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
                    answer.set_result((told | {"since_s": time.monotonic()}, file))
        except (EOFError, OSError):
            with self._lock:
                self._lose()

    def _lose(self) -> None:
        self.is_lost = True
        with suppress(OSError):
            self._connection.close()
        for answer in self._asked.values():
            answer.set_exception(EndedError(errno.EIO, "the process that fetches has ended"))
        self._asked.clear()
        self._process.kill()
        self._process.wait()


def variables() -> dict[str, str]:
    """Return what the environment says of stores, of who asks them, and of the way there."""
    return {name: value for name, value in os.environ.items() if _OF_STORES.match(name)}


def wait(
    answer: Future[tuple[dict[str, Any], FileIO | None]], beat: Callable[[], None] | None
) -> tuple[dict[str, Any], FileIO | None]:
    """Wait for what the process answers, and call `beat` now and then.

    Raises:
        OSError: As it answered.
    """
    while True:
        try:
            return answer.result(_BEAT_S)
        except NotYet:  # it takes a minute at most to give up
            if beat:
                beat()
