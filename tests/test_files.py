"""Lists of files: what goes in comes out, and little memory is used for it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.library.files import FileList, FoundFile

NUMBERS = st.integers(0, 2**62)
FILES = st.builds(
    FoundFile,
    st.text(st.characters(exclude_categories=["Cs"])),
    NUMBERS,
    st.integers(-(2**62), 2**62),
    st.none() | st.tuples(NUMBERS, NUMBERS),
)


@given(st.lists(FILES))
def test_file_list_any_files_come_out_as_they_went_in(files: list[FoundFile]) -> None:
    held = FileList(files)
    assert list(held) == files
    assert [held[at] for at in range(len(held))] == files
    np.testing.assert_array_equal(held.sizes, [file.size for file in files])
    np.testing.assert_array_equal(held.mtimes_ns, [file.mtime_ns for file in files])


@given(st.lists(FILES))
def test_file_list_in_order_is_sorted_by_path_and_span(files: list[FoundFile]) -> None:
    found = [(file.path.encode(), file.span or (-1, -1)) for file in FileList(files).in_order()]
    assert found == sorted((file.path.encode(), file.span or (-1, -1)) for file in files)


@pytest.mark.parametrize("at", [-1, 2])
def test_file_list_position_that_is_not_there_is_an_index_error(at: int) -> None:
    with pytest.raises(IndexError, match="files are 0 to 1"):
        FileList([FoundFile("a.wav", 1, 2), FoundFile("b.wav", 1, 2)])[at]


def test_file_list_needs_its_names_and_at_most_64_bytes_a_file() -> None:
    number, names = 20_000, 0
    tracemalloc.start()
    held = FileList()
    for at in range(number):
        path = f"recordings/2026/{at:08d}.wav"
        names += len(path)
        held.append(FoundFile(path, 1_000_000 + at, 10**18 + at))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used <= 64 * number + 1.2 * names
