"""Numbers and paths in words: counts, durations, places in a recording, files."""

from __future__ import annotations

import shlex
from pathlib import Path

from indexer.paths import printable


def count(number: int, noun: str) -> str:
    """Return "1 file", "2 files", "1,234 files"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def hours(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def clock(seconds: float) -> str:
    """Return a position as M:SS.s or H:MM:SS.s, to a tenth of a second."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    whole_hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{whole_hours}:{minutes:02d}:{rest}" if whole_hours else f"{minutes}:{rest}"


def shown_path(path: Path) -> str:
    """Return a path safe to print, relative to the current folder if it lies below it."""
    here = Path.cwd()
    return printable(str(path.relative_to(here) if path.is_relative_to(here) else path))


def files_command(store: Path, kind: str) -> str:
    """Return the command that names the files of a store of a kind, such as "failed"."""
    return f"soundalike files {shlex.quote(str(store))} --{kind}"
