"""Numbers and paths in words: counts, durations, places in a recording, files."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from indexer.paths import printable
from indexer.progress import count as count  # words about numbers are asked for here


def some_of(names: Sequence[str], most: int = 3) -> str:
    """Return "a, b, c and 4 more"."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{rest}"


def hours(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def padded(padding: str, level: str) -> str:
    """Return how windows are filled, and made one loudness if they are, as options are called."""
    return f"padding {padding}" + ("" if level == "off" else f", level {level}")


def size(num_bytes: int) -> str:
    """Return how large a file is, in kB below a tenth of a MB, and else in MB."""
    return f"{num_bytes / 1e3:,.1f} kB" if num_bytes < 1e5 else f"{num_bytes / 1e6:,.1f} MB"


def clock(seconds: float) -> str:
    """Return a position as M:SS.s or H:MM:SS.s, to a tenth of a second."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    whole_hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{whole_hours}:{minutes:02d}:{rest}" if whole_hours else f"{minutes}:{rest}"


def time_of_day(when: datetime | None) -> str:
    """Return date and time to the second, with the zone if it is known; nothing for None."""
    return when.isoformat(" ", "seconds") if when else ""


def shown_path(path: Path) -> str:
    """Return a path safe to print, relative to the current folder if it lies below it."""
    here = Path.cwd()
    return printable(str(path.relative_to(here) if path.is_relative_to(here) else path))


def missing_line(recordings: Iterable[Sequence[Path]]) -> str | None:
    """Say how many recordings are at none of their paths any more; None if all are there.

    Args:
        recordings: The paths of each; one without any is not counted, nor one of a library that was
            forgotten since the index was built.
    """
    from indexer.audio.content import exists  # noqa: PLC0415 - nobody else here needs NumPy

    known = {tuple(paths) for paths in recordings if any(map(Path.is_absolute, paths))}
    # In order: one archive after the other, each of which is listed once.
    missing = [paths for paths in sorted(known) if not any(map(exists, paths))]
    if not missing:
        return None
    are, example = ("is", "") if len(missing) == 1 else ("are", ", for one")
    return (
        f"{len(missing):,} of {count(len(known), 'file')} {are} not where the library was last "
        f"seen: {shown_path(missing[0][0])}{example}; index the library where it is now"
    )


def files_command(store: Path, kind: str | None = None) -> str:
    """Return the command that names the files of a store, all or of a kind, such as "failed"."""
    return f"soundalike files {shlex.quote(str(store))}" + (f" --{kind}" if kind else "")
