"""An HDF5 file, written as all files are: whole or absent, also where the disk is full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from search.export.forms.unfailing import Unfailing
from search.output import writing


@contextmanager
def writing_hdf5(path: Path, force: bool) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Write an HDF5 file through a file of Python.

    Yields:
        The file, and what raises if the disk is full: to be asked now and then.
    """
    with writing(path, force=force) as file:
        unfailing = Unfailing(file, path)
        with h5py.File(unfailing, "w") as hdf5:
            yield hdf5, unfailing.require
        unfailing.require()
