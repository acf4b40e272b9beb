"""A map of all windows that queries see: drawn once, then added to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from indexer.arrays import Float32, Integers, Mask, contains, widened
from indexer.errors import QueryError
from indexer.progress import Listen, Step, count, ignore
from indexer.store.own import Own
from indexer.store.schema import NUM_TAGS, Identity
from search.generation.segments import Rows
from search.map.clusters import Cluster, count_heard, divide, middles, name_clusters
from search.map.kept import (
    Landmarks,
    Points,
    as_kept,
    as_shown,
    holding,
    read_landmarks,
    read_points,
    write_landmarks,
    write_points,
)
from search.map.landmarks import (
    MAX_LANDMARKS,
    MIN_LANDMARKS,
    are_usable,
    choose_landmarks,
    lay_out,
)
from search.map.placing import place

#: Rows that are placed at a time: 50 MB of products.
_BLOCK_ROWS = 4096
#: Windows that are less like their nearest landmark than 99 of 100 were are far. A library has
#: outgrown its map when this share of it is far, or it has so many times as many windows as when
#: the landmarks were drawn, and could have more of these.
FAR_PERCENT = 1.0
OUTGROWN_FAR_SHARE = 0.05
OUTGROWN_TIMES = 4


@dataclass(frozen=True, slots=True, repr=False)
class Map:
    """Where each window lies: like by like. What is far apart on it says little.

    Attributes:
        window_ids: (n,) int64, ascending.
        rows: (n,) where these are among the rows of the index that it was asked for.
        xy: (n, 2) float32 from 0 to 1.
        cluster: (n,) int16: which of `clusters` each is in.
        clusters: The regions.
        num_drawn: Windows that there were when the landmarks were drawn.
        num_far: Windows that are less like their nearest landmark than 99 of 100 were then.
        num_added: Windows that were placed now, and were on no map before.
        num_damaged: Windows that have no place: their vectors are damaged.
    """

    window_ids: Integers
    rows: Integers
    xy: Float32
    cluster: npt.NDArray[np.int16]
    clusters: tuple[Cluster, ...]
    num_drawn: int
    num_far: int
    num_added: int
    num_damaged: int

    def __repr__(self) -> str:
        return f"Map({len(self):,} windows, {len(self.clusters)} clusters)"

    def __len__(self) -> int:
        return len(self.window_ids)

    @property
    def is_outgrown(self) -> bool:
        """Whether the library has become another since: time for other landmarks."""
        has_grown = len(self) >= OUTGROWN_TIMES * self.num_drawn and self.num_drawn < MAX_LANDMARKS
        # One of fewer than 100 is always far: the one by which the 99 in 100 was reckoned.
        return has_grown or self.num_far > max(1, OUTGROWN_FAR_SHARE * len(self))


def draw_map(
    rows: Rows,
    identity: Identity,
    own: Own,
    store: Path,
    listen: Listen = ignore,
    *,
    anew: bool = False,
) -> Map:
    """Return the map of all windows that are alive; what is new is placed on it, and kept.

    The first time, and if it is to be drawn anew, landmarks are chosen and laid out: 10 s of one
    core for 3,000 of them. All else is placed among them, 10 s for 100,000 windows. What is on the
    map stays where it is. It is the same each time on one machine, whatever the number of threads.

    Args:
        rows: Of one or several stores.
        identity: How their vectors were computed.
        own: Where the map is kept.
        store: The first of the stores, for errors.
        listen: Hears how far it is.
        anew: Whether nothing of the map that is kept is used.

    Raises:
        QueryError: If there are too few windows for a map.
        IdentityError: If the map that is kept is of another checkpoint's windows.
        DamagedStoreError: If it is not as it was written.
        StoreError: If it cannot be read or written.
    """
    live = rows.live_rows()
    ids, first = np.unique(rows.window_ids(live), return_index=True)  # in two stores: once
    at = live[first]
    landmarks, points = (None, Points.none()) if anew else _read_kept(own, identity, store)
    is_new = ~contains(points.window_ids, ids)
    if landmarks and not is_new.any():
        return _shown(landmarks, points, ids, at, is_new)
    with holding(own), threadpool_limits(1):
        if not anew:  # who held it before has drawn it, perhaps, or added to it
            landmarks, points = _read_kept(own, identity, store)
            is_new = ~contains(points.window_ids, ids)
        if landmarks is None:
            listen(Step("laying out landmarks", 0, None, ""))
            landmarks, points = _draw(rows, at, ids, identity, store, listen)
            landmarks = write_landmarks(own, landmarks, store)
            write_points(own, points, landmarks)
        elif is_new.any():
            added = _place_all(rows, at[is_new], landmarks, listen)
            if len(added.window_ids):  # what is damaged has no place, and is asked for again
                points = points.with_others(added)
                write_points(own, points, landmarks)
    return _shown(landmarks, points, ids, at, is_new)


def _read_kept(own: Own, identity: Identity, store: Path) -> tuple[Landmarks | None, Points]:
    """Return the map that is kept; none, and no points, if none was drawn yet."""
    landmarks = read_landmarks(own, store)
    if landmarks is None:
        return None, Points.none()
    landmarks.require_weights(identity, own)
    return landmarks, read_points(own, landmarks, store)


def _shown(landmarks: Landmarks, points: Points, ids: Integers, at: Integers, is_new: Mask) -> Map:
    """Return what is known of the windows that are alive, which lie at some rows."""
    has_place = contains(points.window_ids, ids)
    placed = points.take(np.searchsorted(points.window_ids, ids[has_place]))
    sizes = np.bincount(placed.clusters, minlength=len(landmarks.names)).tolist()
    centres = as_shown(landmarks.xy[list(landmarks.middles)]).tolist()
    named = zip(landmarks.names, centres, sizes, strict=True)
    return Map(
        placed.window_ids,
        at[has_place],
        as_shown(placed.xy),
        placed.clusters,
        tuple(Cluster(tags, (x, y), size) for tags, (x, y), size in named),
        num_drawn=landmarks.num_windows,
        num_far=int(placed.is_far.sum()),
        num_added=int((is_new & has_place).sum()),
        num_damaged=int((~has_place).sum()),
    )


def _draw(
    rows: Rows, at: Integers, ids: Integers, identity: Identity, store: Path, listen: Listen
) -> tuple[Landmarks, Points]:
    """Choose landmarks, lay them out, place all windows, and name the regions."""
    chosen = choose_landmarks(ids)
    vectors = rows.vectors(at[np.searchsorted(ids, chosen)])
    is_usable = are_usable(vectors)
    if is_usable.sum() < MIN_LANDMARKS:
        held = count(int(is_usable.sum()), "window")
        raise QueryError(f"a map takes {MIN_LANDMARKS} windows at least, and {store} has {held}")
    chosen, vectors = chosen[is_usable], vectors[is_usable]
    places = lay_out(vectors)
    clusters = divide(places, len(ids))
    drawn = Landmarks(
        chosen,
        vectors.astype(np.float16),
        as_kept(places),
        clusters.astype(np.int16),
        tuple(middles(places, clusters).tolist()),
        (),
        identity.weights,
        len(ids),
        far_cosine=-1.0,
    )
    number = len(drawn.middles)
    heard = np.zeros((number, NUM_TAGS), np.int64)
    found, cosines = [Points.none()], []
    for block, placed, cosine in _blocks(rows, at, drawn, listen):
        heard += count_heard(rows.tags(block), placed.clusters.astype(np.int64), number)
        found.append(placed)
        cosines.append(cosine)
    cosine = np.concatenate(cosines)
    far_cosine = float(np.percentile(cosine, FAR_PERCENT))
    points = Points(*(np.concatenate(column) for column in zip(*found, strict=True)))
    points = points._replace(is_far=np.concatenate([points.is_far[:0], cosine < far_cosine]))
    names = name_clusters(heard, np.bincount(points.clusters, minlength=number))
    return (
        drawn._replace(names=tuple(names), far_cosine=far_cosine),
        Points.none().with_others(points),
    )


def _place_all(rows: Rows, at: Integers, landmarks: Landmarks, listen: Listen) -> Points:
    each = [placed for _, placed, _ in _blocks(rows, at, landmarks, listen)]
    return Points(*(np.concatenate(column) for column in zip(*each, strict=True)))


def _blocks(
    rows: Rows, at: Integers, landmarks: Landmarks, listen: Listen
) -> Iterator[tuple[Integers, Points, Float32]]:
    """Yield (rows, where they lie, cosine to the nearest landmark), in the order of the rows."""
    vectors, xy = widened(landmarks.vectors), as_shown(landmarks.xy)
    ordered = np.sort(at)  # as they lie on the disk
    for start in range(0, len(ordered), _BLOCK_ROWS):
        block = ordered[start : start + _BLOCK_ROWS]
        found = rows.vectors(block)
        is_usable = are_usable(found)
        block, found = block[is_usable], found[is_usable]
        ids = rows.window_ids(block)
        column = np.minimum(np.searchsorted(landmarks.window_ids, ids), len(vectors) - 1)
        own = np.where(landmarks.window_ids[column] == ids, column, -1)
        placed = place(found, vectors, xy, own)
        is_far = placed.cosine < landmarks.far_cosine
        of = np.where(own >= 0, own, placed.nearest)
        yield (
            block,
            Points(ids, as_kept(placed.xy), landmarks.clusters[of], is_far),
            placed.cosine,
        )
        listen(Step("placing", start + len(is_usable), len(ordered), "window"))
