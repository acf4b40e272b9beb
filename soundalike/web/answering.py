"""Routes that answer questions: stores, tags, search, windows and exports."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import FileResponse, Response

from indexer.errors import SoundalikeError
from indexer.tags import TagVocabulary
from search.asking.background import Background, Beside
from search.filters.tags import LEARNED_PREFIX
from soundalike.answer import Answer
from soundalike.show.steps import steps_lines
from soundalike.web.bodies import Export, Filter, Search
from soundalike.web.exports import export_hits
from soundalike.web.parameters import AtDesk, WindowPath
from soundalike.web.replies import Json, hit_reply

router = APIRouter(default_response_class=Json)

#: Scores of windows drawn at random that are told, at most: enough for a histogram.
_MOST_SCORES = 500


@router.get("/stores")
def stores(desk: AtDesk) -> Response:
    """Say which stores are asked, how many windows they have, and what can be asked of them."""
    told: dict[str, Any] = {
        "limits": desk.limits.told(),
        "version": metadata.version("soundalike"),
    }
    try:
        about = desk.sounds.about()
    except SoundalikeError as error:
        names = [{"name": one.name, "path": str(one)} for one in desk.sounds.paths]
        return Json({"stores": names, "has_index": False, "detail": str(error), **told})
    return Json(
        {
            "stores": [
                {"name": path.name, "path": str(path), "num_windows": number}
                for path, number in zip(desk.sounds.paths, about.num_windows, strict=True)
            ],
            "num_windows": sum(about.num_windows),
            "num_new_parts": about.num_new_parts,
            "has_index": True,
            "projections": about.projections,
            "has_frames": about.has_frames,
            "has_thresholds": about.has_thresholds,
            "window_s": about.window_s,
            "metadata_columns": desk.columns,
            **told,
        }
    )


@router.get("/tags")
def tags(desk: AtDesk, asked: Annotated[Filter, Query()]) -> Response:
    """Count in how many of the windows that a filter leaves each tag is heard, with the ontology.

    A tag counts where one below it is heard, too: as many windows a filter by it would leave.
    Tags that were learned come first.
    """
    num_matching, found = desk.count(asked)
    counts = {one.tag.mid: one.num_windows for one in found}
    vocabulary = TagVocabulary.audioset()
    below = {tag.mid: vocabulary.children(tag) for tag in vocabulary.nodes}
    inner = {mid for mids in below.values() for mid in mids}
    return Json(
        {
            "num_matching": num_matching,
            "tags": [
                {
                    "id": one.tag.mid,
                    "name": one.tag.name,
                    "count": one.num_windows,
                    "children": [],
                    "is_root": True,
                }
                for one in found
                if one.tag.mid.startswith(LEARNED_PREFIX)
            ]
            + [
                {
                    "id": tag.mid,
                    "name": tag.name,
                    "count": counts[tag.mid],
                    "children": [mid for mid in below[tag.mid] if mid in counts],
                    "is_root": tag.mid not in inner,
                }
                for tag in vocabulary.nodes
                if tag.mid in counts
            ],
        }
    )


@router.post("/search")
def search(desk: AtDesk, asked: Search) -> Response:
    """Find what sounds like something, and unlike something else; or what fits a filter best."""
    found = desk.search(asked)
    answer = found.answer
    return Json(
        {
            "hits": [hit_reply(one) for one in found.hits],
            "cursor": found.cursor,
            "num_matching": sum(one.num_matching for one in answer.steps),
            "num_windows": sum(one.num_windows for one in answer.steps),
            "background": _background(answer),
            "num_left_out": answer.num_left_out,
            "num_silent": answer.num_silent,
            "num_new_parts": answer.num_new_parts,
            "notes": answer.notes,
            "almost": [hit_reply(one) for one in answer.almost],
            "explain": list(steps_lines(answer.steps)),
            "removed": [
                {"term": term, "num_windows": number}
                for term, number in (() if answer else desk.removed(asked))
            ],
            "ms": round(found.seconds * 1e3, 1),
        }
    )


def _background(answer: Answer) -> dict[str, Any] | None:
    """Return what windows drawn at random score, the lowest first; some of them, evenly."""
    scores = answer.beside.scores() if isinstance(answer.beside, Beside) else None
    told = None if scores is None else Background.of(scores)
    if scores is None or told is None:
        return None
    some = scores[:: max(1, -(-len(scores) // _MOST_SCORES))].tolist()
    return {**told._asdict(), "scores": [round(one, 4) for one in some]}


@router.get("/windows/{window}")
def window(desk: AtDesk, window: WindowPath) -> Response:
    """Say what is known of a window: where it is, and all that is heard in it."""
    return Json(hit_reply(desk.window(window)))


@router.get("/windows/{window}/context")
def context(
    desk: AtDesk, window: WindowPath, num: Annotated[int, Query(ge=0, le=50)] = 3
) -> Response:
    """Return the windows before and after one in its recording, and itself, in order of time."""
    hits = desk.sounds.around(desk.window(window).window_id, num)
    return Json({"windows": [hit_reply(one) for one in hits]})


@router.post("/export")
def export(desk: AtDesk, asked: Export) -> FileResponse:
    """Return hits as a file: a table, a playlist, labels, or their audio in a ZIP file."""
    return export_hits(desk, asked)
