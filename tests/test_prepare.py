"""Opening or creating the store of a run, with the extractor that fits it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Run
from faults import fault
from synthetic import write_tone

from indexer.errors import CheckpointError, IdentityError, QueryError, SoundalikeError, StoreError
from indexer.run.config import Settings
from indexer.run.prepare import default_store, prepare
from indexer.windows import Geometry


def test_prepare_new_store_has_the_defaults_and_the_head(tmp_path: Path) -> None:
    store, extractor = prepare(tmp_path / "store", Settings(checkpoint="demo"))
    assert (store.checkpoint, store.known) == ("demo", "demo")
    assert store.identity == extractor.identity(Geometry(padding="repeat"))
    assert (store.identity.frames, store.identity.hop_samples) == ("pooled", 320_000)
    assert store.head().weight.shape == (527, 768)
    weight = extractor.checkpoint.model.head_audioset.weight.detach().numpy()
    assert (store.head().weight == weight).all()


def test_prepare_options_not_given_are_taken_from_the_store(tmp_path: Path) -> None:
    asked = Settings(checkpoint="demo", frames="full", hop_s=2.5, native=True)
    first, _ = prepare(tmp_path / "store", asked)
    again, extractor = prepare(tmp_path / "store")
    assert again == first
    assert extractor.frames == "full"
    assert again.identity.geometry == Geometry(80_000, native=True)


def test_prepare_native_has_the_limit_that_was_asked_for_and_by_default_60_s(
    tmp_path: Path,
) -> None:
    new, _ = prepare(tmp_path / "new", Settings(checkpoint="demo", native=True))
    assert new.identity.geometry.longest_samples == 60 * 32_000
    asked = Settings(checkpoint="demo", native=True, native_max_s=90)
    longer, _ = prepare(tmp_path / "longer", asked)
    assert longer.identity.geometry.longest_samples == 90 * 32_000
    again, _ = prepare(tmp_path / "longer", Settings(native_max_s=90))  # native, as the store is
    assert again == longer
    with pytest.raises(IdentityError, match="native window is 90 s there and 60 s here"):
        prepare(tmp_path / "longer", Settings(native_max_s=60))


def test_prepare_limit_of_native_where_nothing_is_native_is_refused(
    run: Run, tmp_path: Path
) -> None:
    with pytest.raises(QueryError, match="of up to 90 s are one window only if") as raised:
        prepare(tmp_path / "store", Settings(checkpoint="demo", native_max_s=90))
    assert raised.value.about == "native"
    write_tone(tmp_path / "library" / "a.wav", 1.0)
    command = ("extract", tmp_path / "library", tmp_path / "store", "--native-max", "90")
    outcome = run(*command, "--checkpoint", "demo", code=None)
    fault("R9c").require(outcome.code, outcome.err)
    assert not (tmp_path / "store").exists()


def test_prepare_limit_of_native_keeps_no_padded_stores_apart(tmp_path: Path) -> None:
    """What was stored before there was a limit has 30 s there, which means nothing."""
    store, extractor = prepare(tmp_path / "store", Settings(checkpoint="demo"))
    for limit in (1_000, 960_000, 1_920_000):
        geometry = Geometry(native_samples=limit, padding="repeat")
        assert extractor.identity(geometry) == store.identity
    assert store.identity.native_samples == 960_000


@pytest.mark.parametrize(
    ("settings", "padding"),
    [
        (Settings(checkpoint="demo"), "repeat"),
        (Settings(checkpoint="demo", padding="zero"), "zero"),
        (Settings(checkpoint="demo", native=True), "zero"),  # as published features have it
        (Settings(checkpoint="demo", native=True, padding="repeat"), "repeat"),
    ],
)
def test_prepare_new_stores_repeat_short_audio_unless_windows_are_native(
    tmp_path: Path, settings: Settings, padding: str
) -> None:
    store, _ = prepare(tmp_path / "store", settings)
    assert store.identity.padding == store.identity.geometry.padding == padding
    assert prepare(tmp_path / "store", Settings())[0] == store  # where nothing is asked


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (Settings(frames="none"), "frames is 'pooled' there and 'none' here"),
        (Settings(hop_s=5), "the hop is 10 s there and 5 s here"),
        (Settings(native=True), "native is no there and yes here"),
        (Settings(padding="zero"), "padding is repeat there and zero here"),
    ],
)
def test_prepare_other_options_than_the_stores_are_named(
    tmp_path: Path, settings: Settings, field: str
) -> None:
    prepare(tmp_path / "store", Settings(checkpoint="demo"))
    with pytest.raises(IdentityError, match=field):
        prepare(tmp_path / "store", settings)


def test_prepare_checkpoint_file_is_remembered_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(REPOSITORY / "checkpoints" / "demo.safetensors", tmp_path / "mine.safetensors")
    store, _ = prepare(tmp_path / "store", Settings(checkpoint="mine.safetensors"))
    assert store.checkpoint == str(tmp_path / "mine.safetensors")
    assert store.known == "demo"  # whatever its file is called
    by_name, _ = prepare(tmp_path / "store", Settings(checkpoint="demo"))  # the same weights
    assert by_name == store


def test_prepare_missing_checkpoint_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        prepare(tmp_path / "store", Settings(checkpoint=str(tmp_path / "no.pth")))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("hop_s", [0.0, -1.0, 0.001, float("inf"), float("nan")])
def test_prepare_hop_that_makes_no_sense_is_an_error(tmp_path: Path, hop_s: float) -> None:
    message = "hop_s is a number, got nan" if np.isnan(hop_s) else "hop_s must be at "
    with pytest.raises(SoundalikeError, match=message):
        prepare(tmp_path / "store", Settings(checkpoint="demo", hop_s=hop_s))


def test_prepare_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="a store needs a directory of its own"):
        prepare(tmp_path, Settings(checkpoint="demo"))


def test_default_store_is_named_after_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "birds").mkdir()
    assert default_store(tmp_path / "birds") == Path("birds.soundalike")
    monkeypatch.chdir(tmp_path / "birds")
    assert default_store(Path()) == Path("birds.soundalike")


@pytest.mark.whole
def test_store_beside_the_library_is_not_passed_over_for_a_new_one(
    tmp_path: Path, tiny_file: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "field" / "birds"
    write_tone(library / "a.wav", 1.0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "field")
    words = ("index", library, "--checkpoint", tiny_file)
    told = run(*words)
    fault("F2b").require(told.code, told.err)
    fault("F3").require(told.code, told.out)
    assert str(tmp_path / "field" / "birds.soundalike") in told.err
    assert "a new store" not in run(*words).err
    monkeypatch.chdir(tmp_path / "elsewhere")
    told = run(*words, code=1)
    fault("F2a").require(told.code, told.err)
    assert list(Path().iterdir()) == []
    beside = told.err.rpartition("--store ")[2].strip()
    assert "nothing to embed" in run(*words, "--store", beside).out
    assert "embedded 1 file" in run(*words, "--store", "birds.soundalike").out
    assert "nothing to embed" in run(*words).out  # now there is one here
