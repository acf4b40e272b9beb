"""Tags as text for people and as data for programs: all of them, and how often each is heard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from indexer.tags import HeardTag, Tag

#: Tags, and in how many windows each is heard.
Counted = Iterable[tuple[Tag, int]]


def vocabulary_lines(tags: Iterable[Tag]) -> Iterator[str]:
    """Say index, mid and name of each tag."""
    for tag in tags:
        yield f"{tag.index:>3}  {tag.mid:<12}  {tag.name}"


def vocabulary_data(tags: Iterable[Tag]) -> list[dict[str, Any]]:
    """Return the same as plain data."""
    return [asdict(tag) for tag in tags]


def counted_lines(counted: Counted) -> Iterator[str]:
    """Say in how many windows each tag is heard, and then the same as of any."""
    for tag, num_windows in counted:
        yield f"{num_windows:>9,}  {tag.index:>3}  {tag.mid:<12}  {tag.name}"


def counted_data(counted: Counted) -> list[dict[str, Any]]:
    """Return the same as plain data."""
    return [{"windows": num_windows, **asdict(tag)} for tag, num_windows in counted]


def tags_data(tags: Iterable[HeardTag]) -> list[dict[str, Any]]:
    """Return what is heard in a window as plain data."""
    return [
        {
            "index": heard.tag.index,
            "mid": heard.tag.mid,
            "name": heard.tag.name,
            "probability": round(heard.probability, 6),
        }
        for heard in tags
    ]
