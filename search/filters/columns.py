"""Columns that a filter expression may name, and what kind of values they hold."""

from __future__ import annotations

from datetime import date, datetime
from difflib import get_close_matches
from typing import Literal, NamedTuple

#: "empty" is a column without a single value: no comparison with it holds.
Kind = Literal["number", "text", "truth", "time", "empty"]

#: What a file says of a recording, as Python knows it; None for a missing value.
Value = str | int | float | bool | date | datetime | None

#: Most names that an error message lists.
_MAX_LISTED = 20


class Column(NamedTuple):
    """A column.

    Attributes:
        name: As it is written.
        kind: What its values are.
        level: What has a value of it: a "window", a "place" where a recording was found, or a row
            of a "metadata" file.
    """

    name: str
    kind: Kind
    level: Literal["window", "place", "metadata"]


#: Of every store.
BUILT_IN = (
    Column("duration", "number", "window"),
    Column("start", "number", "window"),
    Column("end", "number", "window"),
    Column("path", "text", "place"),
    Column("library", "text", "place"),
)


def find_column(columns: tuple[Column, ...], name: str) -> Column | None:
    """Return the column of a name; letter case matters only where columns differ in nothing else.

    Returns:
        None if there is none, or if several differ from the name in letter case.
    """
    exact = [column for column in columns if column.name == name]
    folded = [column for column in columns if column.name.casefold() == name.casefold()]
    found = exact or folded
    return found[0] if len(found) == 1 else None


def proposal(columns: tuple[Column, ...], name: str) -> str:
    """Return sentences that say which column may have been meant, and which there are."""
    names = [column.name for column in columns]
    folded = {one.casefold(): one for one in names}
    likely = [folded[one] for one in get_close_matches(name.casefold(), folded, n=1)]
    question = f"Did you mean [{likely[0]}]? " if likely else ""
    listed = ", ".join(names[:_MAX_LISTED]) + (", …" if len(names) > _MAX_LISTED else "")
    return f"{question}The columns are {listed}."
