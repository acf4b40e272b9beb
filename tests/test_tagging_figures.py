"""mAP, AUC and d': against scikit-learn, a case computed by hand, and a store of one's own."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from synthetic import head, make_store, write_tone
from test_extract import new_store
from test_extract import run as embed

from indexer.embedding.extractor import Extractor
from indexer.errors import SoundalikeError
from indexer.model.known import KNOWN_CHECKPOINTS
from indexer.store.reader import Store
from indexer.tags import TagVocabulary
from search.evaluation import panns
from search.evaluation.audioset import Segment, evaluate_audioset, read_segments
from search.evaluation.tagging import evaluate_tagging
from soundalike.show.evaluations import audioset_lines

TAGS = TagVocabulary.audioset().tags


@pytest.mark.whole
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_tagging_equals_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.random((40, 9)) < random.uniform(0, 0.6, 9)
    scores = np.round(random.random((40, 9)), 1)  # many are equal
    report = evaluate_tagging(targets, scores)
    held = targets.any(0)
    assert report.num_classes == held.sum()
    if held.any():
        expected = average_precision_score(targets[:, held], scores[:, held], average="macro")
        assert report.mean_ap == pytest.approx(expected, abs=1e-9)
    told_apart = held & ~targets.all(0)
    if told_apart.any():
        expected = roc_auc_score(targets[:, told_apart], scores[:, told_apart], average="macro")
        assert report.mean_auc == pytest.approx(expected, abs=1e-9)


def test_tagging_of_a_case_by_hand() -> None:
    """Positives at ranks 1 and 3 of 4: AP (1 + 2/3) / 2; 3 of 4 pairs in order: AUC 0.75."""
    targets = np.array([[1, 0], [0, 0], [1, 0], [0, 0]], bool)
    report = evaluate_tagging(targets, np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.4]]))
    assert report.mean_ap == pytest.approx(5 / 6)
    assert report.mean_auc == pytest.approx(0.75)
    assert report.mean_d_prime == pytest.approx(math.sqrt(2) * 0.6744897501960817)
    assert report.d_prime_of_mean_auc == pytest.approx(report.mean_d_prime)
    assert (report.num_classes, report.num_clips) == (1, 4)
    assert np.isnan(report.average_precision[1])
    assert np.isnan(report.d_prime[1])


def test_tagging_that_is_perfect_has_no_finite_d_prime() -> None:
    report = evaluate_tagging(np.array([[True], [False]]), np.array([[0.9], [0.1]]))
    assert (report.mean_ap, report.mean_auc, report.d_prime[0]) == (1, 1, math.inf)
    assert math.isnan(report.mean_d_prime)
    assert (report.num_perfect, report.d_prime_of_mean_auc) == (1, math.inf)


def test_tagging_of_what_every_clip_has_is_right_and_nothing_is_told_apart() -> None:
    report = evaluate_tagging(np.ones((3, 1), bool), np.array([[0.9], [0.1], [0.5]]))
    assert report.average_precision.tolist() == [1]
    assert np.isnan(report.auc).all()
    assert (report.num_classes, report.num_perfect) == (1, 0)


def test_tagging_has_the_d_prime_of_papers_and_that_of_panns() -> None:
    """AUCs 3/4, 1/4 and 1: quantiles of SciPy, by hand; a perfect class counts in the AUC alone."""
    targets = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 0]], bool)
    scores = np.array([[0.9, 0.9, 0.9], [0.8, 0.8, 0.5], [0.7, 0.7, 0.4], [0.1, 0.1, 0.3]])
    report = evaluate_tagging(targets, scores)
    assert report.auc.tolist() == [0.75, 0.25, 1.0]
    assert report.d_prime.tolist() == pytest.approx([0.9538725524, -0.9538725524, math.inf])
    assert report.mean_d_prime == pytest.approx(0)
    assert report.d_prime_of_mean_auc == pytest.approx(math.sqrt(2) * 0.4307272993)  # of 2/3
    assert report.num_perfect == 1
    always_wrong = evaluate_tagging(targets[:, :1], -targets[:, :1].astype(float))
    assert always_wrong.d_prime.tolist() == [-math.inf]
    assert always_wrong.num_perfect == 1


def test_tagging_of_other_shapes_is_an_error() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        evaluate_tagging(np.zeros((2, 3), bool), np.zeros((3, 2)))


HEADER = (
    "# Segments csv created by hand\n# num_ytids=2\n# YTID, start_seconds, end_seconds, labels\n"
)


def test_read_segments_as_published(tmp_path: Path) -> None:
    path = tmp_path / "eval_segments.csv"
    path.write_text(
        HEADER + f'--4gqARaEJE, 0.000, 10.000, "{TAGS[0].mid},{TAGS[74].mid}"\n'
        f'-_123456789, 30.000, 40.000, "{TAGS[137].mid}"\n'
    )
    assert read_segments(path) == [
        Segment("--4gqARaEJE", 0.0, (0, 74)),
        Segment("-_123456789", 30.0, (137,)),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("abcdefghijk, 0, 10", "line 4: 3 fields, not YTID, start, end and labels"),
        ('abcdefghijk, 0, 10, "/m/nothing"', "line 4: '/m/nothing' is none of the 527 labels"),
        ('abcdefghijk, 0, 10, ""', "line 4: no labels"),
        (f'abcdefghijk, soon, 10, "{TAGS[0].mid}"', "line 4: the start 'soon' is no number"),
        (f'abcdefghijk, inf, 10, "{TAGS[0].mid}"', "line 4: the start 'inf' is no number"),
        (f'abcdefghijk, nan, 10, "{TAGS[0].mid}"', "line 4: the start 'nan' is no number"),
        ("", "has no segments; give AudioSet's eval_segments.csv, or a pack of PANNs"),
    ],
)
def test_read_segments_that_are_wrong_says_where(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "segments.csv"
    path.write_text(HEADER + line)
    with pytest.raises(SoundalikeError, match=message):
        read_segments(path)


def test_read_segments_of_panns_may_have_starts_in_their_names(tmp_path: Path) -> None:
    targets = np.zeros((3, 527), bool)
    targets[[0, 1, 1, 2], [5, 0, 526, 7]] = True
    with h5py.File(tmp_path / "eval.h5", "w") as file:
        file["target"] = targets
        file["audio_name"] = [b"Yabcdefghijk_30.wav", b"Yabcdefghijk.wav", b""]
    assert read_segments(tmp_path / "eval.h5") == [
        Segment("abcdefghijk", 30.0, (5,)),
        Segment("abcdefghijk", None, (0, 526)),
        Segment("", None, (7,)),
    ]


def test_targets_of_panns_are_as_many_as_a_pack_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "eval.h5", "w") as file:
        file["target"], file["audio_name"] = np.ones((3, 527), bool), [b"Yabcdefghijk.wav"] * 3
    monkeypatch.setattr(panns, "MAX_ROWS", 3)
    assert len(read_segments(tmp_path / "eval.h5")) == 3
    monkeypatch.setattr(panns, "MAX_ROWS", 2)
    with pytest.raises(SoundalikeError, match="3 rows, 2 at most"):
        read_segments(tmp_path / "eval.h5")


def test_audioset_counts_each_clip_once_and_hears_its_first_window_in_full_precision(
    tmp_path: Path,
) -> None:
    """Two segments of one file; clips of one, two and three windows; tags of which many are 1."""
    made = make_store(tmp_path / "store", frames="none")
    counts = {f"Y{10 * 'k'}{at}": 1 + at % 3 for at in range(8)}
    counts |= {"no clip": 1, "neither is this": 1, f"Y{10 * 'x'}0": 2}
    scene = np.random.default_rng(1).normal(0, 1, (sum(counts.values()), 768)) * 5
    made.add(counts, scene=scene.astype(np.float32))
    targets = np.random.default_rng(2).random((10, 527)) < 0.3
    targets[:, 20:] = False
    segments = [
        Segment(f"{10 * 'k'}{at}", float(at), tuple(np.flatnonzero(targets[at]).tolist()))
        for at in range(8)
    ]
    segments.append(Segment(f"{10 * 'k'}6", 60.0, tuple(np.flatnonzero(targets[8]).tolist())))
    segments.append(Segment(f"{10 * 'z'}0", 0.0, (1,)))
    report = evaluate_audioset(made.store, segments)
    assert (report.num_segments, report.num_missing, report.num_extra) == (10, 1, 3)
    assert report.of_several_windows == tuple(f"{10 * 'k'}{at}" for at in (1, 2, 4, 5, 7))
    firsts = np.cumsum([0, *counts.values()])[[*range(8), 6]]
    logits = np.array(made.scene)[firsts] @ head().weight.T + head().bias
    scores = 1 / (1 + np.exp(-logits))
    held = targets[:9].any(0)
    expected = average_precision_score(targets[:9, held], scores[:, held], average="macro")
    rounded = average_precision_score(
        targets[:9, held], scores[:, held].astype(np.float16), average="macro"
    )
    assert abs(rounded - expected) > 1e-3
    assert report.tagging.mean_ap == pytest.approx(expected, abs=1e-6)


def test_read_segments_of_panns_are_those_of_the_list(evaluated: Path, tmp_path: Path) -> None:
    segments = read_segments(evaluated / "segments.csv")
    targets = np.zeros((len(segments), 527), bool)
    for row, segment in enumerate(segments):
        targets[row, list(segment.labels)] = True
    names = [f"Y{segment.youtube_id}.wav".encode() for segment in segments]
    with h5py.File(tmp_path / "eval.h5", "w") as file:
        file["audio_name"], file["target"] = names, targets
    store = Store.open(evaluated / "store")
    found = evaluate_audioset(store, read_segments(tmp_path / "eval.h5"))
    expected = evaluate_audioset(store, segments)
    assert found.tagging.mean_ap == expected.tagging.mean_ap
    assert (found.num_missing, found.num_extra) == (expected.num_missing, expected.num_extra)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"audio_name": [b"Yabcdefghijk.wav"]}, "it needs the datasets audio_name and target"),
        ({"audio_name": [b"Yabcdefghijk.wav"], "target": np.zeros((1, 5))}, r"target is \(1, 5\)"),
        ({"audio_name": [b"dog.wav"], "target": np.zeros((1, 527))}, "'dog.wav' is no name of a"),
        (None, "it needs the datasets"),
    ],
)
def test_read_segments_of_panns_that_are_wrong_says_what(
    tmp_path: Path, held: dict[str, Any] | None, message: str
) -> None:
    path = tmp_path / "eval.h5"
    if held is None:
        path.write_text("no HDF5")
    else:
        with h5py.File(path, "w") as file:
            for name, value in held.items():
                file[name] = value
    with pytest.raises(SoundalikeError, match=message):
        read_segments(path)


def test_read_segments_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "noise.csv").write_bytes(b"\xfe\xff\x80")
    for name, message in (
        ("none.csv", "no such file"),
        ("noise.csv", "it begins as UTF-16, and is not"),
    ):
        with pytest.raises(SoundalikeError, match=message):
            read_segments(tmp_path / name)


@pytest.fixture(scope="module")
def evaluated(
    whole: None, tmp_path_factory: pytest.TempPathFactory, tiny_extractor: Extractor
) -> Path:
    """A store of 12 clips of the list and one more, with segments.csv beside it."""
    folder = tmp_path_factory.mktemp("audioset")
    random = np.random.default_rng(5)
    lines = []
    for number in range(14):
        youtube_id = f"-clip_{number:05}"
        mids = [TAGS[index].mid for index in random.choice(20, 3, replace=False)]
        lines.append(f'{youtube_id}, {number}.000, {number + 10}.000, "{",".join(mids)}"\n')
        name = (youtube_id, f"Y{youtube_id}", f"{youtube_id}_{number}")[number % 3]
        if number < 12:
            write_tone(
                folder / "audio" / f"{name}.wav", 11.5 if number == 4 else 2.0, 150 + 40 * number
            )
    write_tone(folder / "audio" / "other.wav", 2.0, 77)
    (folder / "segments.csv").write_text(HEADER + "".join(lines))
    store = new_store(folder / "store", tiny_extractor)
    embed(folder / "audio", store, tiny_extractor)
    return folder


def test_evaluate_audioset_is_of_the_clips_that_are_there(
    evaluated: Path, tiny_extractor: Extractor
) -> None:
    store, segments = Store.open(evaluated / "store"), read_segments(evaluated / "segments.csv")
    report = evaluate_audioset(store, segments)
    assert (report.num_segments, report.num_missing, report.num_extra) == (14, 2, 1)
    assert report.of_several_windows == ("-clip_00004",)
    # Once more, without the store's help: by file.
    paths = store.latest_files(("path", "recording_id")).to_pylist()
    recording = {Path(row["path"]).stem: row["recording_id"] for row in paths}
    snapshot = store.snapshot()
    targets, scores = np.zeros((12, 527), bool), np.zeros((12, 527))
    for row, segment in enumerate(segments[:12]):
        (stem,) = (stem for stem in recording if segment.youtube_id in stem)
        ids = snapshot.windows.recording_id
        place = np.flatnonzero((ids == recording[stem]) & (snapshot.windows.start_sample == 0))
        scores[row] = tiny_extractor.head().tags(snapshot.scene(place))[0]
        targets[row, list(segment.labels)] = True
    held = targets.any(0)
    expected = average_precision_score(targets[:, held], scores[:, held], average="macro")
    assert report.tagging.mean_ap == pytest.approx(expected, abs=1e-9)
    expected = roc_auc_score(targets[:, held], scores[:, held], average="macro")
    assert report.tagging.mean_auc == pytest.approx(expected, abs=1e-9)


def test_evaluate_audioset_without_a_segment_says_how_files_are_named(evaluated: Path) -> None:
    with pytest.raises(SoundalikeError, match=r"has none of the 1 segments; its files must be"):
        evaluate_audioset(Store.open(evaluated / "store"), [Segment("x" * 11, 0.0, (1,))])


def test_eval_audioset_prints_figures_coverage_and_classes(
    evaluated: Path, run: Run, tmp_path: Path
) -> None:
    classes = tmp_path / "classes.csv"
    command = ["eval", "audioset", str(evaluated / "store")]
    options = ["--segments", str(evaluated / "segments.csv")]
    told = run(*command, *options, "--classes", str(classes)).out
    assert "12 of 14 segments are in the store (85.7%)" in told
    assert "in the store and not in the list: 1 file" in told
    assert "embedded at fp32 on cpu" in told
    assert "tiny is not a published checkpoint" in told
    data = run(*command, *options, "--format", "json").data
    with classes.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 527
    means = [float(row["AP"]) for row in rows if row["AP"]]
    assert data["num_classes"] == len(means)
    assert data["mAP"] == pytest.approx(np.mean(means))
    ours = told.splitlines()[-2].split()
    named = ("mAP", "AUC", "d_prime", "d_prime_of_mean_AUC")
    assert ours[-4:] == [f"{data[name]:.3f}" for name in named]
    assert "d-prime of AUC: that of the mean AUC, as PANNs counts" in told
    assert data["computed"] == [{"precision": "fp32", "device": "cpu", "num_windows": 14}]
    assert data["num_perfect"] == sum(row["d_prime"] in ("inf", "-inf") for row in rows)
    assert f"left out of the mean of d': {data['num_perfect']}" in told


def test_eval_audioset_of_a_published_checkpoint_shows_its_row(evaluated: Path) -> None:
    store = Store.open(evaluated / "store")
    object.__setattr__(store, "checkpoint", "convnext-tiny-471")
    report = evaluate_audioset(store, read_segments(evaluated / "segments.csv"))
    lines = list(audioset_lines(report))
    assert lines[-1].split() == [
        *["published,", "whole", "evaluation", "set"],
        "0.471",
        "0.973",
        "3.071",
    ]
    weights = KNOWN_CHECKPOINTS["demo"].weights
    assert weights
    demo = replace(store, checkpoint="demo", identity=replace(store.identity, weights=weights))
    *_, last = audioset_lines(evaluate_audioset(demo, read_segments(evaluated / "segments.csv")))
    assert last.startswith("demo was trained on 8,865 short clips")
    assert report.padding_note is None
    repeating = replace(store, identity=replace(store.identity, padding="repeat"))
    report = evaluate_audioset(repeating, read_segments(evaluated / "segments.csv"))
    assert "(padding repeat); published figures are of" in " ".join(audioset_lines(report))
