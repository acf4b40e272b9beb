"""A part that is gone, and an index that is damaged: nothing gets smaller without a word."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from faults import fault
from sketched import sketching
from synthetic import Synthetic, make_store, write_tone
from test_extract import IN_PROCESS
from test_verify_index import flipped, index_files

from indexer.embedding.extractor import Extractor
from indexer.errors import DamagedStoreError
from indexer.paths import path_id
from indexer.run.extract import extract
from indexer.store.creation import create_store
from indexer.store.reader import Store
from indexer.windows import Geometry
from search.export.windows import export_windows
from search.generation.missing import find_missing, missing_parts
from search.generation.segments import Generation
from search.upkeep.build import build
from search.upkeep.compact import compact
from search.upkeep.overview import overview
from search.upkeep.verify import verify


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    """Three parts, the last without windows, and an index of them."""
    made = make_store(tmp_path / "s", frames="none")
    made.add({"a": 4, "b": 1})
    made.add({"c": 2}, seed=1)
    made.rename("b.wav", "d.wav")
    build(made.store)
    return made


def parts_of(made: Synthetic) -> list[Path]:
    return sorted((made.store.path / "parts").iterdir())


def indexed_ids(made: Synthetic) -> set[int]:
    generation = Generation.current(made.store)
    return set(generation.window_ids(generation.live_rows()).tolist())


def test_missing_part_is_named_with_what_it_costs_and_nothing_gets_smaller(
    made: Synthetic, tmp_path: Path, run: Run
) -> None:
    path, lost = made.store.path, parts_of(made)[1]
    lost.rename(tmp_path / "held")
    before = indexed_ids(made)
    told = run("verify", path, code=None)
    assert str(lost) in told.out
    fault("P1a").require(told.code, told.out)
    for words in (
        ("build", path),
        ("compact", path),
        ("export", "csv", path, "--output", tmp_path / "a.csv"),
        ("export", "npy", path, "--output", tmp_path / "a.npy"),
        ("export", "jsonl", path, "--output", tmp_path / "a.jsonl"),
    ):
        told = run(*words, code=None)
        assert str(lost) in told.err
        fault("P1b").require(told.code, told.err)
    assert {one.name for one in tmp_path.iterdir()} == {"held", "s"}
    assert overview(path).num_missing_parts == 1
    assert "1 part that it was made from missing" in run("info", path).out
    assert len(before) == 7
    assert indexed_ids(made) == before
    (tmp_path / "held").rename(lost)
    assert (missing_parts(made.store), verify(path)) == ((), [])
    assert compact(path).num_parts_after == 1


def test_build_anew_goes_on_without_the_part(made: Synthetic, run: Run) -> None:
    path = made.store.path
    shutil.rmtree(parts_of(made)[1])
    run("build", path, "--anew")
    assert len(indexed_ids(made)) == 5
    assert verify(path) == []
    run("build", path)


def test_several_missing_parts_are_told_apart(made: Synthetic) -> None:
    for part in parts_of(made):
        shutil.rmtree(part)
    missing = find_missing(made.store)
    assert missing is not None
    assert (len(missing.parts), missing.num_lost, missing.num_indexed) == (3, 7, 7)
    reasons = {problem.reason for problem in verify(made.store.path)}
    assert reasons == {
        "the part is missing, as 2 others are, and with them 7 of the 7 windows that searches see"
    }


def test_missing_words_of_the_ledger_are_missed_only_if_windows_went_with_them(
    made: Synthetic, run: Run
) -> None:
    """The last part says that b.wav is d.wav now: without it, b.wav is there again."""
    shutil.rmtree(parts_of(made)[2])
    told = run("verify", made.store.path, code=None)
    fault("P1c").require(told.code, told.out)
    assert build(made.store).num_windows == 7
    assert verify(made.store.path) == []


def test_only_word_on_a_recording_that_is_missing_is_missed(tmp_path: Path) -> None:
    """A copy of "a" is known by a part without windows; then "a" itself goes."""
    made = make_store(tmp_path / "s", frames="none")
    made.add({"a": 4})
    made.add_rows([made.row("copy.wav", made.paths["a.wav"])])
    made.remove("a.wav")
    build(made.store)
    shutil.rmtree(parts_of(made)[1])
    missing = find_missing(made.store)
    assert missing is not None
    assert missing.num_lost == 4
    with pytest.raises(DamagedStoreError, match="4 of the 4 windows"):
        compact(made.store.path)
    assert made.store.parts()[0].num_windows == 4  # not removed as dead
    made.add_rows([made.row("copy.wav", made.paths.get("a.wav", made.windows[0].recording_id))])
    assert build(made.store).num_windows == 4  # as it is when the library is indexed again


def test_what_later_words_explain_is_not_lost(made: Synthetic) -> None:
    shutil.rmtree(parts_of(made)[2])
    made.remove("a.wav", "c.wav")
    missing = find_missing(made.store)
    assert missing is not None
    assert missing.num_lost == 0
    assert build(made.store).num_windows == 1


@pytest.mark.parametrize("said", ["could not be read", "a span is gone"])
def test_word_that_does_not_say_what_became_of_a_file_explains_nothing(
    made: Synthetic, said: str
) -> None:
    shutil.rmtree(parts_of(made)[0])
    row = made.row("a.wav", made.paths["a.wav"], "failed", stage="access", reason="locked")
    if said == "a span is gone":
        row = made.row("a.wav", made.paths["a.wav"], "gone", span_start=0, span_samples=320_000)
        row = replace(row, path_id=path_id(row.library_id, row.path, (0, 320_000)))
    made.add_rows([row])
    missing = find_missing(made.store)
    assert missing is not None
    assert missing.num_lost == 5
    with pytest.raises(DamagedStoreError, match="5 of the 7 windows"):
        build(made.store)


def test_parts_in_whose_place_others_came_are_not_missing(made: Synthetic) -> None:
    before = parts_of(made)
    compact(made.store.path)
    made.add({"e": 1}, seed=2)
    compact(made.store.path)
    assert not any(part.exists() for part in before)
    assert missing_parts(made.store) == ()
    assert verify(made.store.path) == []


def test_list_of_parts_that_is_no_text_is_damage_of_the_index(made: Synthetic, run: Run) -> None:
    (listed,) = (made.store.path / "index").glob("*/parts.txt")
    listed.write_bytes(b"\x8d\n")
    assert missing_parts(made.store) == ()
    assert "parts.txt" in run("verify", made.store.path, code=1).out
    assert run("build", made.store.path, "--anew").code == 0


def test_without_an_index_nothing_can_be_known(tmp_path: Path) -> None:
    made = make_store(tmp_path / "s", frames="none")
    made.add({"a": 1})
    made.add({"b": 1})
    shutil.rmtree(parts_of(made)[0])
    assert find_missing(made.store) is None
    assert build(made.store).num_windows == 1


@pytest.mark.whole
def test_indexing_again_brings_the_windows_of_a_missing_part_back(
    tmp_path: Path, tiny_extractor: Extractor
) -> None:
    store = create_store(
        tmp_path / "s",
        tiny_extractor.identity(Geometry()),
        tiny_extractor.head(),
        checkpoint="tiny",
        written_by="tests",
    )
    library = tmp_path / "library"
    for name in ("a.wav", "b.wav"):
        write_tone(library / name, 12.0, 300 + len(name) * ord(name[0]))
        extract(library, store, tiny_extractor, IN_PROCESS)
        build(store)
    made = Synthetic(store, "")
    expected = indexed_ids(made)
    assert len(expected) == 4
    shutil.rmtree(parts_of(made)[0])
    with pytest.raises(DamagedStoreError, match="2 of the 4 windows"):
        build(store)
    extract(library, store, tiny_extractor, IN_PROCESS)
    build(store)
    assert indexed_ids(made) == expected
    assert verify(store.path) == []
    (library / "a.wav").unlink()
    shutil.rmtree(next(one for one in parts_of(made) if "0000000003" in one.name))
    extract(library, store, tiny_extractor, IN_PROCESS)
    with pytest.raises(DamagedStoreError, match="2 of the 4 windows"):
        build(store)  # its file is gone, too: only a person can say that it is not wanted
    assert build(store, anew=True).num_windows == 2


# --- an index that is damaged ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_windows", "pattern"),
    [(9, "index/*"), (9, "index/0*/*"), (9, "index/segments/*/*"), (99, "index/segments/*/sk*")],
    ids=["current", "generations", "segments", "sketches"],
)
def test_building_anew_mends_every_file_of_the_index(
    num_windows: int, pattern: str, tmp_path: Path, run: Run
) -> None:
    made = make_store(tmp_path / "s", frames="none")
    made.add({"a": num_windows})
    with sketching(least_rows=50):
        build(made.store)
        made.add({"b": 3}, seed=1)
        build(made.store)
    files = set(made.store.path.glob(pattern)) & set(index_files(made.store.path))
    assert files
    names = sorted(str(one.relative_to(made.store.path)) for one in files)
    for number, name in enumerate(names):
        copy = Path(shutil.copytree(made.store.path, tmp_path / str(number)))
        file = copy / name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        assert {problem.path for problem in verify(copy)} == {file}
        if number == 0 and file.name != "CURRENT":  # that any build mends
            told = run("verify", copy, code=None)
            fault("P2").require(told.code, told.out)
            run("build", copy, "--anew")
        else:
            build(Store.open(copy), anew=True)
        assert verify(copy) == [], name
        shutil.rmtree(copy)


@pytest.mark.parametrize("name", ["window_id", "recording_id", "start_sample", "num_samples"])
def test_segment_that_says_something_else_of_its_windows_is_not_used_again(
    made: Synthetic, name: str
) -> None:
    rows = {one.window_id: one for one in made.windows}
    [segment] = Generation.current(made.store).segments
    for _ in flipped(segment.path / f"{name}.raw", iter([17])):
        made.add({"new": 1}, seed=3)
        generation = build(made.store)
        found = generation.windows(generation.live_rows())
        rows.update((one.window_id, one) for one in made.windows)
        for row in range(len(found.window_id)):
            assert found.window(row) == rows[int(found.window_id[row])]
    assert len(np.unique(found.window_id)) == 8


def test_export_of_a_damaged_part_is_refused_in_one_line(
    made: Synthetic, tmp_path: Path, run: Run
) -> None:
    file = parts_of(made)[1] / "scene.parquet"
    for offset in (200, file.stat().st_size // 2):
        for _ in flipped(file, iter([offset])):
            for form in ("csv", "jsonl", "npy"):
                words = ("export", form, made.store.path, "--output", tmp_path / f"a.{form}")
                told = run(*words, code=None)
                fault("P4").require(told.code, told.err)
                assert told.err.rstrip().endswith(f"run: soundalike verify {made.store.path}")
            told = run("tags", made.store.path, code=None)
            fault("P4").require(told.code, told.err)
    assert [one.name for one in tmp_path.iterdir()] == ["s"]
    assert export_windows(made.store, tmp_path / "a.csv", "csv") == 7


def test_frames_of_a_damaged_part_are_refused(tmp_path: Path, run: Run) -> None:
    made = make_store(tmp_path / "s", frames="pooled")
    made.add({"a": 2})
    file = parts_of(made)[0] / "frames.parquet"
    for _ in flipped(file, iter([file.stat().st_size // 2])):
        words = ("export", "labels", made.store.path, "--output", tmp_path / "labels")
        told = run(*words, code=None)
        fault("P4").require(told.code, told.err)
    assert not list((tmp_path / "labels").glob("*"))
