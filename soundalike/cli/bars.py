"""What is seen of long work while it goes on: a bar for each step, and sentences."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import TracebackType
from typing import Any, Self

import typer
from tqdm import tqdm

from indexer.paths import printable
from indexer.progress import News, Step
from soundalike.show.words import hours

#: Steps whose bar stays on the screen when they are done; others are wiped.
_LASTING = {"downloading", "embedding"}
#: Characters of the name of a file that is read.
_NAME_CHARS = 14


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
        self._counts = ("", False)
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
        with suppress(OSError):
            self._close()

    def __call__(self, news: News) -> None:
        """Show how far a step is, or print a sentence."""
        if self._is_quiet:
            return
        try:
            if isinstance(news, str):
                self._say(news)
            elif sys.stderr.isatty():
                self._show(news)
        except OSError:  # the terminal was closed: nobody sees it, and the work is worth more
            self._is_quiet = True

    def _say(self, sentence: str) -> None:
        if self._bar is not None and self._bar.total is None:
            self._close()  # nobody knows whether such a step goes on
        with tqdm.external_write_mode(sys.stderr) if self._bar is not None else nullcontext():
            typer.echo(printable(sentence), err=True)

    def _show(self, step: Step) -> None:
        bar = self._bar_of(step)
        done: float = step.done  # a whole number is shown as one
        total: float | None = step.total
        if step.name or step.total_audio_s:
            bar.set_description_str(f"{step.what} {_short(step.name)}".rstrip(), refresh=False)
        if step.total_audio_s:
            done = step.audio_s
            total = max(round(step.total_audio_s), done)  # an estimate: it may be reached early
            elapsed_s = max(time.monotonic() - self._started_s, 1e-3)
            bar.set_postfix_str(_audio(step, elapsed_s), refresh=False)
        bar.total = total
        bar.update(done - bar.n)

    def _bar_of(self, step: Step) -> tqdm[Any]:
        counts = (step.what, bool(step.total_audio_s))  # files, until it is known how much audio
        if self._bar is None or self._counts != counts:
            self._close()
            if self._counts[0] != step.what:
                self._started_s = time.monotonic()
            self._counts, self._bar = counts, _bar(step)
        return self._bar

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def _audio(step: Step, elapsed_s: float) -> str:
    """Say how much audio was gone through, how fast, why no faster, and how many files failed."""
    total, unit = hours(step.total_audio_s).split()
    done = step.audio_s / {"s": 1, "min": 60, "h": 3600}[unit]
    failed = f", {step.num_failed:,} failed" if step.num_failed else ""
    bound = f", bound by {step.bound}" if step.bound else ""
    return f"{done:,.1f} of {total} {unit}, {step.audio_s / elapsed_s:.0f} x{failed}{bound}"


def _short(name: str) -> str:
    """Return a name that is safe to print and leaves room beside it, with its ending."""
    shown = printable(name)
    half = _NAME_CHARS // 2
    return shown if len(shown) <= _NAME_CHARS else f"{shown[: half - 1]}…{shown[-half:]}"


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
    if step.total_audio_s:  # an estimate that changes: the time left follows from the whole speed
        size["bar_format"] = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        size["smoothing"] = 0
    is_bytes = step.unit == "byte"
    return tqdm(
        desc=step.what,
        total=step.total,
        initial=0 if step.total_audio_s else step.done,  # a step may go on after another
        unit="B" if is_bytes else step.unit,
        unit_scale=is_bytes,
        leave=step.what in _LASTING,
        **size,
    )
