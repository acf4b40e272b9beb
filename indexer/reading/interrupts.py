"""Ctrl-C, SIGTERM and SIGHUP: who obeys them, and a step that is done before they take effect."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: What tells a process to end, where the system has it.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back what tells this process to end until the block has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals interrupt the main thread only
        return
    held: list[int] = []
    before: dict[int, Any] = {}
    try:
        for one in _SIGNALS:  # one that comes between two of these ends the process as ever
            before[one] = signal.getsignal(one)
            signal.signal(one, lambda number, _: held.append(number))
        yield
    finally:
        with blocked():
            for one, handler in before.items():
                signal.signal(one, signal.SIG_DFL if handler is None else handler)
        for number in held:
            signal.raise_signal(number)


@contextmanager
def blocked() -> Iterator[None]:
    """Let none of these signals come to this thread, nor into processes that it starts meanwhile.

    Another thread of this process may still get one. Windows cannot hold them back.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def obey_parent_alone() -> None:
    """Leave it to the process that started this one when to end.

    Ctrl-C and a closed terminal reach all of them. SIGTERM ends this one at once: a handler of
    Python's would wait for FFmpeg. To be called in what was started while signals were `blocked`.
    """
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_DFL if one == signal.SIGTERM else signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
