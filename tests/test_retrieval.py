"""Texts and sounds that find each other: every figure against a computation by brute force."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Run

from indexer.errors import SoundalikeError
from search.datasets.embedded import Embedded, ScoreMatrix, read_embedded, read_scores
from search.evaluation.retrieval import RetrievalReport, evaluate_retrieval, evaluate_scores

RECALLS = (1, 5, 10, 50)


def random_case(seed: int) -> tuple[Embedded, Embedded]:
    """Sounds and captions on few directions, so that many scores are equal."""
    random = np.random.default_rng(seed)
    num_sounds, most = int(random.integers(1, 30)), int(random.integers(1, 6))
    directions = random.normal(size=(int(random.integers(2, 8)), 5))
    ids = [f"clip {number}" for number in range(num_sounds)]
    owners = np.repeat(np.arange(num_sounds), random.integers(0, most + 1, num_sounds))
    owners = random.permutation(owners if len(owners) else np.array([0]))
    pick = lambda count: directions[random.integers(0, len(directions), count)]  # noqa: E731
    scale = random.uniform(0.1, 10, (num_sounds, 1))  # a cosine does not see it
    sounds = Embedded(ids, (pick(num_sounds) * scale).astype(np.float32))
    return sounds, Embedded([ids[owner] for owner in owners], pick(len(owners)).astype(np.float32))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return round(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)), 10)


def worst_order(scores: Sequence[float], right: Sequence[bool]) -> list[bool]:
    """Sort by score; of equal ones, what is wrong comes first. Return which are right."""
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], right[place]))
    return [right[place] for place in order]


Columns = dict[tuple[str, str, str], list[float]]


def count_by_brute_force(audio: Embedded, text: Embedded) -> Columns:
    """What each query scores."""
    columns: Columns = {}

    def note(direction: str, definition: str, name: str, value: float) -> None:
        columns.setdefault((direction, definition, name), []).append(value)

    for own, vector in zip(text.ids, text.vectors, strict=True):
        scores = [cosine(vector, sound) for sound in audio.vectors]
        rank = worst_order(scores, [one == own for one in audio.ids]).index(True) + 1
        for k in RECALLS:
            note("text to audio", "Mei, DCASE", f"R@{k}", rank <= k)
        note("text to audio", "Mei, DCASE", "mAP@10", 1 / rank if rank <= 10 else 0)
        note("text to audio", "Mei, DCASE", "mean rank", rank)
        note("text to audio", "Mei, DCASE", "median rank", rank)
    for own, vector in zip(audio.ids, audio.vectors, strict=True):
        if own not in text.ids:
            continue
        scores = [cosine(vector, caption) for caption in text.vectors]
        order = worst_order(scores, [one == own for one in text.ids])
        rank, num_right = order.index(True) + 1, sum(order)
        for k in RECALLS:
            note("audio to text", "Mei", f"R@{k}", rank <= k)
            note("audio to text", "DCASE", f"R@{k}", sum(order[:k]) / num_right)
        note("audio to text", "Mei", "mean rank", rank)
        note("audio to text", "Mei", "median rank", rank)
        precisions = [sum(order[:k]) / k for k in range(1, min(10, len(order)) + 1) if order[k - 1]]
        note("audio to text", "Mei, DCASE", "mAP@10", sum(precisions) / num_right)
    return columns


def mean(columns: Columns) -> dict[tuple[str, str, str], float]:
    return {
        key: float(np.floor(np.median(values)) if key[2] == "median rank" else np.mean(values))
        for key, values in columns.items()
    }


def by_brute_force(audio: Embedded, text: Embedded) -> dict[tuple[str, str, str], float]:
    return mean(count_by_brute_force(audio, text))


def tied_by_brute_force(audio: Embedded, text: Embedded) -> tuple[int, int]:
    """How many captions, and how many sounds, score something wrong as what is right."""
    texts = [(one, text.vectors[row]) for row, one in enumerate(text.ids)]
    sounds = [(one, audio.vectors[row]) for row, one in enumerate(audio.ids)]

    def is_tied(own: str, vector: np.ndarray, others: list[tuple[str, np.ndarray]]) -> bool:
        right = {cosine(vector, other) for one, other in others if one == own}
        return any(cosine(vector, other) in right for one, other in others if one != own)

    return (
        sum(is_tied(own, vector, sounds) for own, vector in texts),
        sum(is_tied(own, vector, texts) for own, vector in sounds),
    )


def as_dict(report: RetrievalReport) -> dict[tuple[str, str, str], float]:
    return {figure[:3]: figure.value for figure in report.figures}


@pytest.mark.parametrize("seed", range(100))
def test_retrieval_equals_brute_force_with_ties(seed: int) -> None:
    audio, text = random_case(seed)
    report = evaluate_retrieval(audio, text, num_resamples=10)
    assert as_dict(report) == pytest.approx(by_brute_force(audio, text), abs=1e-12)
    assert tuple(report.num_tied.values()) == tied_by_brute_force(audio, text)


@pytest.mark.parametrize("seed", range(20))
def test_retrieval_intervals_are_those_of_rows_that_are_repeated(seed: int) -> None:
    """Of each resample the rows one by one, and NumPy's mean and median of them."""
    audio, text = random_case(seed)
    columns = count_by_brute_force(audio, text)
    owned = [one for one in audio.ids if one in text.ids]
    clusters = {
        "text to audio": np.array([owned.index(one) for one in text.ids]),
        "audio to text": np.arange(len(owned)),
    }
    even = np.full(len(owned), 1 / len(owned))
    drawn = np.random.default_rng(seed).multinomial(len(owned), even, 40)
    report = evaluate_retrieval(audio, text, num_resamples=40, seed=seed)
    for figure in report.figures:
        values = np.array(columns[figure[:3]])
        repeated = [np.repeat(values, times[clusters[figure.direction]]) for times in drawn]
        is_median = figure.name == "median rank"
        each = [np.floor(np.median(one)) if is_median else np.mean(one) for one in repeated]
        assert (figure.low, figure.high) == pytest.approx(np.quantile(each, [0.025, 0.975]))


