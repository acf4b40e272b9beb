"""A lesson: labels of a store's windows become a tag, and say how far it can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers, Mask
from indexer.errors import QueryError
from indexer.store.reader import Store
from search.filters.tags import LEARNED_PREFIX
from search.generation.segments import Rows
from search.learned.drawing import drawn_so_far, in_drawn_order
from search.learned.labels import Label
from search.learned.line import vectors_of
from search.learned.tags import LearnedTag, made_for, probabilities, probabilities_of
from search.learned.training import NUM_WEAK, Examples, learn_line

#: Of a normal distribution: 95 % of it lies within so many standard deviations.
_Z = 1.959964
#: Probabilities at which precision and yield are estimated.
CURVE_AT = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class Estimate(NamedTuple):
    """What labels of randomly drawn windows tell of a threshold.

    Attributes:
        threshold: From which probability on the tag is heard.
        num_windows: Windows of the store in which it is.
        num_judged: Drawn windows in which it is, by what was learned from other recordings, and
            that were labelled yes or no.
        num_right: Of these, yes.
        low: Of the share that is right, the lower end of its 95 % interval (Wilson 1927).
        high: The upper end.
        num_drawn: Drawn windows that were labelled yes or no, wherever it is.
    """

    threshold: float
    num_windows: int
    num_judged: int
    num_right: int
    low: float
    high: float
    num_drawn: int

    @property
    def precision(self) -> float | None:
        """Share that is right; None if none was judged."""
        return self.num_right / self.num_judged if self.num_judged else None


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was learned.

    Attributes:
        tag: The tag.
        counts: Labels of windows that the store has, by what they say.
        num_elsewhere: Labels of windows that it does not have.
        average_precision: Of the labels, by what was learned from other recordings; NaN if there
            were too few.
        estimate: How many windows have it from 0.5 on, and how many of these are right.
    """

    tag: LearnedTag
    counts: Mapping[str, int]
    num_elsewhere: int
    average_precision: float
    estimate: Estimate


def learn(rows: Rows, store: Store, name: str, labels: Mapping[int, Label]) -> Lesson:
    """Learn a tag from labels of a store's windows.

    The same labels of the same windows give the same tag, to the bit.

    Args:
        rows: Of the store.
        store: Whose they are.
        name: Of the tag, without the prefix.
        labels: Window id → what is said of it, in the order of saying.

    Raises:
        QueryError: If no window that the store has is labelled yes.
    """
    at = dict(rows.find_all(labels))
    here = {window_id: label for window_id, label in sorted(labels.items()) if window_id in at}
    counts = Counter[str](label.says for label in here.values())
    elsewhere = len(labels) - len(here)
    if not counts["yes"]:
        whose = f" ({elsewhere} labels are of windows that it does not have)" if elsewhere else ""
        raise QueryError(
            f"nothing to learn from: no window of {store.path} is labelled yes for "
            f"{LEARNED_PREFIX}{name}{whose}",
            about="label",
            value=(store.path, name),
        )
    told = [one for one in here if here[one].says != "unsure"]
    where = np.array([at[one] for one in told], np.int64)
    is_yes = np.array([here[one].says == "yes" for one in told])
    examples = Examples(_vectors(rows, where), is_yes, rows.recording_ids(where))
    line, judged = learn_line(examples, _vectors(rows, _draw_weak(rows, where[is_yes], at)))
    basis = {
        **{says: counts[says] for says in ("yes", "no", "unsure")},
        "average_precision": None
        if np.isnan(judged.average_precision)
        else judged.average_precision,
        "method": line.method,
        "versions": {one: version(one) for one in ("soundalike", "scikit-learn", "numpy")},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    held_back = dict(zip(told, judged.logits.tolist(), strict=True))
    tag = made_for(store, name, line, basis, held_back)
    (estimate,) = estimate_at(rows, tag, labels, (0.5,))
    told_of = {says: counts[says] for says in ("yes", "no", "unsure") if counts[says]}
    return Lesson(tag, told_of, elsewhere, judged.average_precision, estimate)


def estimate_at(
    rows: Rows,
    tag: LearnedTag,
    labels: Mapping[int, Label],
    thresholds: Sequence[float] = CURVE_AT,
) -> list[Estimate]:
    """Estimate precision and yield of a tag at some thresholds.

    Only windows count that were drawn at random, see `drawn_so_far`: those that were looked for are
    right more often. One that was learned from is judged by what was learned from other recordings:
    the tag itself knows what was said of it. It does not count where these were too few.

    Args:
        rows: Of the store.
        tag: The tag.
        labels: Window id → what is said of it, in the order of saying.
        thresholds: At which it is estimated.
    """
    at = dict(rows.find_all(labels))
    here = {one: label for one, label in labels.items() if one in at}
    is_proposed = np.array([label.via == "random" for label in here.values()], bool)
    is_drawn = drawn_so_far(np.array([*here], np.int64), is_proposed, tag.name)
    drawn = [one for one in compress(here, is_drawn) if here[one].says != "unsure"]
    heard = probabilities_of(rows, tag, np.array([at[one] for one in drawn], np.int64))
    held = np.array([one in tag.held_back for one in drawn], bool)
    logits = np.array([tag.held_back[one] for one in drawn if one in tag.held_back], np.float64)
    heard[held] = probabilities(logits.astype(np.float32))
    is_yes = np.array([labels[one].says == "yes" for one in drawn], bool)
    all_heard = np.sort(np.concatenate([_alive(tag, one) for one in rows.segments] or [heard]))
    found = []
    for threshold in thresholds:
        reaches = heard >= threshold
        # A float16 beside a plain number would round that, and count what is just below it.
        num_windows = len(all_heard) - int(np.searchsorted(all_heard, np.float32(threshold)))
        judged, right = int(reaches.sum()), int((reaches & is_yes).sum())
        interval = wilson(right, judged)
        found.append(Estimate(threshold, num_windows, judged, right, *interval, len(drawn)))
    return found


def wilson(num_right: int, num_judged: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927); 0 and 1 if nothing was judged."""
    if not num_judged:
        return 0.0, 1.0
    share, z2 = num_right / num_judged, _Z * _Z
    centre = (share + z2 / (2 * num_judged)) / (1 + z2 / num_judged)
    spread = share * (1 - share) / num_judged + z2 / (4 * num_judged**2)
    half = _Z * spread**0.5 / (1 + z2 / num_judged)
    return max(0.0, centre - half), min(1.0, centre + half)


def _alive(tag: LearnedTag, segment: Any) -> Any:
    heard = tag.column(segment)[segment.alive]
    return heard[np.isfinite(heard)]


def _vectors(rows: Rows, at: Integers) -> Float32:
    return vectors_of(rows.vectors(at), rows.tags(at))


def _draw_weak(rows: Rows, yes: Integers, labelled: Mapping[int, int]) -> Integers:
    """Return rows that nobody labelled, of recordings of which nothing is labelled yes."""
    alive = rows.live_rows()
    ids, of_yes = rows.window_ids(alive), rows.recording_ids(yes)
    some = in_drawn_order(ids, "weak")[: NUM_WEAK + len(labelled) + 50 * len(yes)]
    free: Mask = ~np.isin(ids[some], list(labelled))
    free &= ~np.isin(rows.recording_ids(alive[some]), of_yes)
    return np.asarray(alive[some[free]][:NUM_WEAK])
