"""Labels of one's own: neighbours and probes against plain computations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from conftest import SHARED_AUDIO, Run
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from synthetic import make_store, recording_id, write_tone
from test_extract import new_store
from test_extract import run as embed

from indexer.embedding.extractor import Extractor
from indexer.errors import QueryError, SoundalikeError
from indexer.run.config import ExtractConfig
from indexer.store.reader import Store
from search.evaluation.labels import (
    Labelled,
    evaluate_labels,
    labels_of_folders,
    read_labels,
)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def store_of(path: Path, vectors: np.ndarray) -> Store:
    """A store of one window in each file, `0.wav` and so on."""
    made = make_store(path, frames="none")
    scene = np.pad(vectors, ((0, 0), (0, 768 - vectors.shape[1]))).astype(np.float32)
    made.add({str(number): 1 for number in range(len(vectors))}, scene=scene)
    return made.store


@pytest.mark.parametrize("seed", range(20))
def test_neighbours_equal_a_plain_computation_with_ties(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    directions = random.normal(size=(6, 4)).astype(np.float32)
    vectors = directions[random.integers(0, 6, 25)]
    classes = random.integers(0, 5, 25)
    labels = [Labelled(f"{row}.wav", str(one), "the only one") for row, one in enumerate(classes)]
    made = store_of(tmp_path / "store", vectors)
    report = evaluate_labels(made, labels, tag_weights=(0,), num_resamples=10)
    vectors = unit(vectors.astype(np.float64))
    at_k: dict[int, list[float]] = {1: [], 5: [], 10: []}
    precisions = []
    for query in range(25):
        others = [row for row in range(25) if row != query]
        right = {row: classes[row] == classes[query] for row in others}
        if not any(right.values()):
            continue
        scores = {row: round(float(vectors[row] @ vectors[query]), 10) for row in others}
        ranked = [right[row] for row in sorted(others, key=lambda row: (-scores[row], right[row]))]
        for k, values in at_k.items():
            values.append(float(np.mean(ranked[:k])))
        hits = [sum(ranked[: place + 1]) / (place + 1) for place in range(24) if ranked[place]]
        precisions.append(float(np.mean(hits)))
    (found,) = report.neighbours
    assert {k: one.value for k, one in found.precisions.items()} == pytest.approx(
        {k: np.mean(values) for k, values in at_k.items()}
    )
    assert found.mean_ap.value == pytest.approx(np.mean(precisions))
    assert report.num_alone == 25 - len(precisions)


def test_blend_ranks_by_scenes_and_by_the_roots_of_tags(tmp_path: Path) -> None:
    """Against a plain loop over pairs, for a file of two windows as well."""
    random = np.random.default_rng(5)
    made = make_store(tmp_path / "store", frames="none")
    sizes = {str(number): 1 + (number == 3) for number in range(12)}
    scene = random.normal(size=(13, 768)).astype(np.float32)
    tags = (random.random((13, 527)) ** 8).astype(np.float16)
    made.add(sizes, scene=scene, tags=tags)
    classes = random.integers(0, 2, 12)
    labels = [Labelled(f"{row}.wav", str(one), None) for row, one in enumerate(classes)]
    report = evaluate_labels(made.store, labels, tag_weights=(0, 0.35, 1), num_resamples=10)
    windows = np.repeat(np.arange(12), list(sizes.values()))
    scenes = unit(np.stack([unit(scene.astype(float))[windows == n].sum(0) for n in range(12)]))
    roots = unit(np.sqrt(tags.astype(float)))
    heard = unit(np.stack([roots[windows == number].sum(0) for number in range(12)]))
    assert [one.tag_weight for one in report.neighbours] == [0, 0.35, 1]
    for one in report.neighbours:
        weight = one.tag_weight
        scores = (1 - weight) * scenes @ scenes.T + weight * heard @ heard.T
        np.fill_diagonal(scores, -2)
        nearest = scores.argmax(1)
        assert one.precisions[1].value == pytest.approx((classes[nearest] == classes).mean())
        near = np.argsort(-scores, axis=1)[:, :10]  # all but one
        counts = np.bincount(near.ravel(), minlength=12)
        assert one.largest_hub == counts.max()
        assert one.hub_skew == pytest.approx(scipy.stats.skew(counts))


def test_hubs_are_files_that_are_near_to_many(tmp_path: Path) -> None:
    """Thirty files in pairs of opposite directions, and one that lies in the middle of all."""
    directions = np.eye(15)
    middle = directions.sum(0, keepdims=True)
    vectors = np.concatenate([directions, directions + 1e-3, middle])
    labels = [Labelled(f"{row}.wav", str(row % 2), None) for row in range(31)]
    report = evaluate_labels(
        store_of(tmp_path / "store", vectors), labels, tag_weights=(0,), num_resamples=10
    )
    assert report.neighbours[0].largest_hub == 30  # of each other's ten nearest
    assert report.neighbours[0].hub_skew is not None
    few = store_of(tmp_path / "few", np.eye(4))
    some = [Labelled(f"{row}.wav", str(row % 2), None) for row in range(4)]
    found = evaluate_labels(few, some, tag_weights=(0,), num_resamples=10).neighbours[0]
    assert (found.largest_hub, found.hub_skew) == (3, None)


def test_intervals_draw_recordings_with_all_their_files(tmp_path: Path) -> None:
    """Two paths of one recording are one witness: drawn by hand, with the same generator."""
    random = np.random.default_rng(2)
    made = make_store(tmp_path / "store", frames="none")
    made.add({str(number): 1 for number in range(8)}, seed=3)
    made.add({str(number): 1 for number in range(3)}, path_prefix="again/")
    classes = random.integers(0, 2, 8)
    paths = [f"{n}.wav" for n in range(8)] + [f"again/{n}.wav" for n in range(3)]
    owners = [*range(8), *range(3)]
    labels = [
        Labelled(path, str(classes[one]), None) for path, one in zip(paths, owners, strict=True)
    ]
    report = evaluate_labels(made.store, labels, tag_weights=(0,), num_resamples=50, seed=9)
    scenes = unit(np.array(made.scene, float)[:8])[owners]
    scores = np.round(scenes @ scenes.T, 10)
    right = []
    for row in range(11):
        others = [one for one in range(11) if one != row]
        best = max(scores[row, others])
        tied = [one for one in others if scores[row, one] == best]
        right.append(all(classes[owners[one]] == classes[owners[row]] for one in tied))
    # Recordings are numbered in the order of their ids.
    rank = np.argsort(np.argsort([recording_id(str(one)) for one in range(8)]))
    drawn = np.random.default_rng(9).multinomial(8, np.full(8, 1 / 8), 50)[:, rank[owners]]
    means = drawn @ np.array(right, float) / drawn.sum(1)
    found = report.neighbours[0].precisions[1]
    assert found.value == pytest.approx(np.mean(right))
    assert found[1:] == pytest.approx(np.quantile(means, [0.025, 0.975]))


@pytest.mark.parametrize("weight", [-0.1, 1.01, float("nan")])
def test_weight_of_tags_is_a_share(weight: float, tmp_path: Path) -> None:
    labels = [Labelled("0.wav", "x", None)]
    with pytest.raises(QueryError, match="weight of tags is from 0 to 1"):
        evaluate_labels(store_of(tmp_path / "store", np.eye(2)), labels, tag_weights=(weight,))


def test_votes_are_those_of_scikit_learn(tmp_path: Path) -> None:
    """With a fold for each file, accuracies say what the others voted."""
    random = np.random.default_rng(3)
    vectors = random.normal(size=(40, 5)).astype(np.float32)
    classes = random.integers(0, 2, 40)  # two labels and five votes: never equal
    labels = [Labelled(f"{row}.wav", str(one), f"{row:02}") for row, one in enumerate(classes)]
    report = evaluate_labels(store_of(tmp_path / "store", vectors), labels)
    neighbours = report.probes[0]
    expected = []
    for row in range(40):
        train, truth = np.delete(vectors, row, 0), np.delete(classes, row)
        model = KNeighborsClassifier(5, metric="cosine").fit(train, truth)
        expected.append(float(model.predict(vectors[row : row + 1])[0] == classes[row]))
    assert neighbours.name == "5-NN"
    assert neighbours.accuracies == tuple(expected)
    assert 0.2 < np.mean(expected) < 0.8


@pytest.mark.parametrize(("asked", "label"), [([1.0, 0.0], "one"), ([0.0, 1.0], "other")])
def test_votes_of_equal_number_go_to_the_nearer(
    asked: list[float], label: str, tmp_path: Path
) -> None:
    vectors = np.array([[1, 0.1], [1, 0.2], [0.3, 1], [0.2, 1], asked])
    names = ["one", "one", "other", "other", label]
    folds = ["a", "a", "a", "a", "b"]
    labels = [
        Labelled(f"{row}.wav", *one) for row, one in enumerate(zip(names, folds, strict=True))
    ]
    report = evaluate_labels(store_of(tmp_path / "store", vectors), labels)
    assert report.probes[0].accuracies[report.folds.index("b")] == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [("aaa", "3 of 3 labelled files are in .* with 1 labels"), ("abc", "no two files have the")],
)
def test_labels_that_leave_nothing_to_be_told_apart_are_refused(
    names: str, message: str, tmp_path: Path
) -> None:
    labels = [Labelled(f"{at}.wav", name, None) for at, name in enumerate(names)]
    with pytest.raises(SoundalikeError, match=message):
        evaluate_labels(store_of(tmp_path / "store", np.eye(3)), labels)


def test_votes_of_more_files_count_more_than_nearer_ones(tmp_path: Path) -> None:
    """Three far ones outvote two near ones."""
    vectors = np.array([[1, 0.1], [1, 0.2], [0.3, 1], [0.2, 1], [0.1, 1], [1, 0]])
    names = ["near", "near", "far", "far", "far", "far"]
    labels = [Labelled(f"{at}.wav", name, "ab"[at == 5]) for at, name in enumerate(names)]
    report = evaluate_labels(store_of(tmp_path / "store", vectors), labels)
    assert report.probes[0].accuracies[report.folds.index("b")] == 1


def test_scores_that_agree_to_ten_decimals_are_equal(tmp_path: Path) -> None:
    """And of equal ones the wrong one comes first: the right one is nearer by 5e-13 alone."""
    vectors = np.array([[1, 0], [1, 0], [1, 1e-6]])
    labels = [Labelled(f"{at}.wav", name, "1") for at, name in enumerate("aab")]
    report = evaluate_labels(store_of(tmp_path / "store", vectors), labels)
    found = report.neighbours[0]
    assert (found.precisions[1].value, found.mean_ap.value) == (0, 0.5)


def test_file_is_the_mean_direction_of_its_windows(tmp_path: Path) -> None:
    """However loud each of them is, and however many there are."""
    random = np.random.default_rng(4)
    counts = random.integers(1, 4, 24)
    scene = random.normal(size=(counts.sum(), 768)).astype(np.float32)
    scene[:, 5:] *= 0.01
    scene *= 10 ** random.uniform(-2, 2, (len(scene), 1)).astype(np.float32)
    made = make_store(tmp_path / "store", frames="none")
    made.add({str(at): int(count) for at, count in enumerate(counts)}, scene=scene)
    classes = random.integers(0, 3, 24)
    labels = [Labelled(f"{at}.wav", str(one), "1") for at, one in enumerate(classes)]
    report = evaluate_labels(made.store, [*labels, Labelled("gone.wav", "0", "1")])
    of_each = np.split(unit(scene.astype(np.float64)), np.cumsum(counts)[:-1])
    files = unit(np.array([one.sum(0) for one in of_each]))
    cosines = files @ files.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1)[:, :5]
    expected = (classes[nearest] == classes[:, None]).mean()
    assert report.neighbours[0].precisions[5].value == pytest.approx(expected)
    assert (report.num_files, report.num_missing) == (24, 1)


@pytest.mark.parametrize(
    ("each", "folds"), [(1, ("1",)), (2, ("1", "2")), (4, tuple("1234")), (7, tuple("12345"))]
)
def test_folds_that_are_made_up_are_as_many_as_each_label_can_be_in(
    tmp_path: Path, each: int, folds: tuple[str, ...]
) -> None:
    names = [*("a" * 8), *("b" * each)]
    vectors = np.random.default_rng(0).normal(size=(len(names), 5))
    labels = [Labelled(f"{at}.wav", name, None) for at, name in enumerate(names)]
    report = evaluate_labels(store_of(tmp_path / "store", vectors), labels)
    assert (report.folds, report.are_folds_given) == (folds, False)
    assert len(report.probes) == (2 if len(folds) > 1 else 0)


def test_logistic_regression_is_of_standardised_vectors(tmp_path: Path) -> None:
    """What tells the labels apart is small beside what does not."""
    random = np.random.default_rng(5)
    classes = np.tile([0, 1], 30)
    vectors = random.normal((3, 0, 0), size=(60, 3))
    vectors[:, 2] = 0.02 * (classes - 0.5) + 0.004 * random.normal(size=60)
    folds = np.repeat(["a", "b"], 30)
    labels = [
        Labelled(f"{at}.wav", "xy"[one], fold)
        for at, (one, fold) in enumerate(zip(classes, folds, strict=True))
    ]
    report = evaluate_labels(store_of(tmp_path / "store", vectors), labels)
    expected, plain = [], []
    wide = unit(vectors.astype(np.float32).astype(np.float64))
    for fold in "ab":
        train, truth = wide[folds != fold], classes[folds != fold]
        test, right = wide[folds == fold], classes[folds == fold]
        model = LogisticRegression(max_iter=2000)
        scaled = [(one - train.mean(0)) / train.std(0) for one in (train, test)]
        expected.append((model.fit(scaled[0], truth).predict(scaled[1]) == right).mean())
        plain.append((model.fit(train, truth).predict(test) == right).mean())
    assert report.probes[1].accuracies == tuple(expected)
    assert min(expected) > 0.8 > max(plain)


def test_probe_that_has_learned_one_label_gives_that_one(tmp_path: Path) -> None:
    vectors = np.random.default_rng(6).normal(size=(8, 3))
    labels = [Labelled(f"{at}.wav", "x" if at < 6 else "y", "ab"[at > 3]) for at in range(8)]
    report = evaluate_labels(store_of(tmp_path / "store", vectors), labels)
    assert report.probes[1].accuracies[report.folds.index("b")] == 0.5


@pytest.fixture(scope="module")
def store(
    whole: None, tmp_path_factory: pytest.TempPathFactory, tiny_extractor: Extractor
) -> Store:
    """Noise and tones in folders of their own, ten of each; a third kind with a single file."""
    library = tmp_path_factory.mktemp("labels") / "library"
    random = np.random.default_rng(0)
    for number in range(10):
        write_tone(library / "low" / f"low {number}.wav", 2.0, 100 + 5 * number)
        write_tone(
            library / "high" / f"high {number}.wav",
            12.0,
            6000 + 50 * int(random.integers(9)) + number,
        )
    write_tone(library / "alone" / "one.wav", 1.0, 1000)
    write_tone(library / "alone" / "deep" / "low 0.wav", 1.0, 1500)
    made = new_store(library.parent / "store", tiny_extractor)
    embed(library, made, tiny_extractor)
    return made


def test_evaluate_labels_of_folders(store: Store) -> None:
    report = evaluate_labels(store, labels_of_folders(store))
    assert (report.num_files, report.num_labels, report.num_alone) == (22, 4, 2)
    assert report.neighbours[0].precisions[1].value > 0.9
    assert report.probes == ()  # a label with one file cannot be in two folds
    assert not report.are_folds_given


def csv_of(tmp_path: Path, *lines: str, header: str = "path,label,fold") -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([header, *lines, ""]))
    return path


def test_evaluate_labels_with_folds_tests_on_what_was_not_trained_on(
    store: Store, tmp_path: Path
) -> None:
    """In fold 1 all labels are the other way round: a probe that saw it would know."""
    lines = [f"{kind} {number}.wav,{kind},2" for kind in ("high",) for number in range(5)]
    lines += [f"low/low {number}.wav,low,2" for number in range(5)]
    lines += [f"high {number}.wav,low,1" for number in range(5, 10)]
    lines += [f"low {number}.wav,high,1" for number in range(5, 10)]
    report = evaluate_labels(store, read_labels(csv_of(tmp_path, *lines, "gone.wav,low,1")))
    assert (report.num_files, report.num_missing, report.are_folds_given) == (20, 1, True)
    assert report.folds == ("1", "2")
    assert [probe.name for probe in report.probes] == ["5-NN", "logistic regression"]
    for probe in report.probes:
        assert max(probe.accuracies) < 0.3


def test_evaluate_labels_without_folds_draws_them(store: Store) -> None:
    labels = [row for row in labels_of_folders(store) if row.label in {"low", "high"}]
    report = evaluate_labels(store, labels)
    assert (len(report.folds), report.are_folds_given) == (5, False)
    assert all(len(probe.accuracies) == 5 for probe in report.probes)
    assert np.mean(report.probes[1].accuracies) > 0.9
    assert evaluate_labels(store, labels) == report


def test_read_labels_of_esc50(tmp_path: Path) -> None:
    header = "filename,fold,target,category,esc10,src_file,take"
    path = csv_of(tmp_path, "1-100032-A-0.wav,1,0,dog,True,100032,A", header=header)
    assert read_labels(path) == [Labelled("1-100032-A-0.wav", "dog", "1")]


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("name,label", "a,b", r"no column path \(or filename, file, fname\), only name, label"),
        ("path,what", "a,b", r"no column label \(or category, class, target\), only path, what"),
        ("path,label", "a,", "row 1: an empty cell"),
        ("path,label,fold", "a,b,", "row 1: an empty cell"),
        ("path,label", "", "has no rows"),
    ],
)
def test_read_labels_that_are_wrong_says_what(
    tmp_path: Path, header: str, line: str, message: str
) -> None:
    with pytest.raises(SoundalikeError, match=message):
        read_labels(csv_of(tmp_path, line, header=header))


def test_evaluate_labels_that_cannot_be_is_an_error(store: Store) -> None:
    with pytest.raises(SoundalikeError, match=r"low 0.wav may be alone/deep/low 0.wav or low/"):
        evaluate_labels(store, [Labelled("low 0.wav", "x", None)])
    labels = [Labelled("low 1.wav", "x", None), Labelled("none.wav", "y", None)]
    with pytest.raises(SoundalikeError, match=r"1 of 2 labelled files are in .* with 1 labels"):
        evaluate_labels(store, labels)


def test_eval_labels_prints_what_it_found(store: Store, run: Run) -> None:
    told = run("eval", "labels", store.path).out
    assert "22 files with 4 labels" in told
    assert "the only ones with their label, and not asked: 2 files" in told
    data = run("eval", "labels", store.path, "--format", "json").data
    assert data["num_files"] == 22
    by_scenes, blended = data["neighbours"]
    assert (by_scenes["tag_weight"], blended["tag_weight"]) == (0, 0.35)
    for one in data["neighbours"]:
        found = one["mean_ap"]
        assert found["low"] <= found["value"] <= found["high"]
        value, low, high = (f"{100 * found[end]:.1f}" for end in ("value", "low", "high"))
        assert f"  {'mAP':<22}{value:>5}  [{low}, {high}]\n" in told
        assert f"skew {one['hub_skew']:.2f}, largest {one['largest_hub']}" in told


@pytest.mark.whole
@pytest.mark.skipif(not SHARED_AUDIO.exists(), reason="the recordings are not here")
def test_eval_labels_of_real_recordings_is_far_above_chance(
    tmp_path: Path, demo_extractor: Extractor
) -> None:
    made = new_store(tmp_path / "store", demo_extractor)
    kinds = ExtractConfig(num_workers=0, include=("dog*/*", "rain/*", "rooster/*", "sea*/*"))
    embed(SHARED_AUDIO / "esc10_heldout", made, demo_extractor, kinds)
    labels = [
        row._replace(fold=Path(row.path).name[0]) for row in labels_of_folders(made)
    ]  # a file's name begins with its fold
    report = evaluate_labels(made, labels)
    assert (report.num_files, report.num_labels, report.folds) == (64, 4, ("4", "5"))
    for one in report.neighbours:
        assert one.precisions[1].low > 0.5  # by chance 0.24
    assert all(np.mean(probe.accuracies) > 0.6 for probe in report.probes)
