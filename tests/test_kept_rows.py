"""Which rows match is kept for the next question: what is kept is right, and not too much."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from synthetic import Synthetic, make_store

from search.asking import opened
from search.asking.matching import MatchingHere
from search.asking.opened import OpenedStore
from search.filters.computed import ComputedTerm
from search.filters.conditions import Where
from search.filters.tags import Condition, TagFilter
from search.learned.line import Line
from search.learned.tags import LearnedTag
from search.upkeep.build import build

NUM_ROWS = 100


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    """A store of which every tenth window is silent."""
    store = make_store(tmp_path / "store", frames="none")
    levels = np.full(NUM_ROWS, -20, np.float32)
    levels[::10] = -np.inf
    store.add({"a": NUM_ROWS - 1, "b": 1}, levels_db=levels)
    build(store.store)
    return store


def dogs(threshold: float) -> Condition:
    return TagFilter(all_of=("Dog",), threshold=threshold, descendants=False).resolve()


def expressed(made: OpenedStore, text: str) -> Condition:
    condition = made.condition(None, Where.parse(text))
    assert condition is not None
    return condition


def learned(weight: float) -> Condition:
    weights = np.zeros(768 + 527, np.float32)
    weights[0] = weight
    tag = LearnedTag("bark", Line(weights, 0.0, "difference of means"), "", {})
    return TagFilter(all_of=("my.bark",), learned={"my.bark": ComputedTerm(tag)}).resolve()


def rows_of(store: OpenedStore, condition: Condition) -> list[bool]:
    (mask,) = store.matching(condition).allowed.masks  # type: ignore[attr-defined]
    return mask.tolist()


def test_rows_are_looked_for_once_and_are_those_of_their_own_condition(made: Synthetic) -> None:
    store = OpenedStore.at(made.store.path)
    for text in ("Dog and Speech", "Dog or Speech", "not Dog", "duration > 1", "duration > 1000"):
        some = expressed(store, text)
        assert store.matching(some) is store.matching(expressed(store, text))
        expected = MatchingHere.of(store.index, some).allowed.masks[0]
        assert rows_of(store, some) == expected.tolist()
    probable = store.generation.segments[0].tags[:, 74].astype(np.float32)  # Dog
    for threshold in (0.1, 0.2, 0.1):
        assert rows_of(store, dogs(threshold)) == (probable >= threshold).tolist()
    assert store.matching(dogs(0.1)) is store.matching(dogs(0.1))


def test_rows_of_what_may_change_are_looked_for_again(made: Synthetic) -> None:
    store = OpenedStore.at(made.store.path)
    for weight in (1e3, -1e3):  # learned anew under the same name
        assert rows_of(store, learned(weight)) == (
            (store.generation.segments[0].vectors[:, 0] * weight >= 0).tolist()
        )
    path = expressed(store, "path = 'b.wav'")
    assert store.matching(path) is not store.matching(path)
    assert sum(rows_of(store, path)) == 1


@pytest.mark.parametrize("most_bytes", [256 << 20, 9 * NUM_ROWS])
def test_rows_that_are_kept_take_no_more_than_was_said(
    made: Synthetic, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    monkeypatch.setattr(opened, "_MOST_KEPT_BYTES", most_bytes)
    store = OpenedStore.at(made.store.path)
    asked = []
    for number in range(30):
        found = store.matching(dogs(0.03 * number))
        found.heard()  # as every question by a clip
        asked.append(weakref.ref(found))
        del found
    gc.collect()
    kept = [one for ref in asked if (one := ref())]
    assert 1 < len(kept) <= 16
    each = [of.allowed for one in kept for of in (one, one.heard())]  # type: ignore[attr-defined]
    arrays = [array for allowed in each for array in (*allowed.masks, *allowed.rows)]
    assert any(array is not None for allowed in each for array in allowed.rows)
    taken = sum({id(one): one.nbytes for one in arrays if one is not None}.values())
    assert taken <= most_bytes