@pytest.mark.parametrize("seed", range(10))
def test_scores_that_are_given_are_ranked_as_those_that_are_computed(seed: int) -> None:
    audio, text = random_case(seed)
    scores = np.array([[cosine(one, other) for other in audio.vectors] for one in text.vectors])
    for some in (scores, 4 * scores - 1):
        report = evaluate_scores(ScoreMatrix(text.ids, audio.ids, some), num_resamples=10)
        computed = evaluate_retrieval(audio, text, num_resamples=10)
        assert report.figures == computed.figures
        assert report.num_tied == computed.num_tied


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("uint8", [0, 1, 200, 255]),
        ("int8", [-128, -1, 0, 127]),
        ("uint64", [0, 1, 2**63, 2**64 - 1]),
        ("int64", [-(2**63), -1, 0, 2**63 - 1]),
    ],
)
def test_scores_of_any_integers_are_ranked_as_the_same_numbers(
    dtype: str, values: list[int], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    chosen = random.integers(len(values), size=(12, 4))
    owners = [str(number % 4) for number in range(12)]
    scores = np.array(values, dtype)[chosen]
    np.savez(tmp_path / "s.npz", scores=scores, text_ids=owners, audio_ids=list("0123"))
    found = evaluate_scores(read_scores(tmp_path / "s.npz"), num_resamples=10)
    wanted = evaluate_scores(
        ScoreMatrix(owners, list("0123"), chosen.astype(float)), num_resamples=10
    )
    assert found.figures == wanted.figures
    for direction, ranked in wanted.ranked.items():
        np.testing.assert_array_equal(found.ranked[direction].ranks, ranked.ranks)


def test_scores_that_differ_by_little_are_no_ties() -> None:
    scores = 1e-20 * np.array([[2.0, 1.0], [1.0, 2.0]])
    report = evaluate_scores(ScoreMatrix(["a", "b"], ["a", "b"], scores), num_resamples=10)
    assert report.num_tied == {"text to audio": 0, "audio to text": 0}
    assert as_dict(report)["text to audio", "Mei, DCASE", "R@1"] == 1


@pytest.mark.whole
def test_retrieval_of_thousands_equals_brute_force() -> None:
    """Small cases side by side: each has dimensions of its own, so that others score nothing."""
    num_cases, columns = 90, Columns()
    sounds, captions = [], []
    for seed in range(num_cases):
        place = np.eye(num_cases, dtype=np.float32)[seed]
        audio, text = (
            Embedded([f"{seed} {one}" for one in part.ids], np.kron(place, np.abs(part.vectors)))
            for part in random_case(seed)
        )
        sounds.append(audio)
        captions.append(text)
        for key, values in count_by_brute_force(audio, text).items():
            columns.setdefault(key, []).extend(values)
    everything = [
        Embedded([one for case in cases for one in case.ids], np.vstack([c.vectors for c in cases]))
        for cases in (sounds, captions)
    ]
    assert all(len(set(one.ids)) > 1024 for one in everything)
    found = as_dict(evaluate_retrieval(*everything, num_resamples=10))
    assert found == pytest.approx(mean(columns), abs=1e-12)


def test_retrieval_resampled_a_few_at_a_time_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    audio, text = random_case(7)
    whole = evaluate_retrieval(audio, text, num_resamples=50)
    monkeypatch.setattr("search.evaluation.bootstrap._WEIGHTS", 100)
    for one, other in zip(
        evaluate_retrieval(audio, text, num_resamples=50).figures, whole.figures, strict=True
    ):
        assert one[:3] == other[:3]
        assert one[3:] == pytest.approx(other[3:])


def test_retrieval_where_all_are_equal_finds_nothing_at_the_top() -> None:
    """A model that says the same of everything must not look good."""
    ids = [str(number) for number in range(20)]
    same = Embedded(ids, np.ones((20, 4), np.float32))
    found = as_dict(evaluate_retrieval(same, same, num_resamples=10))
    assert found["text to audio", "Mei, DCASE", "median rank"] == 20
    assert found["audio to text", "DCASE", "R@10"] == 0
    assert found["audio to text", "Mei, DCASE", "mAP@10"] == 0


def test_retrieval_warns_of_recalls_at_all_that_there_is(run: Run, tmp_path: Path) -> None:
    ids, vectors = [str(number) for number in range(10)], np.eye(10, dtype=np.float32)
    text = Embedded([*ids, "0"], vectors[[*range(10), 5]])
    report = evaluate_retrieval(Embedded(ids, vectors), text, num_resamples=10)
    sounds, captions = report.warnings
    assert sounds.startswith(
        "text to audio: of 10 sounds all are among the first 10, so R@10, R@50"
    )
    assert captions.startswith("audio to text: of 11 captions all are among the first 11, so R@50 ")
    figures = as_dict(report)
    assert figures["text to audio", "Mei, DCASE", "R@10"] == 1
    assert figures["audio to text", "DCASE", "R@10"] < 1
    many = Embedded([str(number) for number in range(51)], np.eye(51, dtype=np.float32))
    assert evaluate_retrieval(many, many, num_resamples=10).warnings == ()


def test_eval_retrieval_of_scores_says_what_is_tied_and_writes_every_rank(
    run: Run, tmp_path: Path
) -> None:
    scores, table = tmp_path / "scores.npz", tmp_path / "ranks.csv"
    given = np.float32([[3, 1, 3], [1, 2, 0], [0, 9, 9], [5, 5, 5]])
    np.savez(scores, scores=given, text_ids=["a", "b", "a", "x"], audio_ids=["a", "b", "c"])
    command = ["eval", "retrieval", "--score-matrix", str(scores), "--resamples", "10"]
    told = run(*command, "--ranks", str(table)).out
    assert "left out: 1 caption whose sound is missing" in told
    assert "1 of 3 captions and 0 of 2 sounds score something wrong exactly" in told
    assert "mean rank 2.0 [" in " ".join(told.split())
    with table.open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        ("text to audio", "a", "0", "2", "1"),
        ("text to audio", "b", "1", "1", "0"),
        ("text to audio", "a", "2", "3", "0"),
        ("audio to text", "a", "0", "1", "0"),
        ("audio to text", "b", "1", "2", "0"),
        ("audio to text", "a", "2", "3", "0"),
    ]
    data = run(*command, "--format", "json").data
    assert data["num_tied"] == {"text_to_audio": 1, "audio_to_text": 0}
    mean_rank = next(one for one in data["figures"] if one["name"] == "mean rank")
    assert mean_rank["value"] == 2
    assert "is there already" in run(*command, "--ranks", str(table), code=1).err
    run(*command, "--ranks", str(table), "--force")


