"""One part of a store, as a reader sees it: a manifest and up to three Parquet files."""

from __future__ import annotations

import operator
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

from indexer.arrays import Integers
from indexer.errors import DamagedStoreError, NotAsWrittenError, StoreError
from indexer.store.disk import (
    own_size,
    read_sealed,
    require_own_folder,
    sha256_of,
)
from indexer.store.parquet import (
    FILES_FILE,
    FRAMES_FILE,
    SCENE_FILE,
    open_parquet,
    with_columns,
)
from indexer.store.schema import (
    SCENE_SCHEMA,
    SCHEMAS,
    STORE_FILE,
    FramesMode,
    Origin,
    frame_shape,
)

MANIFEST_FILE = "manifest.json"

#: Rows of the ledger that are read at a time.
_LEDGER_BATCH = 1 << 13

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
def reading(path: Path, remedy: str = "") -> Iterator[None]:
    """Turn whatever a damaged or unreadable file makes a reader raise into a StoreError.

    Args:
        path: Of the file.
        remedy: What to do if it is damaged; empty if that is said by who verifies the store.
    """
    try:
        yield
    except DamagedStoreError as error:
        if error.remedy:
            raise
        raise _damaged(error.path, error.reason, remedy) from error
    except StoreError:
        raise
    except FileNotFoundError as error:
        raise _damaged(Path(error.filename or path), "it is missing", remedy) from error
    except NotAsWrittenError as error:
        raise _damaged(path, str(error), remedy) from error
    except _NOT_AS_WRITTEN as error:
        if isinstance(error, OSError) and error.errno:  # the disk's word, not the content's
            raise StoreError(f"cannot read {path}: {os.strerror(error.errno)}") from error
        raise _damaged(path, "its content is not what this format says", remedy) from error


def _damaged(path: Path, reason: str, remedy: str) -> DamagedStoreError:
    if remedy:
        return DamagedStoreError(path, reason, remedy)
    advice, store = "verify the store to see what else is", _store_of(path)
    return DamagedStoreError(path, reason, advice, about="verify", value=store)


def _store_of(path: Path) -> Path | None:
    """Return the store that a file is in; None if it is in none."""
    return next((one for one in path.parents if os.path.lexists(one / STORE_FILE)), None)


def part_names(folder: Path) -> list[str]:
    """Return the names of the parts in a folder, oldest first; other things are none of ours.

    Raises:
        DamagedStoreError: If the folder is a link to one.
        OSError: If it cannot be listed.
    """
    require_own_folder(folder)
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _NAME.fullmatch(entry.name))


