"""Messages that point at the spot in a filter expression that cannot be read."""

from __future__ import annotations

import re
from collections.abc import Set

from lark import UnexpectedInput, UnexpectedToken

from indexer.errors import ExpressionError
from indexer.paths import num_columns, printable

_NAMES = frozenset({"WORD", "QUOTED", "BRACKETED"})
_VALUES = frozenset({"NUMBER", "TEXT", "TRUTH"})
#: What the grammar calls it, and what people do; in the order in which they are listed.
_CALLED = {
    "WORD": "a tag or a column",
    "COMPARISON": "a comparison such as > 0.4",
    "NUMBER": "a number",
    "TEXT": "a text in single quotes",
    "TRUTH": "true or false",
    "LIKE": "'like'",
    "IN": "'in'",
    "BETWEEN": "'between'",
    "NULL": "'null'",
    "NOT": "'not'",
    "LPAR": "'('",
    "COMMA": "','",
    "RPAR": "')'",
    "_AND": "'and'",
    "_OR": "'or'",
    "$END": "the end",
}
#: Where a comparison may come, all of these may.
_COMPARISONS = frozenset({"LIKE", "IN", "BETWEEN", "IS", "NOT"})
#: Characters that are shown of a long line on each side of the spot, and of a long value.
_MAX_SHOWN = 60


def pointing_at(text: str, at: int, problem: str) -> ExpressionError:
    """Return an error that shows a spot.

    Args:
        text: The expression.
        at: Position of the offending character; the length of the text if it ends too early.
        problem: What is wrong with it.
    """
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    before = printable(text[start:at])
    if len(before) > _MAX_SHOWN:
        before = f"…{before[1 - _MAX_SHOWN :]}"
    after = shortened(printable(text[at : end if end >= 0 else None]))
    caret = " " * num_columns(before) + "^"
    return ExpressionError(
        f"cannot read the filter: {printable(problem)}",
        f"  {before}{after}",
        f"  {caret}",
        at=at,
    )


def shortened(text: str) -> str:
    """Return a text, with … for the rest of a long one."""
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def syntax_error(text: str, error: UnexpectedInput, accepted: Set[str]) -> ExpressionError:
    """Return an error that says what the grammar expects.

    Args:
        text: The expression.
        error: What the parser says.
        accepted: Tokens that may come at the spot.
    """
    token = error.token if isinstance(error, UnexpectedToken) else None
    expected = f"expected {_listed(accepted)}"
    if token is not None and token.type == "$END":
        return pointing_at(text, len(text.rstrip()), f"{expected}, but it ends here")
    at = error.pos_in_stream or 0
    if token is None and text[at] in "'\"[":
        return pointing_at(text, at, f"this {text[at]} has no counterpart that ends it")
    found = re.match(r"\w+|.", text[at:], re.DOTALL) if token is None else None
    shown = shortened(found[0] if found else str(token))
    hint = _hint(token.type if token is not None else "", text[:at], accepted)
    return pointing_at(text, at, f"{expected}, found {shown}{hint}")


def _listed(accepted: Set[str]) -> str:
    shown = accepted - _COMPARISONS if "COMPARISON" in accepted else accepted
    names = [called for token, called in _CALLED.items() if token in shown]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _hint(found: str, before: str, accepted: Set[str]) -> str:
    """Return advice on what was probably meant."""
    if found == "TEXT" and "QUOTED" in accepted:
        return "; a tag goes in double quotes, single ones are for text"
    if found in _NAMES and "TEXT" in accepted:
        return "; text goes in single quotes"
    if found == "WORD" and "COMPARISON" in accepted and re.search(r"\w\s+$", before):
        return "; a name of several words goes in double quotes"
    return ""