def test_eval_retrieval_of_neither_embeddings_nor_scores_is_refused(run: Run) -> None:
    assert "give --audio and --text, or --score-matrix" in run("eval", "retrieval", code=2).err
    both = ["--audio", "a.npz", "--score-matrix", "b.npz"]
    assert "--audio goes with no --score-matrix" in run("eval", "retrieval", *both, code=2).err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scores": None}, "it has no scores; give an .npz with scores"),
        (
            {"scores": np.zeros((3, 2))},
            r"are \(3, 2\) of float64, and with 2 text_ids and 3 audio_",
        ),
        ({"scores": np.array([[0, 1, 2], [0, np.nan, 1]])}, "a score in row 1 is not finite"),
        ({"scores": np.array([[0, 1, np.inf], [0, np.nan, 1]])}, "a score in row 0 is not finite"),
        ({"scores": np.zeros((2, 3), complex)}, "of complex128, and with"),
        ({"scores": np.zeros((0, 0)), "text_ids": [], "audio_ids": []}, r"are \(0, 0\)"),
        ({"text_ids": [["a"], ["b"]]}, "not"),
        ({"audio_ids": ["a", "b", "b"]}, "the sound 'b' comes twice"),
    ],
)
def test_scores_that_are_wrong_say_what(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    arrays = {"scores": np.zeros((2, 3)), "text_ids": ["a", "b"], "audio_ids": ["a", "b", "c"]}
    path = tmp_path / "scores.npz"
    np.savez(path, **{name: one for name, one in (arrays | changed).items() if one is not None})
    with pytest.raises(SoundalikeError, match=message):
        evaluate_scores(read_scores(path))


@pytest.mark.whole
def test_retrieval_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """R@1 of queries that are right with a probability of 0.3, over and over again."""
    random = np.random.default_rng(0)
    num_sounds, hits, num_trials = 60, 0, 100
    ids = [str(number) for number in range(num_sounds)]
    vectors = np.eye(num_sounds, dtype=np.float32)
    for trial in range(num_trials):
        is_right = random.random(num_sounds) < 0.3
        wrong = (np.arange(num_sounds) + 1) % num_sounds
        found_at = np.where(is_right, np.arange(num_sounds), wrong)
        text = Embedded(ids, vectors[found_at])
        report = evaluate_retrieval(Embedded(ids, vectors), text, num_resamples=200, seed=trial)
        figure = next(one for one in report.figures if one.name == "R@1")
        assert figure.low <= figure.value <= figure.high
        hits += figure.low <= 0.3 <= figure.high
    assert hits >= 85  # of 95 that are to be expected: below is one in ten thousand


def test_retrieval_counts_what_is_left_out() -> None:
    audio = Embedded(["a", "b", "c"], np.eye(3, dtype=np.float32))
    text = Embedded(["a", "a", "x", "b"], np.eye(3, dtype=np.float32)[[0, 0, 1, 1]])
    report = evaluate_retrieval(audio, text, num_resamples=10)
    assert (report.num_clips, report.num_captions) == (3, 3)
    assert (report.num_without_audio, report.num_without_text) == (1, 1)
    assert as_dict(report)["text to audio", "Mei, DCASE", "R@1"] == 1


@pytest.mark.parametrize(
    ("audio", "text", "message"),
    [
        (["a", "b"], ["x"], "no text has the id of a sound: the texts begin with 'x'"),
        (["a", "a"], ["a"], "the sound 'a' comes twice"),
    ],
)
def test_retrieval_without_a_pair_is_an_error(
    audio: list[str], text: list[str], message: str
) -> None:
    with pytest.raises(SoundalikeError, match=message):
        evaluate_retrieval(
            Embedded(audio, np.ones((len(audio), 2))), Embedded(text, np.ones((len(text), 2)))
        )


def test_retrieval_of_two_models_is_an_error() -> None:
    with pytest.raises(SoundalikeError, match="sounds have 2 dimensions and texts 3"):
        evaluate_retrieval(Embedded(["a"], np.ones((1, 2))), Embedded(["a"], np.ones((1, 3))))


# --- files ---------------------------------------------------------------------------------------

VECTORS = 1 + np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.mark.parametrize("name", ["ids.npz", "fixed.parquet", "list.parquet", "scene.parquet"])
def test_read_embedded_of_every_form(tmp_path: Path, name: str) -> None:
    path, ids = tmp_path / name, ["a", "b", "c"]
    if name == "ids.npz":
        np.savez(path, ids=np.array(ids), embeddings=VECTORS, other=np.zeros(1))
    else:
        kind = pa.list_(pa.float32()) if name == "list.parquet" else pa.list_(pa.float32(), 2)
        column = "scene" if name == "scene.parquet" else "embedding"
        table = pa.table({"id": ids, column: pa.array(VECTORS.tolist(), kind), "other": [1, 2, 3]})
        pq.write_table(table, path)
    found = read_embedded(path)
    assert found.ids == ids
    np.testing.assert_array_equal(found.vectors, VECTORS)


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        (
            "a.npz",
            {"ids": np.array(["a"])},
            "has no embeddings or embedding or scene; give an .npz",
        ),
        ("a.npz", {"embeddings": VECTORS}, "has no ids or id; give an .npz"),
        ("a.npz", {"ids": np.array(["a"]), "embeddings": VECTORS}, "has 1 ids and embeddings of"),
        ("a.npz", {"ids": np.array([]), "embeddings": VECTORS[:0]}, "has 0 ids"),
        (
            "a.npz",
            {"ids": np.array(["a", "b", "c"]), "embeddings": VECTORS * np.float32([1, np.inf])},
            "the embedding of 'a' is not finite",
        ),
        (
            "a.npz",
            {"ids": np.array([{}], object), "embeddings": VECTORS[:1]},
            "Object arrays cannot be loaded",
        ),
        ("a.csv", {}, "the suffix '.csv' is of no kind that is read"),
    ],
)
def test_read_embedded_that_is_wrong_says_what(
    tmp_path: Path, name: str, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(SoundalikeError, match=message):
        read_embedded(path)


def test_read_embedded_parquet_with_gaps_says_so(tmp_path: Path) -> None:
    ragged, empty, missing = (tmp_path / f"{name}.parquet" for name in ("ragged", "empty", "no"))
    pq.write_table(pa.table({"id": ["a", "b"], "scene": [[1.0], [1.0, 2.0, 3.0]]}), ragged)
    pq.write_table(pa.table({"id": ["a", None], "scene": [[1.0], [2.0]]}), empty)
    for path, message in (
        (ragged, "the lists of scene have different lengths"),
        (empty, "the column id has empty cells"),
        (missing, "no such file"),
    ):
        with pytest.raises(SoundalikeError, match=f"(?i){message}"):
            read_embedded(path)
