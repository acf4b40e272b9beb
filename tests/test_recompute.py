"""Deep verification: what the audio gives today is what is stored, or the window is named."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_files import encode, noise
from conftest import REPOSITORY, Run
from listener import Listener
from safetensors.numpy import save as save_safetensors
from synthetic import write_tone
from test_extract import IN_PROCESS, new_store

from indexer.embedding.extractor import Embeddings, Extractor
from indexer.errors import IdentityError
from indexer.model.checkpoint import Checkpoint
from indexer.progress import Step
from indexer.run.extract import ExtractConfig, extract
from indexer.run.recompute import DeepReport, recompute
from indexer.store.disk import read_sealed, remove_all, seal
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS, FramesMode
from indexer.store.snapshot import Block
from indexer.store.verify import verify_parts
from indexer.store.writer import PartWriter
from indexer.windows import Geometry

ANIMALS = REPOSITORY / "data" / "samples" / "animals"
GEOMETRIES = {
    "padded": Geometry(),
    "hop of 7 s": Geometry(hop_samples=224_000),
    "native": Geometry(native=True),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds: short, long, of other rates, lossy, damaged, twice there, oddly named."""
    root = tmp_path_factory.mktemp("library")
    write_tone(root / "long.wav", 31.5, 300, rate=44_100)
    write_tone(root / "tiny.wav", 0.1, 400)
    write_tone(root / "half.flac", 4.0, 500, rate=48_000)
    write_tone(root / "plain.wav", 11.5, 600).rename(root / os.fsdecode(b"caf\xe9.wav"))
    shutil.copyfile(ANIMALS / "dog.ogg", root / "dog.ogg")
    shutil.copyfile(ANIMALS / "dog.ogg", root / "same.ogg")
    encode(root / "a.mp3", noise(4 * 44_100, 2), 44_100, "libmp3lame", bit_rate=128_000)
    damaged = bytearray((root / "a.mp3").read_bytes())
    damaged[30_000:31_000] = bytes(1000)
    (root / "damaged.mp3").write_bytes(damaged)
    return root


@pytest.fixture(scope="module")
def original(
    whole: None, library: Path, tmp_path_factory: pytest.TempPathFactory, tiny_extractor: Extractor
) -> Path:
    store = new_store(tmp_path_factory.mktemp("original") / "store", tiny_extractor)
    extract(library, store, tiny_extractor, IN_PROCESS)
    return store.path


@pytest.fixture
def made(original: Path, tmp_path: Path) -> Store:
    """A store of the library, to be changed."""
    return Store.open(Path(shutil.copytree(original, tmp_path / "store")))


def tags_of_the_head(block: Block, frames: np.ndarray) -> None:
    """Change nothing else: `rewrite` makes the tags fit."""


def rewrite(store: Store, change: Callable[[Block, np.ndarray], None]) -> Store:
    """Change embeddings in place, and write the store anew: every digest and every tag is right."""
    snapshot = store.snapshot()
    rows = np.arange(len(snapshot))
    windows, frames = snapshot.windows, np.array(snapshot.frames(rows))
    block = Block(windows, snapshot.scene(rows), snapshot.tags(rows))
    change(block, frames)
    block = block._replace(tags=store.head().tags(block.scene).astype(np.float16))
    (part,) = store.parts()
    ledger = store.files_at(store.ledger().path_id)
    with PartWriter(store, part.origin) as writer:
        writer.add_windows(block, frames)
        writer.add_ledger(ledger)
        writer.commit()
    remove_all(part.path)
    return store


# --- what is right passes ------------------------------------------------------------------------


@pytest.mark.whole
@pytest.mark.parametrize(
    ("geometry", "frames"), [("padded", "pooled"), ("hop of 7 s", "none"), ("native", "full")]
)
def test_recompute_every_window_of_a_right_store_agrees(
    geometry: str,
    frames: FramesMode,
    library: Path,
    tmp_path: Path,
    tiny_checkpoint: Checkpoint,
) -> None:
    extractor = Extractor(tiny_checkpoint, device="cpu", frames=frames)
    store = new_store(tmp_path / "store", extractor, GEOMETRIES[geometry])
    assert extract(library, store, extractor, IN_PROCESS).failures == []
    report = recompute(store, extractor, num_windows=1000)
    assert report == DeepReport(num_recomputed=len(store.snapshot()))
    assert report.num_recomputed > 5


