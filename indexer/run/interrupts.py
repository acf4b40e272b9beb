"""Ctrl-C and SIGTERM: a step that must be done whole is done before they take effect."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals interrupt the main thread only
        return
    held: list[int] = []
    with _blocked():
        before = {
            one: signal.signal(one, lambda number, _: held.append(number)) for one in _SIGNALS
        }
    try:
        yield
    finally:
        with _blocked():
            for one, handler in before.items():
                signal.signal(one, signal.SIG_DFL if handler is None else handler)
        for number in held:
            signal.raise_signal(number)


@contextmanager
def _blocked() -> Iterator[None]:
    """Let no signal come between the changes of several handlers; Windows cannot hold them back."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
