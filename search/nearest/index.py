"""The vector index: which rows are nearest. It owns the score."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from time import perf_counter
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers
from indexer.embedding.cores import num_cores
from indexer.windows import SILENT_DBFS
from search.generation.allowed import Allowed
from search.generation.manifest import UNMEASURED, Effort
from search.generation.segments import Generation
from search.nearest.blend import columns_of, is_blend, scenes_of
from search.nearest.exact import find_near, find_near_each, keep_best, score_pairs, score_rows
from search.nearest.gpu import Gpu
from search.nearest.lists import take_together
from search.nearest.plan import EXACT, Plan, choose_plan
from search.nearest.scan import propose
from search.nearest.sketch import Sketch

#: Vectors answered at a time by `search_many`.
_BATCH_VECTORS = 1024


class Neighbours(NamedTuple):
    """The nearest rows.

    Attributes:
        scores: (n,) float32 cosine similarities, the highest first.
        rows: (n,) positions in the generation; of equal scores, the lower window id first.
        plan: How they were found, in the end.
        num_allowed: Rows that might have been found.
        scan_ms: Milliseconds until candidates were found.
        rescore_ms: Milliseconds to compute their scores, and sort them.
    """

    scores: Float32
    rows: Integers
    plan: Plan = EXACT
    num_allowed: int = 0
    scan_ms: float = 0.0
    rescore_ms: float = 0.0


class VectorIndex:
    """Searches the segments of a generation: exactly, or by their sketches.

    Sketches only propose rows. One routine scores them again, from the vectors as they are stored.

    Attributes:
        generation: The rows.
        effort: How far sketches are looked through, and how much that finds.
        sketches: Of each segment; None of those that are searched exactly.
        lists: Theirs.
        gpu: What may answer many questions in their place.
    """

    def __init__(
        self,
        generation: Generation,
        effort: Effort = UNMEASURED,
        sketches: Sequence[Sketch | None] | None = None,
    ) -> None:
        self.generation = generation
        self.effort = effort
        self.sketches = sketches or [None] * len(generation.segments)
        self.lists = take_together(self.sketches, generation.starts)
        self.gpu = Gpu(generation)

    @cached_property
    def alive(self) -> Allowed:
        """All rows that are alive."""
        return Allowed.of(segment.alive for segment in self.generation.segments)

    @cached_property
    def silent(self) -> tuple[Integers, ...]:
        """(n,) of each segment, which of its rows are silent and alive."""
        return tuple(
            np.flatnonzero((one.arrays["level_db"] < SILENT_DBFS) & one.alive)
            for one in self.generation.segments
        )

    @property
    def num_lists(self) -> int:
        """How many lists there are, in all sketches."""
        return sum(map(len, self.lists))

    def search(
        self,
        vectors: Float32,
        k: int,
        allowed: Allowed | None = None,
        *,
        exact: bool = False,
        least: float | None = None,
    ) -> Neighbours:
        """Return the k rows that are nearest to any of the vectors.

        Args:
            vectors: (q, 768) float32 of length 1, or (q, 1295) of `blended`; a row's score is its
                best over them.
            k: How many rows, at least 1.
            allowed: Which rows may be found; None for all that are alive.
            exact: Whether only an exact answer will do.
            least: Of a blend, the least cosine of scenes; None for any.

        Returns:
            min(k, allowed rows) rows, of those that reach the least cosine. If the plan is exact,
            ties at k are decided by window id. Damaged rows that are not numbers are never among
            them.

        Raises:
            DamagedStoreError: If a sketch is not as it was written.
        """
        began = perf_counter()
        vectors = np.ascontiguousarray(vectors, np.float32)
        allowed = allowed or self.alive
        plan = self._plan(allowed, k, len(vectors), exact=exact)
        if plan.is_exact:
            rows = find_near(self.generation, vectors, k, allowed, least)
        else:
            rows, plan = self._propose(plan, vectors, k, allowed, least)
        scanned = perf_counter()
        if least is None and not plan.is_exact:
            rows = keep_best(self.generation, vectors, k, rows)
        scores = self.score(vectors, rows)
        if least is not None:
            scores[self.score(scenes_of(vectors, self._num_columns), rows) < least] = -np.inf
        order = np.lexsort((self.generation.window_ids(rows), -scores))[:k]
        order = order[scores[order] > -np.inf]
        if len(order) < min(k, allowed.num_rows) and least is None and not plan.is_exact:
            return self.search(vectors, k, allowed, exact=True)  # what was proposed is damaged
        scan_ms, rescore_ms = (scanned - began) * 1e3, (perf_counter() - scanned) * 1e3
        return Neighbours(scores[order], rows[order], plan, allowed.num_rows, scan_ms, rescore_ms)

    def search_many(
        self,
        vectors: Float32,
        k: int,
        allowed: Allowed | None = None,
        *,
        exact: bool = False,
        least: float | None = None,
    ) -> tuple[Float32, Integers]:
        """Return the k rows that are nearest to each of many vectors.

        Where a GPU is there and quicker, it compares all rows instead of sketches: see `gpu`.

        Args:
            vectors: (n, 768) float32 of length 1, or (n, 1295) of `blended`.
            k: How many rows for each, at least 1.
            allowed: Which rows may be found; None for all that are alive.
            exact: Whether only exact answers will do.
            least: As of `search`.

        Returns:
            (n, k) float32 scores, the highest first, and (n, k) rows; -inf and -1 where there are
            fewer than k.

        Raises:
            DamagedStoreError: If a sketch is not as it was written.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        rows = np.full((len(vectors), k), -1, np.int64)
        allowed = allowed or self.alive
        width = min(k, allowed.num_rows)  # that many are found, of each
        plan = self._plan(allowed, k, 1, exact=exact)
        # Where the scenes have a say of their own, a GPU would leave most of them to the CPU.
        is_gpus = (least is None or plan.is_exact) and self.gpu.takes(
            plan, vectors.shape, width, allowed.num_rows
        )
        for first in range(0, len(vectors) if width else 0, _BATCH_VECTORS):
            block = slice(first, first + _BATCH_VECTORS)
            scores[block, :width], rows[block, :width] = self._search_block(
                plan, vectors[block], width, allowed, least, is_gpus=is_gpus
            )
        return scores, rows

    def _propose(
        self,
        plan: Plan,
        vectors: Float32,
        k: int,
        allowed: Allowed,
        least: float | None,
    ) -> tuple[Integers, Plan]:
        """Return rows that may be nearest, and what was done: what no sketch knows is computed."""
        proposed = propose(self.lists, allowed, vectors, plan)
        rows = [proposed.rows]
        if least is not None and is_blend(vectors, self._num_columns):
            # Of those that are less like it by the blend, some may have a scene that is more so.
            scenes = scenes_of(vectors, self._num_columns)
            rows.append(propose(self.lists, allowed, scenes, plan).rows)
        if None in self.sketches:
            rows.append(find_near(self.generation, vectors, k, self._unknown(allowed), least))
        every = np.unique(np.concatenate(rows))
        return every, plan._replace(
            num_scanned=proposed.num_scanned,
            num_lists=proposed.num_lists,
            num_scored=len(every),
        )

    def _plan(self, allowed: Allowed, k: int, num_vectors: int, *, exact: bool) -> Plan:
        numbers = allowed.num_rows, self.generation.num_windows, k
        return choose_plan(self.effort, *numbers, num_vectors=num_vectors, exact=exact)

    def _unknown(self, allowed: Allowed) -> Allowed:
        """Return what no sketch knows."""
        return allowed.of_segments([sketch is None for sketch in self.sketches])

    def _search_block(
        self,
        plan: Plan,
        vectors: Float32,
        k: int,
        allowed: Allowed,
        least: float | None,
        *,
        is_gpus: bool,
    ) -> tuple[Float32, Integers]:
        near = self.gpu.find_near_each(vectors, k, allowed.masks) if is_gpus else None
        if near and not plan.is_exact:  # of a crowd that rounding cannot tell apart, any will do
            plan, near = EXACT, (near[0], np.zeros(len(vectors), bool))
        looked = allowed if plan.is_exact else self._unknown(allowed)
        found, is_open = near or find_near_each(self.generation, vectors, k, looked.masks)
        scenes = scenes_of(vectors, self._num_columns)
        if not plan.is_exact:
            asking = [vectors] if least is None else [vectors, scenes]
            proposed = [self._propose_each(plan, one, allowed) for one in asking]
            found = _distinct(np.concatenate([found, *proposed], axis=1))
        found = np.pad(found, ((0, 0), (0, max(0, k - found.shape[1]))), constant_values=-1)
        scores = score_pairs(self.generation, vectors, found)
        if least is not None:
            scores[score_pairs(self.generation, scenes, found) < least] = -np.inf
        is_short = (scores > -np.inf).sum(1) < k
        if least is None and not plan.is_exact:  # what was proposed is damaged
            is_open |= is_short
        elif least is not None:
            # What is less like it may have a scene that is more so; sketches have looked for that.
            is_open |= is_short if plan.is_exact else looked.num_rows > 0
        order = np.lexsort((self._ids_of(found), -scores))[:, :k]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
        rows[np.isneginf(scores)] = -1
        for at in np.flatnonzero(is_open):
            one = self.search(vectors[at : at + 1], k, allowed, exact=plan.is_exact, least=least)
            scores[at], rows[at] = -np.inf, -1
            scores[at, : len(one.rows)], rows[at, : len(one.rows)] = one[:2]
        return scores, rows

    def _propose_each(self, plan: Plan, vectors: Float32, allowed: Allowed) -> Integers:
        """Return (n, m) rows that may be nearest to each vector, by the sketches; -1 for none."""

        def look(one: Float32) -> Integers:
            return propose(self.lists, allowed, one[None], plan).rows

        with ThreadPoolExecutor(num_cores()) as threads:
            each = list(threads.map(look, vectors))
        width = max(map(len, each))
        return np.stack([np.pad(one, (0, width - len(one)), constant_values=-1) for one in each])

    @property
    def _num_columns(self) -> int:
        """See `columns_of`."""
        return columns_of(self.generation)

    def score(self, vectors: Float32, rows: Integers) -> Float32:
        """Return the score of some rows: `score_rows`, which makes every score that is shown."""
        return score_rows(self.generation, vectors, rows)

    def _ids_of(self, rows: Integers) -> Integers:
        return self.generation.window_ids(np.maximum(rows, 0).ravel()).reshape(rows.shape)


def _distinct(rows: Integers) -> Integers:
    """Return (n, m) rows with each once in its line; -1 where there was another."""
    rows = np.sort(rows, axis=1)
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
    return rows