@pytest.mark.whole
def test_recompute_spans_that_were_asked_for_agree(
    library: Path, tmp_path: Path, tiny_extractor: Extractor
) -> None:
    wanted = tmp_path / "spans.csv"
    wanted.write_text(
        "path,start,end\nlong.wav,1.234,30\nlong.wav,30,31.5\na.mp3,1.77,3\nhalf.flac,2,4\n"
    )
    store = new_store(tmp_path / "store", tiny_extractor)
    config = ExtractConfig(num_workers=0, files_from=wanted)
    assert extract(library, store, tiny_extractor, config).failures == []
    report = recompute(store, tiny_extractor, num_windows=1000)
    assert report == DeepReport(num_recomputed=len(store.snapshot()))
    assert report.num_recomputed == 6


@pytest.mark.whole
@pytest.mark.parametrize("codec", ["aac", "ac3"])
def test_recompute_decoder_that_makes_up_noise_agrees_more_loosely(
    codec: str, tmp_path: Path, tiny_extractor: Extractor
) -> None:
    path = tmp_path / "library" / "a.mp4"
    path.parent.mkdir()
    encode(path, noise(15 * 44_100), 44_100, codec, bit_rate=64_000)
    store = new_store(tmp_path / "store", tiny_extractor)
    extract(path.parent, store, tiny_extractor, IN_PROCESS)
    report = recompute(store, tiny_extractor)
    assert report == DeepReport(num_recomputed=2)

    def exchange(block: Block, frames: np.ndarray) -> None:
        block.scene[0] = -block.scene[1]

    assert len(recompute(rewrite(store, exchange), tiny_extractor).problems) >= 1


@pytest.mark.slow
def test_recompute_in_another_precision_agrees_more_loosely(
    made: Store, tiny_checkpoint: Checkpoint
) -> None:
    reduced = Extractor(tiny_checkpoint, device="cpu", precision="bf16")
    assert recompute(made, reduced, num_windows=2).problems == []

    def turn(block: Block, frames: np.ndarray) -> None:  # a tenth of its length: cosine 0.995
        length = np.linalg.norm(block.scene, axis=1)
        block.scene[:, 0] += 0.1 * length

    problems = recompute(rewrite(made, turn), reduced, num_windows=2).problems
    assert ["other scene" in problem.reason for problem in problems] == [True] * 2


class Deaf(Extractor):
    """An extractor that hears the same everywhere, so that no window agrees."""

    def __call__(self, waveforms: torch.Tensor) -> Embeddings:
        ones = np.ones((len(waveforms), EMBEDDING_DIM), np.float32)
        return Embeddings(ones, None, ones[:, :NUM_TAGS], ones[:, 0])


def test_recompute_chooses_by_its_seed_and_spread_over_recordings(
    made: Store, tiny_checkpoint: Checkpoint
) -> None:
    """Where all windows are wrong, those that were chosen are named."""
    deaf, total = Deaf(tiny_checkpoint, device="cpu"), len(made.snapshot())

    def choose(num_windows: int, seed: int) -> set[str]:
        report = recompute(made, deaf, num_windows=num_windows, seed=seed)
        assert report.num_recomputed == min(num_windows, total)
        places = {problem.reason.partition(" s: ")[0] for problem in report.problems}
        assert len(places) == report.num_recomputed
        return places

    chosen = [choose(9, seed) for seed in (0, 0, 1, 2, 3)]
    assert chosen[0] == chosen[1]
    assert any(one != chosen[0] for one in chosen)
    for one in chosen:
        counts = Counter(place.rpartition(" at ")[0] for place in one)
        assert sorted(counts.values()) == [1] * 5 + [2] * 2  # seven recordings
    assert choose(99, seed=0) >= chosen[0]


def test_recompute_tells_how_far_it_is(made: Store, tiny_extractor: Extractor) -> None:
    heard = Listener()
    recompute(made, tiny_extractor, num_windows=3, listen=heard)
    assert heard.steps == [Step("listening", done, 3, "window") for done in (1, 2, 3)]


# --- what is wrong is named ----------------------------------------------------------------------


def other_scene(block: Block, frames: np.ndarray) -> None:
    block.scene[0, 5] += 0.001


def scenes_exchanged(block: Block, frames: np.ndarray) -> None:
    block.scene[[0, -1]] = block.scene[[-1, 0]]


def other_frames(block: Block, frames: np.ndarray) -> None:
    frames[0, -1, -1] += np.float16(0.5)


@pytest.mark.parametrize(
    ("change", "file", "what"),
    [
        (other_scene, "scene.parquet", "scene"),
        (scenes_exchanged, "scene.parquet", "scene"),
        (other_frames, "frames.parquet", "frames"),
    ],
)
def test_recompute_consistent_forgery_is_named_though_all_digests_are_right(
    change: Callable[[Block, np.ndarray], None],
    file: str,
    what: str,
    made: Store,
    library: Path,
    tiny_extractor: Extractor,
) -> None:
    start_s = made.snapshot().windows.window(0).start_s
    rewrite(made, change)
    assert verify_parts(made) == []
    first = recompute(made, tiny_extractor, num_windows=1000).problems[0]
    (part,) = made.parts()
    assert first.path == part.path / file
    assert first.reason.startswith(
        f"{library}/a.mp3 at {start_s:.2f} s: its audio gives other {what}"
    )


