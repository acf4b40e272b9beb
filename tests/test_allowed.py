"""Rows that may be found, and without some: against NumPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.generation.allowed import Allowed

sizes = st.lists(st.integers(0, 40), max_size=4)


def masks_of(seed: int, sizes: list[int], share: float) -> list[np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    return [rng.random(size) < share for size in sizes]


@given(st.integers(0, 2**32 - 1), sizes, st.sampled_from([0.0, 0.2, 1.0]))
def test_allowed_counts_what_its_masks_have(seed: int, sizes: list[int], share: float) -> None:
    masks = masks_of(seed, sizes, share)
    allowed = Allowed.of(iter(masks))
    assert all(one is other for one, other in zip(allowed.masks, masks, strict=True))
    assert allowed.counts == tuple(int(mask.sum()) for mask in masks)
    assert allowed.num_rows == sum(int(mask.sum()) for mask in masks)
    for rows, mask in zip(allowed.rows, masks, strict=True):
        assert (rows is not None) == (mask.sum() <= len(mask) / 4)
        if rows is not None:
            assert rows.tolist() == np.flatnonzero(mask).tolist()
            assert rows.nbytes <= mask.nbytes


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=sizes,
    share=st.sampled_from([0.0, 0.2, 1.0]),
    left_out=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_allowed_without_rows_is_what_numpy_leaves(
    seed: int, sizes: list[int], share: float, left_out: float
) -> None:
    masks = masks_of(seed, sizes, share)
    before = [mask.copy() for mask in masks]
    rows = [np.flatnonzero(mask) for mask in masks_of(seed + 1, sizes, left_out)]
    allowed = Allowed.of(masks)
    rest = allowed.without(rows)
    for number, (mask, some) in enumerate(zip(before, rows, strict=True)):
        expected = mask & ~np.isin(np.arange(len(mask)), some)
        assert (rest.masks[number] == expected).all()
        assert rest.counts[number] == expected.sum()
        if (few := rest.rows[number]) is not None:
            assert few.tolist() == np.flatnonzero(expected).tolist()
        assert (masks[number] == mask).all()  # others may be using it
    assert rest.num_rows == sum(rest.counts)
    assert allowed.counts == tuple(int(mask.sum()) for mask in before)
    if allowed.num_rows == rest.num_rows:  # then nothing was copied
        assert all(one is other for one, other in zip(allowed.masks, rest.masks, strict=True))


@given(st.integers(0, 2**32 - 1), sizes, st.sampled_from([0.0, 0.2, 1.0]))
def test_rows_of_some_segments_are_those_of_their_masks(
    seed: int, sizes: list[int], share: float
) -> None:
    masks = masks_of(seed, sizes, share)
    allowed = Allowed.of(masks)
    are_kept = (np.random.default_rng(seed).random(len(masks)) < 0.5).tolist()
    some = allowed.of_segments(are_kept)
    assert some.num_rows == sum(
        int(mask.sum()) for mask, one in zip(masks, are_kept, strict=True) if one
    )
    for number, (mask, is_kept) in enumerate(zip(masks, are_kept, strict=True)):
        assert allowed.rows_of(number).tolist() == np.flatnonzero(mask).tolist()
        assert allowed.rows_of(number).dtype == np.int64  # starts of segments are added to them
        assert some.rows_of(number).tolist() == np.flatnonzero(mask & is_kept).tolist()
        assert (some.masks[number] == (mask & is_kept)).all()
