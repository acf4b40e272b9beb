"""HDF5 of anybody, within bounds: what a file claims is not taken for granted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

#: Bytes of a name, at most; those that are used have some 20.
_MAX_NAME_BYTES = 256
#: Bytes of a block that HDF5 unpacks as a whole, at most: few packed ones may stand for gigabytes.
MAX_CHUNK_BYTES = 1 << 26
#: Bytes that one packed byte stands for, at most: deflate's limit (zlib's technical details).
_MOST_PACKED = 1032
#: Filters that HDF5 and h5py bring along: for any other, HDF5 looks for a plugin and runs it.
#: Deflate, shuffle, Fletcher-32, szip, n-bit, scale-offset, LZF (H5Zpublic.h; h5py's docs).
_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})
#: Names that are read at once, where each has the same size.
_BLOCK = 1000
#: What h5py raises when a file is not what it claims.
_ERRORS = (OSError, KeyError, TypeError, RuntimeError, MemoryError, OverflowError)


@contextmanager
def reading(needs: str) -> Iterator[None]:
    """Make of whatever h5py raises one line.

    Args:
        needs: What is wanted of the file.

    Raises:
        ValueError: In place of it.
    """
    try:
        yield
    except _ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{reason}; {needs}") from error


def open_hdf5(file: Path | FileIO) -> Any:
    """Open a regular file for reading; of one that is open, HDF5 knows no name, and locks none.

    Raises:
        OSError: If it cannot be read, or is no HDF5.
    """
    # Chunks of many rows are unpacked once, where rows are read in order.
    return h5py.File(file, "r", rdcc_nbytes=MAX_CHUNK_BYTES)


def require_dataset(file: Any, name: str, num_dimensions: int) -> Any:
    """Return a dataset whose data are in this file, in blocks that fit into memory.

    Links of other kinds may lead in a circle, or to other files.

    Raises:
        TypeError: If there is no such array.
        ValueError: If its data are elsewhere, or not to be unpacked.
    """
    link = file.get(name, getlink=True)
    found = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.ndim != num_dimensions:
        raise TypeError(f"{name} is no array of {num_dimensions} dimensions")
    if found.external or found.is_virtual:
        raise ValueError(f"the data of {name} are in other files")
    if found.chunks and np.prod(found.chunks, dtype=float) * item_bytes(found) > MAX_CHUNK_BYTES:
        raise ValueError(f"the blocks of {name} are larger than {MAX_CHUNK_BYTES:,} bytes")
    if found.size * item_bytes(found) > _MOST_PACKED * found.id.get_storage_size():
        raise ValueError(f"{name} claims to be {found.shape}, and is empty or cut off")
    created = found.id.get_create_plist()
    filters = {created.get_filter(number)[0] for number in range(created.get_nfilters())}
    if foreign := filters - _FILTERS:
        raise ValueError(f"the blocks of {name} are packed by the plugin {min(foreign)}")
    return found


def require_names(names: Any, what: str) -> None:
    """Raise unless a dataset holds names.

    Raises:
        ValueError: If it holds something else, or too long ones.
    """
    if names.dtype.kind not in "SO" or item_bytes(names) > _MAX_NAME_BYTES:
        raise ValueError(f"{what} holds {names.dtype}, not names")


def read_names(names: Any, what: str) -> Iterator[bytes]:
    """Yield the names of a dataset that `require_names` let pass.

    Raises:
        ValueError: If a name is too long.
    """
    # Those of any length are read one by one: a thousand may be one of a gigabyte.
    size = _BLOCK if names.dtype.kind == "S" else 1
    for first in range(0, len(names), size):
        for value in names[first : first + size].tolist():
            name = value if isinstance(value, bytes) else str(value).encode()
            if len(name) > _MAX_NAME_BYTES:
                raise ValueError(f"a name in {what} has {len(name):,} bytes")
            yield name


def item_bytes(dataset: Any) -> int:
    """Return the bytes of one value."""
    return int(dataset.dtype.itemsize)