def test_recompute_forged_head_with_tags_to_match_is_found(
    made: Store, tiny_extractor: Extractor
) -> None:
    head = made.head()
    forged = head._replace(bias=head.bias + np.float32(0.1))
    content = save_safetensors(forged._asdict())
    (made.path / "head.safetensors").write_bytes(content)
    document = read_sealed(made.path / "store.json")
    document["head_sha256"] = hashlib.sha256(content).hexdigest()
    (made.path / "store.json").write_bytes(seal(document))
    store = rewrite(Store.open(made.path), tags_of_the_head)
    assert verify_parts(store) == []
    problems = recompute(store, tiny_extractor, num_windows=3).problems
    assert ["other tags" in problem.reason for problem in problems] == [True] * 3


def test_recompute_window_that_starts_elsewhere_is_named(
    made: Store, tiny_extractor: Extractor
) -> None:
    """What an indexer that counts samples wrongly would write."""

    def shift(block: Block, frames: np.ndarray) -> None:
        at = np.flatnonzero(block.windows.start_sample == 320_000)[0]
        block.windows.start_sample[at] -= 160

    report = recompute(rewrite(made, shift), tiny_extractor, num_windows=1000)
    assert report.problems
    assert all("at 10.00 s" in one.reason or "at 9.99 s" in one.reason for one in report.problems)


# --- audio that is not there ---------------------------------------------------------------------


def test_recompute_missing_and_changed_audio_is_counted_and_no_problem(
    made: Store, library: Path, tmp_path: Path, tiny_extractor: Extractor
) -> None:
    copy = Path(shutil.copytree(library, tmp_path / "copy"))
    roots = read_sealed(made.path / "libraries.json")["roots"]
    (made.path / "libraries.json").write_bytes(seal({"roots": dict.fromkeys(roots, str(copy))}))
    (copy / "dog.ogg").unlink()  # its copy is still there
    assert recompute(made, tiny_extractor, num_windows=1000).num_absent == 0
    (copy / "same.ogg").write_bytes((ANIMALS / "cow.ogg").read_bytes())
    (copy / "tiny.wav").unlink()
    (copy / "half.flac").write_bytes(b"")
    report = recompute(made, tiny_extractor, num_windows=1000)
    assert report.problems == []
    assert (report.num_absent, report.num_changed) == (1, 2)
    assert report.num_recomputed == len(made.snapshot()) - 3
    shutil.rmtree(copy)
    report = recompute(made, tiny_extractor, num_windows=5)
    assert report == DeepReport(num_absent=5)
    assert report.has_heard_nothing


def test_recompute_with_other_weights_is_refused(made: Store, demo_extractor: Extractor) -> None:
    with pytest.raises(IdentityError, match="weights"):
        recompute(made, demo_extractor)


def test_recompute_store_without_windows_has_nothing_to_say(
    tmp_path: Path, tiny_extractor: Extractor
) -> None:
    report = recompute(new_store(tmp_path / "store", tiny_extractor), tiny_extractor)
    assert report == DeepReport()
    assert not report.has_heard_nothing


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.whole
def test_verify_deep_says_what_it_did_and_exits_accordingly(run: Run, tmp_path: Path) -> None:
    library = tmp_path / "library"
    for name in ("dog.ogg", "cow.ogg"):
        library.mkdir(exist_ok=True)
        shutil.copyfile(ANIMALS / name, library / name)
    path = tmp_path / "store"
    words = ("--store", path, "--checkpoint", "demo", "--workers", "0")
    run("index", library, *words)
    outcome = run("verify", path, "--deep", "--sample", "1")
    assert outcome.out.splitlines()[0] == "1 window embedded again from the audio"
    assert run("verify", path, "--format", "json").data == {"problems": []}
    rewrite(Store.open(path), other_scene)
    run("build", path, "--anew")  # the index is of the part that was written anew
    data = run("verify", path, "--deep", "--format", "json", code=1).data
    assert data["recomputed"] == len(Store.open(path).snapshot())
    assert "other scene" in data["problems"][0]["reason"]
    (library / "dog.ogg").unlink()
    (library / "cow.ogg").write_bytes(b"RIFF")
    outcome = run("verify", path, "--deep", code=3)
    assert "nothing could be compared" in outcome.out
