"""Text that fits a terminal: how wide it is, and what is left of it where there is no room."""

from __future__ import annotations

import re
import shutil
import sys

from indexer.paths import num_columns

#: A terminal that is narrower is treated as if it were so wide.
_MIN_WIDTH = 32
#: What stands between the columns of a line, and the last of them from which a line goes on.
_GAP = re.compile(r"\S {2,}(?=\S)")


def terminal_width() -> int | None:
    """Return how many columns what is printed has room for; None if it goes to no terminal.

    It is COLUMNS, if that is set, or what the terminal says.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return max(shutil.get_terminal_size().columns, _MIN_WIDTH)


def padded(text: str, columns: int) -> str:
    """Return a text with spaces behind it, so that it takes so many columns."""
    return text + " " * (columns - num_columns(text))


def start_of(text: str, columns: int) -> str:
    """Return a text, of a long one the start with … behind it, in at most so many columns."""
    return text if num_columns(text) <= columns else f"{_first(text, columns - 1)}…"


def fit_path(path: str, columns: int | None) -> str:
    """Return a path in at most so many columns: of a long one the start, …, and its last name.

    A name that is too long itself is shortened in its middle. None for a path of any length.
    """
    if columns is None or num_columns(path) <= columns:
        return path
    folder, slash, name = path.rpartition("/")
    left = columns - num_columns(slash + name) - 1
    if slash and left >= 0:
        return f"{_first(folder, left)}…/{name}"
    tail = _first(name[::-1], columns // 2)[::-1]
    return f"{_first(name, columns - num_columns(tail) - 1)}…{tail}"


def wrapped(line: str, columns: int | None, *, breaks_words: bool = False) -> list[str]:
    """Return a line as several, at most so wide, broken at spaces; nothing of it is lost.

    The others begin where the last column of the first does. A word that is too long stays whole,
    so that it can be copied, unless it may be broken.
    """
    if columns is None or num_columns(line) <= columns:
        return [line]
    gaps = [one.end() for one in _GAP.finditer(line) if one.end() <= columns * 2 // 3]
    indent = " " * (gaps[-1] if gaps else len(line) - len(line.lstrip()) + 2)
    lines, now = [], ""
    for word in re.findall(r"\s*\S+", line):
        if len(now) > len(indent) and num_columns(now + word) > columns:
            lines.append(now)
            word = indent + word.lstrip()
            now = ""
        now += word
        while breaks_words and num_columns(now) > columns:
            lines.append(_first(now, columns))
            now = indent + now[len(lines[-1]) :]
    return [*lines, now]


def _first(text: str, columns: int) -> str:
    """Return as much of the start of a text as takes at most so many columns."""
    taken = 0
    for at, char in enumerate(text):
        taken += num_columns(char)
        if taken > columns:
            return text[:at]
    return text
