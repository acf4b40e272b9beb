"""Rows in the order of the cells in which they lie: on disk in between, as there may be many."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from indexer.arrays import Float16, Float32, Integers
from indexer.progress import Listen, Step
from indexer.store.disk import remove_all
from search.generation.segments import SEGMENT_ARRAYS, TEMPORARY_PREFIX
from search.generation.writing import Columns

#: Given (n, 768) vectors and (n, 527) tags, returns (n,) the cell of each row, from 0 on; -1 of
#: damaged ones.
Locate = Callable[[Float32, Float16], Integers]

#: A row, as it is on disk in between: 4.2 kB.
_ROW = np.dtype([(name, *told) for name, told in SEGMENT_ARRAYS.items()])
_BLOCK_ROWS = 4096


def sort_rows(
    folder: Path, rows: Iterable[Columns], total: int, locate: Locate, listen: Listen
) -> Generator[Columns, None, None]:
    """Yield rows cell by cell, in the order in which they came; the damaged ones first.

    Who may not take all of them has to close it, so that nothing stays on disk.

    Args:
        folder: Where they are in between, in a folder of its own, which is deleted in the end.
        rows: The rows, some at a time.
        total: How many these are.
        locate: Says in which cell each is.
        listen: Hears how many rows are put where they belong.
    """
    done = 0
    with _new_folder(folder) as between:
        for columns in rows:
            cells = locate(columns["vectors"], columns["tags"])
            order = np.argsort(cells, kind="stable")
            records = np.empty(len(order), _ROW)
            for name in SEGMENT_ARRAYS:
                records[name] = columns[name][order]
            numbers, firsts = np.unique(cells[order], return_index=True)
            for number, some in zip(numbers, np.split(records, firsts[1:]), strict=True):
                with (between / str(number)).open("ab") as file:
                    file.write(some.data)
            done += len(records)
            listen(Step("sorting", done, total, "window"))
        for path in sorted(between.iterdir(), key=lambda one: int(one.name)):
            with path.open("rb") as file:
                yield from _read(file)
            path.unlink()  # so that no more than a cell is there twice


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Make a folder that whoever cleans up after a dead process takes for a leftover."""
    new = folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    new.mkdir()
    try:
        yield new
    finally:
        remove_all(new)


def _read(file: BinaryIO) -> Iterator[Columns]:
    # By `np.fromfile`, a file would end where it cannot be read.
    while content := file.read(_BLOCK_ROWS * _ROW.itemsize):
        records = np.frombuffer(content, _ROW)
        yield {name: records[name] for name in SEGMENT_ARRAYS}
