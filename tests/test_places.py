"""From a recording to its paths, against the rows that were put into the ledger."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from synthetic import Synthetic, make_store, recording_id

from indexer.arrays import ID_DTYPE, Ids
from indexer.store.creation import library_at
from search.generation.recordings import Places, hex_ids, path_text
from search.upkeep.build import build


def ids_of(*names: str) -> Ids:
    return np.array([recording_id(name) for name in names], ID_DTYPE)


@pytest.fixture
def store(tmp_path: Path) -> Synthetic:
    """Recordings in two libraries, one below the other; b is in both, c has an odd name."""
    made = make_store(tmp_path / "store", frames="none", root=tmp_path / "outer")
    made.add({"a": 2, "b": 1, r"c\x5c\xff": 1})
    inner = Synthetic(made.store, library_at(made.store, tmp_path / "outer" / "inner"))
    inner.add_rows([inner.row("b.wav", recording_id("b")), inner.row("0.wav", recording_id("b"))])
    made.add_rows([made.row("inner/b.wav", recording_id("b"))])  # one file, known twice
    build(made.store)
    return made


@pytest.fixture
def places(store: Synthetic) -> Places:
    return Places(build(store.store).recordings, store.store.libraries())


def test_paths_are_all_files_of_a_recording_in_order(places: Places, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    odd = os.fsdecode(os.fsencode(outer) + b"/c\\\xff.wav")
    assert places.paths(ids_of("b", "a", "nobody's", r"c\x5c\xff", "a")) == [
        (outer / "b.wav", outer / "inner" / "0.wav", outer / "inner" / "b.wav"),
        (outer / "a.wav",),
        (),
        (Path(odd),),
        (outer / "a.wav",),
    ]
    assert places.paths(ids_of()) == []


def test_paths_in_a_library_that_nobody_knows_name_it(store: Synthetic) -> None:
    places = Places(build(store.store).recordings, {})
    library = Path(f"(library {store.library_id})")
    assert places.paths(ids_of("a")) == [(library / "a.wav",)]
    assert places.first_paths(ids_of("a")).to_pylist() == [str(library / "a.wav")]


def test_first_paths_are_those_of_single_recordings_as_text(places: Places, tmp_path: Path) -> None:
    names = ["a", r"c\x5c\xff", "a", "a", r"c\x5c\xff"]
    found = places.first_paths(ids_of(*names)).to_pylist()
    assert found == [path_text(paths[0]) for paths in places.paths(ids_of(*names))]
    assert found[:2] == [f"{tmp_path}/outer/a.wav", rf"{tmp_path}/outer/c\x5c\xff.wav"]
    assert places.first_paths(ids_of()).to_pylist() == []


def test_first_path_of_several_is_one_of_them(places: Places) -> None:
    [found] = places.first_paths(ids_of("b")).to_pylist()
    [paths] = places.paths(ids_of("b"))
    assert Path(found) in paths


def test_library_at_the_root_of_the_disk_has_no_slash_too_many(store: Synthetic) -> None:
    places = Places(build(store.store).recordings, {store.library_id: Path("/")})
    assert places.first_paths(ids_of("a")).to_pylist() == ["/a.wav"]
    assert "/a.wav" in places.columns.absolute_paths().to_pylist()


def test_columns_are_the_rows_of_recordings(store: Synthetic, places: Places) -> None:
    columns = places.columns
    rows = build(store.store).recordings.table.to_pylist()
    assert columns.paths.to_pylist() == [row["path"] for row in rows]
    roots = store.store.libraries()
    assert columns.libraries.to_pylist() == [str(roots[row["library_id"]]) for row in rows]
    ids = [row["recording_id"] for row in rows]
    assert columns.starts.tolist() == [at for at, one in enumerate(ids) if one not in ids[:at]]
    assert columns.absolute_paths().to_pylist() == [
        f"{roots[row['library_id']]}/{row['path']}" for row in rows
    ]
    for at, one in enumerate(ids):
        mask = np.arange(len(rows)) == at
        assert columns.anywhere(mask).tolist() == [other == one for other in ids]
    assert places.columns is columns  # computed once


def test_columns_of_an_empty_generation_are_empty(tmp_path: Path) -> None:
    empty = make_store(tmp_path / "store").store
    columns = Places(build(empty).recordings, empty.libraries()).columns
    assert (len(columns), columns.starts.tolist()) == (0, [])
    assert columns.anywhere(np.zeros(0, bool)).tolist() == []


def test_hex_ids_keep_zero_bytes_at_the_end() -> None:
    ids = [b"\1" * 14 + b"\0\0", b"\2" * 16, b"\1" * 14 + b"\0\0"]
    assert hex_ids(np.array(ids, ID_DTYPE)).to_pylist() == [one.hex() for one in ids]
    assert hex_ids(np.array([], ID_DTYPE)).to_pylist() == []
