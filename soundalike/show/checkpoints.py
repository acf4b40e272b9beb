"""Checkpoints as text for people and as data for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from indexer.model.known import KnownCheckpoint


def checkpoints_lines(known: Iterable[KnownCheckpoint]) -> Iterator[str]:
    """Say which checkpoints there are, and which of them are on this machine."""
    for one in known:
        absent = "by hand only" if one.former else "not here yet"
        where = "here" if one.path.exists() else absent
        yield f"{one.name:<31} {where:<13} {one.description}"


def checkpoints_data(known: Iterable[KnownCheckpoint]) -> list[dict[str, Any]]:
    """Return the same as plain data."""
    return [
        {
            "name": one.name,
            "is_here": one.path.exists(),
            "path": str(one.path),
            "url": one.url,
            "others": list(one.others),
            "trained_on": one.trained_on,
            "description": one.description,
        }
        for one in known
    ]
