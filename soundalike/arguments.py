"""Keyword arguments that are the fields of dataclasses."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import Field, fields, replace
from difflib import get_close_matches
from functools import cache
from typing import Any

from indexer.errors import QueryError


def as_several(asked: Any) -> Sequence[Any]:
    """Return what was given as one or as several as several."""
    is_one = isinstance(asked, (str, os.PathLike)) or not isinstance(asked, Iterable)
    return [asked] if is_one else list(asked)


def split_fields(
    kinds: tuple[type, ...], given: dict[str, Any], beside: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Return which keyword arguments are fields of which dataclass.

    Args:
        kinds: The dataclasses; a field counts that says in its metadata what it means.
        given: The arguments.
        beside: Names that can be given too, for the error.

    Raises:
        QueryError: If one belongs to none of them; the error lists those that do.
    """
    names = [[one.name for one in _open_fields(kind)] for kind in kinds]
    known = [*beside, *(name for each in names for name in each)]
    for name in given:
        if name not in known:
            likely = get_close_matches(name, known, 1)
            question = f"did you mean {likely[0]!r}? There" if likely else "there"
            raise QueryError(f"there is no {name!r} here; {question} are {', '.join(known)}")
    return [{name: given[name] for name in each if name in given} for each in names]


def take_fields(kind: type, given: dict[str, Any], beside: tuple[str, ...] = ()) -> Any:
    """Make a dataclass of keyword arguments; `terms` may be one already, which they change.

    Raises:
        QueryError: If it has no such fields, or they are something else.
    """
    rest = dict(given)
    known = rest.pop("terms", None)
    if known is not None and not isinstance(known, kind):
        raise QueryError(f"terms are {kind.__name__}(...), got {known!r}")
    (values,) = split_fields((kind,), rest, beside)
    made: Any = known  # a dataclass, like its kind
    return kind(**values) if known is None else replace(made, **values)


def show_fields(method: Any, *kinds: type) -> None:
    """Give a method's signature the fields of dataclasses, for those who look it up."""
    given = inspect.signature(method)
    own = [one for one in given.parameters.values() if one.kind is not one.VAR_KEYWORD]
    theirs = [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type
        )
        for kind in kinds
        for one in _open_fields(kind)
    ]
    method.__signature__ = given.replace(parameters=[*own, *theirs])


@cache
def _open_fields(kind: Any) -> tuple[Field[Any], ...]:
    return tuple(one for one in fields(kind) if "help" in one.metadata)
