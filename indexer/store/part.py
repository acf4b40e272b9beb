"""One part of a store, as a reader sees it: a manifest and up to three Parquet files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

from indexer.errors import DamagedStoreError, StoreError
from indexer.store.disk import read_sealed
from indexer.store.ledger import Integers
from indexer.store.schema import (
    FILES_SCHEMA,
    SCENE_SCHEMA,
    SCHEMAS,
    FramesMode,
    Origin,
    frame_shape,
)

MANIFEST_FILE = "manifest.json"
SCENE_FILE = "scene.parquet"
FRAMES_FILE = "frames.parquet"
FILES_FILE = "files.parquet"

_NAME = re.compile(r"\d{10}-[0-9a-f]{32}")
#: What reading raises where the content is not what it should be.
_NOT_AS_WRITTEN = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    SafetensorError,
)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged or unreadable file makes a reader raise into a StoreError."""
    try:
        yield
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise DamagedStoreError(
            f"{path} is damaged: {error.filename or path} is missing"
        ) from error
    except _NOT_AS_WRITTEN as error:
        if isinstance(error, OSError) and error.errno:  # the disk's word, not the content's
            raise StoreError(f"cannot read {path}: {os.strerror(error.errno)}") from error
        reason = (str(error) or repr(error)).splitlines()[0]
        raise DamagedStoreError(
            f"{path} is damaged: {reason}; 'soundalike verify' names everything that is"
        ) from error


def part_names(folder: Path) -> list[str]:
    """Return the names of the parts in a folder, oldest first; other things are none of ours."""
    return sorted(entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name))


@dataclass(frozen=True, slots=True)
class Part:
    """One committed unit of a store.

    Attributes:
        path: Its folder.
        sequence: Its place in the order of commits.
        files: Name → (size in bytes, SHA-256).
        num_windows: Rows of scene.parquet, and of frames.parquet if there is one.
        origin: How it was computed.
        replaces: Names of parts that it stands for.
        unfinished: Recordings that have windows here, and their last window elsewhere or nowhere.
    """

    path: Path
    sequence: int
    files: dict[str, tuple[int, str]]
    num_windows: int
    origin: Origin
    replaces: tuple[str, ...]
    unfinished: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """Its folder's name: sequence and uuid, which sort in the order of commits."""
        return self.path.name

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a part's manifest, and check that its files have the sizes they were written with.

        Raises:
            DamagedStoreError: If the manifest or a file is not as it was written.
        """
        part = cls.from_manifest(path)
        for name, (size, _) in part.files.items():
            with reading(path / name):
                found = (path / name).stat().st_size
            if found != size:
                raise DamagedStoreError(
                    f"{path / name} is damaged: {found} bytes, written as {size}"
                )
        return part

    @classmethod
    def from_manifest(cls, path: Path) -> Self:
        """Read a part's manifest without a look at its files.

        Raises:
            DamagedStoreError: If the manifest is not as it was written.
        """
        with reading(path / MANIFEST_FILE):
            document = read_sealed(path / MANIFEST_FILE)
            return cls(
                path,
                int(path.name.partition("-")[0]),
                {name: (size, digest) for name, (size, digest) in document["files"].items()},
                document["num_windows"],
                Origin(**document["origin"]),
                tuple(document["replaces"]),
                tuple(bytes.fromhex(one) for one in document["unfinished"]),
            )

    def ledger(self, columns: Sequence[str]) -> pa.Table:
        """Read columns of files.parquet; no rows if the part has none.

        The whole file is held against its digest: a wrong word in the ledger would drop recordings
        or embed them again.
        """
        names = list(columns)
        if FILES_FILE not in self.files:
            return FILES_SCHEMA.empty_table().select(names)
        with reading(self.path / FILES_FILE):
            content = (self.path / FILES_FILE).read_bytes()
            if hashlib.sha256(content).hexdigest() != self.files[FILES_FILE][1]:
                raise DamagedStoreError(
                    f"{self.path / FILES_FILE} is damaged: its content does not match its digest"
                )
            return pq.read_table(pa.BufferReader(content), columns=names).select(names)

    def windows(self, columns: Sequence[str]) -> pa.Table:
        """Read columns of scene.parquet; no rows if the part has none."""
        names = list(columns)
        if SCENE_FILE not in self.files:
            return SCENE_SCHEMA.empty_table().select(names)
        with self.open_file(SCENE_FILE) as file:
            return file.read(names).select(names)

    def blocks(
        self, num_rows: int
    ) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]]:
        """Read (scene, tags) of all windows in order, at most `num_rows` at a time."""
        if SCENE_FILE not in self.files:
            return
        with self.open_file(SCENE_FILE) as file:
            for batch in file.iter_batches(num_rows, columns=["scene", "tags"]):
                yield _floats(batch["scene"]), _floats(batch["tags"])

    def floats(self, column: str, rows: Integers) -> npt.NDArray[Any]:
        """Return (len(rows), width) of a column of scene.parquet, in the order of `rows`."""
        with self.open_file(SCENE_FILE) as file:
            return _floats(_rows_of(file, rows, [column])[column])

    def frames(self, rows: Integers, mode: FramesMode) -> list[npt.NDArray[np.float16]]:
        """Return the frame embeddings of some rows, as stored, in the order of `rows`."""
        with self.open_file(FRAMES_FILE) as file:
            table = _rows_of(file, rows, ["num_frames", "frames"])
            return [
                np.frombuffer(blob.as_buffer(), "<f2").reshape(frame_shape(mode, count.as_py()))
                for count, blob in zip(table["num_frames"], table["frames"], strict=True)
            ]

    @contextmanager
    def open_file(self, name: str) -> Iterator[pq.ParquetFile]:
        """Open one of its Parquet files, if columns and rows are what this format says.

        Raises:
            DamagedStoreError: If they are not, or if using the file fails for what is in it.
        """
        path = self.path / name
        mapped = name == FRAMES_FILE  # a third of the time: large blobs are not copied twice
        with reading(path), pq.ParquetFile(path, memory_map=mapped) as file:
            if not file.schema_arrow.equals(SCHEMAS[name]):
                raise DamagedStoreError(
                    f"{path} is damaged: its columns are not those of this format"
                )
            if name != FILES_FILE and file.metadata.num_rows != self.num_windows:
                raise DamagedStoreError(
                    f"{path} is damaged: {file.metadata.num_rows} rows, written as "
                    f"{self.num_windows}"
                )
            yield file


def _rows_of(file: pq.ParquetFile, rows: Integers, columns: list[str]) -> pa.Table:
    """Read some rows in the order asked for, touching only the row groups that hold them."""
    metadata = file.metadata
    sizes = np.array([metadata.row_group(g).num_rows for g in range(file.num_row_groups)])
    starts = np.cumsum(sizes) - sizes
    group_of = np.searchsorted(starts, rows, side="right") - 1
    groups, position = np.unique(group_of, return_inverse=True)
    read_starts = np.cumsum(sizes[groups]) - sizes[groups]
    table = file.read_row_groups(groups.tolist(), columns=columns)
    return table.take(read_starts[position] + rows - starts[group_of])


def _floats(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """Return a FixedSizeList column as an (num_rows, width) array."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    flat: npt.NDArray[Any] = whole.flatten().to_numpy()  # not .values: that ignores the slice
    return flat.reshape(len(whole), whole.type.list_size)
