"""What became of files, a line each: for people, and as data for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from indexer.paths import as_place, local_path, printable
from search.export.cells import path_cell
from search.upkeep.files import FileRow
from soundalike.show.fitting import fit_path, wrapped
from soundalike.show.words import clock, shown_path

#: Columns before the file, and what a file has at least, however much is said of it.
_BEFORE = 20
_LEAST = 10


def files_lines(rows: Iterable[FileRow], width: int | None = None) -> Iterator[str]:
    """Yield a line for each: status, length, file, and why it failed or what is to be known.

    Args:
        rows: Of the files.
        width: Columns of the terminal; paths are shortened in their middle, and what does not fit
            goes on in the next line. None for lines of any length.
    """
    yield f"{'status':<8} {'length':>9}  file"
    for row in rows:
        length = "" if row.duration_s is None else clock(row.duration_s)
        span = ""
        if row.start_s is not None and row.end_s is not None:
            span = f" from {clock(row.start_s)} to {clock(row.end_s)}"
        root = as_place(row.library) if row.library else Path("(forgotten)")
        said = [one for one in (row.stage, row.reason, row.warnings) if one]
        why = f": {printable(': '.join(said))}" if said else ""
        room = None if width is None else max(width - _BEFORE - len(span) - 1, _LEAST)
        path = fit_path(shown_path(root / local_path(row.path)), room)
        line = f"{row.status:<8} {length:>9}  {path}{span}{why}"
        yield from wrapped(line, width, breaks_words=True)


def files_json(rows: Iterable[FileRow]) -> Iterator[str]:
    """Yield the lines of a JSON list of objects with the fields of `FileRow`, an object a line."""
    before = "["
    for row in rows:
        yield before + json.dumps(row._asdict())
        before = ","
    yield "[]" if before == "[" else "]"


def files_csv(rows: Iterable[FileRow]) -> Iterator[str]:
    """Yield the lines of a CSV with the fields of `FileRow`; no path is a formula."""
    for one in chain([FileRow._fields], (row._replace(path=path_cell(row.path)) for row in rows)):
        line = io.StringIO()
        safe = (printable(value) if isinstance(value, str) else value for value in one)
        csv.writer(line, lineterminator="").writerow(safe)
        yield line.getvalue()
