"""Targets of AudioSet as PANNs packs them, in HDF5: read within bounds, whatever a file claims."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from indexer.audio.packs.hdf5 import (
    open_hdf5,
    read_names,
    reading,
    require_dataset,
    require_names,
)
from indexer.audio.packs.members import MAX_ROWS
from indexer.paths import text_from_bytes
from indexer.store.schema import NUM_TAGS

_NAMES, _TARGETS = "audio_name", "target"
_NEEDS = f"it needs the datasets {_NAMES} and {_TARGETS}"
#: Rows that are read at once.
_BLOCK = 1000


class Target(NamedTuple):
    """One row: the name of a file, and the indices of its tags."""

    name: str
    labels: tuple[int, ...]


def read_targets(path: Path) -> Iterator[Target]:
    """Yield the rows of a file with the datasets audio_name (n) and target (n, 527).

    The name of a clip that was not there when the file was made is empty.

    Raises:
        ValueError: If it is not there, or not of that form; the text is the reason.
    """
    if not path.is_file():  # HDF5 would wait for a pipe
        raise ValueError("not a file" if path.exists() else "no such file")
    with (
        reading(_NEEDS),
        path.open("rb", buffering=0) as source,
        open_hdf5(source) as file,
    ):
        names, targets = require_dataset(file, _NAMES, 1), require_dataset(file, _TARGETS, 2)
        if targets.shape != (len(names), NUM_TAGS):
            raise ValueError(
                f"{_TARGETS} is {targets.shape}, and with {len(names)} names not "
                f"({len(names)}, {NUM_TAGS})"
            )
        if len(names) > MAX_ROWS:
            raise ValueError(f"{len(names):,} rows, {MAX_ROWS:,} at most")
        if targets.dtype.kind not in "biuf":
            raise ValueError(f"{_TARGETS} holds {targets.dtype}, not numbers or true and false")
        require_names(names, _NAMES)
        for name, labels in zip(read_names(names, _NAMES, source), _labels(targets), strict=True):
            yield Target(text_from_bytes(name), labels)


def _labels(targets: Any) -> Iterator[tuple[int, ...]]:
    for first in range(0, len(targets), _BLOCK):
        for row in targets[first : first + _BLOCK]:
            yield tuple(np.flatnonzero(row).tolist())
