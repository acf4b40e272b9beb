"""Cells of tables that may be opened in a spreadsheet."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

#: What begins a formula there.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def path_cell(path: str) -> str:
    """Return a relative path that is no formula: `./=1+1.ogg` is the same file as `=1+1.ogg`.

    What reads it back, as a path or as a column of metadata, finds the same file. An absolute path
    begins with a slash, and is none.
    """
    return f"./{path}" if path.startswith(FORMULA) else path


def path_cells(paths: pa.Array) -> pa.Array:
    """Return (n,) text, `path_cell` of each."""
    begins = f"^([{re.escape(''.join(FORMULA))}])"
    return pc.replace_substring_regex(paths, begins, r"./\1")
