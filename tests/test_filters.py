"""Filters against NumPy straight on the float16 tags."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Array
from synthetic import Synthetic, make_store

from indexer.errors import QueryError, UnknownTagError
from indexer.tags import TagVocabulary
from search.filters.tags import TagFilter, Term, float16_at_least
from search.generation.codes import code_of
from search.generation.mapped import Lookup
from search.generation.segments import Segment
from search.upkeep.build import build

#: Bits of 1.0 as float16.
ONE = 0x3C00
THRESHOLD = 0.25

VOCABULARY = TagVocabulary.audioset()
#: Leaves, groups of a few, Animal with its 65 outputs, and a name without an output of its own.
NAMES = ["Dog", "Bark", "Speech", "Rain", "Ukulele", "Animal", "Music", "Vehicle", "Human voice"]


def float16(bits: int) -> np.float16:
    return np.uint16(bits).view(np.float16)


def bits_of(value: float) -> int:
    return int(np.float16(value).view(np.uint16))


def awkward_tags(rng: np.random.Generator, num_rows: int) -> Array:
    """(n, 527) float16: ordinary ones, and many that are at, beside or in one code with 0.25."""
    ordinary = rng.beta(0.3, 3, (num_rows, 527)).astype(np.float16)
    away = rng.choice([-65, -64, -63, -2, -1, 0, 0, 1, 2, 63, 64, 65], (num_rows, 527))
    near = bits_of(THRESHOLD) + away
    extreme = rng.choice([0, 1, 63, 64, ONE - 1, ONE], (num_rows, 527))
    kind = rng.integers(0, 4, (num_rows, 527))
    return np.where(
        kind < 2,
        ordinary.view(np.uint16),
        np.where(kind == 2, near, extreme).astype(np.uint16),
    ).view(np.float16)


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> list[Segment]:
    """Three segments, some of their rows dead; the tags are quiet in some rows."""
    store: Synthetic = make_store(tmp_path_factory.mktemp("tags") / "store", frames="none")
    rng = np.random.default_rng(3)
    tags = awkward_tags(rng, 240)
    tags[100:200] = np.minimum(tags[100:200], rng.choice([0, 0.2, 0.26], (100, 1)).astype("f2"))
    store.add({f"r{number}": 10 for number in range(24)}, tags=tags)
    build(store.store, max_segment_rows=100)
    store.remove("r3.wav", "r13.wav", "r23.wav")
    return list(build(store.store, max_segment_rows=100).segments)


def matching(segments: list[Segment], wanted: TagFilter) -> list[Array]:
    resolved = wanted.resolve()
    return [resolved.matches(segment) for segment in segments]


def expected(segments: list[Segment], wanted: TagFilter) -> list[Array]:
    return [oracle.matches(segment.tags[:], wanted) & segment.alive for segment in segments]


def assert_same(segments: list[Segment], wanted: TagFilter) -> None:
    for found, right in zip(matching(segments, wanted), expected(segments, wanted), strict=True):
        assert found.dtype == bool
        assert (found == right).all()


# --- the threshold -------------------------------------------------------------------------------

thresholds = st.one_of(
    st.sampled_from([0.0, 1.0, THRESHOLD, 0.5, 1e-9, 2.0**-24, 2.0**-25, 0.99999, 5e-324]),
    st.floats(0, 1),
    st.integers(0, ONE).map(lambda bits: float(float16(bits))),
    st.integers(0, ONE).map(lambda bits: float(np.nextafter(np.float32(float16(bits)), 0))),
    st.integers(0, ONE - 1).map(lambda bits: float(np.nextafter(np.float32(float16(bits)), 2))),
    st.integers(-70, 70).map(lambda away: float(float16(bits_of(THRESHOLD) + away))),
)


@given(thresholds)
def test_float16_at_least_any_threshold_is_the_least_that_reaches_it(threshold: float) -> None:
    all_of_them = np.arange(ONE + 1, dtype=np.uint16).view(np.float16)
    reaching = all_of_them.astype(np.float32) >= np.float32(threshold)
    assert float16_at_least(threshold) == all_of_them[np.argmax(reaching)]
    assert reaching.any()


@settings(max_examples=60, deadline=None)
@given(threshold=thresholds, name=st.sampled_from(NAMES))
def test_matches_one_tag_any_threshold_equals_numpy(
    segments: list[Segment], threshold: float, name: str
) -> None:
    assert_same(segments, TagFilter(all_of=(name,), threshold=threshold))


def test_matches_default_threshold_has_rows_on_and_beside_it(segments: list[Segment]) -> None:
    """The data can fail the tests above: values at the bound, beside it, and in its code."""
    index = VOCABULARY.resolve("Dog").index
    near = np.concatenate([segment.tags[:, index] for segment in segments]).view(np.uint16)
    away = near.astype(int) - bits_of(THRESHOLD)
    assert (away == 0).any()
    assert ((away > 0) & (away < 64)).sum() > 5  # in the code of the bound
    assert ((away < 0) & (away >= -64)).sum() > 5  # in the code below


@pytest.mark.parametrize("away", [-65, -64, -63, -1, 0, 1, 62, 63, 64])
@pytest.mark.parametrize("bound", [THRESHOLD, 0.2502, 0.2656, 0.3])
def test_matches_probability_beside_the_bound_is_compared_as_float16(
    tmp_path: Path, away: int, bound: float
) -> None:
    probability = float16(bits_of(bound) + away)
    tags = np.zeros((1, 527), np.float16)
    tags[0, 137] = probability
    segment = segment_of(tags)
    found = TagFilter(all_of=("Music",), threshold=bound).resolve().matches(segment)
    assert found.tolist() == [bool(np.float32(probability) >= np.float32(bound))]


def segment_of(tags: Array) -> Segment:
    """A segment in memory: what `build` would have written, worked out column by column."""
    groups = [tags[:, list(indices)].max(1) for _, indices in VOCABULARY.groups]
    codes = code_of(np.concatenate([tags, np.array(groups).T], 1)).T.copy()
    return Segment(
        Path(),
        {"tags": tags},
        codes,
        np.ones(len(tags), bool),
        np.zeros(len(tags), "i4"),
        *2 * [Lookup.of(np.arange(len(tags)))],
    )


@settings(max_examples=60, deadline=None)
@given(
    bits=st.lists(st.integers(0, ONE), min_size=1, max_size=20),
    threshold=thresholds,
    name=st.sampled_from(NAMES),
)
def test_matches_any_probabilities_equal_numpy(
    bits: list[int], threshold: float, name: str
) -> None:
    tags = np.zeros((len(bits), 527), np.uint16)
    tags[:, oracle.outputs_below(name)[-1]] = bits
    assert_same([segment_of(tags.view(np.float16))], TagFilter((name,), threshold=threshold))


def test_matches_threshold_zero_is_every_live_row(segments: list[Segment]) -> None:
    found = matching(segments, TagFilter(all_of=("Dog",), threshold=0))
    for mask, segment in zip(found, segments, strict=True):
        assert (mask == segment.alive).all()


def test_matches_threshold_minus_zero_is_zero(segments: list[Segment]) -> None:
    assert not np.signbit(float16_at_least(-0.0))
    for mask, segment in zip(
        matching(segments, TagFilter(all_of=("Dog",), threshold=-0.0)), segments, strict=True
    ):
        assert (mask == segment.alive).all()


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, math.inf])
def test_resolve_threshold_that_is_no_probability_is_an_error(threshold: float) -> None:
    with pytest.raises(QueryError, match="threshold"):
        TagFilter(all_of=("Dog",), threshold=threshold).resolve()


# --- all, any, none ------------------------------------------------------------------------------

names = st.lists(st.sampled_from(NAMES), max_size=3).map(tuple)


@settings(max_examples=60, deadline=None)
@given(all_of=names, any_of=names, none_of=names, threshold=thresholds)
def test_matches_any_combination_equals_numpy(
    segments: list[Segment],
    all_of: tuple[str, ...],
    any_of: tuple[str, ...],
    none_of: tuple[str, ...],
    threshold: float,
) -> None:
    assert_same(segments, TagFilter(all_of, any_of, none_of, threshold))


@settings(max_examples=30, deadline=None)
@given(
    all_of=st.lists(st.sampled_from(NAMES[:-1]), max_size=2).map(tuple),
    none_of=st.lists(st.sampled_from(NAMES[:-1]), max_size=2).map(tuple),
    threshold=thresholds,
)
def test_matches_without_descendants_equals_numpy(
    segments: list[Segment], all_of: tuple[str, ...], none_of: tuple[str, ...], threshold: float
) -> None:
    assert_same(segments, TagFilter(all_of, (), none_of, threshold, descendants=False))


def test_matches_none_of_is_the_complement_among_live_rows(segments: list[Segment]) -> None:
    heard = matching(segments, TagFilter(all_of=("Animal",)))
    not_heard = matching(segments, TagFilter(none_of=("Animal",)))
    for yes, no, segment in zip(heard, not_heard, segments, strict=True):
        assert (yes ^ no == segment.alive).all()
    assert np.concatenate(heard).any()
    assert np.concatenate(not_heard).any()


def test_matches_dead_rows_never_do(segments: list[Segment]) -> None:
    dead = [~segment.alive for segment in segments]
    assert np.concatenate(dead).sum() == 30
    for wanted in (TagFilter(("Dog",), threshold=0), TagFilter(none_of=("Dog",), threshold=1)):
        for mask, gone in zip(matching(segments, wanted), dead, strict=True):
            assert not (mask & gone).any()


def test_matches_leaves_the_live_rows_as_they_are(segments: list[Segment]) -> None:
    before = [segment.alive.copy() for segment in segments]
    matching(segments, TagFilter(("Dog",), ("Rain",), ("Speech",)))
    assert all((one == s.alive).all() for one, s in zip(before, segments, strict=True))


def test_filter_without_conditions_is_false_and_matches_all(segments: list[Segment]) -> None:
    assert not TagFilter()
    assert TagFilter(none_of=("Dog",))
    assert_same(segments, TagFilter())


# --- the ontology --------------------------------------------------------------------------------


def test_resolve_animal_is_one_column_the_maximum_of_its_65_outputs(
    segments: list[Segment],
) -> None:
    [(term, _)] = TagFilter(all_of=("Animal",)).resolve().all_of
    assert len(term.indices) == 65
    assert term.column >= 527
    for segment in segments:
        maximum = segment.tags[:, oracle.outputs_below("Animal")].max(1)
        assert (segment.codes[term.column] == code_of(maximum)).all()
        rows = np.arange(len(segment))[::-2]
        assert (term.probabilities(segment, rows) == maximum[rows]).all()


def test_resolve_animal_without_descendants_is_its_own_output() -> None:
    [(term, _)] = TagFilter(all_of=("Animal",), descendants=False).resolve().all_of
    index = VOCABULARY.resolve("Animal").index
    assert term == Term((index,), index)


def test_resolve_name_without_own_output_stands_for_those_below_or_is_an_error() -> None:
    silent = [node.name for node in VOCABULARY.nodes if node.index is None]
    assert len(silent) == 105
    assert {"Human voice", "Oboe"} <= set(silent)
    for name in silent:
        below = tuple(sorted(oracle.outputs_below(name)))
        if below:
            [(term, _)] = TagFilter(all_of=(name,)).resolve().all_of
            assert term.indices == below
        with pytest.raises(UnknownTagError, match=r"no output"):
            TagFilter(all_of=(name,), descendants=bool(not below)).resolve()


def test_resolve_human_voice_matches_a_row_with_a_shout() -> None:
    tags = np.zeros((2, 527), np.float16)
    tags[1, VOCABULARY.resolve("Shout").index] = 0.5
    segment = segment_of(tags)
    assert TagFilter(("Human voice",)).resolve().matches(segment).tolist() == [False, True]


def test_resolve_every_output_and_group_finds_its_column() -> None:
    columns = set()
    for node in VOCABULARY.nodes:
        if outputs := oracle.outputs_below(node.name):
            [(term, _)] = TagFilter(any_of=(node.mid,)).resolve().any_of
            assert term.indices == tuple(sorted(outputs))
            assert term.column < 527 + len(VOCABULARY.groups)
            columns.add(term.column)
    assert len(columns) > 500


@pytest.mark.parametrize("field", ["all_of", "any_of", "none_of"])
def test_resolve_oboe_names_the_nearest_that_can_be_asked_for(field: str) -> None:
    fields: dict[str, Any] = {field: ("Oboe",)}
    with pytest.raises(UnknownTagError, match=r"no output.*Wind instrument"):
        TagFilter(**fields).resolve()


def test_resolve_misspelt_name_proposes_another() -> None:
    with pytest.raises(UnknownTagError, match="did you mean"):
        TagFilter(none_of=("Dog barking",)).resolve()


# --- relevance -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(all_of=names, any_of=names, none_of=names, seed=st.integers(0, 99))
def test_relevance_any_combination_equals_numpy_and_lies_within_its_bounds(
    segments: list[Segment],
    all_of: tuple[str, ...],
    any_of: tuple[str, ...],
    none_of: tuple[str, ...],
    seed: int,
) -> None:
    wanted = TagFilter(all_of, any_of, none_of)
    resolved = wanted.resolve()
    for segment in segments:
        rows = np.random.default_rng(seed).integers(0, len(segment), 30)
        found = resolved.relevance(segment, rows)
        assert found.dtype == np.float32
        if wanted:
            assert (found == oracle.relevance(segment.tags[rows], wanted)).all()
        least, greatest = resolved.relevance_bounds(segment, rows)
        assert (least <= found).all()
        assert (found <= greatest).all()
        assert (greatest - least <= 1 / 16 + 1e-6).all()  # a code is 4 bits of mantissa


def test_relevance_of_no_rows_is_empty(segments: list[Segment]) -> None:
    none = np.empty(0, np.int64)
    for wanted in (TagFilter(("Dog",), ("Animal",), ("Rain",)), TagFilter()):
        assert wanted.resolve().relevance(segments[0], none).shape == (0,)
