"""Hits as files to be taken away."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from indexer.errors import QueryError
from search.asking.answers import Hit
from search.asking.collect import copy_spans
from soundalike.show.hits import hits_csv, hits_m3u
from soundalike.show.labels import hits_labels
from soundalike.web.bodies import Export
from soundalike.web.desk import Desk
from soundalike.web.replies import hit_reply

#: Form → name of the file, and what it is.
_FILES = {
    "csv": ("hits.csv", "text/csv"),
    "json": ("hits.json", "application/json"),
    "m3u": ("hits.m3u", "audio/x-mpegurl"),
    "audacity": ("hits.labels.txt", "text/plain"),
    "raven": ("hits.selections.txt", "text/plain"),
    "zip": ("hits.zip", "application/zip"),
}


def export_hits(desk: Desk, asked: Export) -> FileResponse:
    """Return hits as a file, which is deleted once it was sent.

    Raises:
        QueryError: If there are too many hits for it, or none.
    """
    found = desk.search(asked.search, most=_number_of(desk, asked))
    hits = found.hits
    if asked.windows is not None:
        chosen = set(asked.windows)
        hits = [one for one in hits if str(one.window_id) in chosen]
    if not hits:
        raise QueryError("nothing to export: the question has no such hits")
    folder = Path(tempfile.mkdtemp(dir=desk.folder))
    name, kind = _FILES[asked.format]
    try:
        if asked.format == "zip":
            file = _zip(desk, hits, folder)
        else:
            file = folder / name
            file.write_text(_text(hits, asked), encoding="utf-8", errors="backslashreplace")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    delete = BackgroundTask(partial(shutil.rmtree, folder, ignore_errors=True))
    return FileResponse(file, media_type=kind, filename=name, background=delete)


def _number_of(desk: Desk, asked: Export) -> int:
    """Return how many hits are looked at: those that the page has, which may be many pages."""
    search, limits = asked.search, desk.limits
    most = limits.zipped if asked.format == "zip" else limits.hits
    wanted = search.first + search.k
    number = wanted if asked.windows is None else len(asked.windows)
    if number > most:
        raise QueryError(f"at most {most:,} hits can be taken so, and these are {number:,}")
    return min(wanted, limits.hits)


def _text(hits: Sequence[Hit], asked: Export) -> str:
    match asked.format:
        case "csv":
            return hits_csv(hits) + "\n"
        case "m3u":
            return hits_m3u(hits) + "\n"
        case "audacity" | "raven":
            return hits_labels(hits, asked.format)
        case _:
            return json.dumps([hit_reply(one) for one in hits], indent=1)


def _zip(desk: Desk, hits: Sequence[Hit], folder: Path) -> Path:
    """Pack the audio of hits; what cannot be read is named in a file beside it."""
    spans = folder / "hits"
    _, failures = copy_spans(hits, spans, read=desk.media.read_at)
    (spans / "hits.csv").write_text(
        hits_csv(hits) + "\n", encoding="utf-8", errors="backslashreplace"
    )
    if failures:
        told = "\n".join(failures)
        (spans / "not_read.txt").write_text(told, encoding="utf-8", errors="backslashreplace")
    return Path(shutil.make_archive(str(spans), "zip", spans))
