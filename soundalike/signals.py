"""Ctrl-C, SIGTERM and a closed terminal: the command ends once, in order, however often it is told.

The first signal raises `Ended`, and what was computed is committed on the way out. What follows
changes nothing for a while. An exception that is lost in a destructor is raised again, and nothing
that is thrown out of joint by it prints a trace.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from types import FrameType

# Nothing here takes long to import: signals that come before are Python's own.

#: What tells a process to end, and what is set when it is nearly over: a second Ctrl-C must not
#: disturb Python's own end, while a process that hangs there can be ended still.
_AFTERWARDS = {
    getattr(signal, name): then
    for name, then in (
        ("SIGINT", signal.SIG_IGN),
        ("SIGHUP", signal.SIG_IGN),
        ("SIGTERM", signal.SIG_DFL),
    )
    if hasattr(signal, name)
}
#: What a process ends with after Ctrl-C, by the custom of shells: 128 and the signal.
INTERRUPTED = 128 + signal.SIGINT
#: And where nobody reads what it prints any more, by the same custom: 128 and SIGPIPE, which is 13
#: wherever there is one.
UNREAD = 141
#: So long the process is left alone on its way out, in seconds; then it can be told again.
_GRACE_S = 10.0
#: An exception that was lost in a destructor is raised again after so many seconds.
_AGAIN_S = 0.05


class Ended(BaseException):
    """The process was told to end."""


class Ending:
    """Hears what tells the process to end; what was ignored when it began stays so (nohup).

    Attributes:
        code: What the process ends with if it was told to, 128 and the signal; otherwise None.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self._left_alone_until = 0.0
        self._heard = [one for one in _AFTERWARDS if signal.getsignal(one) != signal.SIG_IGN]

    def begin(self) -> None:
        """Begin to hear, in the main thread."""
        sys.unraisablehook = self._lose
        threading.excepthook = self._lose_in_thread
        for one in self._heard:
            signal.signal(one, self._hear)

    def end(self) -> None:
        """Hear nothing any more: the process is over but for Python's own end."""
        self._left_alone_until = math.inf
        for one in self._heard:
            signal.signal(one, _AFTERWARDS[one])

    def _hear(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if now >= self._left_alone_until:
            self.code = self.code or 128 + number
            self._left_alone_until = now + _GRACE_S
            raise Ended

    def _lose(self, lost: sys.UnraisableHookArgs) -> None:
        """Take an exception that a destructor or a callback has met, where nobody can catch it."""
        if self.code is None:
            sys.__unraisablehook__(lost)
        elif isinstance(lost.exc_value, Ended):
            self._left_alone_until = 0.0
            again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), self.code - 128))
            again.daemon = True
            again.start()

    def _lose_in_thread(self, lost: threading.ExceptHookArgs) -> None:
        """Take an exception of a thread, whose work may have been taken from it."""
        if self.code is None:
            threading.__excepthook__(lost)
