"""What a filter expression says, as a tree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from search.filters.columns import Column
from search.filters.tags import Probable

Operand = int | float | str | bool | datetime


@dataclass(frozen=True, slots=True)
class Heard:
    """A tag's probability reaches a bound, or stays below it.

    Attributes:
        term: The tag.
        bound: Least probability that reaches it.
        is_wanted: Whether it has to be reached.
    """

    term: Probable
    bound: np.float16
    is_wanted: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison with a column.

    Attributes:
        column: The column.
        operator: In lower case: "=", "!=", "<", "<=", ">" or ">="; "like", "ilike", "in", "between"
            and "is null", and the same with "not".
        operands: What it is compared with, of the column's kind; none for a column without values.
    """

    column: Column
    operator: str
    operands: tuple[Operand, ...] = ()


@dataclass(frozen=True, slots=True)
class Negation:
    """What it holds does not hold."""

    part: Node


@dataclass(frozen=True, slots=True)
class Every:
    """All of its parts hold."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of its parts holds, or more."""

    parts: tuple[Node, ...]


Node = Heard | Compared | Negation | Every | Either
