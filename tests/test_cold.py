"""What is not loaded: what needs no network does without it, and is as right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Run
from synthetic import write_tone

import soundalike
from indexer.audio.times import FileSpan
from indexer.embedding.extractor import Extractor
from indexer.errors import CheckpointError, IdentityError, LibraryError, QueryError
from indexer.model.checkpoint import load_checkpoint
from indexer.model.known import KNOWN_CHECKPOINTS, recall_weights, recognise
from indexer.model.remembered import file_key, recall, remember
from indexer.progress import LOADING, News, Step
from indexer.run.config import ExtractConfig, Settings
from indexer.run.extract import extract
from indexer.run.prepare import reopen
from indexer.run.survey import find_files, survey
from indexer.store.creation import create_store
from indexer.store.reader import Store
from indexer.windows import SAMPLE_RATE_HZ, Geometry
from search.asking.embed import embed_clip
from search.asking.example import Example, find_stored, recording_of
from search.asking.sound_index import SoundIndex
from search.upkeep.build import build
from search.upkeep.overview import overview

IN_PROCESS = ExtractConfig(num_workers=0)

#: Each takes half a second or more. Most only ever served to make one small matrix, and pandas is
#: imported by pyarrow, if nobody prevents it.
HEAVY = {
    *("librosa", "scipy.signal", "scipy.stats", "torchlibrosa", "sklearn", "numba", "pandas"),
    *("torch", "torchaudio", "av", "soundfile"),
}

#: Runs the command, and says at its end which modules were loaded.
_COMMAND = """
import atexit, json, sys
from pathlib import Path
loaded = Path(sys.argv.pop(1))
atexit.register(lambda: loaded.write_text(json.dumps(list(sys.modules))))
from soundalike.__main__ import main
main()
"""


@dataclass(frozen=True)
class Kept:
    """A library, its store, and the checkpoint as a file."""

    library: Path
    store: Path
    checkpoint: Path

    def words(self, command: str) -> list[str]:
        """A command with the paths in it."""
        named = {"LIBRARY": self.library, "STORE": self.store, "CHECKPOINT": self.checkpoint}
        return [str(named.get(word, word)) for word in command.split()]


def _make(folder: Path, extractor: Extractor, checkpoint: Path) -> Kept:
    library = folder / "library"
    for name, seconds in {"low": 4.0, "middle": 25.0, "high": 10.0}.items():
        # Loud enough to be asked as it is: what is quiet takes the network to be asked louder.
        write_tone(library / f"{name}.wav", seconds, 200 + 10 * seconds, peak=0.7)
    store = _create(folder / "store", extractor, checkpoint)
    extract(library, store, extractor, IN_PROCESS)
    build(store)
    return Kept(library, store.path, checkpoint)


@pytest.fixture(scope="module")
def kept(
    whole: None,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_extractor: Extractor,
    tiny_file: Path,
) -> Kept:
    """For commands in processes of their own, which change nothing."""
    return _make(tmp_path_factory.mktemp("kept"), tiny_extractor, tiny_file)


def _create(
    path: Path, extractor: Extractor, checkpoint: Path, geometry: Geometry | None = None
) -> Store:
    return create_store(
        path,
        extractor.identity(geometry or Geometry()),
        extractor.head(),
        checkpoint=str(checkpoint),
        written_by="tests",
    )


def loaded_by(words: list[str], folder: Path) -> set[str]:
    """Run a command in a process of its own; return the names of the modules that it loaded."""
    names = folder / "loaded.json"
    ran = subprocess.run(
        [sys.executable, "-c", _COMMAND, names, *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(names.read_text()))


# --- which modules -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "tags STORE",
        "info STORE",
        "search STORE --tag Speech --threshold 0",
        "search STORE LIBRARY/middle.wav",
        "batch STORE LIBRARY --output OUT/hits.parquet",
        "duplicates STORE",
        "index LIBRARY --store STORE",
        "build STORE",
        "compact STORE",
        "verify STORE",
    ],
)
def test_what_needs_no_network_loads_neither_it_nor_pytorch_nor_a_decoder(
    kept: Kept, tmp_path: Path, command: str
) -> None:
    words = [
        word.replace("LIBRARY/", f"{kept.library}/").replace("OUT", str(tmp_path))
        for word in kept.words(command)
    ]
    assert loaded_by(words, tmp_path) & HEAVY == set()


@pytest.mark.parametrize(
    "command", ["search STORE NEW --device cpu", "tag NEW --checkpoint CHECKPOINT"]
)
def test_what_embeds_loads_pytorch_and_nothing_for_the_mel_bands(
    kept: Kept, tmp_path: Path, command: str
) -> None:
    new = write_tone(tmp_path / "new.wav", 3.0, 1234, rate=44_100)
    words = [word.replace("NEW", str(new)) for word in kept.words(command)]
    assert loaded_by(words, tmp_path) & HEAVY == {"torch", "av", "soundfile"}


@pytest.mark.whole
def test_command_has_no_pandas_and_everybody_else_has() -> None:
    code = """
