"""Groups of duplicates as text for people and as data for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from indexer.paths import printable
from search.asking.duplicates import Member
from soundalike.show.words import clock, shown_path

Groups = Sequence[tuple[Member, ...]]


def groups_table(groups: Groups) -> str:
    """Return groups as blocks of lines: score, time ranges, file; exact copies below their file."""
    blocks = []
    for number, group in enumerate(groups, start=1):
        lines = [f"group {number}"]
        for member in group:
            spans = ", ".join(f"{clock(start)}-{clock(end)}" for start, end in member.spans)
            first, *copies = [shown_path(path) for path in member.paths]
            lines.append(f"  {member.score:.3f}  {first}  {spans}".rstrip())
            lines.extend(f"       = {copy}" for copy in copies)
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


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
