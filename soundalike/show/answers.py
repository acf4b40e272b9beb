"""What is told of an answer beside its hits: what a score means, and what nearly was one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from search.asking.almost import threshold_that_finds
from search.asking.answers import BEGIN_COLUMN, Hit
from search.asking.background import Background
from soundalike.show.hits import hit_data
from soundalike.show.words import clock, count, shown_path


def background_line(background: Background) -> str:
    """Say how windows drawn at random score."""
    low, middle, high = (f"{score:.3f}" for score in background.quartiles)
    spread = f", half of them {low} to {high}" if low != high else ""
    return (
        f"what a score means: {count(background.num_windows, 'window')} at random score "
        f"{middle}{spread}, the best {background.highest:.3f}"
    )


def almost_line(almost: Sequence[Hit]) -> str:
    """Say which windows come nearest where none has the tags, and what would find the best."""
    best, *others = almost
    place = shown_path(best.paths[0]) if best.paths else "(no path)"
    more = ", ".join(f"{threshold_that_finds(hit.score):g}" for hit in others)
    threshold = threshold_that_finds(best.score)
    return (
        f"nothing reaches the threshold: the most probable is at {threshold:g}, in {place} at "
        f"{clock(best.start_s)}-{clock(best.end_s)}{f' (then {more})' if more else ''}; "
        f"--threshold {threshold:g} finds it"
    )


def clockless_line(hits: Sequence[Hit]) -> str | None:
    """Say how many hits have no time of day, and what would give them one; None if all have it."""
    without = [hit for hit in hits if hit.clock is None]
    if not without:
        return None
    said = next((one for hit in without if (one := hit.metadata.get(BEGIN_COLUMN))), None)
    wrong = f", not as {str(said)!r} there" if said is not None else ""
    return (
        f"no time of day for {len(without):,} of {count(len(hits), 'hit')}: it is read from names "
        f"such as 20240601_140505.wav, or from a column {BEGIN_COLUMN!r} of --metadata, written "
        f"as 2024-06-01T14:05:05+02:00{wrong}"
    )


def answer_json(
    hits: Sequence[Hit],
    background: Background | None = None,
    almost: Sequence[Hit] = (),
    **told: int | Sequence[str],
) -> str:
    """Return an answer as JSON; odd bytes in paths are lone surrogates, as Python reads them.

    Its keys: `hits`; `background`, null without a clip; `almost`, null if some window has the tags;
    and what else is told of the answer.
    """
    document: dict[str, Any] = {"hits": _listed(hits), "background": None, "almost": None, **told}
    if background:
        document["background"] = {
            "windows": background.num_windows,
            "quartiles": [round(score, 6) for score in background.quartiles],
            "highest": round(background.highest, 6),
        }
    if almost:
        threshold = threshold_that_finds(almost[0].score)
        document["almost"] = {"threshold": threshold, "windows": _listed(almost)}
    return json.dumps(document, indent=1)


def _listed(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    return [hit_data(rank, hit) for rank, hit in enumerate(hits, start=1)]