import importlib.util, sys
from soundalike.command import WithoutPandas
finder = WithoutPandas()
sys.meta_path.insert(0, finder)
import pyarrow
print(pyarrow.array([1]).to_pylist(), "pandas" in sys.modules)
print(importlib.util.find_spec("pandas").name)
sys.meta_path.remove(finder)
import pandas
print(pandas.DataFrame({"a": [1]}).shape, len(pyarrow.table({"a": [1]}).to_pandas()))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines() == ["[1] False", "pandas", "(1, 1) 1"]


# --- a clip that the store knows -----------------------------------------------------------------


@pytest.fixture
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Remember nothing of what other tests have loaded; what this one does is in the folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def without_checkpoint(kept: Kept) -> soundalike.Sounds:
    """Open the store with its checkpoint gone: whatever goes well has not loaded it."""
    kept.checkpoint.unlink()
    return soundalike.open(kept.store, device="cpu")


@pytest.fixture
def own(whole: None, tmp_path: Path, tiny_file: Path) -> Kept:
    """One of a test's own, whose checkpoint may be removed or replaced."""
    checkpoint = shutil.copyfile(tiny_file, tmp_path / "own.safetensors")
    return _make(tmp_path, Extractor(load_checkpoint(checkpoint), device="cpu"), checkpoint)


@pytest.mark.parametrize("name", ["low", "middle", "high"])
def test_known_clip_is_answered_as_if_it_had_been_embedded(own: Kept, name: str) -> None:
    file = own.library / f"{name}.wav"
    asked = soundalike.open(own.store, device="cpu")
    clip = asked.embed(file)
    assert clip.asks is not None
    embedded = asked.search(clip.vectors[clip.asks], include_self=True)
    sounds = without_checkpoint(own)
    answer = sounds.search(file, include_self=True, tag_weight=0)  # vectors have no tags
    assert [hit.window_id for hit in answer] == [hit.window_id for hit in embedded]
    np.testing.assert_allclose(
        [hit.score for hit in answer], [hit.score for hit in embedded], atol=1e-6
    )
    assert {hit.paths[0].stem for hit in sounds.search(file)} == {"low", "middle", "high"} - {name}


def test_known_clip_is_known_by_its_bytes_wherever_it_is(own: Kept, tmp_path: Path) -> None:
    copy = shutil.copyfile(own.library / "middle.wav", tmp_path / "elsewhere.wav")
    answers = without_checkpoint(own).search_many([copy, own.library / "low.wav"])
    assert [len(answer) for answer in answers] == [2, 4]


def test_span_of_a_known_clip_is_embedded(own: Kept) -> None:
    sounds = soundalike.open(own.store, device="cpu")
    file = own.library / "middle.wav"
    expected = sounds.search(sounds.embed(file, start=3, duration=4).vectors, include_self=True)
    terms = {"include_self": True, "tag_weight": 0, "level": False}  # as vectors ask
    found = sounds.search(file, start=3, duration=4, **terms)
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    assert found[0].score < 1 - 1e-4  # what is stored of it are other windows


def stored_of(store: Path, file: Path) -> Example | None:
    return find_stored(SoundIndex.open(store), recording_of(file))


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(),
        Geometry(hop_samples=3 * SAMPLE_RATE_HZ),
        Geometry(hop_samples=20 * SAMPLE_RATE_HZ),
        Geometry(native=True),
        Geometry(hop_samples=5 * SAMPLE_RATE_HZ, native=True),
    ],
)
@pytest.mark.whole
def test_stored_example_is_that_of_embedding_the_file(
    tmp_path: Path, tiny_extractor: Extractor, tiny_file: Path, geometry: Geometry
) -> None:
    library = tmp_path / "library"
    files = [
        write_tone(library / f"{seconds}.wav", seconds, 300, rate)
        for seconds, rate in ((0.1, 32_000), (10, 44_100), (23, 32_000), (31, 22_050))
    ]
    store = _create(tmp_path / "store", tiny_extractor, tiny_file, geometry)
    extract(library, store, tiny_extractor, IN_PROCESS)
    build(store)
    for file in files:
        stored = stored_of(store.path, file)
        clip = embed_clip(FileSpan(file), tiny_extractor, store.identity)
        assert stored is not None
        assert stored.windows == clip.windows
        assert stored.recording_id == clip.recording_id
        np.testing.assert_allclose(stored.vectors, clip.vectors, atol=1e-5)


