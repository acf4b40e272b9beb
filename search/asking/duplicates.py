"""The same sound in several recordings: copies, encodings and excerpts, as groups."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Ids, Integers, Mask, components, id_bytes
from indexer.errors import SoundalikeWarning
from indexer.progress import Listen, Step, ignore
from indexer.windows import SAMPLE_RATE_HZ, SILENT_DBFS
from search.asking.matching import Matching
from search.asking.opened import OpenedStore
from search.asking.terms import DuplicateTerms
from search.generation.recordings import each_once
from search.nearest.enough import BLOCK_VECTORS, Near, find_enough, near_of

#: Neighbours that each window is asked for at first.
_FIRST_ASKED = 16
#: Windows of a recording that are compared with those of another at a time.
_COMPARED = 1024
#: The tag of AudioSet that says so, among the 527.
_SILENCE = 500
_NO_ROWS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Member:
    """One recording of a group.

    Attributes:
        recording_id: 16-byte digest of the file's content.
        paths: All its places; several are exact copies of one file.
        score: Its best cosine similarity to the group's first. Below the least score where other
            members link the two.
        spans: (start, end) in seconds of what is found in the others.
    """

    recording_id: bytes
    paths: tuple[Path, ...]
    score: float
    spans: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found.

    Attributes:
        groups: Recordings that sound the same, in the order of their first paths.
        num_common: Windows that were left out, because they match too many others.
        num_silent: Windows that were left out, because nothing is heard in them.
    """

    groups: list[tuple[Member, ...]]
    num_common: int
    num_silent: int = 0


class _Side(NamedTuple):
    """A store whose windows are compared.

    Attributes:
        opened: The store.
        rows: (n,) its live rows.
        recordings: (num_rows,) where each row's recording is in the list of all; -1 for dead rows.
    """

    opened: OpenedStore
    rows: Integers
    recordings: Integers


class _Pairs(NamedTuple):
    """Windows of different recordings that match: (n,) rows of the left side and of the right."""

    left: Integers
    right: Integers

    def take(self, at: Mask) -> _Pairs:
        return _Pairs(self.left[at], self.right[at])


class _Matched(NamedTuple):
    """Windows that were found in other recordings, in the order of their recordings.

    Attributes:
        recordings: (n,) positions in the list of all.
        is_right: (n,) whether the row is one of the right side.
        rows: (n,) rows of that side.
    """

    recordings: Integers
    is_right: Mask
    rows: Integers

    def of(self, recording: int) -> _Matched:
        low, high = np.searchsorted(self.recordings, [recording, recording + 1])
        here = slice(low, high)
        return _Matched(self.recordings[here], self.is_right[here], self.rows[here])


def find_duplicates(
    opened: OpenedStore,
    against: OpenedStore | None,
    terms: DuplicateTerms,
    listen: Listen = ignore,
    silence: Callable[[], Float32] | None = None,
) -> Duplicates:
    """Group the recordings that have the same sound in them.

    Two windows of different recordings match if their score is high enough. A match links their
    recordings, and what is linked, directly or by others, is a group. Several files with the same
    bytes are one recording, and a group as well.

    Silence links nothing: a window whose highest peak is below -80 dBFS or, where that is not
    known, one that matches what the network makes of silence. Nor does one that
    matches too many others: hum or a jingle would make one group of everything.

    Args:
        opened: A store.
        against: Another one, computed in the same way: only what is in both counts then.
        terms: From when on two windows match.
        listen: Hears how many windows are compared.
        silence: Returns (n, 768) vectors of length 1: what the network makes of silence. Called
            where windows that match may be silent and their level is not known; None leaves these
            in.
    """
    other = against or opened
    ids = np.unique(np.concatenate([_listed(opened), _listed(other)]))
    left = _side(opened, ids)
    right = _side(other, ids) if against else left
    matching = right.opened.matching(None)
    found = [_Pairs(_NO_ROWS, _NO_ROWS)]
    for first in range(0, len(left.rows), BLOCK_VECTORS):
        block = left.rows[first : first + BLOCK_VECTORS]
        found.extend(_matches(left, block, right, terms, matching))
        listen(Step("comparing", first + len(block), len(left.rows), "window"))
    for line in matching.missing:
        warnings.warn(SoundalikeWarning(line), stacklevel=2)
    pairs = _Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))
    heard, num_silent = _without_silence(pairs, (left, right), terms.min_score, silence)
    kept, num_common = _without_common(heard, terms.max_matches, is_one_store=left is right)
    copies = np.flatnonzero(_is_copied(ids, opened, other if against else None))
    return Duplicates(_groups(ids, left, right, kept, copies), num_common, num_silent)


