"""Sketches against NumPy, and against FAISS, which reads the file of each by itself."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Array
from sketched import Part, propose, sketching

from indexer.errors import DamagedStoreError
from indexer.progress import ignore
from search.generation.allowed import Allowed
from search.generation.manifest import SketchEntry
from search.generation.writing import normalise
from search.nearest import bytes as products
from search.nearest import scan
from search.nearest.basis import Basis, Prepared
from search.nearest.blend import blended, with_roots
from search.nearest.bytes import MAX_COLUMNS, multiply_bytes
from search.nearest.clumps import order_rows
from search.nearest.lists import Clumps, Lists, Visited, take_together
from search.nearest.plan import Plan
from search.nearest.sketch import CHECKED, MOST, PARTS, Sketch, shapes_of, sketch_file
from search.nearest.sketching import FAISS_FILE, make_sketch, quantise

NUM_ROWS, ROWS_PER_LIST = 1500, 60
#: All rows are looked at, and sixty proposed.
PLAN_OF_ALL = Plan("sketches", 10**6, num_hits=60)
#: Products of some hundred float32 numbers of at most 1.
ROUNDING = 1e-5


def clustered(seed: int, num_rows: int) -> tuple[Array, Array]:
    """Vectors of length 1 around 20 centres, and tags that go with these.

    Their spectrum falls off, as that of what a network gives does.
    """
    rng = np.random.default_rng(seed)
    spread = 3 / (1 + np.arange(768) / 8)
    centres = spread * np.random.default_rng(0).normal(0, 1, (20, 768))
    cluster = rng.integers(0, 20, num_rows)
    scenes = centres[cluster] + 0.6 * spread * rng.normal(0, 1, (num_rows, 768))
    tags = rng.beta(0.2, 60, (num_rows, 527))
    tags[np.arange(num_rows), cluster * 7] = rng.random(num_rows)
    return normalise(scenes.astype(np.float32)), tags.astype(np.float16)


class Made(NamedTuple):
    """A sketch that was written and read again, and the rows in its order."""

    folder: Path
    entry: SketchEntry
    sketch: Sketch
    scenes: Array
    tags: Array
    order: Array

    @property
    def rows(self) -> Array:
        """What is compared: (n, 1295) float32."""
        return with_roots(self.scenes, self.tags)

    @property
    def centres(self) -> Array:
        """(num_lists, d) the centres of the lists, as FAISS has them."""
        _, lists = open_by_faiss(self.folder)
        return faiss.downcast_index(lists.quantizer).reconstruct_n(0, self.sketch.num_lists)

    @property
    def own_centres(self) -> Array:
        """(n, d) of each row, the centre of its list."""
        return np.repeat(self.centres, self.sketch.sizes, axis=0)

    def away(self) -> Array:
        """(n, d) how far from their centres the codes say that rows are, by their definition."""
        return ((self.codes + 0.5) / MOST * 2 - 1) * self.entry.half_width

    @property
    def lists(self) -> Lists:
        """Its lists, as those of the only segment of a generation."""
        return take_together([self.sketch], np.array([0, len(self.scenes)]))[0]

    @property
    def codes(self) -> Array:
        """(num_listed, d) the codes of its rows, from 0 on, as FAISS has them."""
        codes = np.concatenate([part.codes for part in self.sketch.parts], axis=1)
        return (codes.astype(int) + 128).astype(np.uint8)

    @property
    def begins(self) -> Array:
        """(num_listed,) of each row, the first of its list."""
        ends = np.cumsum(self.sketch.sizes)
        return np.repeat(ends - self.sketch.sizes, self.sketch.sizes)

    @property
    def clumps(self) -> Array:
        """(num_listed,) the clump of each row: the first of a list has what is left over."""
        sizes = self.sketch.sizes
        numbers = [(np.arange(size) + -size % 16) // 16 for size in sizes.tolist()]
        firsts = np.cumsum([0, *(-(-sizes // 16)).tolist()])[:-1]
        pairs = zip(firsts, numbers, strict=True)
        return np.concatenate([first + number for first, number in pairs])

    def ask(self, vectors: Array) -> Prepared:
        return self.sketch.basis.prepare(vectors)


def make(folder: Path, scenes: Array, tags: Array, known: Sequence[Basis] = ()) -> Made:
    folder.mkdir(exist_ok=True)
    with sketching(rows_per_list=ROWS_PER_LIST):
        entry, order = make_sketch(folder, scenes, tags, ignore, list(known))
    assert entry
    sketch = Sketch(folder, entry, len(scenes))
    return Made(folder, entry, sketch, scenes[order], tags[order], order)


#: As it is; while tests run it is 0, see `conftest`.
VISIT_NS = scan._VISIT_NS


@pytest.fixture(scope="module", params=[(64, 32), (128, 48)], ids=str)
def made(
    whole: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.nearest.cells._WIDTHS", (request.param,))
        yield make(tmp_path_factory.mktemp("made"), *clustered(1, NUM_ROWS))


@pytest.fixture
def small(tmp_path: Path) -> Made:
    return make(tmp_path / "small", *clustered(3, 300))


def asking(seed: int, number: int) -> list[Array]:
    """Questions of scenes alone, and of blends."""
    scenes, tags = clustered(seed, number)
    return [scenes, blended(scenes, tags, 0.35), blended(scenes, tags, 0.9)]


# --- the file of FAISS ---------------------------------------------------------------------------


def open_by_faiss(folder: Path) -> tuple[Any, Any]:
    """The whole index, and the lists in it."""
    index = faiss.read_index(str(folder / FAISS_FILE))
    return index, faiss.downcast_index(index.index)


def test_faiss_reads_the_same_codes_and_rows(made: Made) -> None:
    index, lists = open_by_faiss(made.folder)
    sizes = made.sketch.sizes
    assert (index.d, index.ntotal, lists.nlist) == (1295, NUM_ROWS, made.sketch.num_lists)
    first = 0
    for number, size in enumerate(sizes.tolist()):
        ours = np.arange(first, first + size)
        assert lists.invlists.list_size(number) == size
        if size:
            codes = faiss.rev_swig_ptr(lists.invlists.get_codes(number), size * lists.code_size)
            rows = faiss.rev_swig_ptr(lists.invlists.get_ids(number), size)
            assert (made.codes[ours] == codes.reshape(size, -1)).all()
            assert (ours == rows).all()
        first += size


def test_faiss_projects_encodes_and_decodes_as_we_do(made: Made) -> None:
    index, lists = open_by_faiss(made.folder)
    components = made.sketch.basis.project(made.rows)
    assert index.chain.at(0).apply(made.rows) == pytest.approx(components, abs=ROUNDING)
    ours = made.codes
    away = components - made.own_centres
    theirs = lists.sq.compute_codes(away)
    assert np.abs(ours - theirs.astype(int)).max() <= 1  # of two that are next to each other
    assert (ours == theirs).mean() > 0.999
    assert lists.sq.decode(ours) == pytest.approx(made.away(), abs=ROUNDING)
    step = 2 * made.entry.half_width / MOST
    is_within = np.abs(away) <= made.entry.half_width
    assert 0.998 < is_within.all(1).mean() < 1
    assert np.abs(made.away() - away)[is_within].max() <= step / 2 + ROUNDING


def codes_of(made: Made, given: Prepared) -> Array:
    """(q, d) the codes of what asks."""
    codes = np.zeros(given.components.shape, int)
    for one in given.asked:
        codes[:, one.part] = one.codes
    return codes


def test_product_with_a_code_is_that_of_what_faiss_decodes(made: Made) -> None:
    """But for the rounding of what asks to 255 steps, which is bounded; with centres it is not."""
    _, lists = open_by_faiss(made.folder)
    some = np.arange(NUM_ROWS)
    lists.make_direct_map()
    away = lists.reconstruct_n(0, NUM_ROWS) - made.own_centres
    for vectors in asking(7, 5):
        for at in range(5):
            given = made.ask(vectors[at : at + 1])
            rounded = codes_of(made, given) * given.steps[:, None]
            components = made.sketch.basis.project(vectors[at : at + 1])
            assert np.abs(rounded - components).max() <= given.steps[0] / 2 + ROUNDING
            near = made.lists.multiply_rows(given, some)
            expected = away @ rounded.T + made.own_centres @ components.T
            assert near == pytest.approx(expected[:, 0], abs=ROUNDING)
        together = made.lists.multiply_rows(made.ask(vectors), some)
        each = [made.lists.multiply_rows(made.ask(one[None]), some) for one in vectors]
        assert together == pytest.approx(np.max(each, axis=0), abs=ROUNDING)


def test_what_asks_is_prepared_the_same_whatever_else_asks(made: Made) -> None:
    """To the bit: what is measured of many questions holds for each alone."""
    for vectors in asking(7, 9):
        together, alone = made.ask(vectors), [made.ask(one[None]) for one in vectors]
        for number, column in enumerate(together[:-1]):
            assert (column == np.concatenate([one[number] for one in alone])).all()
        for part, asked in enumerate(together.asked):
            assert (asked.weights == [one.asked[part].weights[0] for one in alone]).all()
            assert (asked.squares == [one.asked[part].squares[0] for one in alone]).all()
            assert (asked.codes == [one.asked[part].codes[0] for one in alone]).all()
            assert (asked.finer == [one.asked[part].finer[0] for one in alone]).all()
        for number, some in enumerate(together.split(4)):
            each = slice(4 * number, 4 * number + 4)
            assert (some.components == together.components[each]).all()
            for one, every in zip(some.asked, together.asked, strict=True):
                assert (one.codes == every.codes[each]).all()


def test_finer_codes_say_where_rows_are_to_a_sixteenth_bit(made: Made) -> None:
    """But for rows that are further from their centre than codes reach."""
    components = made.sketch.basis.project(made.rows)
    away = components - made.own_centres
    is_within = (np.abs(away) < made.entry.half_width).all(1)
    step = 2 * made.entry.half_width / MOST / 256
    for vectors in asking(7, 5):
        asked = made.ask(vectors)
        given = made.sketch.basis.project(vectors)
        true = (components @ given.T).max(1)
        near = made.lists.refine(asked, np.arange(NUM_ROWS))
        most = np.abs(given).sum(1).max() * step / 2 + ROUNDING
        most += np.abs(away[is_within]).sum(1).max() * asked.steps.max() / 254 / 2
        assert np.abs(near - true)[is_within].max() <= most
        some = np.flatnonzero(np.arange(NUM_ROWS) % 7 == 3)
        assert made.lists.refine(asked, some) == pytest.approx(near[some], abs=ROUNDING)


def test_what_is_refined_is_proposed_by_its_finer_codes(made: Made) -> None:
    """Of those that are best by bytes; in several segments, some of them without any of these."""
    parts = parts_of(made, 3, 0.5, 3)
    for vectors in asking(11, 4):
        asked = made.ask(vectors)
        first = propose(parts, vectors, Plan("sketches", 10**6, num_hits=90))
        of = (np.sort(first.rows) - 10) % NUM_ROWS
        coarse = np.sort(made.lists.multiply_rows(asked, np.arange(NUM_ROWS))[of])
        for num_hits in (10, 40):
            margin = float(coarse[-num_hits] - coarse[0])  # as far as the last of ninety
            near = dict(zip(np.sort(first.rows).tolist(), refined(made, asked, of), strict=True))
            best = sorted(near.values(), reverse=True)
            for finer_margin in (0.0, margin / 4):
                plan = Plan("sketches", 10**6, num_hits=num_hits, margin=margin)
                again = propose(parts, vectors, plan._replace(finer_margin=finer_margin))
                assert again[1:] == first[1:]
                found = sorted((near[row] for row in again.rows.tolist()), reverse=True)
                assert found == [one for one in best if one >= best[num_hits - 1] - finer_margin]


def refined(made: Made, asked: Prepared, rows: Array) -> list[float]:
    """By finer codes, of rows in any order."""
    every = made.lists.refine(asked, np.arange(NUM_ROWS))
    return [round(float(every[row]), 5) for row in rows]


def test_faiss_alone_finds_what_is_best(made: Made) -> None:
    """Its best sixty hold the true ten, for those who ask the file with nothing of ours."""
    index, lists = open_by_faiss(made.folder)
    lists.nprobe = made.sketch.num_lists
    for vectors in asking(8, 60)[:2]:
        whole = np.zeros((len(vectors), 1295), np.float32)
        whole[:, : vectors.shape[1]] = vectors
        true = np.argsort(-(whole @ made.rows.T), axis=1)[:, :10]
        found = index.search(whole, 60)[1]
        held = [np.isin(ten, sixty).all() for ten, sixty in zip(true, found, strict=True)]
        assert np.mean(held) >= 0.99


# --- what is in it -------------------------------------------------------------------------------


def test_order_has_every_row_once_list_by_list(made: Made) -> None:
    assert sorted(made.order.tolist()) == list(range(NUM_ROWS))
    assert made.sketch.num_lists == NUM_ROWS // ROWS_PER_LIST
    weights = np.repeat([0.65, 0.35], list(map(len, made.sketch.basis))) ** 0.5
    centres = made.centres * weights
    components = made.sketch.basis.project(made.rows) * weights
    distances = ((components[:, None] - centres) ** 2).sum(2)
    own = np.repeat(np.arange(made.sketch.num_lists), made.sketch.sizes)
    assert distances[np.arange(NUM_ROWS), own] == pytest.approx(distances.min(1), abs=ROUNDING)


def test_components_are_at_right_angles(made: Made) -> None:
    for part in made.sketch.basis:
        assert part @ part.T == pytest.approx(np.eye(len(part)), abs=ROUNDING)


def test_lists_are_ranked_by_their_centre_and_how_far_their_rows_are_from_it(made: Made) -> None:
    arrays = {
        name: np.fromfile(sketch_file(made.folder, name), dtype).reshape(shape)
        for name, (dtype, shape) in shapes_of(made.entry).items()
    }
    assert (arrays["centres"] == made.centres).all()
    num_scenes = made.entry.num_scenes
    own = np.repeat(np.arange(made.sketch.num_lists), made.sketch.sizes)
    residuals = np.square(made.sketch.basis.project(made.rows) - made.own_centres)
    for part, columns in enumerate((slice(num_scenes), slice(num_scenes, None))):
        sums = np.bincount(own, residuals[:, columns].sum(1)) / made.sketch.sizes
        assert arrays["spreads"][part] == pytest.approx(np.sqrt(sums), abs=ROUNDING)
    for vectors, weights in zip(asking(9, 4), WEIGHTS, strict=True):
        components = made.sketch.basis.project(vectors)
        for reach in (0.0, 0.6, 2.0):
            expected = np.full(made.sketch.num_lists, -np.inf)
            for one in components:
                away = one - np.repeat(weights, list(map(len, made.sketch.basis))) * made.centres
                lengths = [np.linalg.norm(part, axis=1) for part in np.split(away, [num_scenes], 1)]
                further = np.hypot(*(np.stack(lengths) * arrays["spreads"]))
                further += 2 * (np.array(weights) @ np.square(arrays["spreads"]))
                expected = np.maximum(expected, made.centres @ one + reach * further)
            ranks = made.lists.rank(made.ask(vectors), reach)
            assert ranks == pytest.approx(expected, abs=0.02)  # by bytes


def every_row(lists: Lists) -> Allowed:
    """All rows of the segments of lists."""
    sizes = dict(zip(lists.numbers, (one.num_listed for one in lists.sketches), strict=True))
    return Allowed.of(np.ones(sizes.get(one, 0), bool) for one in range(max(sizes) + 1))


#: Of `asking`, the weights of scenes and of what is heard.
WEIGHTS = ((1.0, 0.0), (0.65, 0.35), (0.1, 0.9))


def clump_bounds(made: Made, vectors: Array, weights: Sequence[float], reach: float) -> Array:
    """(num_clumps,) how near the nearest rows of each may be, in float64 and from all its rows."""
    basis, clumps = made.sketch.basis, made.clumps
    sizes = np.bincount(clumps)
    away = made.away().astype(np.float64)
    codes = np.stack([np.bincount(clumps, one) for one in made.codes.T], axis=1) / sizes[:, None]
    middles = ((np.rint(codes) + 0.5) / MOST * 2 - 1) * made.entry.half_width
    squares = [
        np.bincount(clumps, part.sum(1)) / sizes
        for part in np.split(np.square(away - middles[clumps]), [len(basis.scenes)], axis=1)
    ]
    firsts = np.cumsum(sizes) - sizes
    centres = made.own_centres[firsts].astype(np.float64)
    bounds = np.full(len(sizes), -np.inf)
    for one in basis.project(vectors).astype(np.float64):
        apart = np.square(one - np.repeat(weights, list(map(len, basis))) * centres)
        parts = np.split(apart, [len(basis.scenes)], axis=1)
        pairs = zip(parts, squares, weights, strict=True)
        further = np.zeros((2, len(sizes)))
        for part, square, weight in pairs:
            if weight:
                further += part.sum(1) * square, weight * square
        of_each = (middles + centres) @ one + reach * (np.sqrt(further[0]) + 2 * further[1])
        bounds = np.maximum(bounds, of_each)
    return bounds


def test_clumps_are_ranked_by_their_middle_and_how_far_their_rows_are_from_it(made: Made) -> None:
    lists, every = made.lists, np.arange(made.sketch.num_lists)
    clumps = lists.clumps_of(every, every_row(lists))
    assert (clumps.of == np.repeat(every, -(-made.sketch.sizes // 16))).all()
    assert (clumps.ends == np.cumsum(np.bincount(made.clumps))).all()
    for vectors, weights in zip(asking(9, 4), WEIGHTS, strict=True):
        for number in (1, 4):
            asked = made.ask(vectors[:number])
            for reach in (0.0, 0.6, 2.0):
                bounds = clump_bounds(made, vectors[:number], weights, reach)
                visited = lists.visit(asked, every)
                found = lists.bound_clumps(visited, clumps, reach)
                assert found == pytest.approx(bounds, abs=0.01)  # what asks is rounded to bytes
                some = np.flatnonzero(np.arange(len(bounds)) % 3 == 1)
                found = lists.bound_clumps(visited, clumps.take(some), reach)
                assert found == pytest.approx(bounds[some], abs=0.01)


def test_rows_of_a_clump_are_alike(made: Made) -> None:
    """By what is heard as well as by scenes, more than those of as many others of its list."""
    components = made.sketch.basis.project(made.rows)
    rng, own = (
        np.random.default_rng(2),
        np.repeat(np.arange(made.sketch.num_lists), made.sketch.sizes),
    )
    shuffled = components[np.lexsort((rng.random(NUM_ROWS), own))]

    def spread(rows: Array) -> Array:
        """The mean square distance from the middle of its clump, of each part."""
        sums = np.stack([np.bincount(made.clumps, one) for one in rows.T], axis=1)
        means = sums / np.bincount(made.clumps)[:, None]
        away = np.square(rows - means[made.clumps]).mean(0)
        return np.array([part.sum() for part in np.split(away, [made.entry.num_scenes])])

    assert (spread(components) < 0.9 * spread(shuffled)).all()


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    number=st.integers(0, 300),
    kind=st.sampled_from(["any", "equal", "two"]),
)
def test_order_of_a_list_has_each_of_its_rows_once(seed: int, number: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (number, 24)).astype(np.float32)
    if kind == "equal":
        rows[:] = rows[:1]
    elif kind == "two":  # and 16 of one of these
        rows[:] = np.where(rng.permutation(number)[:, None] < 16, 5, -3)
    order = order_rows(rows)
    assert sorted(order.tolist()) == list(range(number))
    if kind == "two" and number and number % 16 == 0:
        assert len(set(np.flatnonzero(rows[order, 0] == 5) // 16)) == 1


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shares=st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.24, 0.5, 1.0]), min_size=2, max_size=2),
)
def test_clumps_without_a_row_that_may_be_found_are_left_out(
    made: Made, seed: int, shares: list[float]
) -> None:
    """Of segments where few may be found, it is known; where many, as many as in all of a list."""
    rng = np.random.default_rng(seed)
    lists = take_together([made.sketch] * 2, np.array([0, NUM_ROWS, 2 * NUM_ROWS]))[0]
    masks = [rng.random(NUM_ROWS) < share for share in shares]
    allowed = Allowed.of(masks)
    some = np.flatnonzero(rng.random(len(lists)) < 0.7)
    clumps = lists.clumps_of(some, allowed)
    own, clump_of = np.repeat(np.arange(made.sketch.num_lists), made.sketch.sizes), made.clumps
    found = []
    for mask, rows in zip(masks, allowed.rows, strict=True):
        shares_of = np.bincount(own, mask) / np.bincount(own)
        each = mask if rows is not None else shares_of[own]
        found.append(np.bincount(clump_of, each))
    held = np.concatenate(found)
    lists_of = np.repeat(np.arange(len(lists)), lists.num_clumps)
    expected = np.flatnonzero(np.isin(lists_of, some) & (held > 0))
    assert (clumps.numbers == expected).all()
    assert clumps.held == pytest.approx(held[expected])
    assert (some[clumps.of] == lists_of[expected]).all()


def test_sixteen_rows_before_any_are_those_of_its_list(small: Made) -> None:
    """As far as there are as many; the first list has fewer, before which there is no other."""
    sizes = small.sketch.sizes
    ends = 1 + np.arange(300)
    codes = np.concatenate([one.codes_before(ends) for one in small.sketch.parts], axis=1)
    assert codes.shape == (16 * 300, small.entry.width)
    rows = (ends[:, None] - 16 + np.arange(16)).ravel()
    is_own = rows >= np.repeat(small.begins, 16)
    assert 0 < np.count_nonzero(~is_own) == sum(15 * 16 // 2 for size in sizes if size >= 15)
    assert (codes[is_own] == small.codes[rows[is_own]].astype(int) - 128).all()


def test_row_is_said_to_be_where_its_list_has_it(made: Made) -> None:
    """Whoever asks for rows, by lists or by their numbers, gets the same of each."""
    rng = np.random.default_rng(4)
    sketch, number, every = made.sketch, made.sketch.num_lists, np.arange(NUM_ROWS)
    # The same segment twice, and between the two one without a sketch.
    starts = np.array([0, NUM_ROWS, NUM_ROWS + 40, 2 * NUM_ROWS + 40])
    (lists,) = take_together([sketch, None, sketch], starts)
    assert len(lists) == 2 * number
    rows = np.concatenate([every, starts[2] + every])
    own = np.concatenate(
        [np.repeat(first + np.arange(number), sketch.sizes) for first in (0, number)]
    )
    assert lists.hold(np.arange(starts[3] + 9)).nonzero()[0].tolist() == rows.tolist()
    each = [(one, some.tolist()) for one, some in lists.each(1000)]
    assert each == [
        (0, list(range(1000))),
        (0, list(range(1000, NUM_ROWS))),
        (2, list(range(starts[2], starts[2] + 1000))),
        (2, list(range(starts[2] + 1000, starts[3]))),
    ]
    for vectors in asking(6, 3):
        asked = made.ask(vectors)
        alone, finer = made.lists.multiply_rows(asked, every), made.lists.refine(asked, every)
        near = np.tile(alone, 2)
        ranks = np.tile(made.lists.rank(asked, 0.5), 2)
        assert lists.rank(asked, 0.5) == pytest.approx(ranks, abs=0.02)  # by bytes
        for share in (0.0, 0.01, 0.5, 1.0):
            some = np.sort(rng.permutation(2 * number)[: round(share * 21)])
            held = np.flatnonzero(np.isin(own, some))
            clumps, visited = lists.clumps_of(some, every_row(lists)), lists.visit(asked, some)
            found = lists.multiply_clumps(visited, clumps)
            assert found.shape == (lists.num_clumps[some].sum(), 16)
            of, is_own = lists.rows_in(visited, clumps, np.arange(found.size))
            assert (of[is_own] == rows[held]).all()
            assert (found.ravel()[is_own] == near[held]).all()
            at = np.flatnonzero(rng.random(len(rows)) < share)
            assert (lists.multiply_rows(asked, rows[at]) == near[at]).all()
            assert (lists.refine(asked, rows[at]) == np.tile(finer, 2)[at]).all()
            for place, of, few in lists.split(some):
                kept = held[(held >= place * NUM_ROWS) & (held < (place + 1) * NUM_ROWS)]
                kept -= place * NUM_ROWS
                assert of is sketch
                picked = np.flatnonzero(rng.random(NUM_ROWS) < share)
                found = sketch.find_rows(few, picked.astype(np.int32))
                assert found.tolist() == np.intersect1d(picked, kept).tolist()


@pytest.mark.parametrize("num_damaged", [1, 37, 280])
def test_damaged_rows_are_last_and_in_no_list(tmp_path: Path, num_damaged: int) -> None:
    scenes, tags = clustered(1, 300)
    rng = np.random.default_rng(0)
    damaged = rng.permutation(300)[:num_damaged]
    scenes[damaged, rng.integers(0, 768, num_damaged)] = rng.choice([np.nan, np.inf, -np.inf])
    made = make(tmp_path / "s", scenes, tags)
    num_listed = 300 - num_damaged
    assert (made.entry.num_listed, made.sketch.sizes.sum()) == (num_listed, num_listed)
    assert set(made.order[num_listed:].tolist()) == set(damaged.tolist())
    lists = np.arange(made.sketch.num_lists)
    assert made.sketch.num_listed == num_listed
    assert [len(rows) for _, rows in made.lists.each(1000)] == [num_listed]
    every = np.arange(300, dtype=np.int32)
    assert made.sketch.find_rows(lists, every).tolist() == list(range(num_listed))
    assert open_by_faiss(made.folder)[0].ntotal == num_listed


@pytest.mark.parametrize("num_sound", [0, 9])
def test_rows_that_are_nearly_all_damaged_have_no_sketch(tmp_path: Path, num_sound: int) -> None:
    scenes, tags = clustered(1, 300)
    scenes[num_sound:, 5] = np.nan
    entry, order = make_sketch(tmp_path, scenes, tags, ignore, [])
    assert entry is None
    assert sorted(order.tolist()) == list(range(300))
    assert list(tmp_path.iterdir()) == []


def test_damaged_tags_are_taken_for_none(tmp_path: Path) -> None:
    scenes, tags = clustered(1, 300)
    tags[5:40] = np.nan
    tags[40] = np.inf
    tags[41] = -1
    made = make(tmp_path / "s", scenes, tags)
    assert made.entry.num_listed == 300
    components = made.own_centres + made.away()
    components = components[np.argsort(made.order)[5:42], made.entry.num_scenes :]
    assert np.abs(components[:35]).max() <= made.entry.half_width / MOST + ROUNDING


@pytest.mark.parametrize("of", ["nothing", "one", "scenes alone"])
def test_rows_of_which_there_is_little_to_tell_are_sketched(tmp_path: Path, of: str) -> None:
    """Nothing but zeros, a single sound, or no tags at all: no division by nothing."""
    scenes, tags = clustered(1, 200)
    if of == "nothing":
        scenes[:] = 0
    if of == "one":
        scenes[:], tags[:] = scenes[0], tags[0]
    else:
        tags[:] = 0
    made = make(tmp_path / "s", scenes, tags)
    assert made.entry.num_listed == 200
    near = made.lists.multiply_rows(made.ask(scenes[:1]), np.arange(200))
    assert near == pytest.approx(made.scenes @ scenes[0], abs=0.05)
    part = Part(0, made.sketch, np.ones(200, bool), 200)
    assert len(propose([part], scenes[:2], Plan("sketches", 20)).rows) >= 10


def test_basis_that_is_known_is_taken_where_it_is_enough(tmp_path: Path) -> None:
    """Rows like those it was found with, and none that lie in other directions."""
    first = make(tmp_path / "first", *clustered(1, 600))
    alike = make(tmp_path / "alike", *clustered(2, 600), [first.sketch.basis])
    assert all(map(np.array_equal, alike.sketch.basis, first.sketch.basis))
    scenes, tags = clustered(2, 600)
    other = make(tmp_path / "other", scenes[:, ::-1], tags, [first.sketch.basis])
    assert not np.array_equal(other.sketch.basis.scenes, first.sketch.basis.scenes)
    for made in (alike, other):
        found = [
            propose([Part(0, made.sketch, np.ones(600, bool), 600)], one[None], PLAN_OF_ALL).rows
            for one in made.scenes[:40]
        ]
        true = np.argsort(-(made.scenes[:40] @ made.scenes.T), axis=1)[:, :10]
        assert all(np.isin(ten, some).all() for ten, some in zip(true, found, strict=True))


def test_latest_bases_are_tried(tmp_path: Path) -> None:
    """However many came before them that do not fit."""
    alike = make(tmp_path / "alike", *clustered(1, 600)).sketch.basis
    others = [Basis(alike.scenes[number::9], alike.roots) for number in range(8)]
    made = make(tmp_path / "made", *clustered(2, 600), [*others, alike])
    assert all(map(np.array_equal, made.sketch.basis, alike))


def test_segments_of_other_bases_are_asked_together(tmp_path: Path) -> None:
    """Of other widths, and with other steps: what is proposed is the best of all.

    They take turns, and one is without a sketch between them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.nearest.cells._WIDTHS", ((64, 32),))
        first = make(tmp_path / "first", *clustered(1, 600))
        patch.setattr("search.nearest.cells._WIDTHS", ((128, 48),))
        second = make(tmp_path / "second", *clustered(2, 500))
    starts = (0, 600, 1140, 1740)
    each = list(zip(starts, (first, second, first, second), strict=True))
    parts = [
        Part(start, one.sketch, np.ones(len(one.scenes), bool), len(one.scenes))
        for start, one in each
    ]
    for vectors in asking(12, 3):
        near = np.full(2240, -np.inf, np.float32)
        for start, one in each:
            every = np.arange(len(one.scenes))
            near[start + every] = one.lists.multiply_rows(one.ask(vectors), every)
        found = propose(parts, vectors, PLAN_OF_ALL).rows
        assert sorted(near[found]) == sorted(near)[-60:]
        plan = PLAN_OF_ALL._replace(num_hits=10, margin=0.01, finer_margin=0.005)
        refined = propose(parts, vectors, plan).rows
        assert near[refined].min() >= np.sort(near)[-10] - 0.01 - ROUNDING
        true = np.full(2240, -np.inf, np.float32)
        for start, one in each:
            every = np.arange(len(one.scenes))
            true[start + every] = (one.scenes @ vectors[:, :768].T).max(1)
        if vectors.shape[1] == 768:
            assert np.isin(np.argsort(-true)[:10], refined).mean() >= 0.9


