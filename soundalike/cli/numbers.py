"""Numbers as they are typed: what each may be, and what is said of one that it may not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import typer

#: More than any number of ours has digits.
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_MAX_SHOWN = 30


def number_option(
    kind: type[int] | type[float],
    least: float,
    most: float,
    unit: str,
    text: str,
    *flags: str,
    words: tuple[str, ...] = (),
) -> Any:
    """Return an option that is a number.

    Args:
        kind: Whether it is whole.
        least: The least that it may be.
        most: The most.
        unit: What stands for it in the help.
        text: What it means.
        *flags: How it is spelt; by default after its parameter.
        words: What may stand in the place of a number.
    """
    parser = _reader(kind, least, most, words)
    return typer.Option(*flags, parser=parser, metavar=unit, min=least, max=most, help=text)


def _reader(
    kind: type[int] | type[float], least: float, most: float, words: tuple[str, ...]
) -> Callable[[str], float | str]:
    what = "a whole number" if kind is int else "a number"
    otherwise = "".join(f", or {one}" for one in words)

    def read(word: str) -> float | str:
        if word in words:
            return word
        number = _number(kind, str(word).strip())  # a default is read as well, and is a number
        if number is None or not least <= number <= most:
            shown = word if len(str(word)) <= _MAX_SHOWN else f"{word[:_MAX_SHOWN]}…"
            raise typer.BadParameter(f"{what} from {least:,} to {most:,}{otherwise}, got {shown!r}")
        return number

    return read


def _number(kind: type[int] | type[float], word: str) -> float | None:
    """Return what a word stands for; None if it is no such number."""
    if kind is int:
        return int(word) if _WHOLE.fullmatch(word) else None
    if not _REAL.fullmatch(word):
        return None
    number = float(word)  # beyond what a float holds it is infinite
    return number if math.isfinite(number) else None