def _listed(opened: OpenedStore) -> Ids:
    """Return the recording of each place."""
    return opened.generation.recordings.ids


def _side(opened: OpenedStore, ids: Ids) -> _Side:
    generation = opened.generation
    rows = generation.live_rows()
    recordings = np.full(int(generation.starts[-1]), -1)
    recordings[rows] = np.searchsorted(ids, generation.recording_ids(rows))
    return _Side(opened, rows, recordings)


def _is_copied(ids: Ids, opened: OpenedStore, other: OpenedStore | None) -> Mask:
    """Return which recordings are there several times, or in both stores, byte for byte."""
    if other:
        return np.isin(ids, _listed(opened)) & np.isin(ids, _listed(other))
    return np.bincount(np.searchsorted(ids, _listed(opened)), minlength=len(ids)) > 1


def _matches(
    left: _Side,
    block: Integers,
    right: _Side,
    terms: DuplicateTerms,
    matching: Matching,
) -> Iterator[_Pairs]:
    """Yield the matches of some rows of the left side: all of a row, or one more than allowed."""
    own = left.recordings[block]
    vectors = left.opened.generation.vectors(block)

    def look(at: Integers, k: int) -> tuple[Near, Mask]:
        scores, rows = matching.search_many(vectors[at], k, exact=terms.exact)()
        is_match = (scores >= terms.min_score) & (right.recordings[rows] != own[at, None])
        is_match &= np.cumsum(is_match, axis=1) <= terms.max_matches + 1
        is_enough = scores[:, -1] < terms.min_score
        is_enough |= is_match.sum(1) > terms.max_matches
        return near_of(at, scores, np.where(is_match, rows, -1)), is_enough

    num_asked = len(block) if matching.num_rows else 0
    for found in find_enough(look, num_asked, _FIRST_ASKED, matching.num_rows):
        yield _Pairs(block[found.asked], found.rows)


def _without_silence(
    pairs: _Pairs,
    sides: tuple[_Side, _Side],
    min_score: float,
    silence: Callable[[], Float32] | None,
) -> tuple[_Pairs, int]:
    """Drop the pairs of windows that are silent.

    Returns:
        The other pairs, and how many such windows there are.
    """
    distinct = [np.unique(rows) for rows in pairs]
    levels = [
        side.opened.generation.column("level_db", rows)
        for side, rows in zip(sides, distinct, strict=True)
    ]
    silent = [rows[at < SILENT_DBFS] for rows, at in zip(distinct, levels, strict=True)]
    quiet = [
        _quiet(side, rows[np.isnan(at)])
        for side, rows, at in zip(sides, distinct, levels, strict=True)
    ]
    if silence is not None and any(map(len, quiet)):
        vectors = silence()
        for number, (side, rows) in enumerate(zip(sides, quiet, strict=True)):
            cosines = side.opened.generation.vectors(rows) @ vectors.T
            silent[number] = np.union1d(silent[number], rows[cosines.max(axis=1) >= min_score])
    is_silent = np.isin(pairs.left, silent[0]) | np.isin(pairs.right, silent[1])
    are_one = sides[0] is sides[1]
    return pairs.take(~is_silent), len(np.union1d(*silent)) if are_one else sum(map(len, silent))


def _quiet(side: _Side, rows: Integers) -> Integers:
    """Return which of some rows may be silent: silence is the most probable of their tags."""
    found = [
        block[side.opened.generation.tags(block).argmax(axis=1) == _SILENCE]
        for block in np.split(rows, range(BLOCK_VECTORS, len(rows), BLOCK_VECTORS))
    ]
    return np.concatenate(found)


def _without_common(pairs: _Pairs, max_matches: int, *, is_one_store: bool) -> tuple[_Pairs, int]:
    """Drop the pairs of windows that match too many others.

    Returns:
        The other pairs, and how many such windows there are.
    """
    common = _frequent(pairs.left, max_matches)
    kept = pairs.take(~np.isin(pairs.left, common))
    common_right = common if is_one_store else _frequent(kept.right, max_matches)
    kept = kept.take(~np.isin(kept.right, common_right))
    return kept, len(common) + (0 if is_one_store else len(common_right))