def test_codes_reach_from_nothing_to_all() -> None:
    components = np.array([[-0.5, -0.499, 0.0, 0.499, 0.5, 9.0, -9.0]], np.float32)
    codes, finer = quantise(components, 0.5)
    assert (codes + 128.0).tolist() == [[0, 0, 127, 254, 255, 255, 0]]
    assert (finer + 128.0).tolist() == [[0, 65, 128, 190, 0, 0, 0]]  # 0.001 are 0.255 steps


# --- products of bytes ---------------------------------------------------------------------------


both = pytest.mark.skipif(products._simsimd is None, reason="SimSIMD has no wheel for this system")


@both
@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    width=st.sampled_from([8, 96, 128, 176, 248, MAX_COLUMNS]),
    num_vectors=st.integers(0, 4),
    num_rows=st.sampled_from([0, 1, 7, 2048, 2049]),
    extreme=st.booleans(),
)
def test_products_are_whole_numbers_whoever_multiplies(
    data: st.DataObject, width: int, num_vectors: int, num_rows: int, extreme: bool
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    least, most = (-128, -127) if extreme else (-128, 128)
    vectors = rng.integers(least, most, (num_vectors, width), np.int8)
    rows = rng.integers(least, most, (num_rows, width), np.int8)
    expected = vectors.astype(np.int64) @ rows.T.astype(np.int64)
    found = multiply_bytes(vectors, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_simsimd", None)
        without = multiply_bytes(vectors, rows)
    for one in (found, without):
        assert (one.dtype, one.shape) == (np.float32, (num_vectors, num_rows))
        assert (one == expected).all()


@both
def test_proposals_are_the_same_without_simsimd(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part(0, made.sketch, np.ones(NUM_ROWS, bool), NUM_ROWS)
    questions = [vectors[:size] for vectors in asking(5, 20) for size in (1, 3, 20)]
    plan = Plan("sketches", 400, num_hits=60, reach=0.5)
    found = [propose([part], vectors, plan) for vectors in questions]
    monkeypatch.setattr(products, "_simsimd", None)
    for one, vectors in zip(found, questions, strict=True):
        again = propose([part], vectors, plan)
        assert (one.rows == again.rows).all()
        assert one[1:] == again[1:]


# --- proposing -----------------------------------------------------------------------------------


def parts_of(made: Made, seed: int, share: float, num_parts: int) -> list[Part]:
    """The same segment several times, with rows at random that may be found; none without any.

    Every second time they are known by their numbers, as few are.
    """
    rng = np.random.default_rng(seed)
    masks = [rng.random(NUM_ROWS) < share for _ in range(num_parts)]
    return [
        Part(
            10 + number * NUM_ROWS,
            made.sketch,
            mask,
            int(mask.sum()),
            np.flatnonzero(mask).astype(np.int32) if number % 2 else None,
        )
        for number, mask in enumerate(masks)
        if mask.any()
    ]


#: As it is; and so that of all lists, or of none of which rows are known, these are picked.
PICKED = st.sampled_from([1 / 2, 0, 100])


@pytest.mark.parametrize("share", [0.05, 0.9, 1.0])
def test_lists_are_counted_once_for_a_filter(made: Made, share: float) -> None:
    """What a question leaves out of it is counted: the next one leaves out something else."""
    mask = np.random.default_rng(5).random(NUM_ROWS) < share
    allowed, lists = Allowed.of([mask]), made.lists
    without = allowed.without([np.flatnonzero(mask)[:200]])
    counted = lists.count(without.without([np.flatnonzero(mask)[200:300]]))
    for one in (allowed, without):
        assert lists.count(one) is counted
    own = np.repeat(np.arange(made.sketch.num_lists), made.sketch.sizes)
    true = np.bincount(own[mask[: len(own)]], minlength=made.sketch.num_lists)
    assert counted.are_known.all() == (share < 0.25)
    assert (counted.rows == true).all()
    other = Lists({0: made.sketch}, np.array([0, NUM_ROWS]))
    assert other.count(allowed) is not counted
    assert (other.count(allowed).rows == counted.rows).all()


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.001, 0.01, 0.3, 0.99, 1.0]),
    num_vectors=st.integers(1, 3),
    num_scanned=st.integers(1, 3200),
    num_hits=st.integers(1, 300),
    num_parts=st.integers(0, 3),
    is_blend=st.booleans(),
    sampled_rows=st.sampled_from([64, 4096]),
    picked=PICKED,
)
def test_proposed_rows_match_and_are_as_many_as_there_may_be(
    made: Made,
    seed: int,
    share: float,
    num_vectors: int,
    num_scanned: int,
    num_hits: int,
    num_parts: int,
    is_blend: bool,
    sampled_rows: int,
    picked: float,
) -> None:
    parts = parts_of(made, seed, share, num_parts)
    vectors = asking(seed, num_vectors)[int(is_blend)]
    plan = Plan("sketches", num_scanned, num_hits=num_hits, reach=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.nearest.scan._SAMPLED_ROWS", sampled_rows)
        patch.setattr("search.nearest.scan._PICKED", picked)
        patch.setattr("search.nearest.scan._PICKED_FIRST", picked)
        found = propose(parts, vectors, plan)
    matching = np.concatenate([[], *(part.start + np.flatnonzero(part.mask) for part in parts)])
    assert np.isin(found.rows, matching).all()
    assert len(np.unique(found.rows)) == len(found.rows) >= min(num_hits, len(matching))
    assert found.num_scanned > 0.9 * min(num_hits, len(matching)) - 5  # about, where many match
    assert found.num_lists <= num_parts * made.sketch.num_lists
    if not found.num_lists:  # then all were scanned, and no row is as near as those proposed
        assert found.num_scanned == len(matching)
        near = made.lists.multiply_rows(made.ask(vectors), np.arange(NUM_ROWS))
        of_all = near[(matching.astype(int) - 10) % NUM_ROWS]
        of_found = near[(found.rows - 10) % NUM_ROWS]
        last = np.sort(of_all)[-num_hits:][:1]
        assert sorted(of_found) == sorted(of_all[of_all >= last])


def test_all_are_looked_at_where_that_takes_no_longer_than_to_visit_any(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here are 1,500 rows, which take 0.05 ms; what is visited takes half a one."""
    part, plan = Part(0, made.sketch, np.ones(NUM_ROWS, bool), NUM_ROWS), Plan("sketches", 100)
    assert propose([part], asking(2, 1)[0], plan).num_lists > 0
    monkeypatch.setattr("search.nearest.scan._VISIT_NS", VISIT_NS)
    assert propose([part], asking(2, 1)[0], plan).num_lists == 0
    monkeypatch.setattr("search.nearest.scan.SCAN_NS", 1000)
    assert propose([part], asking(2, 1)[0], plan).num_lists > 0


def test_lists_are_visited_where_many_match_and_all_are_scanned_where_few_do(made: Made) -> None:
    vectors = asking(2, 1)[0]
    every, few = np.ones(NUM_ROWS, bool), np.arange(NUM_ROWS) % 50 == 0
    plan = Plan("sketches", 100, num_hits=60, reach=0.0)
    wide = propose([Part(0, made.sketch, every, NUM_ROWS)], vectors, plan)
    assert 0 < wide.num_lists < made.sketch.num_lists
    assert 100 <= wide.num_scanned < NUM_ROWS // 2
    plan = Plan("sketches", 200, reach=0.0)
    rows = np.flatnonzero(few).astype(np.int32)
    narrow = propose([Part(0, made.sketch, few, len(rows), rows)], vectors, plan)
    assert (narrow.num_lists, narrow.num_scanned) == (0, 30)


@pytest.mark.parametrize(("share", "is_read"), [(0.02, False), (0.2, False), (0.4, True)])
def test_rows_are_picked_at_first_where_that_is_quicker_than_to_read_all_around(
    made: Made, monkeypatch: pytest.MonkeyPatch, share: float, is_read: bool
) -> None:
    """Nothing says yet which clumps may hold something: all rows of the lists are looked at."""
    mask = np.diff(np.floor(share * np.arange(NUM_ROWS + 1))) > 0
    read: list[int] = []
    monkeypatch.setattr("search.nearest.scan._are_lists_quicker", lambda *_: True)
    true = Lists.multiply_clumps

    def multiply(lists: Lists, visited: Visited, clumps: Clumps) -> Array:
        read.append(len(clumps.of))
        return true(lists, visited, clumps)

    monkeypatch.setattr(Lists, "multiply_clumps", multiply)
    rows = np.flatnonzero(mask).astype(np.int32)
    part = Part(0, made.sketch, mask, len(rows), rows)
    found = propose([part], asking(2, 1)[0], Plan("sketches", 1000, num_hits=len(rows)))
    assert found.num_scanned == pytest.approx(len(rows), abs=3)
    assert bool(read) == is_read


class Known(NamedTuple):
    """All that a question could see.

    Attributes:
        near: (n,) of each row that matches.
        rows: (n,) these.
        places: (n,) the place of its list among all, the nearest first.
        bounds: (n,) how near the nearest of its clump may be.
        ranks: (m,) of the lists in which any may match, the nearest first.
        held: (m,) rows that match these and all before hold; if it is not known which do, as many
            as if they were evenly spread.
    """

    near: Array
    rows: Array
    places: Array
    bounds: Array
    ranks: Array
    held: Array


def know(made: Made, parts: list[Part], kind: int, vectors: Array, reach: float) -> Known:
    """Look at all lists of parts that share a sketch."""
    sketch, number = made.sketch, len(parts)
    asked, every = sketch.basis.prepare(vectors), np.arange(NUM_ROWS)
    lists = take_together([sketch], np.array([0, NUM_ROWS]))[0]
    own = np.repeat(np.arange(sketch.num_lists), sketch.sizes)
    sizes = np.concatenate(
        [np.bincount(own[part.mask[: len(own)]], minlength=sketch.num_lists) for part in parts]
    )
    ranked = np.tile(lists.rank(asked, scan._LIST_REACH * reach), number)
    ranks = np.where(sizes > 0, ranked, -np.inf)
    order = np.argsort(-ranks, kind="stable")
    places = np.argsort(order)[np.repeat(np.arange(len(ranks)), np.tile(sketch.sizes, number))]
    mask = np.concatenate([part.mask for part in parts])
    near = np.tile(lists.multiply_rows(asked, every), number)
    rows = np.concatenate([part.start + every for part in parts])
    order = order[: np.count_nonzero(sizes)]
    bounds = np.tile(clump_bounds(made, vectors, WEIGHTS[kind], reach)[made.clumps], number)
    each = [one[mask] for one in (near, rows, places, bounds)]
    return Known(*each, ranks[order], np.cumsum(sizes[order]))


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.1, 0.5, 0.99, 1.0]),
    num_parts=st.integers(1, 3),
    num_vectors=st.integers(1, 3),
    kind=st.integers(0, 2),
    num_hits=st.integers(1, 60),
    reach=st.sampled_from([0.0, 0.3, 0.6, 1.0, 4.0]),
    first_rows=st.sampled_from([1, 40, 200]),
    growth=st.sampled_from([2, 256]),
    first_clumps=st.sampled_from([1, 8, 1024]),
    list_reach=st.sampled_from([1.0, 1.2, 2.0]),
    picked=PICKED,
)
def test_lists_are_visited_until_none_that_is_left_may_hold_one_of_the_nearest(
    made: Made,
    seed: int,
    share: float,
    num_parts: int,
    num_vectors: int,
    kind: int,
    num_hits: int,
    reach: float,
    first_rows: int,
    growth: int,
    first_clumps: int,
    list_reach: float,
    picked: float,
) -> None:
    parts, vectors = parts_of(made, seed, share, num_parts), asking(seed, num_vectors)[kind]
    plan = Plan("sketches", 1000, reach=reach, num_hits=num_hits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.nearest.scan._LIST_REACH", list_reach)
        known = know(made, parts, kind, vectors, reach)
        patch.setattr("search.nearest.scan.FIRST_ROWS", first_rows)
        patch.setattr("search.nearest.scan._GROWTH", growth)
        patch.setattr("search.nearest.scan._FIRST_CLUMPS", first_clumps)
        patch.setattr("search.nearest.scan._are_lists_quicker", lambda *_: True)
        patch.setattr("search.nearest.scan._PICKED", picked)
        patch.setattr("search.nearest.scan._PICKED_FIRST", picked)
        found = propose(parts, vectors, plan)
    is_visited = known.places < found.num_lists
    assert found.num_scanned <= known.held[found.num_lists - 1] + 5
    is_found = np.isin(known.rows, found.rows)
    assert np.count_nonzero(is_found) == len(found.rows)
    assert is_visited[is_found].all()
    of_found = np.sort(known.near[is_found])[::-1]
    last = of_found[:num_hits][-1]
    assert of_found[-1] == last  # with all that are as near
    assert len(of_found) >= min(num_hits, np.count_nonzero(is_visited))
    # Of lists that are visited nothing is left out but clumps in which nothing may be as near.
    is_sure = is_visited & (known.bounds >= last + 0.01)  # what asks is rounded to bytes
    assert is_found[is_sure & (known.near >= last)].all()
    if found.num_lists < len(known.ranks):
        assert known.ranks[found.num_lists] < last
    # And no further: by what was seen first, each that came after might have held one.
    num_first = max(first_rows * num_vectors, num_hits)
    first = np.searchsorted(known.held, num_first) + 1
    at_first = np.sort(known.near[known.places < first])[::-1]
    if found.num_lists > first and len(at_first) >= num_hits:
        assert known.ranks[found.num_lists - 1] >= at_first[num_hits - 1]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.integers(0, 2), k=st.integers(1, 30))
def test_nearest_are_found_where_no_row_is_nearer_than_its_list_may_be(
    made: Made, seed: int, kind: int, k: int
) -> None:
    """A reach that no row exceeds overlooks nothing, and need not look at everything."""
    parts, vectors = parts_of(made, seed, 0.5, 2), asking(seed, 1)[kind]
    known = know(made, parts, kind, vectors, 0.0)
    asked = made.ask(vectors)
    centres = made.lists.rank(asked, 0.0)
    own = np.repeat(np.arange(made.sketch.num_lists), made.sketch.sizes)
    near = made.lists.multiply_rows(asked, np.arange(NUM_ROWS))
    spreads = made.lists.rank(asked, 1.0) - centres
    middles, ends = (clump_bounds(made, vectors, WEIGHTS[kind], one) for one in (0.0, 1.0))
    further = np.maximum(ends - middles, 1e-3)[made.clumps]  # of a row alone, there is none
    by_clumps = ((near - middles[made.clumps]) / further).max()
    reach = max(float(((near - centres[own]) / spreads[own]).max()), float(by_clumps)) * 1.01
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.nearest.scan._are_lists_quicker", lambda *_: True)
        plan = Plan("sketches", 40, num_hits=k, reach=reach)
        found = propose(parts, vectors, plan)
    of_found = np.sort(known.near[np.isin(known.rows, found.rows)])
    best = np.sort(known.near)
    assert (of_found == best[best >= best[-k]]).all()  # with all that are as near


def test_each_of_several_vectors_has_a_first_look(made: Made) -> None:
    """What is near to one of them may be far from what is nearest to all."""
    vectors = asking(3, 3)[0]
    part = Part(0, made.sketch, np.ones(NUM_ROWS, bool), NUM_ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.nearest.scan.FIRST_ROWS", 100)
        for number in (1, 2, 3):
            for num_scanned in (350, 150):  # and no more than are expected to be looked at
                plan = Plan("sketches", num_scanned, reach=0.0)
                found = propose([part], vectors[:number], plan)
                first = min(100 * number, num_scanned)
                assert first <= found.num_scanned < first + 2 * int(made.sketch.sizes.max())


def test_matches_that_are_far_from_what_asks_are_found(made: Made) -> None:
    """Where nothing matches in the nearest lists, ever more are visited."""
    vectors = made.scenes[:1]
    order = np.argsort(-made.lists.rank(made.ask(vectors), scan._LIST_REACH * 0.5))
    mask = np.zeros(NUM_ROWS, bool)
    own = np.repeat(np.arange(made.sketch.num_lists), made.sketch.sizes)
    mask[np.isin(own, order[made.sketch.num_lists // 3 :])] = True
    part = Part(0, made.sketch, mask, int(mask.sum()))
    found = propose([part], vectors, Plan("sketches", 60, num_hits=60, reach=0.5))
    assert found.num_lists > made.sketch.num_lists // 3
    assert len(found.rows) == 60
    assert mask[found.rows].all()


@pytest.mark.parametrize("num_scanned", [100, 10**6])
def test_rows_are_numbered_beyond_four_bytes(made: Made, num_scanned: int) -> None:
    """Of a segment they are not, but of a generation they may be."""
    first = 3 << 32
    parts = [one._replace(start=first + one.start) for one in parts_of(made, 3, 0.2, 2)]
    for vectors in asking(4, 2):
        plan = Plan("sketches", num_scanned, num_hits=30, reach=0.5, margin=0.01)
        near, far = (
            propose(some, vectors, plan).rows for some in (parts_of(made, 3, 0.2, 2), parts)
        )
        assert sorted(far - first) == sorted(near)


def peak_of(ask: Callable[[], object]) -> int:
    """How many bytes are held at most, beyond what was before."""
    tracemalloc.start()
    try:
        ask()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("are_known", [False, True])
def test_products_of_many_vectors_are_not_held_all_at_once(made: Made, are_known: bool) -> None:
    """Of 60,000 rows and 120 vectors they are 29 MB, of 1,000 lists and 3,000 vectors 12 MB."""
    few = np.flatnonzero(np.arange(NUM_ROWS) % 5 == 0).astype(np.int32)
    mask = np.isin(np.arange(NUM_ROWS), few) if are_known else np.ones(NUM_ROWS, bool)
    number, rows = (300, few) if are_known else (NUM_ROWS, None)
    copies = 200 if are_known else 40
    parts = [Part(at * NUM_ROWS, made.sketch, mask, number, rows) for at in range(copies)]
    vectors = np.tile(asking(5, 20)[1], (6, 1))
    found = []
    peak = peak_of(lambda: found.append(propose(parts, vectors, PLAN_OF_ALL)))
    assert found[0].num_scanned == 60_000
    assert peak < 48e6
    lists = take_together([made.sketch] * 40, NUM_ROWS * np.arange(40))[0]
    asked = made.ask(np.tile(vectors, (25, 1)))
    assert peak_of(lambda: lists.rank(asked, 0.5)) < 48e6
    assert peak_of(lambda: lists.refine(asked, np.arange(700))) < 40e6  # of both bytes, 17 MB


@pytest.mark.whole
@pytest.mark.parametrize("num_scanned", [100, 10**6])
def test_products_of_many_vectors_with_a_crowd_are_not_held_all_at_once(
    tmp_path: Path, num_scanned: int
) -> None:
    """It has a list of its own, and all of it is as near as may be: 1,800 rows, 2,400 vectors."""
    scenes, tags = clustered(1, 2400)
    scenes[600:], tags[600:] = scenes[0], tags[0]
    made = make(tmp_path / "s", scenes, tags)
    assert made.sketch.sizes.max() >= 1800
    vectors = np.tile(asking(5, 20)[1], (120, 1))
    vectors[7] = blended(scenes[-1:], tags[-1:], 0.35)
    part = Part(0, made.sketch, np.ones(2400, bool), 2400)
    plan = Plan("sketches", num_scanned, reach=0.4, margin=0.002, finer_margin=0.001)
    found = []
    peak = peak_of(lambda: found.append(propose([part], vectors, plan)))
    assert bool(found[0].num_lists) == (num_scanned == 100)
    assert (made.scenes[found[0].rows] == scenes[-1]).all()
    assert peak < 48e6


def test_vectors_that_ask_together_find_the_same_however_many_are_multiplied_at_a_time(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists, rows = made.lists, np.arange(NUM_ROWS)
    every = lists.clumps_of(np.arange(len(lists)), every_row(lists))
    plan = Plan("sketches", 400, num_hits=60, reach=0.5)
    part = Part(0, made.sketch, np.ones(NUM_ROWS, bool), NUM_ROWS)

    def ask(vectors: Array) -> list[Array]:
        asked = made.ask(vectors)
        near = lists.multiply_clumps(lists.visit(asked, np.arange(len(lists))), every)
        near = [near, lists.multiply_rows(asked, rows), lists.refine(asked, rows)]
        return [*near, np.sort(propose([part], vectors, plan).rows), lists.rank(asked, 0.5)]

    for vectors in asking(5, 7):
        expected = ask(vectors)
        for most in (1, 40, 5000):
            for module in ("lists", "ranking", "scan"):
                monkeypatch.setattr(f"search.nearest.{module}.MOST_PRODUCTS", most)
            *near, ranks = ask(vectors)
            for one, other in zip(near, expected, strict=False):
                assert (one == other).all()
            assert ranks == pytest.approx(expected[-1], abs=ROUNDING)
        monkeypatch.undo()


# --- damage --------------------------------------------------------------------------------------


def test_sketch_in_a_folder_whose_name_is_not_utf8_opens(tmp_path: Path) -> None:
    made = make(tmp_path / "caf\udce9", *clustered(1, 300))
    assert made.sketch.num_lists == 5


#: What is held against no digest when it is opened, as it is large.
UNGUARDED = [f"{part}_{kind}" for part in PARTS for kind in ("codes", "finer", "middles")]
NAMES = (*CHECKED, *UNGUARDED)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", ["missing", "short", "long", "empty", "folder"])
def test_file_of_another_size_is_damage(small: Made, name: str, change: str) -> None:
    path = sketch_file(small.folder, name)
    content = path.read_bytes()
    path.unlink()
    if change == "folder":
        path.mkdir()
    elif change != "missing":
        changes = {"short": content[:-8], "long": content + bytes(8), "empty": b""}
        path.write_bytes(changes[change])
    with pytest.raises(DamagedStoreError):
        Sketch(small.folder, small.entry, 300)


counts = st.one_of(st.integers(0, 700), st.sampled_from([2**31, 2**40, 10**12]))


@settings(max_examples=200, deadline=None)
@given(
    field=st.sampled_from(["num_scenes", "num_roots", "num_lists", "num_listed", "num_clumps"]),
    value=counts,
)
def test_entry_that_says_something_else_is_damage(made: Made, field: str, value: int) -> None:
    entry = replace(made.entry, **{field: value})
    if entry == made.entry:
        return
    with pytest.raises(DamagedStoreError):
        Sketch(made.folder, entry, NUM_ROWS)


@pytest.mark.parametrize("widths", [(0, 0), (0, 32), (64, 0), (MAX_COLUMNS, 1), (64, 1 << 20)])
def test_entry_with_a_width_that_no_sketch_has_is_damage(
    small: Made, widths: tuple[int, int]
) -> None:
    entry = replace(small.entry, num_scenes=widths[0], num_roots=widths[1])
    with pytest.raises(DamagedStoreError, match="cannot have the sketch"):
        Sketch(small.folder, entry, 300)


def test_entry_with_more_rows_than_its_segment_is_damage(small: Made) -> None:
    with pytest.raises(DamagedStoreError, match="cannot have the sketch"):
        Sketch(small.folder, small.entry, 299)


@pytest.mark.parametrize("sizes", [[-1, 301], [299], [2**62, 2**62, 2**62, 2**62, 300]])
def test_sizes_of_lists_that_do_not_add_up_are_damage(small: Made, sizes: list[int]) -> None:
    forged = np.zeros(small.sketch.num_lists, "<i8")
    forged[: len(sizes)] = sizes
    forged.tofile(sketch_file(small.folder, "sizes"))
    with pytest.raises(DamagedStoreError, match="sizes"):
        Sketch(small.folder, small.entry, 300)


@pytest.mark.parametrize("name", [name for name in CHECKED if name != "sizes"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_numbers_that_no_sketch_has_are_damage(small: Made, name: str, value: float) -> None:
    """A stranger's digests may be those of anything; nothing can be put in order by these."""
    file = sketch_file(small.folder, name)
    forged = np.fromfile(file, "<f4")
    forged[len(forged) // 2] = value
    forged.tofile(file)
    with pytest.raises(DamagedStoreError, match="not the numbers of a sketch") as refused:
        Sketch(small.folder, small.entry, 300)
    assert refused.value.path == file


def assert_survives(sketch: Sketch, num_rows: int) -> None:
    """Ask a sketch whose content is nonsense: there are rows of the mask, or none at all."""
    rng = np.random.default_rng(1)
    for share in (1.0, 0.5):
        mask = rng.random(num_rows) < share
        part = Part(0, sketch, mask, int(mask.sum()))
        for num_scanned in (30, num_rows):
            for vectors in asking(3, 2):
                plan = Plan("sketches", num_scanned, num_hits=20, reach=0.5)
                rows = propose([part], vectors, plan).rows
                assert mask[rows].all()
                assert len(np.unique(rows)) == len(rows) == 20
                refined = propose([part], vectors, plan._replace(margin=0.05)).rows
                assert mask[refined].all()
                assert len(np.unique(refined)) == len(refined) == 20


@pytest.mark.parametrize("name", UNGUARDED)
def test_any_content_of_what_no_digest_guards_is_survived(small: Made, name: str) -> None:
    """These are held against no digest when they are opened: they are large."""
    rng = np.random.default_rng(6)
    path = sketch_file(small.folder, name)
    content = bytearray(path.read_bytes())
    for _ in range(10):
        for at in rng.integers(0, len(content), len(content) // 8):
            content[at] = rng.integers(0, 256)
        path.write_bytes(content)
        assert_survives(Sketch(small.folder, small.entry, 300), 300)


def test_files_of_another_sketch_are_damage_or_survived(small: Made, tmp_path: Path) -> None:
    """Of as many rows, even its sizes fit; a manifest's digests tell them apart."""
    other = make(tmp_path / "other", *clustered(4, 300))
    for name in NAMES:
        path = sketch_file(small.folder, name)
        taken = sketch_file(other.folder, name).read_bytes()
        content = path.read_bytes()
        path.write_bytes(taken)
        try:
            sketch = Sketch(small.folder, small.entry, 300)
        except DamagedStoreError:
            assert len(content) != len(taken)
        else:
            assert_survives(sketch, 300)
        path.write_bytes(content)
