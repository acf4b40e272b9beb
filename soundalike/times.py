"""Times in a recording as people write them: seconds, M:SS or H:MM:SS."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from numbers import Real

from indexer.errors import QueryError

#: Seconds, or text as it is printed: "31:10", "0:31:10.5", "12.5".
Time = float | str

_CLOCK = re.compile(r"(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+(?:\.\d*)?)", re.ASCII)


def seconds_of(time: Time) -> float:
    """Return a time in seconds.

    Raises:
        QueryError: If it is neither a number of seconds from 0 on nor text of such a form.
    """
    if isinstance(time, str) and (found := _CLOCK.fullmatch(time.strip())):
        return 3600 * int(found["h"] or 0) + 60 * int(found["m"]) + float(found["s"])
    if isinstance(time, (str, Real)) and not isinstance(time, bool):
        with suppress(ValueError):
            if 0 <= (seconds := float(time)) < math.inf:
                return seconds
    raise QueryError(f"a time is in seconds, or as in '31:10' or '0:31:10.5', got {time!r}")


def span_of(start: Time, end: Time | None, duration: Time | None) -> tuple[float, float | None]:
    """Return where a span starts and how long it is, in seconds; None for the rest of the file.

    Raises:
        QueryError: If it has both an end and a duration, or is not longer than nothing.
    """
    start_s = seconds_of(start)
    if duration is not None and end is not None:
        raise QueryError("a span has an end or a duration, not both")
    if end is not None:
        duration = seconds_of(end) - start_s
        if duration <= 0:
            raise QueryError(f"a span ends after its start, got {start} to {end}")
    if duration is None:
        return start_s, None
    duration_s = seconds_of(duration)
    if not duration_s:
        raise QueryError(f"a span is longer than 0 s, got {duration}")
    return start_s, duration_s
