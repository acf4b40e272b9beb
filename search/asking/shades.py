"""What the points of a map are coloured by: a tag, the folder they are in, or time; a byte each."""

from __future__ import annotations

import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from indexer.arrays import Float32, Integers, Mask
from indexer.windows import SAMPLE_RATE_HZ
from search.asking.clock import time_from_name
from search.asking.sound_index import SoundIndex
from search.filters.tags import Probable

#: What points can be coloured by.
By = Literal["tag", "folder", "time"]
#: Folders that have a colour of their own: more are not told apart.
MOST_FOLDERS = 11
OTHERS = "others"
#: The greatest byte of a scale of time; the next is for windows of which nothing is known.
_LAST, _UNKNOWN = 254, 255
#: Time is that of clocks if so many windows have one, and the place in the file otherwise.
_LEAST_DATED = 0.5


class Shades(NamedTuple):
    """A byte for each of some windows.

    Attributes:
        kind: "tag" for probabilities from 0 to 255; "folder" for places in `names`; "clock" and
            "place" for 0 to 254 on a scale, and 255 where nothing is known.
        values: (n,) uint8.
        names: Of folders; or of the two ends of a scale.
    """

    kind: Literal["tag", "folder", "clock", "place"]
    values: npt.NDArray[np.uint8]
    names: tuple[str, ...]


def shade_by_tag(index: SoundIndex, window_ids: Integers, term: Probable) -> Shades:
    """Return how probable a tag is; 0 where a window is not there any more.

    Args:
        index: The stores.
        window_ids: (n,) int64, ascending.
        term: The tag.
    """
    rows = _rows_of(index, window_ids)
    found: Float32 = np.zeros(len(rows), np.float32)
    there = np.flatnonzero(rows >= 0)
    for segment, local, at in index.locate(rows[there]):
        found[there[at]] = term.exactly(segment, local)
    shown = np.rint(np.nan_to_num(np.clip(found, 0, 1)) * 255).astype(np.uint8)
    return Shades("tag", shown, ("0", "1"))


def shade_by_folder(index: SoundIndex, window_ids: Integers) -> Shades:
    """Return which folder each window's file lies in: those with the most windows, and others.

    If all lie in one folder, it is the file. Windows that are not there any more are of others.

    Args:
        index: The stores.
        window_ids: (n,) int64, ascending.
    """
    rows = _rows_of(index, window_ids)
    there = rows >= 0
    paths, of = _paths_of(index, rows[there])
    groups = [os.path.dirname(path) for path in paths]  # noqa: PTH120 - as they are written
    if len(set(groups)) < 2:
        groups = paths
    sizes = np.bincount(of, minlength=len(paths)).tolist()
    counts: Counter[str] = Counter()
    for group, size in zip(groups, sizes, strict=True):
        counts[group] += size
    most = [group for group, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]
    kept = most if len(most) <= MOST_FOLDERS + 1 else most[:MOST_FOLDERS]
    number = {group: at for at, group in enumerate(kept)}
    lookup = np.array([number.get(group, len(kept)) for group in groups], np.uint8)
    has_others = len(kept) < len(most) or not there.all()
    names = (*_shortened(kept), *([OTHERS] if has_others else []))
    return Shades("folder", _where(there, lookup[of], len(kept)), names)


def shade_by_time(index: SoundIndex, window_ids: Integers) -> Shades:
    """Return when each window was recorded, by the names of files; or where in its file it is.

    Nothing is known of windows that are not there any more.

    Args:
        index: The stores.
        window_ids: (n,) int64, ascending.
    """
    rows = _rows_of(index, window_ids)
    there = rows >= 0
    paths, of = _paths_of(index, rows[there])
    start_s = index.column("start_sample", rows[there]) / SAMPLE_RATE_HZ
    begun = [time_from_name(PurePath(path).name) for path in paths]
    told = np.array([np.nan if one is None else _seconds(one) for one in begun], np.float64)
    at_s = told[of] + start_s
    is_known = ~np.isnan(at_s)
    if is_known.any() and is_known.mean() >= _LEAST_DATED:
        first, last = float(at_s[is_known].min()), float(at_s[is_known].max())
        names = tuple(
            datetime.fromtimestamp(one, UTC).strftime("%Y-%m-%d %H:%M") for one in (first, last)
        )
        share = (at_s - first) / max(last - first, 1e-9)
        shown = np.where(is_known, np.rint(np.nan_to_num(share) * _LAST), _UNKNOWN)
        return Shades("clock", _where(there, shown, _UNKNOWN), names)
    longest = np.zeros(len(paths))
    np.maximum.at(longest, of, start_s)
    share = start_s / np.maximum(longest[of], 1e-9)
    names = ("beginning of its file", "end")
    return Shades("place", _where(there, np.rint(share * _LAST), _UNKNOWN), names)


def _where(there: Mask, values: npt.NDArray[Any], otherwise: int) -> npt.NDArray[np.uint8]:
    """Return (n,) the values of those windows that are there, and another one for the rest."""
    shown = np.full(len(there), otherwise, np.uint8)
    shown[there] = values
    return shown


def _rows_of(index: SoundIndex, window_ids: Integers) -> Integers:
    """Return (n,) where windows are, ascending ids each; -1 for those that are not there."""
    live = index.live_rows()
    ids, first = np.unique(index.window_ids(live), return_index=True)
    if not len(ids):
        return np.full(len(window_ids), -1)
    at = np.minimum(np.searchsorted(ids, window_ids), len(ids) - 1)
    return np.asarray(np.where(ids[at] == window_ids, live[first[at]], -1))


def _paths_of(index: SoundIndex, rows: Integers) -> tuple[list[str], Integers]:
    """Return the paths of recordings, and (n,) which of them is that of each row."""
    coded = index.first_paths(rows)
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    coded = coded.fill_null("").dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy()


def _seconds(begun: datetime) -> float:
    """Return seconds since 1970; a clock without a zone counts as if it went by UTC."""
    return (begun if begun.tzinfo else begun.replace(tzinfo=UTC)).timestamp()


def _shortened(names: list[str]) -> list[str]:
    """Return paths without what all of them begin with."""
    parts = [name.split("/") for name in names]
    same = 0
    while len(parts) > 1 and all(len(one) > same for one in parts):
        if len({one[same] for one in parts}) > 1:
            break
        same += 1
    return ["/".join(one[same:]) or "." for one in parts]
