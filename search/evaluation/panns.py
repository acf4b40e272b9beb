"""Targets of AudioSet as PANNs packs them, in HDF5: read within bounds, whatever a file claims."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from indexer.store.schema import NUM_TAGS

#: Rows of a file, at most: AudioSet has 2,084,320 segments.
_MAX_ROWS = 3_000_000
#: Bytes of a name, at most; those that are used have some 20.
_MAX_NAME_BYTES = 256
#: Bytes of a block that HDF5 unpacks as a whole, at most: few packed ones may stand for gigabytes.
_MAX_CHUNK_BYTES = 1 << 26
_NEEDS = "it needs the datasets audio_name and target"
#: Rows that are read at once.
_BLOCK = 1000


class Target(NamedTuple):
    """One row: the name of a file, and the indices of its tags."""

    name: str
    labels: tuple[int, ...]


def read_targets(path: Path) -> Iterator[Target]:
    """Yield the rows of a file with the datasets audio_name (n) and target (n, 527).

    Raises:
        ValueError: If it is not there, or not of that form; the text is the reason.
    """
    if not path.is_file():  # HDF5 would wait for a pipe
        raise ValueError("not a file" if path.exists() else "no such file")
    try:
        with h5py.File(path) as file:
            names, targets = _dataset(file, "audio_name", 1), _dataset(file, "target", 2)
            if targets.shape != (len(names), NUM_TAGS) or len(names) > _MAX_ROWS:
                raise ValueError(
                    f"target is {targets.shape}, and with {len(names)} names not "
                    f"({len(names)}, {NUM_TAGS}), {_MAX_ROWS:,} rows at most"
                )
            _require_kinds(names, targets)
            for first in range(0, len(names), _BLOCK):
                rows = targets[first : first + _BLOCK]
                for row, target in enumerate(rows, start=first):
                    yield Target(_name(names[row]), tuple(np.flatnonzero(target).tolist()))
    except (OSError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{str(error) or type(error).__name__}; {_NEEDS}") from error


def _dataset(file: Any, name: str, num_dimensions: int) -> Any:
    """Return a dataset whose data are in this file, in blocks that fit into memory.

    Links of other kinds may lead in a circle, or to other files.
    """
    link = file.get(name, getlink=True)
    found = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.ndim != num_dimensions:
        raise ValueError(f"{name} is no array of {num_dimensions} dimensions; {_NEEDS}")
    if found.external or found.is_virtual:
        raise ValueError(f"the data of {name} are in other files")
    if found.chunks and np.prod(found.chunks, dtype=float) * _size(found) > _MAX_CHUNK_BYTES:
        raise ValueError(f"the blocks of {name} are larger than {_MAX_CHUNK_BYTES:,} bytes")
    return found


def _require_kinds(names: Any, targets: Any) -> None:
    if targets.dtype.kind not in "biuf":
        raise ValueError(f"target holds {targets.dtype}, not numbers or true and false")
    if names.dtype.kind not in "SO" or _size(names) > _MAX_NAME_BYTES:
        raise ValueError(f"audio_name holds {names.dtype}, not names")


def _size(dataset: Any) -> int:
    return int(dataset.dtype.itemsize)


def _name(value: object) -> str:
    content = value if isinstance(value, bytes) else str(value).encode()
    if len(content) > _MAX_NAME_BYTES:
        raise ValueError(f"a name in audio_name has {len(content):,} bytes")
    return content.decode()
