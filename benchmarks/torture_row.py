"""A line of the table that the torture ends with."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One trial; `tried` and `survived` count what it is about.

    Attributes:
        trial: What was done.
        tried: How often.
        survived: How often all was well.
        lost: Windows and words that are missing or differ.
        doubled: Windows that are stored twice or were computed for nothing, and leftovers.
        unreported: Failures that nobody was told of.
        peak_mb: Memory, if it was measured.
        note: For people.
        harmed: Things of somebody's that are not as they were.
    """

    trial: str
    tried: int
    survived: int
    lost: int
    doubled: int
    unreported: int
    peak_mb: float
    note: str = ""
    harmed: int = 0
