"""The ledger's arrays against a dictionary that keeps the last row of every path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import make_store, recording_id

from indexer.arrays import ID_DTYPE, contains, id_bytes, ids_from_column, last_of_each
from indexer.paths import content_id, path_id
from indexer.store.ledger import LEDGER_COLUMNS, Ledger
from indexer.store.schema import FILES_SCHEMA, STATUSES, LedgerRow

#: Ids as digests may be: with zero bytes at the end, at the start, and nothing but zeros.
IDS = [b"\1" * 8 + b"\0" * 8, b"\1" * 9 + b"\0" * 7, b"\0" * 15 + b"\1", b"\xff" * 16, b"\1" * 16]


def table(rows: Sequence[LedgerRow]) -> pa.Table:
    return pa.Table.from_pylist([asdict(row) for row in rows], FILES_SCHEMA).select(
        list(LEDGER_COLUMNS)
    )


@st.composite
def rows_strategy(draw: st.DrawFn) -> LedgerRow:
    library, path = draw(st.sampled_from("LM")), draw(st.sampled_from("abcd"))
    span = draw(st.sampled_from([None, None, (0, 320_000), (32_000, 320_000)]))
    status = draw(st.sampled_from(STATUSES))
    recording = draw(st.sampled_from(IDS))
    return LedgerRow(
        path_id=path_id(library, path, span),
        library_id=library,
        path=path,
        size=draw(st.integers(0, 2)),
        mtime_ns=draw(st.integers(-1, 1)) * 10**18,
        status=status,
        span_start=None if span is None else span[0],
        span_samples=None if span is None else span[1],
        recording_id=None if status == "failed" and draw(st.booleans()) else recording,
    )


def span_of(row: LedgerRow) -> tuple[int, int] | None:
    if row.span_start is None or row.span_samples is None:
        return None
    return row.span_start, row.span_samples


def row(path: str, recording: bytes | None, status: str = "ok", size: int = 1000) -> LedgerRow:
    key = path_id("L", path)
    return LedgerRow(key, "L", path, size, 1, status, recording_id=recording)  # type: ignore[arg-type]


# --- the arrays ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(rows_strategy(), max_size=30))
def test_ledger_any_history_equals_a_dictionary(rows: list[LedgerRow]) -> None:
    last = {one.path_id: one for one in rows}
    expected = [last[key] for key in sorted(last)]
    pieces = [table(rows[start : start + 5]) for start in range(0, len(rows), 5)]
    ledger = Ledger(batch for piece in pieces for batch in piece.to_batches())

    assert len(ledger) == len(expected)
    assert ledger.path_id.tolist() == sorted(last)
    assert [ledger.library_ids[at] for at in ledger.library] == [one.library_id for one in expected]
    assert ledger.size.tolist() == [one.size for one in expected]
    assert ledger.mtime_ns.tolist() == [one.mtime_ns for one in expected]
    assert [ledger.status_of(at) for at in range(len(ledger))] == [one.status for one in expected]
    assert [id_bytes(one) for one in ledger.recording_id] == [
        one.recording_id or bytes(16) for one in expected
    ]
    assert ledger.library_ids == tuple(sorted({one.library_id for one in rows}))


@settings(deadline=None)
@given(st.lists(rows_strategy(), max_size=30))
def test_ledger_any_history_knows_what_is_live_known_and_present(rows: list[LedgerRow]) -> None:
    last = {one.path_id: one for one in rows}
    ledger = Ledger(table(rows).to_batches())

    live = {one.recording_id for one in last.values() if one.status == "ok"}
    assert [id_bytes(one) for one in ledger.live_recordings()] == sorted(live)
    known = {
        content_id(one.recording_id or b"", span_of(one)) for one in rows if one.status == "ok"
    }
    assert [id_bytes(one) for one in ledger.known] == sorted(known)
    for library in "LMN":
        present = {
            key
            for key, one in last.items()
            if one.library_id == library and one.status in {"ok", "failed"}
        }
        assert set(ledger.path_id[ledger.present(library)]) == present


@settings(deadline=None)
@given(
    st.lists(rows_strategy(), max_size=20),
    st.lists(
        st.tuples(st.sampled_from("LM"), st.sampled_from("abcde"), st.integers(0, 2), st.just(0)),
        max_size=8,
    ),
)
def test_settled_any_files_are_as_they_were_or_not(
    rows: list[LedgerRow], files: list[tuple[str, str, int, int]]
) -> None:
    last = {one.path_id: one for one in rows}
    keys = [path_id(library, path) for library, path, _, _ in files]
    ledger = Ledger(table(rows).to_batches())

    embedded, failed = ledger.find_settled(
        np.array(keys, np.int64),
        np.array([size for _, _, size, _ in files], np.int64),
        np.array([mtime_ns for _, _, _, mtime_ns in files], np.int64),
    )

    for status, found in (("ok", embedded), ("failed", failed)):
        assert found.dtype == bool
        # What could not be reached has neither size nor date: it is tried again.
        assert found.tolist() == [
            key in last
            and (last[key].status, last[key].size, last[key].mtime_ns) == (status, size, mtime_ns)
            and (status == "ok" or (size, mtime_ns) != (0, 0))
            for key, (_, _, size, mtime_ns) in zip(keys, files, strict=True)
        ]


def test_positions_of_known_and_new_paths_are_theirs_and_minus_one() -> None:
    ledger = Ledger(table([row("a", IDS[0]), row("b", IDS[1])]).to_batches())
    keys = [path_id("L", path) for path in "bxa"]
    at = ledger.positions([*keys, 0, 2**63 - 1])
    assert at[[1, 3, 4]].tolist() == [-1, -1, -1]
    assert ledger.path_id[at[[0, 2]]].tolist() == [keys[0], keys[2]]


def test_ledger_without_rows_answers_everything() -> None:
    ledger = Ledger(table([]).to_batches())
    some = np.array([1, 2], np.int64)
    assert len(ledger) == 0
    assert ledger.library_ids == ()
    assert ledger.positions(some).tolist() == [-1, -1]
    assert [mask.tolist() for mask in ledger.find_settled(some, some, some)] == [[False, False]] * 2
    assert ledger.positions([]).tolist() == []
    assert len(ledger.live_recordings()) == len(ledger.known) == len(ledger.present("L")) == 0


def test_ledger_arrays_need_at_most_64_bytes_a_file() -> None:
    ledger = Ledger(
        table([row(str(number), recording_id(str(number))) for number in range(1000)]).to_batches()
    )
    arrays = [getattr(ledger, name) for name in Ledger.__slots__]
    num_bytes = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
    assert len(ledger) == 1000
    assert 45 * 1000 <= num_bytes <= 64 * 1000


# --- the last word, across parts -----------------------------------------------------------------


@pytest.mark.parametrize("status", ["gone", "moved", "failed"])
def test_ledger_later_part_has_the_last_word(status: str, tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({"a": 1, "b": 1})
    made.add_rows([replace(made.row("a.wav", None, status), size=7)])

    ledger = made.store.ledger()
    (at,) = ledger.positions([path_id(made.library_id, "a.wav")])
    assert (ledger.status_of(at), ledger.size[at]) == (status, 7)
    assert [id_bytes(one) for one in ledger.live_recordings()] == [recording_id("b")]
    assert {id_bytes(one) for one in ledger.known} == {recording_id("a"), recording_id("b")}

    made.add_rows([made.row("a.wav", recording_id("a"))])
    assert len(made.store.ledger().live_recordings()) == 2


def test_ledger_last_row_of_one_part_has_the_last_word(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add_rows([made.row("a.wav", recording_id(name)) for name in "xyz"])
    assert [id_bytes(one) for one in made.store.ledger().live_recordings()] == [recording_id("z")]


def test_ledger_span_and_whole_file_have_words_of_their_own(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    span = (32_000, 320_000)
    whole = made.row("a.wav", recording_id("a"), "failed")
    part = replace(
        made.row("a.wav", recording_id("a")),
        path_id=path_id(made.library_id, "a.wav", span),
        span_start=span[0],
        span_samples=span[1],
    )
    made.add_rows([part, whole])

    ledger = made.store.ledger()
    assert len(ledger) == 2
    assert [id_bytes(one) for one in ledger.known] == [content_id(recording_id("a"), span)]
    assert [id_bytes(one) for one in ledger.live_recordings()] == [recording_id("a")]


# --- ids -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.sampled_from(IDS) | st.binary(min_size=16, max_size=16), max_size=10))
def test_id_bytes_any_id_keeps_its_zeros(ids: list[bytes]) -> None:
    assert [id_bytes(one) for one in np.array(ids, ID_DTYPE)] == ids
    assert [id_bytes(one) for one in ids] == ids


@settings(deadline=None)
@given(
    st.lists(st.none() | st.sampled_from(IDS), max_size=12),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(1, 5),
)
def test_ids_from_column_any_slice_equals_the_list(
    values: list[bytes | None], start: int, length: int, chunk: int
) -> None:
    column = pa.array(values, pa.binary(16))
    chunks = [column.slice(at, chunk) for at in range(0, len(column), chunk)]
    chunked = pa.chunked_array(chunks, pa.binary(16))
    for one in (column, chunked):
        found = ids_from_column(one.slice(start, length))
        assert found.dtype == ID_DTYPE
        assert [id_bytes(value) for value in found] == [
            value or bytes(16) for value in values[start : start + length]
        ]


@settings(deadline=None)
@given(st.sets(st.sampled_from(IDS)), st.lists(st.sampled_from([*IDS, b"\2" * 16])))
def test_contains_any_sets_equal_in(held: set[bytes], wanted: list[bytes]) -> None:
    found = contains(np.sort(np.array(list(held), ID_DTYPE)), np.array(wanted, ID_DTYPE))
    assert found.tolist() == [one in held for one in wanted]


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3)))
def test_last_of_each_any_keys_equal_a_dictionary(keys: list[int]) -> None:
    last = {key: position for position, key in enumerate(keys)}
    assert last_of_each(np.array(keys, np.int64)).tolist() == [last[key] for key in sorted(last)]
