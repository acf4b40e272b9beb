"""Text encoders: what a file names is neither downloaded nor read from wherever a path leads."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Run
from known_structure import make_captioned

import soundalike
from indexer.errors import QueryError, SoundalikeError
from search.projection.encoders import load_encoder
from search.upkeep.build import build

SIZES = {"train": 24, "val": 6}
QUICK: dict[str, Any] = {"epochs": 1, "dim": 8}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool, bool]]:
    """What a stand-in for sentence-transformers, which is an extra, was asked to load, and how."""
    asked: list[tuple[str, bool, bool]] = []

    class Model:
        def __init__(
            self, name: str, *, device: str, local_files_only: bool, trust_remote_code: bool
        ) -> None:
            assert device == "cpu"
            asked.append((name, local_files_only, trust_remote_code))
            if local_files_only and name == "not-here":
                raise OSError("no such model in the cache")

        def encode(self, texts: list[str], **_: object) -> np.ndarray[Any, Any]:
            return np.array([[len(text), text.count("a"), 1] for text in texts], np.float32)

    package = ModuleType("sentence_transformers")
    package.SentenceTransformer = Model  # type: ignore[attr-defined]
    logging = SimpleNamespace(disable_progress_bar=lambda: None)
    for name, module in {
        "sentence_transformers": package,
        "transformers": ModuleType("transformers"),
        "transformers.utils": ModuleType("transformers.utils"),
        "transformers.utils.logging": logging,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    load_encoder.cache_clear()
    yield asked  # type: ignore[misc]
    load_encoder.cache_clear()


def test_encoder_that_a_store_names_is_taken_from_this_machine_or_not_at_all(
    loaded: list[tuple[str, bool, bool]], tmp_path: Path, run: Run
) -> None:
    made = make_captioned(tmp_path, SIZES)
    build(made.store)
    store = made.store.path
    tables = [tmp_path / f"{split}.csv" for split in SIZES]
    sounds = soundalike.open(store)
    for name in ("is-here", "not-here"):
        sounds.train_projection(*tables, name=name, text_encoder=name, **QUICK)
    assert loaded == [("is-here", False, False), ("not-here", False, False)]
    sounds.search(text="a dog", projection="is-here")
    assert loaded[2:] == [("is-here", True, False)]
    with pytest.raises(SoundalikeError, match="cannot load the text encoder not-here"):
        sounds.search(text="a dog", projection="not-here")
    told = run("search", store, "--text", "a dog", "--projection", "not-here", code=1)
    assert "say --text-encoder not-here" in told.err
    before = len(loaded)
    asked = ("--text-encoder", "not-here", "--projection", "not-here")
    run("search", store, "--text", "a dog", *asked)
    run("project", store, tables[1], *asked, "--output", tmp_path / "out")
    assert all(how == ("not-here", False, False) for how in loaded[before:])
    told = run("search", store, "--tag", "Dog", "--text-encoder", "x", code=2)
    assert "--text-encoder goes with --text" in told.err


def test_encoder_that_is_a_path_is_loaded_only_if_it_is_named(
    loaded: list[tuple[str, bool, bool]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
) -> None:
    made = make_captioned(tmp_path, SIZES)
    build(made.store)
    tables = [tmp_path / f"{split}.csv" for split in SIZES]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    trained = soundalike.open(made.store.path).train_projection(
        *tables, text_encoder="model", **QUICK
    )
    path = str(tmp_path / "model")
    assert trained.projection.encoder == path
    loaded.clear()
    told = run("search", made.store.path, "--text", "a dog", code=1)
    assert f"the text encoder {path} is a folder" in told.err
    assert f"say --text-encoder {path}" in told.err
    assert told.err.count("\n") == 1
    assert loaded == []
    shutil.move(path, tmp_path / "moved")
    run("search", made.store.path, "--text", "a dog", "--text-encoder", tmp_path / "moved")
    for name in ("../x", "/x", "~/x", "a/b/c", "moved", ".", "..", "a/..", "moved/"):
        with pytest.raises(QueryError, match="loaded only if you name it"):
            load_encoder(name, is_asked_for=False)


def test_folder_called_hashed_is_not_the_hashed_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_captioned(tmp_path, SIZES)
    Path(tmp_path / "hashed").mkdir()
    monkeypatch.chdir(tmp_path)
    tables = [tmp_path / f"{split}.csv" for split in SIZES]
    trained = soundalike.open(made.store.path).train_projection(*tables, **QUICK)
    assert trained.projection.encoder == "hashed"
