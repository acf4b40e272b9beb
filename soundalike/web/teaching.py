"""Routes for teaching: labels of windows, what is learned from them, what to label next."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from search.asking.answers import Hit
from search.learned.labels import By, Label, said_counts
from soundalike.show.teaching import estimate_data, labels_csv, lesson_data, taught_data
from soundalike.web.bodies import Labelling, Undoing
from soundalike.web.parameters import AtDesk
from soundalike.web.replies import Json, hit_reply

router = APIRouter(prefix="/taught", default_response_class=Json)

#: Windows that are proposed at a time, at most.
_MOST_PROPOSED = 100


@router.get("")
def taught(desk: AtDesk) -> Response:
    """Say which names have labels or were learned, and how many labels say what.

    Where labels cannot be read, `trouble` says why, and there are no counts.
    """
    return Json({"names": [taught_data(one) for one in desk.sounds.taught()]})


@router.get("/{name}/labels")
def labels(desk: AtDesk, name: str) -> Response:
    """Say what was said of which windows: the last word on each, in the order of saying."""
    every = desk.sounds.labels(name)
    return Json({"counts": said_counts(every), "labels": [_label_reply(one) for one in every]})


@router.post("/{name}/labels")
def label(desk: AtDesk, name: str, said: Labelling) -> Response:
    """Say of windows whether a sound is in them; it is on the disk when this is answered."""
    given = {says: map(int, getattr(said, says)) for says in ("yes", "no", "unsure")}
    added = desk.sounds.label(name, **given, by=said.by, via=said.via)
    return Json({"labels": [_label_reply(one) for one in added]})


@router.post("/{name}/undo")
def undo(desk: AtDesk, name: str, asked: Undoing) -> Response:
    """Take words back: the last one and what was imported with it, or that of an id.

    What was said before of their windows counts again.
    """
    undone = desk.sounds.undo_label(name, asked.word)
    every = desk.sounds.labels(name)
    windows = {one.window_id for one in undone}
    again = [one for one in every if one.window_id in windows]
    return Json(
        {
            "counts": said_counts(every),
            "undone": [_label_reply(one) for one in undone],
            "counts_again": [_label_reply(one) for one in again],
        }
    )


@router.get("/{name}/labels.csv")
def table(desk: AtDesk, name: str) -> Response:
    """Return all labels as a table, which `soundalike label --from` reads."""
    text = labels_csv(*desk.sounds.labelled_hits(name))
    return Response(
        text.encode("utf-8", "backslashreplace"),
        media_type="text/csv",
        headers={
            "Content-Disposition": f'attachment; filename="{name}.labels.csv"',
            "Cache-Control": "no-store",
        },
    )


@router.post("/{name}/learn")
def learn(desk: AtDesk, name: str) -> Response:
    """Learn a tag from its labels: from now on it is called my.NAME in filters."""
    lesson, estimates = desk.learn(name)
    return Json({**lesson_data(lesson), "estimates": [estimate_data(one) for one in estimates]})


@router.get("/{name}/estimates")
def estimates(desk: AtDesk, name: str) -> Response:
    """Tell how many windows have a learned tag from a probability on, and how many rightly."""
    return Json({"estimates": [estimate_data(one) for one in desk.estimates(name)]})


@router.get("/{name}/review")
def review(
    desk: AtDesk,
    name: str,
    by: By = "top",
    k: Annotated[int, Query(ge=1, le=_MOST_PROPOSED)] = 20,
) -> Response:
    """Return windows to label next; their scores are how probable the tag is, null if unknown."""
    return Json({"windows": [_proposal(one) for one in desk.review(name, by, k)]})


def _proposal(hit: Hit) -> dict[str, Any]:
    reply = hit_reply(hit)
    return reply if math.isfinite(hit.score) else {**reply, "score": None}


def _label_reply(label: Label) -> dict[str, Any]:
    return {
        "window": str(label.window_id),
        "says": label.says,
        "start_s": label.start_s,
        "end_s": label.end_s,
        "by": label.by,
        "via": label.via,
        "at": label.at,
        "id": label.id,
    }