@pytest.mark.whole
def test_recording_of_which_only_a_span_is_stored_is_not_known_whole(
    tmp_path: Path, tiny_extractor: Extractor, tiny_file: Path
) -> None:
    file = write_tone(tmp_path / "library" / "long.wav", 25.0, 440)
    listed = tmp_path / "spans.csv"
    listed.write_text("path,start,end\nlong.wav,0,10\nlong.wav,3,9\n")
    store = _create(tmp_path / "store", tiny_extractor, tiny_file)
    spans = ExtractConfig(num_workers=0, files_from=listed)
    extract(file.parent, store, tiny_extractor, spans)
    build(store)
    assert stored_of(store.path, file) is None

    extract(file.parent, store, tiny_extractor, IN_PROCESS)  # whole, in the store but not the index
    assert stored_of(store.path, file) is None
    build(store)  # now there are windows of both
    stored = stored_of(store.path, file)
    assert stored is not None
    assert [(one.start_s, one.end_s) for one in stored.windows] == [(0, 10), (10, 20), (20, 25)]


@pytest.mark.whole
def test_rows_of_deleted_recordings_are_nobodys(
    tmp_path: Path, tiny_extractor: Extractor, tiny_file: Path
) -> None:
    library = tmp_path / "library"
    files = {name: write_tone(library / f"{name}.wav", 10.0, 200 + ord(name)) for name in "abcd"}
    store = _create(tmp_path / "store", tiny_extractor, tiny_file)
    extract(library, store, tiny_extractor, IN_PROCESS)
    build(store)
    gone = {name: files[name].rename(tmp_path / f"{name}.wav") for name in "ac"}
    extract(library, store, tiny_extractor, IN_PROCESS)
    build(store)
    assert [stored_of(store.path, file) for file in gone.values()] == [None, None]
    for name in "bd":
        stored = stored_of(store.path, files[name])
        assert stored is not None
        expected = embed_clip(FileSpan(files[name]), tiny_extractor, store.identity).vectors
        np.testing.assert_allclose(stored.vectors, expected, atol=1e-5)


@pytest.mark.whole
def test_recording_is_known_by_any_of_several_stores(
    kept: Kept, tmp_path: Path, tiny_extractor: Extractor, tiny_file: Path
) -> None:
    file = write_tone(tmp_path / "library" / "other.wav", 12.0, 777)
    store = _create(tmp_path / "store", tiny_extractor, tiny_file)
    extract(file.parent, store, tiny_extractor, IN_PROCESS)
    build(store)
    index = SoundIndex.open(kept.store, store.path)
    for one, num_windows in ((file, 2), (kept.library / "middle.wav", 3)):
        stored = find_stored(index, recording_of(one))
        assert stored is not None
        assert len(stored.windows) == num_windows
    assert find_stored(index, bytes(16)) is None


def test_ledger_that_cannot_be_read_is_no_reason_not_to_answer(own: Kept) -> None:
    (ledger,) = own.store.rglob("files.parquet")
    file = own.library / "middle.wav"
    before = soundalike.open(own.store, device="cpu").search(file)
    ledger.write_bytes(ledger.read_bytes()[:-9])
    assert stored_of(own.store, file) is None
    after = soundalike.open(own.store, device="cpu").search(file)  # embedded
    assert [hit.window_id for hit in after] == [hit.window_id for hit in before]


def test_known_clip_with_another_checkpoint_is_refused(own: Kept, forgetful: Path) -> None:
    other = REPOSITORY / "checkpoints" / "demo.safetensors"
    for _ in range(2):  # the second time its weights are remembered
        with pytest.raises(IdentityError, match="another checkpoint"):
            soundalike.open(own.store, checkpoint=other).search(own.library / "low.wav")