def _frequent(rows: Integers, most: int) -> Integers:
    distinct, counts = np.unique(rows, return_counts=True)
    return distinct[counts > most]


def _groups(
    ids: Ids, left: _Side, right: _Side, pairs: _Pairs, copies: Integers
) -> list[tuple[Member, ...]]:
    one, other = left.recordings[pairs.left], right.recordings[pairs.right]
    lowest = components(len(ids), one, other)
    matched = _matched(left, right, pairs, copies)
    linked = np.unique(matched.recordings)
    linked = linked[np.argsort(lowest[linked], kind="stable")]
    ends = np.flatnonzero(np.diff(lowest[linked])) + 1
    groups = [
        _members(ids, recordings.tolist(), left, right, matched)
        for recordings in np.split(linked, ends)
        if len(recordings)  # nothing, split, is one part with nothing in it
    ]
    # One file may be known by two libraries, one below the other: it is no copy of itself.
    several = [group for group in groups if sum(len(member.paths) for member in group) > 1]
    return sorted(several, key=lambda group: group[0].paths)


def _matched(left: _Side, right: _Side, pairs: _Pairs, copies: Integers) -> _Matched:
    """Return the windows of all pairs, and of copied recordings all windows."""
    is_copied = [side.rows[np.isin(side.recordings[side.rows], copies)] for side in (left, right)]
    of_left, of_right = (
        np.unique(np.concatenate(rows)) for rows in zip(pairs, is_copied, strict=True)
    )
    if left is right:
        of_left, of_right = np.union1d(of_left, of_right), _NO_ROWS
    recordings = np.concatenate([left.recordings[of_left], right.recordings[of_right]])
    is_right = np.arange(len(recordings)) >= len(of_left)
    order = np.argsort(recordings, kind="stable")
    rows = np.concatenate([of_left, of_right])
    return _Matched(recordings[order], is_right[order], rows[order])


def _members(
    ids: Ids, recordings: Sequence[int], left: _Side, right: _Side, matched: _Matched
) -> tuple[Member, ...]:
    """Describe a group: recordings of the left store first, then in the order of their paths."""
    known = []
    each = (side.opened.places.paths(ids[list(recordings)]) for side in (left, right))
    for recording, of_left, of_right in zip(recordings, *each, strict=True):
        paths, recording_id = each_once(of_left + of_right), id_bytes(ids[recording])
        known.append((not of_left, paths, recording_id, matched.of(recording)))
    known.sort(key=lambda one: one[:2])
    first = _vectors(left, right, known[0][3])
    members = []
    for number, (_, paths, recording_id, windows) in enumerate(known):
        score = _best_cosine(_vectors(left, right, windows), first) if number else 1.0
        members.append(Member(recording_id, paths, score, _spans(left, right, windows)))
    return tuple(members)


def _vectors(left: _Side, right: _Side, windows: _Matched) -> Float32:
    """Return (n, 768) float32 vectors."""
    return np.concatenate(
        [
            side.opened.generation.vectors(windows.rows[windows.is_right == is_right])
            for side, is_right in ((left, False), (right, True))
        ]
    )


def _best_cosine(one: Float32, other: Float32) -> float:
    wide = other.astype(np.float64).T
    best = max(
        float((one[first : first + _COMPARED].astype(np.float64) @ wide).max())
        for first in range(0, len(one), _COMPARED)
    )
    return float(np.float32(min(best, 1.0)))


def _spans(left: _Side, right: _Side, windows: _Matched) -> tuple[tuple[float, float], ...]:
    """Join windows that overlap or touch."""
    starts, ends = [], []
    for side, is_right in ((left, False), (right, True)):
        table = side.opened.generation.windows(windows.rows[windows.is_right == is_right])
        starts.append(table.start_sample)
        ends.append(table.start_sample + table.num_samples)
    start, end = np.concatenate(starts), np.concatenate(ends)
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    begins = np.flatnonzero(np.append(True, start[1:] > reach[:-1])) if len(start) else _NO_ROWS
    last = np.append(begins[1:], len(start)) - 1
    return tuple(
        (one / SAMPLE_RATE_HZ, other / SAMPLE_RATE_HZ)
        for one, other in zip(start[begins].tolist(), reach[last].tolist(), strict=False)
    )
