"""Hits as text for people, and in the forms that programs and players read."""

from __future__ import annotations

import csv
import io
import math
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from indexer.audio.packs.held import split
from indexer.paths import Address, num_columns, printable
from search.asking.answers import Hit
from search.export.cells import path_cell
from search.filters.columns import Value
from soundalike.show.fitting import fit_path, padded, start_of
from soundalike.show.tags import tags_data
from soundalike.show.words import clock, count, shown_path, time_of_day

#: Tags in one line of the table.
_TABLE_TAGS = 3
#: Spaces between its columns.
_GAPS = 8
#: Where there are fewer columns, what is said of a hit stands below it.
_NARROW = 50
#: The same for a table with times of day.
_NARROW_WITH_CLOCK = 100


def hits_table(hits: Sequence[Hit], width: int | None = None, *, with_clock: bool = False) -> str:
    """Return hits as lines: rank, score, file, time range, top tags; copies below their file.

    Below a hit it says where in it what asked is, if not all over, and how like that span is; and
    of one that stands for others, for how many.

    Args:
        hits: The best first.
        width: Columns of the terminal; paths are shortened in their middle, and the last tags are
            left out, until the lines fit; in less than 50, or 100 with a clock, each hit has
            several lines. None for lines of any length.
        with_clock: Whether there is a column of the time of day at which each span begins.
    """
    rows = []
    for rank, hit in enumerate(hits, start=1):
        heard = [f"{one.tag.name} {one.probability:.2f}" for one in hit.tags[:_TABLE_TAGS]]
        first, *others = [shown_path(path) for path in hit.paths] or ["(no path)"]
        window = _times(hit.start_s, hit.end_s)
        match, told = _times(*hit.span), time_of_day(hit.clock) if with_clock else ""
        is_part = match != window  # of which the clock tells, then
        begun = "" if is_part else told
        rows.append(_Row(str(rank), f"{hit.score:.3f}", first, window, heard, begun))
        rows.extend(_Row("", "", f"= {other}", "", []) for other in others)
        if is_part:
            rows.append(_Row("", _shown_score(hit.match_score), "match", match, [], told))
        if hit.stands_for > 1:
            rows.append(_Row("", "", f"and {count(hit.stands_for - 1, 'hit')} like it", "", []))
    if width is not None and width < (_NARROW_WITH_CLOCK if with_clock else _NARROW):
        return "\n".join(line for row in rows for line in _below(row, width))
    rows.insert(0, _Row("rank", "score", "file", "time", ["heard"], "clock" if with_clock else ""))
    if with_clock:
        times = max(len(row.time) for row in rows)
        rows = [row._replace(time=f"{row.time:<{times}}  {row.clock}") for row in rows]
    rank = max(len(row.rank) for row in rows)
    score = max(len(row.score) for row in rows)
    time = max(len(row.time) for row in rows)
    file = max(num_columns(row.file) for row in rows)
    most = sys.maxsize
    if width is not None:
        room = width - rank - score - time - _GAPS
        most = max(room - file, room * 2 // 5)
        file = min(file, room - max(num_columns(_told(row.heard, most)) for row in rows))
    lines = [
        f"{row.rank:>{rank}}  {row.score:>{score}}  {padded(fit_path(row.file, file), file)}  "
        f"{row.time:<{time}}  {_told(row.heard, most)}"
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _times(start_s: float, end_s: float) -> str:
    return f"{clock(start_s)}-{clock(end_s)}"


def _shown_score(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"


class _Row(NamedTuple):
    """A line of the table."""

    rank: str
    score: str
    file: str
    time: str
    heard: list[str]
    clock: str = ""


def _below(row: _Row, width: int) -> Iterator[str]:
    """Yield the lines of a row of a narrow table."""
    before = f"{row.rank:>3}  "
    room = width - len(before)
    yield before + fit_path(row.file, room)
    for said in (f"{row.score}  {row.time}".strip(), row.clock, _told(row.heard, room)):
        if said:
            yield " " * len(before) + said


def _told(tags: Sequence[str], columns: int) -> str:
    """Return the tags that fit into so many columns, and of the first at least the start."""
    for number in range(len(tags), 1, -1):
        if num_columns(told := ", ".join(tags[:number])) <= columns:
            return told
    return start_of(tags[0], columns) if tags else ""


def hit_data(rank: int, hit: Hit) -> dict[str, Any]:
    """Return a hit as plain data."""
    return {
        "rank": rank,
        "score": round(hit.score, 6),
        "scene_score": _rounded(hit.scene_score),
        "tag_score": _rounded(hit.tag_score),
        "query_start_s": _rounded(hit.query_start_s),
        "window_id": hit.window_id,
        "recording_id": hit.recording_id.hex(),
        "paths": [str(path) for path in hit.paths],
        "is_there": hit.is_there,
        "start_s": hit.start_s,
        "end_s": hit.end_s,
        "match_start_s": _rounded(hit.match_start_s),
        "match_end_s": _rounded(hit.match_end_s),
        "match_score": _rounded(hit.match_score),
        "tags": tags_data(hit.tags),
        "stands_for": hit.stands_for,
        "clock": plain_value(hit.clock),
        "metadata": {name: plain_value(value) for name, value in hit.metadata.items()},
    }


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 6)


def plain_value(value: Value) -> str | int | float | bool | None:
    """Return a value as JSON knows it: days and times in ISO 8601, times to the millisecond.

    Numbers that are infinite it does not know: they are text, "inf".
    """
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return value.isoformat() if isinstance(value, date) else value


def metadata_columns(hits: Sequence[Hit], taken: Sequence[str]) -> dict[str, str]:
    """Return the columns of metadata that hits have, by the names that they get in a table.

    Args:
        hits: Of one answer.
        taken: Names of the other columns of the table. A column with one of them has "metadata_"
            before its own.
    """
    columns: dict[str, str] = {}
    for name in hits[0].metadata if hits else ():
        shown = name
        while shown in taken or shown in columns:
            shown = f"metadata_{shown}"
        columns[shown] = name
    return columns


#: Columns of CSV, before those of the metadata.
_COLUMNS = (
    *("rank", "score", "path", "start_s", "end_s", "window_id", "tags", "stands_for"),
    *("match_start_s", "match_end_s", "match_score", "clock"),
)


def hits_csv(hits: Sequence[Hit]) -> str:
    """Return hits as CSV, one line each, tags as "name probability; …"; then the metadata."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = metadata_columns(hits, _COLUMNS)
    writer.writerow((*_COLUMNS, *map(printable, columns)))
    for rank, hit in enumerate(hits, start=1):
        path = path_cell(printable(str(hit.path))) if hit.path else ""
        tags = "; ".join(f"{one.tag.name} {one.probability:.3f}" for one in hit.tags)
        window = (f"{hit.start_s:.3f}", f"{hit.end_s:.3f}")
        match = (_cell(hit.match_start_s, 3), _cell(hit.match_end_s, 3), _cell(hit.match_score, 6))
        writer.writerow(
            (
                *(rank, f"{hit.score:.6f}", path, *window, hit.window_id, tags, hit.stands_for),
                *(*match, plain_value(hit.clock) or ""),
                *(_text(hit.metadata.get(name)) for name in columns.values()),
            )
        )
    return text.getvalue().rstrip("\n")


def _cell(number: float | None, digits: int) -> str:
    return "" if number is None else f"{number:.{digits}f}"


def address_of(hit: Hit) -> Path | None:
    """Return where its file is, or was; None if its library is not known on this machine."""
    return next((one for one in (hit.path, *hit.paths) if one and one.is_absolute()), None)


def _text(value: Value) -> str:
    """Return a value as a cell: one line, and as a filter expression has it where it is a truth."""
    if isinstance(value, bool):
        return "true" if value else "false"
    plain = plain_value(value)
    return "" if plain is None else printable(str(plain))


def packed_lines(hits: Sequence[Hit]) -> list[str]:
    """Say how many hits have an address that only this program can open, for people."""
    number = sum((path := address_of(hit)) is not None and _is_ours(path) for hit in hits)
    lie = "1 hit lies" if number == 1 else f"{number:,} hits lie"
    told = f"{lie} in packs or buckets, into which no player looks; --copy-to makes files of them"
    return [told] if number else []


def _is_ours(path: Path) -> bool:
    """Whether nothing but this program knows what a path means."""
    is_in_bucket = isinstance(path, Address) and not os.fspath(path).startswith("http")
    return is_in_bucket or bool(split(path))


def _uri_of(path: Path) -> str:
    """Return a path as programs take it; an address as it is."""
    return os.fspath(path) if isinstance(path, Address) else path.as_uri()


def hits_m3u(hits: Sequence[Hit], *, with_clock: bool = False) -> str:
    """Return hits as a playlist; players that know VLC's options play the span and stop.

    A hit whose library is not known on this machine has no address, and is left out.

    Args:
        hits: The best first.
        with_clock: Whether titles say the time of day at which each span begins.
    """
    lines = ["#EXTM3U"]
    for hit in hits:
        if path := address_of(hit):
            told = time_of_day(hit.clock) if with_clock else ""
            title = f"{hit.score:.3f} {printable(path.name)} {told}".rstrip()
            start_s, end_s = hit.span
            # Whole seconds; players take 0 for a stream without an end.
            lines.append(f"#EXTINF:{max(1, round(end_s - start_s))},{title}")
            lines.append(f"#EXTVLCOPT:start-time={round(start_s, 3)}")
            lines.append(f"#EXTVLCOPT:stop-time={round(end_s, 3)}")
            lines.append(_uri_of(path))
    return "\n".join(lines)