def test_clip_that_cannot_be_read_is_told_before_anything_is_loaded(own: Kept) -> None:
    heard: list[News] = []
    empty = own.library / "empty.wav"
    empty.touch()
    sounds = soundalike.open(own.store, listen=heard.append)
    with pytest.raises(QueryError, match="empty file"):
        sounds.search(empty)
    assert LOADING not in heard


@pytest.mark.whole
def test_long_clip_tells_how_far_it_is_heard(own: Kept, tmp_path: Path) -> None:
    clip = write_tone(tmp_path / "long.wav", 25.0, 555)
    heard: list[News] = []
    sounds = soundalike.open(own.store, device="cpu", listen=heard.append)
    listening = [Step("listening", number, None, "window") for number in range(4)]
    sounds.search(clip, level=False)
    assert heard == [LOADING, *listening]
    heard.clear()
    assert len(sounds.tag(clip)) == 3
    assert heard == listening
    heard.clear()
    sounds.search(own.library / "middle.wav")  # which the store knows
    assert heard == []


# --- a run that finds nothing new ----------------------------------------------------------------


def test_index_with_nothing_new_needs_no_checkpoint(own: Kept) -> None:
    report = without_checkpoint(own).index(own.library, num_workers=0)
    assert (report.num_unchanged, report.num_windows, report.device) == (3, 0, None)


def test_index_records_what_is_gone_without_the_network(own: Kept) -> None:
    (own.library / "low.wav").unlink()
    sounds = without_checkpoint(own)
    assert sounds.index(own.library).num_gone == 1
    assert sounds.num_windows == 4
    assert overview(own.store).origins == {("cpu", "fp32"): 1}  # nothing else was computed
    sounds.compact()
    assert overview(own.store).origins == {("cpu", "fp32"): 1}
    assert sounds.verify().problems == []


def test_index_of_a_library_that_lost_most_is_refused_without_the_network(own: Kept) -> None:
    for name in ("low", "middle"):
        (own.library / f"{name}.wav").unlink()
    sounds = without_checkpoint(own)
    with pytest.raises(LibraryError, match="2 of 3 files"):
        sounds.index(own.library)
    assert sounds.index(own.library, allow_gone=True).num_gone == 2


@pytest.mark.parametrize("settings", [{"hop_s": 5}, {"frames": "none"}, {"native": True}])
def test_index_with_nothing_new_refuses_other_settings(
    own: Kept, settings: dict[str, object]
) -> None:
    with pytest.raises(IdentityError, match="made in another way"):
        without_checkpoint(own).index(own.library, **settings)


def test_index_with_nothing_new_refuses_another_checkpoint(own: Kept, forgetful: Path) -> None:
    other = REPOSITORY / "checkpoints" / "demo.safetensors"
    for _ in range(2):  # the second time its weights are remembered
        with pytest.raises(IdentityError, match="weights"):
            soundalike.open(own.store, checkpoint=other).index(own.library)
    load_checkpoint(own.checkpoint)
    shutil.copyfile(other, own.checkpoint)  # the store's own, replaced
    load_checkpoint(own.checkpoint)
    with pytest.raises(IdentityError, match="weights"):
        soundalike.open(own.store).index(own.library)


@pytest.mark.parametrize("wrong", ["0" * 64, "", "nonsense"])
def test_wrong_memory_of_the_weights_neither_refuses_nor_accepts(
    own: Kept, forgetful: Path, wrong: str
) -> None:
    other = REPOSITORY / "checkpoints" / "demo.safetensors"
    for file in (own.checkpoint, other):
        remember("weights", file_key(file), wrong)
    assert soundalike.open(own.store).index(own.library).num_unchanged == 3
    for file in (own.checkpoint, other):
        remember("weights", file_key(file), wrong)
    with pytest.raises(IdentityError, match="weights"):
        soundalike.open(own.store, checkpoint=other).index(own.library)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:007", ""])
def test_device_that_could_be_none_is_refused_where_nothing_is_loaded(
    run: Run, own: Kept, device: str
) -> None:
    words = ("index", own.library, "--store", own.store, "--device", device)
    assert f"unknown device '{device}'" in run(*words, code=1).err
    words = ("search", own.store, own.library / "low.wav", "--device", device)
    assert f"unknown device '{device}'" in run(*words, code=1).err
    with pytest.raises(QueryError, match="precision is 'auto' or 'fp32' or 'bf16', got 'fp16'"):
        soundalike.open(own.store, precision="fp16")  # type: ignore[arg-type]


