"""Hits as text for people, and in the forms that programs and players read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from indexer.paths import printable
from search.asking.answers import Hit
from soundalike.show.tags import tags_data
from soundalike.show.words import clock, shown_path

#: Tags in one line of the table.
_TABLE_TAGS = 3


def hits_table(hits: Sequence[Hit]) -> str:
    """Return hits as lines: rank, score, file, time range, top tags; copies below their file."""
    rows = []
    for rank, hit in enumerate(hits, start=1):
        span = f"{clock(hit.start_s)}-{clock(hit.end_s)}"
        heard = [f"{one.tag.name} {one.probability:.2f}" for one in hit.tags[:_TABLE_TAGS]]
        first, *others = [shown_path(path) for path in hit.paths] or ["(no path)"]
        rows.append((str(rank), f"{hit.score:.3f}", first, span, ", ".join(heard)))
        rows.extend(("", "", f"= {other}", "", "") for other in others)
    header = ("rank", "score", "file", "time", "heard")
    wide = [max(len(row[column]) for row in [header, *rows]) for column in range(4)]
    lines = [
        f"{rank:>{wide[0]}}  {score:>{wide[1]}}  {file:<{wide[2]}}  {time:<{wide[3]}}  {heard}"
        for rank, score, file, time, heard in [header, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def hits_json(hits: Sequence[Hit]) -> str:
    """Return hits as a JSON list; odd bytes in paths are lone surrogates, as Python reads them."""
    return json.dumps([_hit_data(rank, hit) for rank, hit in enumerate(hits, start=1)], indent=1)


def _hit_data(rank: int, hit: Hit) -> dict[str, Any]:
    return {
        "rank": rank,
        "score": round(hit.score, 6),
        "window_id": hit.window_id,
        "recording_id": hit.recording_id.hex(),
        "paths": [str(path) for path in hit.paths],
        "start_s": hit.start_s,
        "end_s": hit.end_s,
        "tags": tags_data(hit.tags),
    }


def hits_csv(hits: Sequence[Hit]) -> str:
    """Return hits as CSV, one line each, the first path only, tags as "name probability; …"."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("rank", "score", "path", "start_s", "end_s", "window_id", "tags"))
    for rank, hit in enumerate(hits, start=1):
        path = printable(str(hit.paths[0])) if hit.paths else ""
        tags = "; ".join(f"{one.tag.name} {one.probability:.3f}" for one in hit.tags)
        span = (f"{hit.start_s:.3f}", f"{hit.end_s:.3f}")
        writer.writerow((rank, f"{hit.score:.6f}", path, *span, hit.window_id, tags))
    return text.getvalue().rstrip("\n")


def hits_m3u(hits: Sequence[Hit]) -> str:
    """Return hits as a playlist; players that know `start-time` begin at the window.

    A hit whose library is not known on this machine has no address, and is left out.
    """
    lines = ["#EXTM3U"]
    for hit in hits:
        for path in [path for path in hit.paths if path.is_absolute()][:1]:
            title = f"{hit.score:.3f} {printable(path.name)}"
            lines.append(f"#EXTINF:{hit.end_s - hit.start_s:.0f},{title}")
            lines.append(f"#EXTVLCOPT:start-time={hit.start_s:.1f}")
            lines.append(path.as_uri())
    return "\n".join(lines)
