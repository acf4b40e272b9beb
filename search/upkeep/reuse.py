"""What a build keeps of the index before, and which rows it writes.

An index is nearly always built again for a few files more. Then nothing is asked of the parts that
it was made from: the rows of these are those of its segments, and what is new is in other parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import ID_DTYPE, Ids, Integers, Mask, contains, ids_from_column
from indexer.store.ledger import LEDGER_COLUMNS, Ledger
from indexer.store.parquet import SCENE_FILE
from indexer.store.part import Part
from indexer.store.reader import Store
from indexer.store.snapshot import Snapshot, WindowTable, require_same
from indexer.store.verify import digest_problems
from search.generation.frames import PLACE_DTYPE, open_places
from search.generation.manifest import SegmentEntry, digests
from search.generation.mapped import Lookup, array_file
from search.generation.recordings import Recordings
from search.generation.segments import SEGMENT_ARRAYS, Generation, Segment
from search.generation.writing import Columns, rows_of_parts, rows_of_segment
from search.nearest.structure import is_usable

#: Rows of parts that lie together are drawn together: of a part with any of them all is read. Those
#: of segments, which lie by what is alike, are drawn one by one.
_DRAWN_TOGETHER = 128
#: Of a segment that keeps less than this share of its rows, the live ones are written anew.
_MIN_ALIVE_SHARE = 0.5
#: What a segment says of its windows: a wrong id, place or time would be taken over. Vectors and
#: tags, a hundred times as much, are not read for this: whoever verifies the store finds that.
_TOLD = (*WindowTable._fields, *Lookup.array_names("id"))

Held = tuple[tuple[Segment, Mask], ...]


@dataclass(frozen=True)
class Reuse:
    """Segments that stay, and the rows that are written.

    Attributes:
        previous: The index before; None if nothing of it is used.
        kept: Segments that stay as they are, each with its live rows.
        copied: Segments of which live rows are written anew.
        snapshot: Of the parts from which rows are read.
        first_part: How many parts are before these.
        wanted: (len(snapshot),) which of its rows are written.
        recordings: Sorted ids of all recordings with live windows.
    """

    previous: Generation | None
    kept: Held
    copied: Held
    snapshot: Snapshot
    first_part: int
    wanted: Mask
    recordings: Ids

    @property
    def num_written(self) -> int:
        """Rows that are written."""
        return int(np.count_nonzero(self.wanted)) + _num_alive(self.copied)

    @property
    def num_windows(self) -> int:
        """Live rows of the new index."""
        return self.num_written + _num_alive(self.kept)

    def rows(self) -> Iterator[Columns]:
        """Yield the rows that are written."""
        copied = (rows_of_segment(segment, alive) for segment, alive in self.copied)
        return chain(*copied, rows_of_parts(self.snapshot, self.wanted))

    def sample(self, number: int) -> Iterator[Columns]:
        """Yield about so many of the rows that are written, from some places among them."""
        rng, share = np.random.default_rng(0), number / max(1, self.num_written)

        def choose(wanted: Mask, together: int) -> Mask:
            is_chosen = rng.random(-(-len(wanted) // together)) < share
            return wanted & np.repeat(is_chosen, together)[: len(wanted)]

        copied = (rows_of_segment(segment, choose(alive, 1)) for segment, alive in self.copied)
        return chain(*copied, rows_of_parts(self.snapshot, choose(self.wanted, _DRAWN_TOGETHER)))

    def first_places(self, segment: Segment, recordings: Recordings) -> Integers:
        """Return (num_rows,) where the recordings of a kept segment's rows are listed now.

        Args:
            segment: One of `kept`.
            recordings: Of the new index.
        """
        if self.previous is None or not self.first_part:
            return recordings.first_rows(segment.windows.recording_id)
        now = recordings.first_rows(self.previous.recordings.ids)
        return np.take(now, segment.recordings, mode="clip")  # of dead rows, anything

    def frame_places(self, segment: str, window_ids: Integers) -> npt.NDArray[np.void]:
        """Return (n,) `PLACE_DTYPE` of the frames of a segment's rows, see `StoredFrames`.

        Args:
            segment: Its name.
            window_ids: (n,) of its rows.
        """
        if self.first_part and self.previous and segment in {one.name for one, _ in self.kept}:
            return open_places(self.previous.path, segment, len(window_ids))
        places = np.empty(len(window_ids), PLACE_DTYPE)
        part, places["row"] = self.snapshot.places(window_ids)
        places["part"] = np.where(part < 0, -1, part + self.first_part)
        for one, _ in self.copied:
            assert self.previous is not None  # they are its segments
            at = one.find(window_ids)
            held = open_places(self.previous.path, one.name, len(one))
            is_here = (at >= 0) & (part < 0)
            places[is_here] = held[at[is_here]]
        return places


def reuse(store: Store, parts: Sequence[Part], previous: Generation | None) -> Reuse:
    """Choose the segments to keep, and the rows to write.

    Shelves are written anew together with the new rows if these are as many: so there are few of
    them, and what is alike lies together.

    Args:
        store: Whose index is built.
        parts: That count, oldest first.
        previous: The index before, if any of it may be used.

    Raises:
        DamagedStoreError: If a part that is read is not as it was written.
        StoreError: If two different windows have one id.
    """
    num_old = len(previous.parts) if previous else 0
    if not previous or tuple(part.name for part in parts[:num_old]) != previous.parts:
        num_old = 0
    live, known = _read_ledger(parts, num_old)
    if previous and num_old:
        begun = np.array([one for part in parts[:num_old] for one in part.unfinished], ID_DTYPE)
        come = live[~contains(previous.recordings.ids, live)]
        # What comes back, or goes on, may have windows in any part.
        if not (contains(come, known).any() or contains(come, begun).any()):
            snapshot = _snapshot(store, parts[num_old:], live)
            if found := _extend(previous, snapshot, live):
                return found
    return _match(store, parts, previous, live)


def _read_ledger(parts: Sequence[Part], num_old: int) -> tuple[Ids, Ids]:
    """Return the sorted ids of live recordings, and of all that the first parts said was "ok"."""
    known = [np.empty(0, ID_DTYPE)]

    def batches() -> Iterator[pa.RecordBatch]:
        for number, part in enumerate(parts):
            for batch in part.ledger(LEDGER_COLUMNS):
                if number < num_old:
                    ok = batch.filter(pc.equal(batch["status"], "ok"))
                    known.append(np.unique(ids_from_column(ok["recording_id"])))
                yield batch

    live = Ledger(batches()).live_recordings()
    return live, np.concatenate(known)


def _snapshot(store: Store, parts: Sequence[Part], live: Ids) -> Snapshot:
    """Return live windows of parts that are not in the index yet.

    A copy of damage would have a digest that fits it, and a wrong id would hide its window.
    """
    _require_intact(parts)
    return Snapshot(parts, live, store.identity.frames)


def _require_intact(parts: Iterable[Part]) -> None:
    for part in parts:
        if part.num_windows:
            part.require_intact(SCENE_FILE)


def _extend(previous: Generation, snapshot: Snapshot, live: Ids) -> Reuse | None:
    """Return what is to be done if all other windows are those of the index before.

    None if it is damaged where that would be taken over, or has as dead what lives again: after a
    compaction no part knows that any more, and no window may be held twice.

    Args:
        previous: The index before.
        snapshot: Of the parts after those that it was made from.
        live: Sorted ids of live recordings.
    """
    pairs = list(_segments_of(previous))
    listed = previous.recordings.ids
    if not _are_intact(pairs, _TOLD):
        return None
    wanted = np.ones(len(snapshot), bool)
    for segment, _ in pairs:
        rows = _find(snapshot, segment)
        is_there = rows >= 0
        if not segment.alive[rows[is_there]].all():
            return None
        wanted &= ~is_there
    num_new = int(np.count_nonzero(wanted))
    is_gone = ~contains(live, listed)
    each = [(one, _still_alive(one, is_gone)) for one in previous.segments]
    total = num_new + _num_alive(each)
    shelves = {one.name: entry.shelf for one, entry in pairs if is_usable(one, entry, total)}
    kept, copied = _divide(each, shelves, num_new)
    taken = {one.name for one, _ in copied}
    if not _are_intact([pair for pair in pairs if pair[0].name in taken], SEGMENT_ARRAYS):
        return None
    recordings = np.unique(np.concatenate([listed[~is_gone], snapshot.recordings]))
    num_old = len(previous.parts)
    return Reuse(previous, kept, copied, snapshot, num_old, wanted, recordings)


def _match(store: Store, parts: Sequence[Part], previous: Generation | None, live: Ids) -> Reuse:
    """Return what is to be done whatever has changed: live windows are found by their ids."""
    indexed = set(previous.parts) if previous else set()
    _require_intact(part for part in parts if part.name not in indexed)
    snapshot = Snapshot(parts, live, store.identity.frames)
    ids = np.sort(snapshot.window_ids)
    pairs = [pair for pair in _segments_of(previous) if _are_intact([pair], _TOLD)]
    shelves = {one.name: entry.shelf for one, entry in pairs if is_usable(one, entry, len(ids))}
    each = [(one, contains(ids, one.windows.window_id)) for one, _ in pairs]
    del ids
    kept, _ = _divide(each, shelves, len(snapshot) - _num_alive(each))
    wanted = np.ones(len(snapshot), bool)
    for segment, _ in kept:
        wanted &= ~contains(segment.by_id.keys, snapshot.window_ids)
    _require_intact(part for part, _ in snapshot.by_part(wanted) if part.name in indexed)
    return Reuse(previous, kept, (), snapshot, 0, wanted, snapshot.recordings)


def _divide(
    each: Iterable[tuple[Segment, Mask]], shelves: Mapping[str, str], num_new: int
) -> tuple[Held, Held]:
    """Return the segments that are kept, and those of which the live rows are written anew.

    Args:
        each: Segments, and which of their rows are alive.
        shelves: Name of each that can be searched as it is → its shelf.
        num_new: Rows that are written besides.
    """
    kept: dict[str, list[tuple[Segment, Mask]]] = {}
    left: list[tuple[Segment, Mask]] = []
    for segment, alive in each:
        if alive.any():
            stays = segment.name in shelves and alive.mean() >= _MIN_ALIVE_SHARE
            (kept.setdefault(shelves[segment.name], []) if stays else left).append((segment, alive))
    num_new += _num_alive(left)
    smallest_first = sorted(kept.values(), key=_num_alive)
    while smallest_first and _num_alive(smallest_first[0]) <= num_new:
        num_new += _num_alive(smallest_first[0])
        left += smallest_first.pop(0)
    return tuple(chain(*smallest_first)), tuple(left)


def _segments_of(generation: Generation | None) -> Iterator[tuple[Segment, SegmentEntry]]:
    if generation:
        yield from zip(generation.segments, generation.manifest.segments, strict=True)


def _are_intact(pairs: Iterable[tuple[Segment, SegmentEntry]], names: Iterable[str]) -> bool:
    """Whether some arrays of segments are as they were written."""
    files = {array_file(Path(), name).name for name in names}
    return not any(
        list(digest_problems(one.path, digests({name: entry.files[name] for name in files})))
        for one, entry in pairs
    )


def _find(snapshot: Snapshot, segment: Segment) -> Integers:
    """Return (len(snapshot),) the rows of windows in a segment, dead or alive; -1 for all others.

    Raises:
        StoreError: If it has another window with the id of one.
    """
    at = segment.find(snapshot.window_ids)
    is_there = at >= 0
    if is_there.any():
        require_same(snapshot.windows.take(is_there), segment.windows.take(at[is_there]))
    return at


def _still_alive(segment: Segment, is_gone: Mask) -> Mask:
    """Return which rows are alive when the recordings at some places are gone."""
    if not is_gone.any():
        return segment.alive
    return segment.alive & ~np.take(is_gone, segment.recordings, mode="clip")


def _num_alive(held: Iterable[tuple[Segment, Mask]]) -> int:
    return sum(int(np.count_nonzero(alive)) for _, alive in held)
