"""Planning against brute force over every sample, and cutting against slices of the recording."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import cycle, pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexer.windows import Geometry, Padding, Samples, Window, window_id

SECOND = 32_000
WINDOW = 10 * SECOND
NATIVE_LIMIT = 60 * SECOND


def planned_by_brute_force(geometry: Geometry, num_samples: int) -> list[tuple[int, int]]:
    """Walk over the starts, and mark every sample that a window holds."""
    if geometry.native and 0 < num_samples <= geometry.native_samples:
        return [(0, num_samples)]
    held = np.zeros(num_samples, bool)
    planned = []
    for start in range(0, num_samples, geometry.hop_samples):
        inside = held[start : start + geometry.window_samples]
        is_full = len(inside) == geometry.window_samples
        if is_full or not planned or np.count_nonzero(~inside) >= SECOND:
            planned.append((start, len(inside)))
            inside[:] = True
        if not is_full:
            break
    return planned


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    window = draw(st.sampled_from([WINDOW, SECOND, 5 * SECOND, 100_001]))
    hop = draw(
        st.one_of(
            st.sampled_from([window, window // 2, window - 1, window + 1, 3 * window]),
            st.integers(2_000, 3 * window),
        )
    )
    longest = draw(st.sampled_from([SECOND, 30 * SECOND, NATIVE_LIMIT]))
    padding = draw(st.sampled_from(get_args(Padding)))
    return Geometry(hop, draw(st.booleans()), window, longest, padding)


@st.composite
def geometries_and_lengths(draw: st.DrawFn) -> tuple[Geometry, int]:
    """Lengths anywhere, and beside every border at which the plan changes."""
    geometry = draw(geometries())
    border = draw(st.sampled_from([0, geometry.window_samples, geometry.native_samples]))
    hops = draw(st.integers(0, 3)) * geometry.hop_samples
    beside = draw(st.sampled_from([-1, 0, 1, SECOND - 1, SECOND, SECOND + 1]))
    num_samples = draw(
        st.one_of(st.integers(0, 2_500_000), st.just(max(0, border + hops + beside)))
    )
    return geometry, num_samples


# --- plan ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(geometries_and_lengths())
@example((Geometry(), WINDOW + SECOND))
@example((Geometry(), WINDOW + SECOND - 1))
@example((Geometry(native=True), NATIVE_LIMIT))
@example((Geometry(native=True), NATIVE_LIMIT + 1))
def test_plan_any_recording_equals_brute_force(case: tuple[Geometry, int]) -> None:
    geometry, num_samples = case
    planned = geometry.plan(num_samples)

    assert planned == planned_by_brute_force(geometry, num_samples)
    assert bool(planned) == (num_samples > 0)
    assert [start for start, _ in planned] == [
        number * geometry.hop_samples for number in range(len(planned))
    ]


@pytest.mark.parametrize(
    ("geometry", "num_samples", "expected"),
    [
        (Geometry(), 0, []),
        (Geometry(), 1, [(0, 1)]),
        (Geometry(), 320_000, [(0, 320_000)]),
        (Geometry(), 351_999, [(0, 320_000)]),
        (Geometry(), 352_000, [(0, 320_000), (320_000, 32_000)]),
        (Geometry(), 640_000, [(0, 320_000), (320_000, 320_000)]),
        # Overlapping: the third window would hold 200,000 samples, of which 40,000 are new.
        (Geometry(160_000), 520_000, [(0, 320_000), (160_000, 320_000), (320_000, 200_000)]),
        (Geometry(160_000), 511_999, [(0, 320_000), (160_000, 320_000)]),
        # Apart: what lies between two windows is in none.
        (Geometry(640_000), 671_999, [(0, 320_000)]),
        (Geometry(640_000), 672_000, [(0, 320_000), (640_000, 32_000)]),
        (Geometry(native=True), 1, [(0, 1)]),
        (Geometry(native=True), 960_002, [(0, 960_002)]),
        (Geometry(native=True), 1_920_000, [(0, 1_920_000)]),
        (Geometry(native=True), 1_920_001, [(320_000 * place, 320_000) for place in range(6)]),
        (Geometry(native=True, native_samples=960_000), 960_000, [(0, 960_000)]),
        (
            Geometry(native=True, native_samples=960_000),
            960_001,
            [(0, 320_000), (320_000, 320_000), (640_000, 320_000)],
        ),
    ],
)
def test_plan_known_length_gives_known_windows(
    geometry: Geometry, num_samples: int, expected: list[tuple[int, int]]
) -> None:
    assert geometry.plan(num_samples) == expected


def test_plan_a_day_starts_windows_every_hop_without_drift() -> None:
    geometry = Geometry(hop_samples=112_345)
    planned = geometry.plan(24 * 3600 * SECOND)
    assert planned[-2][0] == (len(planned) - 2) * 112_345
    assert {later - earlier for (earlier, _), (later, _) in pairwise(planned)} == {112_345}


# --- cut -----------------------------------------------------------------------------------------


def blocks_of(recording: Samples, sizes: list[int]) -> Iterator[Samples]:
    start = 0
    for size in cycle([*sizes, 7_001]):  # never only empty blocks
        if start >= len(recording):
            return
        yield recording[start : start + size]
        start += size


@settings(deadline=None, max_examples=100)
@given(
    case=geometries_and_lengths(),
    sizes=st.lists(
        st.one_of(st.integers(0, 5), st.integers(1_000, 20_000), st.integers(1, 800_000)),
        max_size=4,
    ),
)
@example(case=(Geometry(), WINDOW + SECOND), sizes=[WINDOW + SECOND])
@example(case=(Geometry(SECOND), 2_000_000), sizes=[1_200_000, 0])
@example(case=(Geometry(3 * WINDOW), 2_000_000), sizes=[99_999])
@example(case=(Geometry(padding="repeat"), WINDOW + 3 * SECOND + 1), sizes=[WINDOW, 5])
@example(case=(Geometry(padding="repeat"), 1), sizes=[1])
@example(case=(Geometry(native=True), NATIVE_LIMIT), sizes=[NATIVE_LIMIT])
@example(case=(Geometry(native=True), NATIVE_LIMIT + 1), sizes=[NATIVE_LIMIT, 1])
def test_cut_any_blocks_give_the_planned_samples_padded(
    case: tuple[Geometry, int], sizes: list[int]
) -> None:
    geometry, num_samples = case
    recording = np.arange(1, num_samples + 1, dtype=np.float32)  # no sample equals another, or 0
    shortest = 8_000 if geometry.native else max(8_000, geometry.window_samples)

    found = list(geometry.cut(blocks_of(recording, sizes)))

    assert [(cut.start_sample, cut.num_samples) for cut in found] == geometry.plan(num_samples)
    for start, length, waveform in found:
        assert waveform.dtype == np.float32
        assert len(waveform) == max(length, shortest)
        np.testing.assert_array_equal(waveform[:length], recording[start : start + length])
        if geometry.padding == "zero":
            assert not waveform[length:].any()
        else:
            np.testing.assert_array_equal(waveform, np.resize(waveform[:length], len(waveform)))


@pytest.mark.parametrize("blocks", [[], [0], [0, 0]])
def test_cut_nothing_gives_nothing(blocks: list[int]) -> None:
    assert list(Geometry().cut(np.zeros(size, np.float32) for size in blocks)) == []


def test_cut_arrays_are_the_receivers_to_keep() -> None:
    recording = np.arange(2 * WINDOW, dtype=np.float32)
    first, second = Geometry().cut([recording])
    first.waveform[:] = -1
    recording[:] = -2
    np.testing.assert_array_equal(second.waveform, np.arange(WINDOW, 2 * WINDOW))


@pytest.mark.whole
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("hop_samples", [SECOND, WINDOW - 7, WINDOW, WINDOW + 7, 100 * WINDOW])
@pytest.mark.parametrize("block_samples", [9_999, 1_000_000])
def test_cut_long_stream_holds_a_window_and_a_few_blocks(
    native: bool, hop_samples: int, block_samples: int
) -> None:
    num_samples = 60 * WINDOW if hop_samples == SECOND else 150 * WINDOW
    blocks = (np.zeros(block_samples, np.float32) for _ in range(num_samples // block_samples))

    tracemalloc.start()
    num_windows = sum(1 for _ in Geometry(hop_samples, native).cut(blocks))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert num_windows > 1
    held = NATIVE_LIMIT if native else WINDOW
    in_hand = 3 * WINDOW  # the window that is cut, the same padded, and the one before it
    assert peak_bytes < 4 * (held + in_hand + 3 * block_samples) + 200_000


# --- padding, names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("geometry", "num_samples", "padded"),
    [
        (Geometry(), 1, 320_000),
        (Geometry(), 320_000, 320_000),
        (Geometry(native=True), 1, 8_000),
        (Geometry(native=True), 8_001, 8_001),
        (Geometry(window_samples=100), 100, 8_000),
    ],
)
def test_pad_appends_zeros_up_to_what_the_network_is_given(
    geometry: Geometry, num_samples: int, padded: int
) -> None:
    waveform = geometry.pad(np.ones(num_samples, np.float32))
    assert waveform.shape == (padded,)
    assert waveform[:num_samples].all()
    assert waveform.sum() == num_samples


@pytest.mark.parametrize("wrong", [{"hop_samples": 0}, {"hop_samples": -1}, {"window_samples": 0}])
def test_geometry_without_a_sample_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        Geometry(**wrong)


def test_geometry_and_window_tell_seconds() -> None:
    geometry = Geometry(hop_samples=16_000)
    window = Window(bytes(16), 48_000, 320_000)
    assert (geometry.hop_s, geometry.window_s) == (0.5, 10.0)
    assert (window.start_s, window.end_s) == (1.5, 11.5)


def test_window_id_known_window_never_changes() -> None:
    """Stores on disk, and ids that people wrote down, depend on this value."""
    assert window_id(bytes(range(16)), 320_000, 320_000) == 4_590_394_148_308_112_089
    assert Window(bytes(range(16)), 320_000, 320_000).window_id == 4_590_394_148_308_112_089


@settings(deadline=None)
@given(
    recording=st.binary(min_size=16, max_size=16),
    start=st.integers(0, 2**62),
    length=st.integers(1, 2**31),
)
def test_window_id_has_63_bits_and_depends_on_every_argument(
    recording: bytes, start: int, length: int
) -> None:
    found = window_id(recording, start, length)
    assert 0 <= found < 2**63
    assert found != window_id(bytes([recording[0] ^ 1]) + recording[1:], start, length)
    assert found != window_id(recording[:-1] + bytes([recording[-1] ^ 1]), start, length)
    assert found != window_id(recording, start + 1, length)
    assert found != window_id(recording, start, length + 1)


def test_window_id_uses_all_63_bits() -> None:
    ids = [window_id(bytes(16), start, 1) for start in range(200)]
    assert max(ids) > 2**62
    assert {one % 2 for one in ids} == {0, 1}
