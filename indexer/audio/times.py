"""Times as people write them, and spans of files: "31:10", "hour.wav@31:10-31:13"."""

from __future__ import annotations

import math
import os
import re
import reprlib
from contextlib import suppress
from numbers import Real
from pathlib import Path
from typing import NamedTuple

from indexer.audio.content import has_name
from indexer.audio.packs.held import split
from indexer.errors import QueryError
from indexer.paths import address_of, as_place, local_path

#: Seconds, or text as it is printed: "31:10", "0:31:10.5", "12.5".
Time = float | str

#: Where a span starts, where it ends, or how long it is instead; None for what is not said.
Span = tuple[Time | None, Time | None, Time | None]
NO_SPAN: Span = (None, None, None)

#: A time that no recording reaches, 31 years, in seconds: samples of it still are exact numbers.
FOREVER_S = 1e9
_CLOCK = re.compile(
    r"(?:(?P<h>\d{1,9}):(?=[0-5]?\d:))?(?P<m>\d{1,9}):(?P<s>[0-5]?\d(?:\.\d*)?)", re.ASCII
)
#: FILE@START-END or FILE@START.
_WITH_SPAN = re.compile(r"(?P<file>.*[^/])@(?P<start>[^@-]*)(?:-(?P<end>[^@]*))?", re.DOTALL)


class FileSpan(NamedTuple):
    """A file that is asked about, or a part of it.

    Attributes:
        file: The file.
        start_s: Where the part begins, in seconds.
        duration_s: How long it is, in seconds; None for the rest of the file.
    """

    file: Path
    start_s: float = 0.0
    duration_s: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of the file is meant."""
        return self.start_s == 0 and self.duration_s is None


def seconds_of(time: Time) -> float:
    """Return a time in seconds.

    Raises:
        QueryError: If it is neither a number of seconds from 0 on nor text of such a form, or so
            large that no recording has it.
    """
    shown = reprlib.repr(time)
    if (seconds := _seconds(time)) is None:
        raise QueryError(
            f"a time is in seconds from 0 on, or as in '31:10' or '1:31:10.5', got {shown}"
        )
    if seconds > FOREVER_S:
        raise QueryError(f"no recording has a time of {shown}: it is at most {FOREVER_S:g} s")
    return seconds


def _seconds(time: object) -> float | None:
    if isinstance(time, str):
        if found := _CLOCK.fullmatch(time.strip()):
            return 3600 * int(found["h"] or 0) + 60 * int(found["m"]) + float(found["s"])
        if not time.isascii() or "_" in time:  # what Python takes for a number besides
            return None
    if isinstance(time, (str, Real)) and not isinstance(time, bool):
        with suppress(ValueError, OverflowError):  # text that is none; a whole number beyond floats
            seconds = float(time)
            return seconds if seconds >= 0 and not math.isnan(seconds) else None
    return None


def span_of(given: Span) -> tuple[float, float | None]:
    """Return where a span starts and how long it is, in seconds; None for the rest of the file.

    Raises:
        QueryError: If it has both an end and a duration, or is not longer than nothing.
    """
    start, end, duration = given
    start_s = 0.0 if start is None else seconds_of(start)
    if duration is not None and end is not None:
        raise QueryError(f"a span has an end or a duration, not both: got {end} and {duration}")
    if end is not None:
        duration = seconds_of(end) - start_s
        if duration <= 0:
            raise QueryError(f"a span ends after its start, got {start or 0} to {end}")
    if duration is None:
        return start_s, None
    duration_s = seconds_of(duration)
    if not duration_s:
        raise QueryError(f"a span is longer than 0 s, got {duration}")
    return start_s, duration_s


def file_span(given: Path, span: Span = NO_SPAN) -> FileSpan:
    r"""Return which part of which file a path means: "hour.wav@31:10-31:13", "hour.wav@31:10".

    A file that has the very name is meant itself; otherwise one whose name is shown so, in hits and
    lists: with `\xNN` for bytes that are not UTF-8, backslashes and control characters.

    Args:
        given: The path, or a path and a span.
        span: The span, if it was given apart.

    Raises:
        QueryError: If it is no span, what stands behind the @ of a file that is there is none, or
            both are given.
    """
    written = _written(given)
    written = written._replace(file=_as_shown(written.file))
    if span == NO_SPAN:
        return written
    if not written.is_whole:
        raise QueryError(f"{given} has a span of its own: give it no other beside that")
    return FileSpan(written.file, *span_of(span))


def _as_shown(file: Path) -> Path:
    r"""Return the file whose name is shown as one that no file has: the bytes for each `\xNN`."""
    text = os.fspath(file)
    is_object = address_of(file) and not split(file)
    if "\\x" not in text or is_object or has_name(file):
        return file
    try:
        shown = as_place(local_path(text))
    except ValueError:  # it has odd bytes beside
        return file
    return shown if has_name(shown) else file


def _written(given: Path) -> FileSpan:
    given = as_place(given)
    found = _WITH_SPAN.fullmatch(os.fspath(given))
    if found is None or has_name(given):
        return FileSpan(given)
    file, start, end = as_place(found["file"]), found["start"], found["end"]
    if not has_name(file) and None in (_seconds(start), _seconds(start if end is None else end)):
        return FileSpan(given)  # nothing is there, and the @ may well be a part of the name
    try:
        return FileSpan(file, *span_of((start, end, None)))
    except QueryError as error:
        raise QueryError(f"{given}: {error}") from error
