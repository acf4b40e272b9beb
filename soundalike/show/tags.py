"""Tags as text for people and as data for programs: all of them, and how often each is heard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from indexer.paths import printable
from indexer.tags import HeardTag, Tag
from search.filters.thresholds import Thresholds
from soundalike.show.words import count

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


def thresholds_lines(found: Thresholds) -> Iterator[str]:
    """Say from which probability on each tag is heard, and on how many files that rests."""
    missing = f"; {found.num_missing:,} more are not in the store" if found.num_missing else ""
    yield (
        f"{count(found.num_files, 'file')} of {printable(found.labels)}{missing}; to be right in "
        f"{found.precision:.0%}, as far as so few files can tell"
    )
    yield "threshold   files   heard   right  precision  recall  tag"
    for one in found.tags:
        if one.threshold is not None and one.precision is not None and one.recall is not None:
            yield (
                f"{one.threshold:>9.4f}  {one.positives:>6,}  {one.predicted:>6,}  "
                f"{one.right:>6,}  {one.precision:>9.1%}  {one.recall:>6.1%}  {one.tag.name}"
            )
    for one in found.tags:
        if one.threshold is None:
            yield f"{'-':>9}  {one.positives:>6,}  {one.tag.name}: none, as {one.reason}"
    unknown = [one for one in found.tags if one.unknown]
    for one in unknown:
        yield (
            f"{one.tag.name}: not counted were {count(one.unknown, 'file')} that labels call only "
            f"by what is above it"
        )


def thresholds_data(found: Thresholds) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "checkpoint": found.checkpoint,
        "weights": found.weights,
        "padding": found.padding,
        "level": found.level,
        "labels": found.labels,
        "precision": found.precision,
        "files": found.num_files,
        "missing": found.num_missing,
        "tags": [
            {
                **asdict(one.tag),
                **{name: value for name, value in one._asdict().items() if name != "tag"},
                "precision": one.precision,
                "recall": one.recall,
            }
            for one in found.tags
        ],
    }


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
