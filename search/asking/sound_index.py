"""Stores that are asked together: their rows one after the other, and what is known of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from indexer.arrays import ID_DTYPE, Float16, Float32, Ids, Integers, contains, widened
from indexer.errors import QueryError
from indexer.store.head import Head
from indexer.store.reader import Store
from indexer.store.schema import Identity
from indexer.tags import HeardTag, Tag, pick_heard_each
from indexer.windows import Window
from search.asking.answers import Found, Hit, Why
from search.asking.background import Drawn, draw
from search.asking.left_out import AllLeftOut
from search.asking.matched import MatchedFilter
from search.asking.opened import OpenedStore
from search.filters.columns import Value
from search.filters.metadata import Metadata
from search.generation.recordings import each_once
from search.generation.segments import Rows
from search.learned.tags import LearnedTag
from search.nearest.blend import columns_of

#: Tags shown with a hit, and how probable each must be to be shown.
NUM_TOP_TAGS = 5
MIN_TOP_PROBABILITY = 0.1


class SoundIndex(Rows):
    """One store, or several that were computed the same way: all their rows, store by store.

    Each is opened at its current generation and keeps it: what is published later is seen by
    opening again.

    Attributes:
        opened: The stores, each at its generation.
        stores: The stores.
        first_rows: (num_stores,) first row of each store.
    """

    def __init__(self, opened: Sequence[OpenedStore], heard: SoundIndex | None = None) -> None:
        """Put stores together.

        Args:
            opened: The stores.
            heard: The same with scene embeddings as vectors, if these are projected.
        """
        self._heard = heard  # never itself: what holds processes ends with its last user
        self.opened: tuple[OpenedStore, ...] = tuple(opened)
        self.stores: tuple[Store, ...] = tuple(one.store for one in opened)
        self.segments = tuple(one for each in opened for one in each.generation.segments)
        self.starts = np.cumsum([0, *map(len, self.segments)], dtype=np.int64)
        sizes = [int(one.generation.starts[-1]) for one in opened]
        self.first_rows: Integers = np.cumsum([0, *sizes[:-1]], dtype=np.int64)

    @classmethod
    def open(cls, path: Path, *more: Path) -> Self:
        """Open stores for searching.

        Raises:
            StoreError: If one is not there, or has no index yet.
            IdentityError: If they were not computed the same way.
        """
        opened = [OpenedStore.at(one) for one in (path, *more)]
        first = opened[0].store
        for other in opened[1:]:
            first.identity.require(
                other.store.identity,
                f"{other.store.path} cannot be searched together with {first.path}",
                "Search them one by one, or index both with the same checkpoint and options",
            )
        return cls(opened)

    @property
    def identity(self) -> Identity:
        """How the vectors were computed; a query's must be computed the same way."""
        return self.stores[0].identity

    @property
    def num_windows(self) -> int:
        """Live windows, in all stores."""
        return sum(one.generation.num_windows for one in self.opened)

    @property
    def is_newest(self) -> bool:
        """Whether no store has published another generation since, and no library has moved."""
        return all(one.is_newest for one in self.opened)

    def scenes(self, rows: Integers) -> Float32:
        """Return (n, 768) float32 scene embeddings of length 1, whatever is searched by."""
        return (self._heard or self).vectors(rows)

    def frames(self, rows: Integers) -> list[Float32]:
        """Return (T, 768) float32 frame embeddings of each row, in the order asked for.

        Raises:
            DamagedStoreError: If they are not what was written, or not there any more.
        """
        found: dict[int, Float32] = {}
        for one, local, at in self.by_store(rows):
            found.update(zip(at.tolist(), one.frames.read(local), strict=True))
        return [found[at] for at in range(len(rows))]

    def require_frames(self, what: str) -> None:
        """Raise unless the stores keep frame embeddings.

        Args:
            what: What cannot be done without them, for the start of the error.

        Raises:
            QueryError: If they keep none.
        """
        if self.identity.frames == "none":
            raise QueryError(
                f"{what}: {self.stores[0].path} keeps no frame embeddings, for it was made "
                f"without; another store, with them, can be made",
                about="frames",
                value="pooled",
            )

    def by_store(self, rows: Integers) -> Iterator[tuple[OpenedStore, Integers, Integers]]:
        """Group rows by store.

        Yields:
            (store, rows of its generation, their positions in `rows`), for stores that have any.
        """
        store_of = self.store_of(rows)
        for number in np.unique(store_of).tolist():
            at = np.flatnonzero(store_of == number)
            yield self.opened[number], rows[at] - self.first_rows[number], at

    @cached_property
    def head(self) -> Head:
        """The last layers of the network that all the stores were made with."""
        return self.stores[0].head()

    def num_new_parts(self) -> int:
        """Return how many parts were committed since the generations were built."""
        return sum(one.num_new_parts() for one in self.opened)

    def store_of(self, rows: Integers) -> Integers:
        """Return (n,) which store each row belongs to."""
        return np.searchsorted(self.first_rows, rows, side="right") - 1

    def rows_of(self, window_ids: Iterable[int]) -> Integers:
        """Return (n,) where some windows are.

        Raises:
            QueryError: If one of them is in none of the stores.
        """
        wanted = list(window_ids)
        found = dict(self.find_all(wanted))
        for window_id in wanted:
            if window_id not in found:
                names = ", ".join(str(store.path) for store in self.stores)
                number = self.num_new_parts()
                later = f"; not in the index yet: {number} of their parts" if number else ""
                raise QueryError(f"no window {window_id} in {names}{later}", about="window_id")
        return np.array([found[window_id] for window_id in wanted], np.int64)

    def windows_of(
        self, window_ids: Iterable[int]
    ) -> tuple[Float32, list[Window], Float16, Integers]:
        """Return what windows that are in the stores ask with, to find what is like them.

        Returns:
            (n, 768) float32 vectors of length 1, the windows, (n, 527) probabilities and (n,) rows.

        Raises:
            QueryError: If an id is in none of the stores.
        """
        rows = self.rows_of(window_ids)
        table = self.windows(rows)
        return self.vectors(rows), table.each(), self.tags(rows), rows

    def whole_recording(
        self, recording_id: bytes
    ) -> tuple[Float32, list[Window], Float16, Integers] | None:
        """Return all windows of a recording, if a store holds the whole of it.

        Returns:
            (n, 768) float32 vectors of length 1, the windows, in order of time, (n, 527)
            probabilities and (n,) rows; None if no store knows it, or only spans of it, or cannot
            say how long it is.
        """
        for first_row, one in zip(self.first_rows.tolist(), self.opened, strict=True):
            rows = one.generation.rows_of_recording(recording_id)
            if not len(rows):
                continue
            table = one.generation.windows(rows)
            places = zip(table.start_sample.tolist(), table.num_samples.tolist(), strict=True)
            at = {place: row for row, place in enumerate(places)}
            first, length = one.extent_of(recording_id)
            planned = [(first + at, num) for at, num in self.identity.geometry.plan(length)]
            # There may be windows of spans beside those of the whole; and the ledger may know more
            # than the generation, which was built before.
            if planned and all(place in at for place in planned):
                chosen = [at[place] for place in planned]
                windows = [table.window(row) for row in chosen]
                mine = rows[chosen]
                vectors, tags = one.generation.vectors(mine), one.generation.tags(mine)
                return vectors, windows, tags, first_row + mine
        return None

    def recording_of(self, digest: bytes) -> bytes:
        """Return the recording that a file holds, by the digest of its bytes; itself if unknown."""
        each = (one.generation.recordings.recording_of(digest) for one in self.opened)
        return next((one for one in each if one != digest), digest)

    def recording_with(self, digest: bytes, audio_id: bytes | None) -> bytes:
        """Return the recording that a file holds, by the digests of its bytes and of its samples.

        A file that was given tags since its library was indexed is known by its samples alone.
        """
        wanted = np.array([digest], ID_DTYPE)
        if audio_id and not any(
            contains(one.generation.recordings.ids, wanted)[0] for one in self.opened
        ):
            each = (one.recording_with(audio_id) for one in self.opened)
            return next((one for one in each if one), digest)
        return digest

    def with_aliases(self, own: AllLeftOut) -> AllLeftOut:
        """Return what a question leaves out, under all ids that its sounds have in the stores.

        A file that was given other tags has two: one store may know it by the other.
        """
        if len(self.opened) == 1 or not self._aliases:
            return own
        others = (
            one._replace(recording_id=other)
            for one in own
            for other in self._aliases.get(one.recording_id, ())
        )
        return own.union(others)

    @cached_property
    def drawn(self) -> Drawn:
        """Windows drawn at random, kept for all questions: some 10 MB."""
        return draw(self)

    @cached_property
    def matched_filter(self) -> MatchedFilter:
        """What finds short sounds among those of the stores; it takes a tenth of a second."""
        return MatchedFilter(self.drawn.vectors[:, : columns_of(self)])

    @cached_property
    def _aliases(self) -> dict[bytes, set[bytes]]:
        """Recording or digest of a file → the other ids of the same samples in the stores."""
        found: dict[bytes, set[bytes]] = {}
        for one in self.opened:
            for pair in one.generation.recordings.aliases():
                for mine, other in (pair, pair[::-1]):
                    found.setdefault(mine, set()).add(other)
        return found

    def paths(self, recording_ids: Ids) -> list[tuple[Path, ...]]:
        """Return all places of each recording in any of the stores, in order."""
        each = (one.places.paths(recording_ids) for one in self.opened)
        return [each_once([*chain(*paths)]) for paths in zip(*each, strict=True)]

    def first_paths(self, rows: Integers) -> pa.Array:
        """Return (n,) the first path of each row's recording in its store, as text."""
        ids, store_of = self.recording_ids(rows), self.store_of(rows)
        at = [np.flatnonzero(store_of == number) for number in range(len(self.opened))]
        each = [
            one.places.first_paths(ids[mine]) for one, mine in zip(self.opened, at, strict=True)
        ]
        return pa.concat_arrays(each).take(pa.array(np.argsort(np.concatenate(at))))

    def hits(
        self,
        found: Found,
        why: Why | None = None,
        metadata: Metadata | None = None,
        learned: Mapping[str, LearnedTag] = MappingProxyType({}),
    ) -> list[list[Hit]]:
        """Return everything that is known about what was found, question by question.

        Args:
            found: Rows, as `find` gives them.
            why: Of what their scores are made, if that is to be known.
            metadata: What a user's file says of recordings.
            learned: Tags that stand before what is heard, by their names.

        Raises:
            QueryError: If two rows of the metadata belong to a place, see `Metadata.rows`.
        """
        table, tags = self.windows(found.rows), widened(self.tags(found.rows))
        windows, paths = table.each(), self.paths(table.recording_id)
        heard_tags = pick_heard_each(tags, threshold=MIN_TOP_PROBABILITY, top=NUM_TOP_TAGS)
        own = self._heard_of(learned, found.rows)
        facts = self._facts(metadata, {one.recording_id for one in windows}) if metadata else {}
        answers: list[list[Hit]] = [[] for _ in range(found.num_questions)]
        scores, stands_for = found.scores.tolist(), found.stands_for.tolist()
        window_ids = found.window_ids.tolist()
        unknown = 3 * [[None] * len(scores)]
        scenes, heard, starts_s = map(_numbers, why) if why else unknown
        match_starts_s, match_ends_s, match_scores = (
            map(_numbers, found.match) if found.match else unknown
        )
        for at, asked in enumerate(found.asked.tolist()):
            window = windows[at]
            hit = Hit(
                score=scores[at],
                window_id=window_ids[at],
                recording_id=window.recording_id,
                paths=paths[at],
                start_s=window.start_s,
                end_s=window.end_s,
                tags=(*own[at], *heard_tags[at]),
                scene_score=scenes[at],
                tag_score=heard[at],
                query_start_s=starts_s[at],
                stands_for=stands_for[at],
                metadata=facts.get(window.recording_id, {}),
                match_start_s=match_starts_s[at],
                match_end_s=match_ends_s[at],
                match_score=match_scores[at],
            )
            answers[asked].append(hit)
        return answers

    def _heard_of(self, learned: Mapping[str, LearnedTag], rows: Integers) -> list[list[HeardTag]]:
        """Return which learned tags each of some rows has, as likely as what else is told."""
        heard: list[list[HeardTag]] = [[] for _ in rows]
        for name, tag in learned.items():
            for segment, local, at in self.locate(rows):
                probable = tag.heard_in(segment, local).tolist()
                for place, probability in zip(at.tolist(), probable, strict=True):
                    if probability >= MIN_TOP_PROBABILITY:
                        heard[place].append(HeardTag(Tag(name, name, None), probability))
        return heard

    def _facts(self, metadata: Metadata, recordings: set[bytes]) -> dict[bytes, dict[str, Value]]:
        """Return what a file says of each recording; the first store that knows a row counts."""
        nothing: dict[str, Value] = dict.fromkeys(metadata.shown.column_names)
        told = dict.fromkeys(recordings, nothing)
        for one in reversed(self.opened):
            known, places = one.places.of(recordings)
            found = zip(known, metadata.facts(places), strict=True)
            told.update({recording: facts for recording, facts in found if facts != nothing})
        return told


def _numbers(values: Any) -> list[float | None]:
    """Return what is known: None in the place of NaN."""
    return [None if math.isnan(one) else one for one in values.tolist()]
