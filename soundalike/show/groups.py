"""Groups of duplicates as text for people and as data for programs."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from indexer.paths import printable
from search.asking.duplicates import Member
from soundalike.show.fitting import fit_path, wrapped
from soundalike.show.words import clock, shown_path

#: Columns of a line beside the path and the first span, with its comma.
_BESIDE = 12
#: What a path has at least beside its first span; otherwise that goes on in the next line.
_LEAST = 16

Groups = Sequence[tuple[Member, ...]]


def groups_table(groups: Groups, width: int | None = None) -> str:
    """Return groups as blocks of lines: score, file, time ranges; exact copies below their file.

    Args:
        groups: Of recordings.
        width: Columns of the terminal; paths are shortened in their middle, and what does not fit
            goes on in the next line. None for lines of any length.
    """
    blocks = []
    for number, group in enumerate(groups, start=1):
        lines = [f"group {number}", *(line for one in group for line in _member_lines(one, width))]
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def _member_lines(member: Member, width: int | None) -> Iterator[str]:
    spans = [f"{clock(start)}-{clock(end)}" for start, end in member.spans]
    before, said = f"  {member.score:.3f}  ", ", ".join(spans)
    full = sys.maxsize if width is None else width
    room = full - _BESIDE - max(map(len, spans), default=0)
    is_narrow = room < _LEAST
    if is_narrow:
        room = full - len(before)
    first, *copies = [fit_path(shown_path(path), room) for path in member.paths]
    if is_narrow:
        yield before + first
        yield from wrapped(" " * len(before) + said, width)
    else:
        yield from wrapped(f"{before}{first}  {said}".rstrip(), width)
    yield from (f"       = {copy}" for copy in copies)


def groups_json(groups: Groups) -> str:
    """Return groups as a JSON list of lists; odd bytes in paths are lone surrogates."""
    return json.dumps([[_member_data(member) for member in group] for group in groups], indent=1)


def _member_data(member: Member) -> dict[str, Any]:
    return {
        "score": round(member.score, 6),
        "recording_id": member.recording_id.hex(),
        "paths": [str(path) for path in member.paths],
        "spans": [{"start_s": start, "end_s": end} for start, end in member.spans],
    }


def groups_csv(groups: Groups) -> str:
    """Return groups as CSV: a line for each path and each of its spans."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("group", "score", "path", "start_s", "end_s", "recording_id"))
    for number, group in enumerate(groups, start=1):
        for member in group:
            for path in member.paths:
                for start_s, end_s in member.spans:
                    span = (f"{start_s:.3f}", f"{end_s:.3f}")
                    where = (printable(str(path)), *span, member.recording_id.hex())
                    writer.writerow((number, f"{member.score:.6f}", *where))
    return text.getvalue().rstrip("\n")
