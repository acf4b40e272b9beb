"""What is seen of long work while it goes on: a bar for each step, and sentences."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import typer
from tqdm import tqdm

from indexer.paths import printable
from indexer.progress import News, Step

#: Steps whose bar stays on the screen when they are done; others are wiped.
_LASTING = {"downloading", "embedding"}


class Bars:
    """A listener that shows on stderr what it hears, until its block is left.

    There are bars on a terminal only, one at a time: the bar of a step ends when the next begins.
    """

    def __init__(self, *, quiet: bool) -> None:
        """Show nothing yet.

        Args:
            quiet: Whether nothing will be shown whatever is heard.
        """
        self._is_quiet = quiet
        self._bar: tqdm[Any] | None = None
        self._what = ""
        self._started_s = 0.0

    def __enter__(self) -> Self:
        """Begin to listen."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the screen."""
        self._close()

    def __call__(self, news: News) -> None:
        """Show how far a step is, or print a sentence."""
        if self._is_quiet:
            return
        if isinstance(news, str):
            self._say(news)
        elif sys.stderr.isatty():
            self._show(news)

    def _say(self, sentence: str) -> None:
        if self._bar is not None and self._bar.total is None:
            self._close()  # nobody knows whether such a step goes on
        with tqdm.external_write_mode(sys.stderr) if self._bar is not None else nullcontext():
            typer.echo(printable(sentence), err=True)

    def _show(self, step: Step) -> None:
        bar = self._bar_of(step)
        bar.total = step.total
        if step.what == "embedding":
            speed = step.audio_s / max(time.monotonic() - self._started_s, 1e-3)
            audio = {"hours": f"{step.audio_s / 3600:.2f}", "x": f"{speed:.0f}"}
            bar.set_postfix(audio, failed=step.num_failed, refresh=False)
        bar.update(step.done - bar.n)

    def _bar_of(self, step: Step) -> tqdm[Any]:
        if self._bar is None or self._what != step.what:
            self._close()
            self._what, self._started_s = step.what, time.monotonic()
            self._bar = _bar(step)
        return self._bar

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Say on a terminal what is being done, while it is: nobody knows how far it has come."""
    with Bars(quiet=False) as bars:
        bars(Step(what, 0, None, ""))
        yield


def _bar(step: Step) -> tqdm[Any]:
    """Return a bar that follows the terminal's width; some terminals do not say what it is."""
    try:
        is_sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except OSError:
        is_sized = False
    size: dict[str, Any] = {"dynamic_ncols": True} if is_sized else {"ncols": 80, "nrows": 24}
    if not step.unit:
        size["bar_format"] = "{desc} …"
    is_bytes = step.unit == "byte"
    return tqdm(
        desc=step.what,
        total=step.total,
        unit="B" if is_bytes else step.unit,
        unit_scale=is_bytes,
        leave=step.what in _LASTING,
        **size,
    )
