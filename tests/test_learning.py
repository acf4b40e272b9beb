"""Learned tags: what they are, that they are columns like any other, and how much they find."""

from __future__ import annotations

import base64
import csv
import json
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, Run
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from synthetic import Synthetic, make_store
from test_teaching import ids, put, sounds

import soundalike
from indexer.errors import (
    DamagedStoreError,
    ExpressionError,
    IdentityError,
    OutputError,
    QueryError,
    UnknownTagError,
)
from indexer.store.disk import read_sealed, seal
from indexer.windows import Window
from search.learned import lesson
from search.learned.line import Line, vectors_of
from search.learned.training import Examples, average_precision, learn_line
from search.upkeep.build import build
from search.upkeep.verify import verify
from soundalike.sounds import Sounds

__all__ = ["put", "sounds"]  # fixtures

SHARED = REPOSITORY.parent / "shared" / "audio"


def some_examples(num_yes: int, num_no: int, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    scenes = rng.normal(0, 1, (num_yes + num_no, 768)).astype(np.float32)
    scenes[:num_yes, :30] += 1.5
    scenes /= np.linalg.norm(scenes, axis=1, keepdims=True)
    tags = rng.random((len(scenes), 527)).astype(np.float16)
    is_yes = np.arange(len(scenes)) < num_yes
    recordings = np.array([f"{number // 2:016d}".encode() for number in range(len(scenes))], "S16")
    return Examples(vectors_of(scenes, tags), is_yes, recordings)


def weak_windows(count: int = 60) -> Any:
    return some_examples(0, count, seed=9).vectors


# --- the line ------------------------------------------------------------------------------------


def test_vectors_are_scenes_and_roots_of_probabilities_of_one_length() -> None:
    rng = np.random.default_rng(1)
    scenes = rng.normal(0, 1, (5, 768))
    scenes /= np.linalg.norm(scenes, axis=1, keepdims=True)
    tags = rng.random((5, 527)).astype(np.float16)
    roots = np.sqrt(tags.astype(np.float64))
    roots /= np.linalg.norm(roots, axis=1, keepdims=True)
    expected = np.concatenate([scenes, roots], axis=1) / np.sqrt(2)
    np.testing.assert_allclose(vectors_of(scenes.astype(np.float32), tags), expected, atol=1e-6)


def test_line_is_that_of_a_logistic_regression_with_weak_no() -> None:
    examples, weak = some_examples(8, 20), weak_windows()
    line, judged = learn_line(examples, weak)
    model = LogisticRegression(C=10, max_iter=5000, tol=1e-10)
    model.fit(
        np.concatenate([examples.vectors, weak]).astype(np.float64),
        np.r_[examples.is_yes, np.zeros(len(weak))],
        sample_weight=np.r_[np.ones(28), np.full(len(weak), 0.05)],
    )
    np.testing.assert_allclose(line.weights, model.coef_[0], atol=2e-3)
    expected = model.decision_function(examples.vectors)
    shift = line.logits(examples.vectors) - expected
    np.testing.assert_allclose(shift, shift[0], atol=2e-3)  # the cut, and nothing else
    assert line.method == "logistic regression"
    assert np.isfinite(judged.logits).all()


def test_below_five_yes_the_line_stands_between_the_means() -> None:
    examples, weak = some_examples(4, 10), weak_windows()
    line, _ = learn_line(examples, weak)
    yes = examples.vectors[:4].astype(np.float64).mean(0)
    no = np.concatenate([examples.vectors[4:], weak]).astype(np.float64).mean(0)
    across = (yes - no) / np.linalg.norm(yes - no)
    found = line.weights / np.linalg.norm(line.weights)
    np.testing.assert_allclose(found, across, atol=1e-5)
    logits = [float(one @ line.weights) for one in (yes, no)]
    assert logits[0] - logits[1] == pytest.approx(4, abs=1e-3)  # two on either side of the middle
    assert line.method == "difference of means"


def test_same_labels_give_the_same_line_to_the_bit() -> None:
    lines = [learn_line(some_examples(7, 15), weak_windows())[0] for _ in range(3)]
    for one in lines[1:]:
        assert one.weights.tobytes() == lines[0].weights.tobytes()
        assert one.bias == lines[0].bias


def best_cut(logits: Any, is_yes: Any) -> float:
    """Return the middle between two labels at which F1 is best, the one nearest to 0."""
    places = np.sort(logits)
    found = {}
    for cut in [places[0] - 0.5, *((places[1:] + places[:-1]) / 2)]:
        heard = logits > cut
        found[cut] = 2 * (heard & is_yes).sum() / (heard.sum() + is_yes.sum())
    return float(min((-f1, abs(cut), cut) for cut, f1 in found.items())[2])


def between_means(vectors: Any, is_yes: Any, weak: Any) -> Any:
    """Return what gives the log of odds of vectors."""
    yes = vectors[is_yes].mean(0)
    no = np.concatenate([vectors[~is_yes], weak]).mean(0)
    weights = (yes - no) * 4 / ((yes - no) @ (yes - no))
    return lambda some: (some - (yes + no) / 2) @ weights


def test_cut_is_put_by_other_recordings_and_labels_are_judged_at_a_cut_of_others() -> None:
    """Each label is of a recording of its own; the n-th yes and the n-th no are in hand n of 5."""
    num_told_apart = 0
    for seed in range(20):
        examples, weak = some_examples(4, 11, seed), weak_windows()
        vectors, is_yes = examples.vectors.astype(np.float64), examples.is_yes
        vectors[:4] = vectors[:4] * 0.3 + vectors[5:9] * 0.7  # they are hard to tell apart
        recordings = np.array([f"{number:016d}".encode() for number in range(15)], "S16")
        examples = Examples(vectors.astype(np.float32), is_yes, recordings)
        hand = np.r_[np.arange(4), np.arange(11)] % 5
        raw = np.empty(15)
        for number in range(5):
            held = hand == number
            fitted = between_means(vectors[~held], is_yes[~held], weak.astype(np.float64))
            raw[held] = fitted(vectors[held])
        line, judged = learn_line(examples, weak)
        of_all = between_means(vectors, is_yes, weak.astype(np.float64))
        expected = of_all(vectors) - best_cut(raw, is_yes)
        np.testing.assert_allclose(line.logits(examples.vectors), expected, atol=1e-3)
        others = [best_cut(raw[hand != one], is_yes[hand != one]) for one in range(5)]
        np.testing.assert_allclose(judged.logits, raw - np.array(others)[hand], atol=1e-3)
        assert judged.average_precision == pytest.approx(average_precision_score(is_yes, raw))
        num_told_apart += len(set(others)) > 1
    assert num_told_apart > 10


def test_copies_do_not_judge_each_other() -> None:
    """Words on noise, each of a sound that is there twice, encoded anew: they tell nothing."""
    rng = np.random.default_rng(8)
    scenes = np.repeat(rng.normal(0, 1, (40, 768)), 2, axis=0)
    scenes += rng.normal(0, 0.02, scenes.shape)
    scenes /= np.linalg.norm(scenes, axis=1, keepdims=True)
    tags = np.repeat(rng.random((40, 527)), 2, axis=0).astype(np.float16)
    is_yes = np.repeat(rng.random(40) < 0.4, 2)
    recordings = np.array([f"{number:016d}".encode() for number in rng.permutation(80)], "S16")
    examples = Examples(vectors_of(scenes.astype(np.float32), tags), is_yes, recordings)
    _, judged = learn_line(examples, weak_windows())
    assert judged.average_precision < is_yes.mean() + 0.2


def test_no_label_is_judged_by_what_was_learned_from_its_own_recording() -> None:
    """Each recording has two labels, in one hand: one that is poisoned does not judge the other."""
    examples, weak = some_examples(6, 14, seed=2), weak_windows()
    _, before = learn_line(examples, weak)
    alone = examples.vectors.copy()
    alone[0] = -alone[0]  # of the first recording, which is in the first hand
    _, after = learn_line(examples._replace(vectors=alone), weak)
    cut = (before.logits - after.logits)[1]  # the second label of that recording
    same_hand = np.isclose(before.logits - after.logits, cut, atol=1e-4)
    assert same_hand[1]
    assert not same_hand.all()  # other hands learned from it


def test_average_precision_is_scikits_where_no_two_are_equal() -> None:
    rng = np.random.default_rng(3)
    scores, is_yes = rng.normal(size=50), rng.random(50) < 0.3
    assert average_precision(scores, is_yes) == pytest.approx(
        average_precision_score(is_yes, scores)
    )


# --- a column like any other ---------------------------------------------------------------------


@pytest.fixture
def taught(sounds: Sounds, put: Synthetic) -> Sounds:
    sounds.label("rattle", yes=ids(put, "b")[:7], no=ids(put, "a")[:12])
    sounds.learn("rattle")
    return sounds


def expected_probabilities(sounds: Sounds, put: Synthetic) -> dict[int, float]:
    """Window id → probability, from what was put in and the line that was written."""
    document = read_sealed(sounds.own.folder / "learned" / "rattle.json")
    weights = np.frombuffer(base64.b64decode(document["line"]), "<f4").astype(np.float64)
    scene, tags = np.stack(put.scene).astype(np.float64), np.stack(put.tags).astype(np.float64)
    scene /= np.linalg.norm(scene, axis=1, keepdims=True)
    roots = np.sqrt(tags) / np.linalg.norm(np.sqrt(tags), axis=1, keepdims=True)
    logits = np.concatenate([scene, roots], axis=1) @ weights / np.sqrt(2) + document["bias"]
    probability = 1 / (1 + np.exp(-logits))
    return {one.window_id: float(p) for one, p in zip(put.windows, probability, strict=True)}


@pytest.mark.parametrize(
    ("terms", "holds"),
    [
        ({"tags": ["my.rattle"]}, lambda p: p >= 0.5),
        ({"not_tags": ["my.rattle"]}, lambda p: p < 0.5),
        ({"any_tags": ["my.rattle"], "threshold": 0.9}, lambda p: p >= 0.5),
        ({"where": "my.rattle"}, lambda p: p >= 0.5),
        ({"where": "my.rattle > 0.7"}, lambda p: p > 0.7),
        ({"where": '"my.rattle" <= 0.3'}, lambda p: p <= 0.3),
        ({"where": "my.rattle between 0.2 and 0.6"}, lambda p: 0.2 <= p <= 0.6),
        ({"where": "not my.rattle or my.rattle > 0.9"}, lambda p: p < 0.5 or p > 0.9),
    ],
)
def test_filters_take_learned_tags(
    terms: dict[str, Any], holds: Any, taught: Sounds, put: Synthetic
) -> None:
    expected = expected_probabilities(taught, put)
    wanted = {window_id for window_id, p in expected.items() if holds(p)}
    bounds = (0.2, 0.3, 0.5, 0.6, 0.7, 0.9)
    at_bounds = {  # float16 decides
        key for key, p in expected.items() if min(abs(p - one) for one in bounds) < 1e-3
    }
    assert len(at_bounds) < 3 < len(wanted)
    found = {one.window_id for one in taught.search(k=1000, all_windows=True, **terms)}
    assert found ^ wanted <= at_bounds
    assert taught.count(**terms) == len(found)
    asked = taught.search(put.scene[0], k=1000, all_windows=True, **terms)
    assert {one.window_id for one in asked} == found


def test_browsing_is_in_the_order_of_the_learned_tag(taught: Sounds, put: Synthetic) -> None:
    expected = expected_probabilities(taught, put)
    found = list(taught.search(tags=["my.rattle"], k=10, all_windows=True))
    best = sorted(expected.values(), reverse=True)[:10]
    np.testing.assert_allclose([one.score for one in found], best, atol=1e-3)


@pytest.mark.parametrize("form", ["csv", "audacity"])
def test_label_files_have_windows_with_the_learned_tag(
    form: str, taught: Sounds, put: Synthetic, tmp_path: Path, run: Run
) -> None:
    """Windows follow each other, so that those of a file that have it are one span. No frames."""
    expected: dict[str, list[Window]] = {}
    names = {recording: path for path, recording in put.paths.items()}
    probable = expected_probabilities(taught, put)
    for one in put.windows:
        if probable[one.window_id] >= 0.5:
            expected.setdefault(names[one.recording_id], []).append(one)
    run(
        "export",
        "labels",
        put.store.path,
        "--tag",
        "my.rattle",
        "--output",
        tmp_path / "out",
        "--as",
        form,
        "--own",
        taught.own.folder,
    )
    suffix = {"csv": ".csv", "audacity": ".txt"}[form]
    files = {path.name: path for path in (tmp_path / "out").glob(f"*.wav{suffix}")}
    assert set(files) == {f"{path}{suffix}" for path in expected}
    for path, windows in expected.items():
        text = files[f"{path}{suffix}"].read_text()
        if form == "csv":
            rows = [
                (float(row["start_s"]), float(row["end_s"]), row["tag"], row["name"])
                for row in csv.DictReader(text.splitlines())
            ]
        else:
            each = [line.split("\t") for line in text.splitlines()]
            rows = [(float(start), float(end), "", name) for start, end, name in each]
        assert sum(end - start for start, end, *_ in rows) == 10 * len(windows)
        assert {(tag, name) for *_, tag, name in rows} == {("", "my.rattle")}
        for one in windows:
            assert any(start <= one.start_s < one.end_s <= end for start, end, *_ in rows)
    told = run("export", "labels", put.store.path, "--tag", "my.x", "--output", tmp_path, code=1)
    assert "no learned tag my.x; it has my.rattle" in told.err


@pytest.mark.parametrize(
    "terms",
    [{"tags": ["my.rattle"]}, {"where": "my.rattle > 0.05"}, {"not_tags": ["my.rattle"]}, {}],
)
def test_hits_show_the_learned_tags_that_the_question_names(
    terms: dict[str, Any], taught: Sounds, put: Synthetic
) -> None:
    taught.label("rattle_2", yes=ids(put, "a")[:7], no=ids(put, "b")[:7])
    taught.learn("rattle_2")
    expected = expected_probabilities(taught, put)
    shown = 0
    for hit in taught.search(put.scene[0], k=1000, all_windows=True, **terms):
        heard = {one.tag.name: one.probability for one in hit.tags}
        assert "my.rattle_2" not in heard
        if not terms or expected[hit.window_id] < 0.099:
            assert "my.rattle" not in heard
        elif expected[hit.window_id] > 0.101:
            assert heard["my.rattle"] == pytest.approx(expected[hit.window_id], abs=1e-3)
            assert hit.tags[0].tag.name == "my.rattle"
            shown += 1
    assert bool(shown) == bool(terms)


def test_facets_count_learned_tags_first(taught: Sounds, put: Synthetic) -> None:
    expected = expected_probabilities(taught, put)
    first = taught.facets()[0]
    assert first.tag.name == "my.rattle"
    assert first.num_windows == sum(p >= 0.5 for p in expected.values())
    assert taught.facets(tags=["my.rattle"])[0] == first


def test_batch_takes_learned_tags(taught: Sounds, put: Synthetic, tmp_path: Path) -> None:
    taught.search_many([put.store.path], tmp_path / "hits.jsonl", tags=["my.rattle"], k=3)
    heard = {key for key, p in expected_probabilities(taught, put).items() if p >= 0.5}
    lines = (tmp_path / "hits.jsonl").read_text().splitlines()
    assert lines
    assert {json.loads(line)["window_id"] for line in lines} <= heard


def test_new_windows_have_the_tag_at_once_and_what_is_learned_anew_counts(
    taught: Sounds, put: Synthetic
) -> None:
    before = taught.count(where="my.rattle >= 0")
    put.add({"a new one": 2}, seed=77)
    build(put.store)
    assert taught.count(where="my.rattle >= 0") == before + 2
    old = taught.count(tags=["my.rattle"])
    taught.label("rattle", yes=ids(put, "a")[12:40])
    taught.learn("rattle")
    assert taught.count(tags=["my.rattle"]) > old
    expected = expected_probabilities(taught, put)
    assert taught.count(tags=["my.rattle"]) == sum(p >= 0.5 for p in expected.values())


def test_several_stores_have_the_tags_of_the_first(
    taught: Sounds, put: Synthetic, tmp_path: Path
) -> None:
    shutil.copytree(put.store.path, tmp_path / "other", ignore=shutil.ignore_patterns("own"))
    both = soundalike.open(put.store.path, tmp_path / "other")
    assert both.count(tags=["my.rattle"]) == 2 * taught.count(tags=["my.rattle"])


def test_name_of_a_learned_tag_that_is_a_column_too_is_not_guessed(
    taught: Sounds, put: Synthetic, tmp_path: Path
) -> None:
    table = tmp_path / "metadata.csv"
    table.write_text("path,my.rattle\n" + "".join(f"{path},0.9\n" for path in put.paths))
    with pytest.raises(ExpressionError, match="both a tag and a column"):
        taught.search(where="my.rattle > 0.5", metadata=table)
    every = taught.count(where="[my.rattle] > 0.5", metadata=table)
    assert every == len(put.windows)
    assert taught.count(where='"my.rattle" > 0.5', metadata=table) < every


def test_unknown_learned_tag_says_which_there_are(taught: Sounds) -> None:
    with pytest.raises(UnknownTagError, match=r"'my.dog'; there are my.rattle"):
        taught.search(tags=["my.dog"])
    with pytest.raises(ExpressionError, match=r"'my.dog'; there are my.rattle"):
        taught.search(where="Speech and my.dog > 0.5")
    with pytest.raises(QueryError, match=r"has no learned tag my.dog; it has my.rattle"):
        taught.learned("dog")


# --- from store to store -------------------------------------------------------------------------


def test_learned_tag_is_shared_and_is_the_same_elsewhere(
    taught: Sounds, put: Synthetic, tmp_path: Path
) -> None:
    shutil.copytree(put.store.path, tmp_path / "other", ignore=shutil.ignore_patterns("own"))
    other = soundalike.open(tmp_path / "other")
    taught.share_learned("rattle", tmp_path / "rattle.json")
    with pytest.raises(OutputError):
        taught.share_learned("rattle", tmp_path / "rattle.json")
    other.import_learned(tmp_path / "rattle.json")
    assert other.count(tags=["my.rattle"]) == taught.count(tags=["my.rattle"])
    with pytest.raises(OutputError, match="has a learned tag rattle already"):
        other.import_learned(tmp_path / "rattle.json")
    other.import_learned(tmp_path / "rattle.json", "another")
    assert other.learned_names() == ["another", "rattle"]
    assert other.learned("another").told["yes"] == 7


def test_tag_of_another_checkpoint_is_refused_by_what_differs(
    taught: Sounds, tmp_path: Path
) -> None:
    taught.share_learned("rattle", tmp_path / "rattle.json")
    other = make_store(tmp_path / "other", frames="none", weights="b" * 64)
    other.add({"x": 2})
    build(other.store)
    with pytest.raises(IdentityError, match="weights aaaaaaaaaaaa there and bbbbbbbbbbbb here"):
        soundalike.open(other.store.path).import_learned(tmp_path / "rattle.json")


@pytest.mark.parametrize("damage", ["bytes", "line", "finite", "format"])
def test_damaged_tag_is_one_line_and_verify_says_so(
    damage: str, taught: Sounds, put: Synthetic
) -> None:
    file = taught.own.folder / "learned" / "rattle.json"
    document = read_sealed(file)
    if damage == "bytes":
        file.write_bytes(file.read_bytes().replace(b'"bias"', b'"Bias"'))
    elif damage == "format":
        file.write_bytes(seal({**document, "format": 2}))
    else:
        count = 3 if damage == "line" else 1295
        packed = np.full(count, np.inf if damage == "finite" else 1, "<f4").tobytes()
        file.write_bytes(seal({**document, "line": base64.b64encode(packed).decode()}))
    with pytest.raises(DamagedStoreError) as caught:
        taught.learned("rattle")
    assert "\n" not in str(caught.value)
    assert [one.path for one in verify(put.store.path)] == [file]
    assert taught.count() > 0  # what does not name it is answered
    for terms in ({"tags": "my.rattle"}, {"where": "Dog or my.rattle > 0.8"}):
        with pytest.raises(DamagedStoreError):
            taught.count(**terms)
    with pytest.raises(UnknownTagError, match=r"unknown learned tag 'my.rattles'"):
        taught.count(tags="my.rattles")


def test_lesson_on_older_labels_replaces_no_newer_one(
    taught: Sounds, put: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One learns and is slow; another labels meanwhile, and learns: its lesson is what is kept."""
    begun, may_end = threading.Event(), threading.Event()
    plain = lesson.learn

    def slow(*given: Any) -> Any:
        found = plain(*given)
        if not begun.is_set():
            begun.set()
            may_end.wait(20)
        return found

    monkeypatch.setattr(lesson, "learn", slow)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(taught.learn, "rattle")
        assert begun.wait(20)
        other = soundalike.open(put.store.path)
        other.label("rattle", yes=ids(put, "a")[12:20])
        second = threads.submit(other.learn, "rattle")
        wait([second], 1)  # for the lock; without one it ends here
        may_end.set()
        first.result()
        second.result()
    assert taught.learned("rattle").told["yes"] == 7 + 8


def test_line_of_float32_is_written_as_it_is(taught: Sounds) -> None:
    tag = taught.learned("rattle")
    again = taught.learned("rattle")
    assert isinstance(tag.line, Line)
    assert tag.digest == again.digest


# --- how much it finds ---------------------------------------------------------------------------


def test_tag_is_the_same_to_shards_whether_it_was_computed_here_or_not(taught: Sounds) -> None:
    """They know a condition again by what it is when it is sent."""
    before = pickle.dumps(tag := taught.learned("rattle"))
    tag.column(taught._kept.open_newest().segments[0])
    assert pickle.dumps(tag) == before


def test_column_of_a_tag_that_was_removed_is_forgotten(taught: Sounds, put: Synthetic) -> None:
    taught.label("hiss", yes=ids(put, "a")[:7], no=ids(put, "b")[:7])
    taught.learn("hiss")
    taught.facets()
    (segment,) = taught._kept.open_newest().segments
    assert {"rattle", "hiss"} <= set(segment.derived)
    part = taught.select(ids(put, "a")[:3])
    taught.count(tags=[part])
    (taught.own.folder / "learned" / "rattle.json").unlink()
    taught.facets()
    assert segment is taught._kept.open_newest().segments[0]
    assert "rattle" not in segment.derived
    assert "hiss" in segment.derived
    assert taught.count(tags=[part]) == 3


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the clips of ESC-10 are not here")
def test_five_yes_and_fifteen_no_find_more_than_the_best_over_the_same_examples(
    tmp_path: Path,
) -> None:
    """Learned on esc10_seen, judged on esc10_heldout: ten classes, 20 draws, bootstrapped."""
    seen, heldout = (
        soundalike.open(tmp_path / name, checkpoint="demo") for name in ("seen", "heldout")
    )
    for one, name in ((seen, "esc10_seen"), (heldout, "esc10_heldout")):
        one.index(SHARED / name)
    windows = {one.window_id: one.paths[0].parent.name for one in every_window(seen)}
    judged = every_window(heldout)
    kinds = np.array([one.paths[0].parent.name for one in judged])
    rng, better = np.random.default_rng(0), np.zeros((20, 10))
    for draw in range(20):
        for number, kind in enumerate(sorted(set(kinds.tolist()))):
            of_kind = sorted(key for key, name in windows.items() if name == kind)
            others = sorted(key for key, name in windows.items() if name != kind)
            yes = rng.choice(of_kind, 5, replace=False).tolist()
            no = rng.choice(others, 15, replace=False).tolist()
            name = f"draw{draw}_{number}"
            seen.label(name, yes=yes, no=no)
            seen.learn(name)
            seen.share_learned(name, tmp_path / f"{name}.json")
            heldout.import_learned(tmp_path / f"{name}.json")
            found = heldout.search(where=f"my.{name} >= 0", k=1000, all_windows=True)
            learned = scores_of(judged, found)
            vectors = [seen.embed(one.paths[0]) for one in seen.windows(*yes)]
            asked = heldout.search(*vectors, k=1000, all_windows=True, include_self=True)
            is_kind = kinds == kind
            better[draw, number] = average_precision_score(
                is_kind, learned
            ) - average_precision_score(is_kind, scores_of(judged, asked))
    boot = np.random.default_rng(1)
    means = [
        better[boot.integers(0, 20, 20)][:, boot.integers(0, 10, 10)].mean() for _ in range(4000)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    assert low > 0, f"AP better by {better.mean():.3f} [{low:.3f}, {high:.3f}]"
    assert 0.03 < better.mean() < 0.1 < high + 0.05


def every_window(sounds: Sounds) -> list[Any]:
    return list(sounds.search(where="duration >= 0", k=1000, all_windows=True))


def scores_of(windows: list[Any], found: Any) -> Any:
    scores = {one.window_id: one.score for one in found}
    return np.array([scores.get(one.window_id, -1.0) for one in windows])
