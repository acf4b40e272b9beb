"""A store that 0.1.0 wrote opens, answers as it did then, and is neither damaged nor outdated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from safetensors.numpy import load_file
from safetensors.numpy import save as save_safetensors

from indexer.errors import CheckpointError, IdentityError, StoreError
from indexer.paths import bundled_path
from indexer.store.compaction import compact
from indexer.store.disk import read_sealed, write_whole
from indexer.store.reader import HEAD_FILE, Store
from indexer.store.schema import FORMAT_VERSION, STORE_FILE, LedgerRow
from indexer.store.writer import PartWriter
from search.asking.answers import Hit
from search.asking.embed import extractor_for
from search.asking.find import Question, find
from search.asking.left_out import LeftOut
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.generation.segments import INDEX_FOLDER, Generation
from search.upkeep.build import build
from search.upkeep.overview import overview
from search.upkeep.verify import verify
from soundalike.hints import with_hint

GOLDEN = Path(__file__).parent / "golden"
#: What 0.1.0 answered: by window id, by tag and by expression.
ANSWERS: dict[str, Any] = json.loads((GOLDEN / "store-0.1.0.json").read_text())
#: Of all these searches.
K, THRESHOLD = 5, 0.1


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The store, and its head, which is kept at half the size; store.json has its digest."""
    path = tmp_path / "old.soundalike"
    shutil.copytree(GOLDEN / "store-0.1.0", path)
    halves = load_file(GOLDEN / "head-0.1.0.safetensors")
    head = {name: one.astype(np.float32) for name, one in halves.items()}
    write_whole(path / HEAD_FILE, save_safetensors(head))
    return path


def ask(index: SoundIndex, terms: Terms, window_id: int | None = None) -> list[Hit]:
    question = Question()
    if window_id is not None:
        vectors, windows, *_ = index.windows_of([window_id])
        question = Question(vectors, frozenset(LeftOut(window.recording_id) for window in windows))
    [hits] = index.hits(find(index, [question], Scope.of(terms, index.opened)))
    return hits


def by_window(index: SoundIndex, window_id: str) -> list[Hit]:
    return ask(index, Terms(k=K), int(window_id))


def by_tag(index: SoundIndex, tag: str) -> list[Hit]:
    return ask(index, Terms(k=K, tags=(tag,), threshold=THRESHOLD))


def by_expression(index: SoundIndex, where: str) -> list[Hit]:
    return ask(index, Terms(k=K, where=where, threshold=THRESHOLD))


ASKED: dict[str, Callable[[SoundIndex, str], list[Hit]]] = {
    "by_window": by_window,
    "by_tag": by_tag,
    "by_expression": by_expression,
}


def as_data(hit: Hit) -> dict[str, Any]:
    """A hit as it was written down, but for its score."""
    return {
        "window_id": hit.window_id,
        "recording_id": hit.recording_id.hex(),
        "paths": [str(path) for path in hit.paths],
        "start_s": hit.start_s,
        "end_s": hit.end_s,
        "tags": [[heard.tag.index, heard.probability] for heard in hit.tags],
    }


def assert_answers_as_before(path: Path) -> None:
    index = SoundIndex.open(path)
    num_asked = 0
    for way, ask_for in ASKED.items():
        for words, expected in ANSWERS[way].items():
            hits = ask_for(index, words)
            assert [hit.score for hit in hits] == pytest.approx(
                [one["score"] for one in expected], abs=1e-6
            )
            without_score = [
                {name: value for name, value in one.items() if name != "score"} for one in expected
            ]
            assert [as_data(hit) for hit in hits] == without_score, (way, words)
            num_asked += 1
    assert num_asked == 10


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".")  # a lock
    }


def test_old_index_is_to_be_built_anew_and_one_line_says_so(old: Path) -> None:
    with pytest.raises(StoreError) as caught:
        SoundIndex.open(old)
    told = with_hint(caught.value)
    assert told.endswith(f"it has to be built anew; run: soundalike build {old}")
    assert "\n" not in told
    assert [(one.about, one.value) for one in verify(old)] == [("build", old)]


def test_old_store_answers_as_it_did(old: Path) -> None:
    build(Store.open(old))
    assert_answers_as_before(old)


def test_old_store_holds_what_it_did(old: Path) -> None:
    build(Store.open(old))
    held = overview(old)
    expected = dict(ANSWERS["info"])
    failures = {" ".join(key): number for key, number in held.failures.items()}
    assert failures == expected.pop("failures")
    assert {name: getattr(held, name) for name in expected} == expected
    assert held.identity.padding == "zero"  # of which it knew nothing
    assert (held.num_indexed, held.num_new_parts, held.is_sketched) == (5, 0, False)


def test_old_store_is_as_it_was_written_and_building_changes_its_index_alone(old: Path) -> None:
    before = files_below(old)
    store = Store.open(old)
    assert build(store).path == Generation.current(store).path
    after = files_below(old)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {Path(name).parts[0] for name in changed} == {INDEX_FOLDER}
    assert verify(old) == []
    assert build(store).path == Generation.current(store).path
    assert files_below(old) == after


def test_old_store_with_a_new_index_answers_as_it_did(old: Path) -> None:
    shutil.rmtree(old / INDEX_FOLDER)
    assert build(Store.open(old)).num_windows == ANSWERS["info"]["num_windows"]
    assert_answers_as_before(old)
    assert verify(old) == []


def test_old_store_says_where_its_checkpoint_is_when_audio_is_asked(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo of its time is another one than that of today."""
    monkeypatch.setenv("SOUNDALIKE_CHECKPOINTS", str(tmp_path))
    path = tmp_path / "demo-0.1.0.safetensors"
    with pytest.raises(CheckpointError) as caught:
        extractor_for(Store.open(old))
    assert str(caught.value) == (
        "checkpoint 'demo-0.1.0' comes with no version any more; put checkpoints/demo.safetensors "
        f"of soundalike 0.1.0 (MD5 f3e0bcb78ed6a577c52f6ba55a5e0462) at {path} yourself, or make "
        "the store anew with another"
    )
    with pytest.raises(IdentityError, match=r"Use the one that it was made with \(demo-0\.1\.0\)"):
        extractor_for(Store.open(old), "demo")
    shutil.copy(bundled_path("checkpoints/demo.safetensors"), path)
    with pytest.raises(CheckpointError, match=r"is not checkpoint 'demo-0\.1\.0', or damaged"):
        extractor_for(Store.open(old))


def test_old_store_that_is_added_to_becomes_one_of_this_version(old: Path) -> None:
    store = Store.open(old)
    before = store.latest_files()
    assert before["audio_id"].null_count == before["first_sample"].null_count == len(before) > 0
    row = LedgerRow(
        path_id=1, library_id="L", path="a.wav", size=0, mtime_ns=0, status="ok",
        recording_id=b"\1" * 16, audio_id=b"\2" * 16, first_sample=62_976,
    )  # fmt: skip
    with PartWriter(store, store.parts()[0].origin) as writer:
        writer.add_ledger([row])
        writer.commit()
    document = read_sealed(old / STORE_FILE)
    assert document["format_version"] == FORMAT_VERSION
    assert document["written_by"] == f"soundalike {version('soundalike')}"  # which older ones name
    again = Store.open(old)
    assert again.identity == store.identity
    assert again.files_at(np.array([1])) == [row]
    assert again.latest_files().filter(pc.not_equal(pc.field("path_id"), 1)).equals(before)
    compact(again)
    assert again.files_at(np.array([1])) == [row]
    assert again.latest_files().filter(pc.not_equal(pc.field("path_id"), 1)).equals(before)