def without_sequence(name: str) -> str:
    """Return what a part is called wherever it lies: its folder's name without the sequence."""
    return name.partition("-")[2]


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
        is_claim: Whether the words in it are on content that others hold: so a shard says of files
            that they are copies of what the store has, and whoever publishes it looks again.
    """

    path: Path
    sequence: int
    files: dict[str, tuple[int, str]]
    num_windows: int
    origin: Origin
    replaces: tuple[str, ...]
    unfinished: tuple[bytes, ...]
    is_claim: bool = False

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
        part.require_sizes()
        return part

    @classmethod
    def from_manifest(cls, path: Path) -> Self:
        """Read a part's manifest without a look at its files.

        Raises:
            DamagedStoreError: If the manifest is not as it was written.
        """
        with reading(path / MANIFEST_FILE):
            require_own_folder(path)
            document = read_sealed(path / MANIFEST_FILE)
            files = {name: (size, digest) for name, (size, digest) in document["files"].items()}
            if not files.keys() <= SCHEMAS.keys():
                raise NotAsWrittenError(f"it names {sorted(files.keys() - SCHEMAS.keys())[0]!r}")
            return cls(
                path,
                int(path.name.partition("-")[0]),
                files,
                operator.index(document["num_windows"]),
                Origin(**document["origin"]),
                tuple(map(str, document["replaces"])),
                tuple(bytes.fromhex(one) for one in document["unfinished"]),
                document.get("is_claim", False) is True,
            )

    def require_sizes(self) -> None:
        """Check that its files have the sizes they were written with.

        Raises:
            DamagedStoreError: If one has not, or is missing.
        """
        for name, (size, _) in self.files.items():
            with reading(self.path / name):
                found = own_size(self.path / name)
                if found != size:
                    raise NotAsWrittenError(f"{found} bytes, written as {size}")

    def ledger(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read columns of files.parquet in bounded memory; nothing if the part has none.

        The whole file is held against its digest first: a wrong word in the ledger would drop
        recordings or embed them again.

        Raises:
            DamagedStoreError: If it is not as it was written.
        """
        if FILES_FILE not in self.files:
            return
        self.require_intact(FILES_FILE)
        with self.open_file(FILES_FILE) as file:
            # Of several row groups at once, each batch would have the texts of all that came before
            # it: five times the time for 10^6 rows, and 230 MB more. Threads would have memory of
            # their own, and save a tenth of a second.
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(
                    _LEDGER_BATCH, row_groups=[group], columns=list(columns), use_threads=False
                ):
                    yield with_columns(batch, FILES_FILE, columns)

    def require_intact(self, *names: str) -> None:
        """Hold some of its files against their SHA-256.

        Raises:
            DamagedStoreError: If one is not as it was written.
        """
        for name in names:
            with reading(self.path / name):
                if sha256_of(self.path / name) != self.files[name][1]:
                    raise NotAsWrittenError("its content does not match its digest")

    def tables(self, name: str, rows: Integers) -> Iterator[pa.Table]:
        """Read some rows of one of its files, a row group at a time.

        Args:
            name: Of the file.
            rows: Positions in it, in order.
        """
        if not len(rows):
            return
        with self.open_file(name, mapped=False) as file:
            start = 0
            for number in range(file.num_row_groups):
                stop = start + file.metadata.row_group(number).num_rows
                first, last = np.searchsorted(rows, [start, stop])
                if last > first:
                    table = file.read_row_group(number).take(rows[first:last] - start)
                    yield with_columns(table, name)
                start = stop

    def windows(self, columns: Sequence[str]) -> pa.Table:
        """Read columns of scene.parquet; no rows if the part has none."""
        names = list(columns)
        if SCENE_FILE not in self.files:
            return SCENE_SCHEMA.empty_table().select(names)
        with self.open_file(SCENE_FILE) as file:
            return with_columns(file.read(names), SCENE_FILE, names)

    def blocks(
        self, num_rows: int
    ) -> Iterator[
        tuple[
            pa.RecordBatch,
            npt.NDArray[np.float32],
            npt.NDArray[np.float16],
            npt.NDArray[np.float32],
        ]
    ]:
        """Read all windows in order, at most `num_rows` at a time.

        Yields:
            (all columns of scene.parquet, scene, tags, level_db).
        """
        if SCENE_FILE not in self.files:
            return
        with self.open_file(SCENE_FILE) as file:
            columns = SCENE_SCHEMA.names
            for read in file.iter_batches(num_rows):
                batch = with_columns(read, SCENE_FILE, columns)
                levels = batch["level_db"].fill_null(np.nan).to_numpy(zero_copy_only=False)
                yield batch, _floats(batch["scene"]), _floats(batch["tags"]), levels

    def floats(self, column: str, rows: Integers) -> npt.NDArray[Any]:
        """Return (len(rows), width) of a column of scene.parquet, in the order of `rows`."""
        with self.open_file(SCENE_FILE) as file:
            return _floats(_rows_of(file, rows, [column])[column])

    def frames(self, rows: Integers, mode: FramesMode) -> list[npt.NDArray[np.float16]]:
        """Return the frame embeddings of some rows, as stored, in the order of `rows`."""
        found = dict(self.each_frames(rows, mode))
        return [found[at] for at in range(len(rows))]

    def each_frames(
        self, rows: Integers, mode: FramesMode, window_ids: Integers | None = None
    ) -> Iterator[tuple[int, npt.NDArray[np.float16]]]:
        """Yield the place in `rows` and the frames of each, holding a row group at a time.

        Args:
            rows: Positions in the file.
            mode: How the store keeps them.
            window_ids: Of the windows that are at these rows, if that is to be checked.

        Raises:
            DamagedStoreError: If they are not as this format says, or of other windows.
        """
        with self.open_file(FRAMES_FILE) as file:
            if len(rows) and not 0 <= rows.min() <= rows.max() < file.metadata.num_rows:
                raise NotAsWrittenError(f"it has {file.metadata.num_rows:,} rows, too few")
            start = 0
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                at = np.flatnonzero((rows >= start) & (rows < start + size))
                if len(at):
                    table = file.read_row_group(group, ["window_id", "num_frames", "frames"])
                    table = table.take(rows[at] - start)
                    ids = table["window_id"].to_numpy()
                    if window_ids is not None and (ids != window_ids[at]).any():
                        raise NotAsWrittenError("its rows are of other windows")
                    columns = (at.tolist(), table["num_frames"], table["frames"])
                    for place, count, blob in zip(*columns, strict=True):
                        shape = frame_shape(mode, count.as_py())
                        yield place, np.frombuffer(blob.as_buffer(), "<f2").reshape(shape)
                start += size

    @contextmanager
    def open_file(self, name: str, *, mapped: bool = True) -> Iterator[pq.ParquetFile]:
        """Open one of its Parquet files, if columns and rows are what this format says.

        Args:
            name: Of the file.
            mapped: Whether frames are memory-mapped; what is read of a mapped file stays in memory
                until it is closed, or the system needs the room.

        Raises:
            DamagedStoreError: If they are not, or if using the file fails for what is in it.
        """
        path = self.path / name
        mapped &= name == FRAMES_FILE  # a third of the time: large blobs are not copied twice
        with reading(path), open_parquet(path, mapped=mapped) as file:
            if name != FILES_FILE and file.metadata.num_rows != self.num_windows:
                raise NotAsWrittenError(
                    f"{file.metadata.num_rows} rows, written as {self.num_windows}"
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