def test_store_is_as_it_was_if_the_network_cannot_be_loaded(own: Kept, tmp_path: Path) -> None:
    write_tone(tmp_path / "second library" / "a.wav", 2.0, 321)
    before = {path: path.stat().st_mtime_ns for path in own.store.rglob("*.json")}
    with pytest.raises(CheckpointError):
        without_checkpoint(own).index(tmp_path / "second library")
    assert {path: path.stat().st_mtime_ns for path in own.store.rglob("*.json")} == before


def test_total_of_a_run_has_the_walk(own: Kept) -> None:
    config = ExtractConfig(num_workers=0)
    found = find_files(own.library, config)
    assert 0 < found.seconds < 60
    found.seconds = 1000.0
    with survey(found, Store.open(own.store), config) as surveyed:
        assert 1000 < surveyed.settle(config).seconds["total"] < 1060


def test_index_with_something_new_loads_once_and_says_so(own: Kept) -> None:
    heard: list[News] = []
    sounds = soundalike.open(own.store, device="cpu", listen=heard.append)
    write_tone(own.library / "new.wav", 3.0, 1000)
    assert sounds.index(own.library, num_workers=0).num_embedded == 1
    write_tone(own.library / "newer.wav", 3.0, 1100)
    assert sounds.index(own.library, num_workers=0).num_embedded == 1
    assert heard.count(LOADING) == 1


def test_index_prints_that_there_was_nothing(run: Run, own: Kept) -> None:
    said = run("index", own.library, "--store", own.store).out
    assert said.startswith("nothing to embed; looking took ")
    assert "files: 3 unchanged" in said
    data = run("index", own.library, "--store", own.store, "--format", "json").data
    assert data["device"] is None


# --- what is remembered --------------------------------------------------------------------------


def test_reopen_knows_the_weights_of_a_checkpoint_that_was_loaded_before(
    own: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = Settings(checkpoint=str(own.checkpoint))
    assert recall_weights(str(own.checkpoint)) is None
    assert reopen(own.store, asked) is None
    digest = load_checkpoint(own.checkpoint).digest
    assert recall_weights(str(own.checkpoint)) == digest
    assert reopen(own.store, asked) == Store.open(own.store)
    own.checkpoint.write_bytes(own.checkpoint.read_bytes() + b" ")
    assert recall_weights(str(own.checkpoint)) is None
    own.checkpoint.unlink()
    assert recall_weights(str(own.checkpoint)) is None


def test_remembered_is_by_kind_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("weights", "a\nkey", "one")
    remember("weights", "another", "two")
    remember("arithmetic", "a\nkey", "three")
    assert recall("weights", "a\nkey") == "one"
    assert recall("weights", "another") == "two"
    assert recall("arithmetic", "a\nkey") == "three"
    assert recall("arithmetic", "another") is None
    remember("weights", "another", "new")
    assert recall("weights", "another") == "new"


def test_what_a_published_file_taught_outlives_a_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checkpoint = KNOWN_CHECKPOINTS["convnext-tiny-471"]
    monkeypatch.setattr("indexer.model.known.md5_of", lambda _: checkpoint.md5)
    assert recognise(tmp_path / "any.pth", "d" * 64) == checkpoint
    remember("arithmetic", "key", "value")
    monkeypatch.setattr("indexer.model.remembered.version", lambda _: "99.0")
    assert checkpoint.weights == "d" * 64
    assert recall("arithmetic", "key") is None


def test_remembered_damage_is_as_if_nothing_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("weights", "key", "value")
    (file,) = tmp_path.rglob("*.txt")
    for damage in (b"", b"\xff\xfe", b"'another key'\nvalue"):
        file.write_bytes(damage)
        assert recall("weights", "key") is None


def test_remember_without_a_place_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    remember("weights", "key", "value")
    assert recall("weights", "key") is None
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: Path("~/cache"))  # no home
    monkeypatch.chdir(tmp_path)
    remember("weights", "key", "value")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_file_key_changes_with_the_file(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"1")
    other.write_bytes(b"1")
    keys = {file_key(file), file_key(other)}
    dates = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(b"2")
    os.utime(file, ns=dates)  # as unpacking an archive does
    keys.add(file_key(file))
    file.write_bytes(b"22")
    keys.add(file_key(file))
    other.replace(file)
    keys.add(file_key(file))
    assert len(keys) == 5
