"""What a score means: scores of windows drawn at random, against scoring them all by hand."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from oracle import unit
from synthetic import Synthetic, make_store

import soundalike
from search.asking.background import NUM_DRAWN, Background, draw
from search.asking.sound_index import SoundIndex
from search.upkeep.build import build
from soundalike.show.answers import background_line


def many(path: Path, num_windows: int, seed: int = 0) -> Synthetic:
    """Recordings of ten windows each, with scenes that are not spread evenly."""
    made = make_store(path, frames="none")
    scene = np.random.default_rng(seed).normal(0.3, 1, (num_windows, 768)).astype(np.float32)
    names = {f"{seed}-{number}": 10 for number in range(num_windows // 10)}
    made.add(names, scene=scene)
    build(made.store)
    return made


def test_background_without_a_spread_tells_of_none() -> None:
    told = [background_line(Background(9, (0.0751, one, 0.0752), 0.3)) for one in (0.0751, 0.0752)]
    assert told == ["what a score means: 9 windows at random score 0.075, the best 0.300"] * 2


@pytest.mark.parametrize("weight", [0, 0.35, 0.9])
def test_background_of_a_small_store_is_of_all_its_other_windows(
    weight: float, tmp_path: Path, run: Run
) -> None:
    """Scored as hits are: by scenes, or by their blend with what is heard."""
    made = many(tmp_path / "store", 300)
    asked = made.windows[57]
    answer = soundalike.open(made.store.path).search(asked.window_id, tag_weight=weight)
    scenes, heard = unit(np.array(made.scene)), unit(np.sqrt(np.array(made.tags, float)))
    others = np.array([one.recording_id != asked.recording_id for one in made.windows])
    scores = ((1 - weight) * scenes @ scenes[57] + weight * heard @ heard[57])[others]
    found = answer.background
    assert found is not None
    assert found.num_windows == 290
    assert found.quartiles == pytest.approx(np.quantile(scores, [0.25, 0.5, 0.75]), abs=1e-5)
    assert found.highest == pytest.approx(scores.max(), abs=1e-5)
    assert found.highest == pytest.approx(answer[0].score, abs=1e-5)
    words = ("search", made.store.path, asked.window_id, "--tag-weight", weight)
    told = run(*words)
    low, middle, high = found.quartiles
    assert told.err.startswith(
        f"what a score means: 290 windows at random score {middle:.3f}, half of them {low:.3f} to "
        f"{high:.3f}, the best {found.highest:.3f}\n"
    )
    data = run(*words, "--format", "json")
    assert data.data["background"] == {
        "windows": 290,
        "quartiles": [pytest.approx(one, abs=1e-5) for one in found.quartiles],
        "highest": pytest.approx(found.highest, abs=1e-5),
    }
    assert "what a score means" not in data.err
    assert "at random" not in run(*words, "--quiet").err


def test_background_of_several_vectors_and_stores_is_that_of_the_best_of_them(
    tmp_path: Path,
) -> None:
    made = [many(tmp_path / str(seed), 200, seed) for seed in (1, 2)]
    vectors = np.random.default_rng(3).normal(size=(3, 768))
    found = soundalike.open(*(one.store.path for one in made)).search(vectors).background
    scenes = np.concatenate([unit(np.array(one.scene)) for one in made])
    scores = (scenes @ unit(vectors).T).max(1)
    assert found is not None
    assert found.num_windows == 400
    assert found.quartiles == pytest.approx(np.quantile(scores, [0.25, 0.5, 0.75]), abs=1e-5)


def test_many_questions_have_the_backgrounds_that_each_has_alone(tmp_path: Path) -> None:
    made = many(tmp_path / "store", 300)
    sounds = soundalike.open(made.store.path)
    random = np.random.default_rng(1)
    asked = [random.normal(size=(1 + number % 3, 768)) for number in range(300)]
    together = sounds.search_many([*asked, made.windows[3].window_id])
    assert len(together) == 301
    for number in (0, 1, 2, 255, 256, 299):
        alone = sounds.search(asked[number]).background
        found = together[number].background
        assert found is not None
        assert alone is not None
        assert found.num_windows == alone.num_windows == 300
        assert found.quartiles == pytest.approx(alone.quartiles, abs=1e-6)
    last = together[-1].background
    assert last is not None
    assert last.num_windows == 290


def test_what_asks_by_its_terms_alone_has_no_background(tmp_path: Path, run: Run) -> None:
    made = many(tmp_path / "store", 20)
    assert soundalike.open(made.store.path).search(not_tags=["Dog"]).background is None
    told = run("search", made.store.path, "--not-tag", "Dog", "--format", "json")
    assert told.data["background"] is None
    only = make_store(tmp_path / "only", frames="none")
    only.add({"a": 1})
    build(only.store)
    answer = soundalike.open(only.store.path).search(only.windows[0].window_id)
    assert answer.background is None  # there is no other


def test_windows_are_drawn_evenly_once_each_alive_and_the_same_each_time(tmp_path: Path) -> None:
    made = many(tmp_path / "store", 9000)
    made.remove(*(f"0-{number}.wav" for number in range(0, 900, 3)))
    build(made.store)
    index = SoundIndex.open(made.store.path)
    drawn = draw(index)
    again = draw(SoundIndex.open(made.store.path))
    assert len(drawn.vectors) == NUM_DRAWN
    assert (drawn.vectors == again.vectors).all()
    at = {vector.tobytes(): row for row, vector in enumerate(index.vectors(index.live_rows()))}
    rows = np.array([at[vector[:768].tobytes()] for vector in drawn.vectors])  # each is alive
    assert len(np.unique(rows)) == NUM_DRAWN
    assert (np.diff(rows) > 0).all()  # a disk is read in its order
    # Of ten equal stretches none has much more or less than a tenth: 200, deviating by 12.
    counts = np.bincount(rows * 10 // 6000, minlength=10)
    assert counts.min() > 140
    assert counts.max() < 260
    made.remove(*(f"0-{number}.wav" for number in range(900) if number % 3 and number > 60))
    build(made.store)  # nearly all rows are dead
    few = draw(SoundIndex.open(made.store.path))
    assert len(few.vectors) == SoundIndex.open(made.store.path).num_windows == 400


@pytest.mark.slow
def test_background_costs_a_few_milliseconds(tmp_path: Path) -> None:
    made = many(tmp_path / "store", 20_000)
    index = SoundIndex.open(made.store.path)
    began = time.process_time()
    assert len(index.drawn.vectors) == NUM_DRAWN
    assert time.process_time() - began < 0.1
