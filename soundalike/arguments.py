"""Keyword arguments that are the fields of a dataclass."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from indexer.errors import QueryError


def take_fields(kind: type, given: dict[str, Any]) -> Any:
    """Make a dataclass of keyword arguments.

    Raises:
        QueryError: If it has no such fields; the error lists those that it has.
    """
    names = [one.name for one in fields(kind)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise QueryError(f"there is no {unknown[0]!r} here; there are {', '.join(names)}")
    return kind(**given)


def show_fields(method: Any, kind: type) -> None:
    """Give a method's signature the fields of a dataclass, for those who look it up."""
    given = inspect.signature(method)
    own = [one for one in given.parameters.values() if one.kind is not one.VAR_KEYWORD]
    theirs = [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type
        )
        for one in fields(kind)
    ]
    method.__signature__ = given.replace(parameters=[*own, *theirs])
