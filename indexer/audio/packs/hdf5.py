"""HDF5 of anybody, within bounds: what a file claims is not taken for granted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any

import h5py
import numpy as np

from indexer.audio.file import read_at
from indexer.errors import first_line

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
#: How the length of a name stands in a reference to it, and references that are read at once.
_LENGTH, _REFERENCES = np.dtype("<u4"), 1 << 16
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
        raise ValueError(f"{first_line(error)}; {needs}") from error


class _Whole(FileIO):
    """A file of which all is read that is asked for: HDF5 takes for read what it asked for."""

    def readinto(self, buffer: Any) -> int:
        """Read until the buffer is full.

        Raises:
            OSError: Without a number, if the file ends before: it is shorter than it was.
        """
        rest = memoryview(buffer).cast("B")
        num_bytes = len(rest)
        while len(rest):
            if not (num_read := super().readinto(rest)):
                raise OSError("the file ends where there should be more")
            rest = rest[num_read:]
        return num_bytes


def open_hdf5(source: FileIO) -> Any:
    """Read an open regular file, in which nothing else moves: HDF5 knows no name, and locks none.

    Raises:
        OSError: If it cannot be read, or is no HDF5.
    """
    whole = _Whole(source.fileno(), closefd=False)
    try:
        # Chunks of many rows are unpacked once, where rows are read in order.
        return h5py.File(whole, "r", rdcc_nbytes=MAX_CHUNK_BYTES)
    except _ERRORS as error:
        reason = type(error)(*error.args)
    # Without a trace of the attempt: what HDF5 has of it calls back into Python when it is let go,
    # and an error may be kept until there is no Python any more.
    raise reason


def require_dataset(file: Any, name: str, num_dimensions: int) -> Any:
    """Return a dataset whose data are in this file, in blocks that fit into memory.

    Links of other kinds may lead in a circle, or to other files.

    Raises:
        TypeError: If there is no such array.
        ValueError: If its data are elsewhere, or not to be unpacked.
    """
    link = file.get(name, getlink=True)
    if link is None:
        raise TypeError(f"it has no {name}")
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


def read_names(names: Any, what: str, source: FileIO) -> Iterator[bytes]:
    """Yield the names of a dataset that `require_names` let pass.

    Args:
        names: The dataset.
        what: Its name.
        source: The file that it is in.

    Raises:
        ValueError: If a name is too long.
    """
    # A thousand of any length may be one of a gigabyte: these are read one by one.
    size = _BLOCK if names.dtype.kind == "S" or _are_short(names, source) else 1
    for first in range(0, len(names), size):
        for value in names[first : first + size].tolist():
            name = value if isinstance(value, bytes) else str(value).encode()
            if len(name) > _MAX_NAME_BYTES:
                raise ValueError(f"a name in {what} has {len(name):,} bytes")
            yield name


def _are_short(names: Any, source: FileIO) -> bool:
    """Whether names of any length all are short, if that can be told without reading them.

    Where their references lie in a row, each begins with the length of a name, in four bytes (file
    format specification, VIII.B, global heap).
    """
    at, num_bytes = names.id.get_offset(), names.id.get_storage_size()
    size, rest = divmod(num_bytes, max(len(names), 1))
    if at is None or rest or size < _LENGTH.itemsize:
        return False
    length = np.dtype({"names": ["bytes"], "formats": [_LENGTH], "itemsize": size})
    for first in range(0, num_bytes, size * _REFERENCES):
        wanted = min(size * _REFERENCES, num_bytes - first)
        references = read_at(source.fileno(), wanted, at + first)
        if len(references) < wanted:
            return False
        if np.frombuffer(references, length)["bytes"].max() > _MAX_NAME_BYTES:
            return False
    return True


def item_bytes(dataset: Any) -> int:
    """Return the bytes of one value."""
    return int(dataset.dtype.itemsize)
