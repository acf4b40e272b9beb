"""Answers as plain data, as the page and other programs get them."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse

from indexer.tags import HeardTag
from search.asking.answers import Hit
from soundalike.show.hits import plain_value


class Json(JSONResponse):
    """JSON in ASCII: names of files may have bytes in them that are no text."""

    def __init__(self, content: Any, status_code: int = 200, **headers: str) -> None:
        shown = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(content, status_code, {"Cache-Control": "no-store", **shown})

    def render(self, content: Any) -> bytes:
        """Return the bytes of some plain data."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def hit_reply(hit: Hit) -> dict[str, Any]:
    """Return a hit; ids are text, times are in seconds from the start of the recording."""
    path = hit.path
    return {
        "window": str(hit.window_id),
        "score": hit.score,
        "scene_score": hit.scene_score,
        "tag_score": hit.tag_score,
        "path": None if path is None else str(path),
        "paths": [str(one) for one in hit.paths],
        "name": None if path is None else path.name,
        "start_s": hit.start_s,
        "end_s": hit.end_s,
        "match": {
            "start_s": hit.match_start_s,
            "end_s": hit.match_end_s,
            "score": hit.match_score,
        }
        if hit.has_match
        else None,
        "tags": [tag_reply(one) for one in hit.tags],
        "recording": hit.recording_id.hex(),
        "is_there": hit.is_there,
        "clock": plain_value(hit.clock),
        "stands_for": hit.stands_for,
        "query_start_s": hit.query_start_s,
        "metadata": {name: plain_value(value) for name, value in hit.metadata.items()},
    }


def tag_reply(heard: HeardTag) -> dict[str, Any]:
    """Return a tag, and how probable it is."""
    return {
        "id": heard.tag.mid,
        "name": heard.tag.name,
        "probability": heard.probability,
    }
