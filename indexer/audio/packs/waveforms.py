"""Packs of waveforms as PANNs writes them: HDF5 with a name and 10 s of samples in each row."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from indexer.audio.file import open_regular, read_at
from indexer.audio.packs.hdf5 import (
    item_bytes,
    open_hdf5,
    read_names,
    reading,
    require_dataset,
    require_names,
)
from indexer.audio.packs.members import MAX_ROWS, Members
from indexer.audio.packs.pack import NotAPackError, Pack, not_read
from indexer.audio.source import END, AudioInfo, Channels, check_duration
from indexer.errors import AudioError
from indexer.windows import SAMPLE_RATE_HZ

#: How HDF5 begins, and where: at the beginning, or behind a block of its user's (file format
#: specification, II.A).
_SIGNATURE, _BEGINS = b"\x89HDF\r\n\x1a\n", (0, 512, 1024, 2048)
_NAMES, _SAMPLES = "audio_name", "waveform"
_NEEDS = f"a pack has the datasets {_NAMES} (n) and {_SAMPLES} (n, samples) of int16"
#: What stands for full scale: PANNs multiplies by it when it packs, and divides when it reads
#: (audioset_tagging_cnn, utils/utilities.py).
_FULL_SCALE = np.float32(32767)
#: How samples are kept, for the digest, whatever the order of bytes in the file.
_KEPT = np.dtype("<i2")
#: Samples that are read at once.
_BLOCK = 2**18


class Waveforms(Pack):
    """An open pack of waveforms; a row without a name is a clip that was not there to be packed.

    Attributes:
        members: See `Pack`.
        rate_hz: Of all rows.
        num_samples: In each row.
    """

    outlives_fork = False

    def __init__(self, path: Path, mtime_ns: int) -> None:
        """Open it.

        Args:
            path: The file.
            mtime_ns: Its date.

        Raises:
            NotAPackError: If it is no HDF5, or one of something else.
            AudioError: If it cannot be read, is damaged, or not of that form.
        """
        self._source = open_regular(path)
        weakref.finalize(self, self._source.close)
        if not any(read_at(self._source.fileno(), 8, at) == _SIGNATURE for at in _BEGINS):
            raise NotAPackError("it is no HDF5")
        try:
            with reading(_NEEDS):
                self._file = open_hdf5(self._source)
                # Before the file below it, and before Python ends: HDF5 calls back into it.
                weakref.finalize(self, self._file.close)
                self._open(mtime_ns)
        except ValueError as error:
            raise AudioError("open", str(error)) from error

    def _open(self, mtime_ns: int) -> None:
        if not {_NAMES, _SAMPLES} <= set(self._file):
            raise NotAPackError(f"it has no {_NAMES} and {_SAMPLES}")
        names = require_dataset(self._file, _NAMES, 1)
        self._samples = require_dataset(self._file, _SAMPLES, 2)
        require_names(names, _NAMES)
        if self._samples.dtype.kind != "i" or item_bytes(self._samples) != _KEPT.itemsize:
            raise ValueError(f"{_SAMPLES} holds {self._samples.dtype}, not int16")
        if len(names) != len(self._samples):
            raise ValueError(f"{len(names):,} names for {len(self._samples):,} waveforms")
        if len(names) > MAX_ROWS:
            raise ValueError(f"{len(names):,} rows, {MAX_ROWS:,} at most")
        self.rate_hz = int(self._file.attrs.get("sample_rate", SAMPLE_RATE_HZ))
        self.num_samples = int(self._samples.shape[1])
        size = self.num_samples * item_bytes(self._samples)
        self.members = Members(
            (name or None for name in read_names(names, _NAMES, self._source)),
            np.broadcast_to(np.int64(size), len(names)),
            np.broadcast_to(np.int64(mtime_ns), len(names)),
        )

    def content(self, row: int) -> Iterator[bytes | memoryview]:
        """Yield dtype and rate, and then the samples; see `Pack`."""
        yield f"{_KEPT.str} {self.rate_hz}\n".encode()
        for _, block in self.blocks(row):
            yield block.data

    def open(self, row: int, max_duration_s: float) -> Waveform:
        """Open a row; see `Pack`."""
        return Waveform(self, row, max_duration_s)

    def blocks(
        self, row: int, start: int = 0, stop: int = END
    ) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
        """Yield a span of a row, some samples at a time, and where each block begins.

        Raises:
            AudioError: If they cannot be read.
        """
        stop = min(stop, self.num_samples)
        for first in range(start, stop, _BLOCK):
            try:
                block = self._samples[row, first : min(first + _BLOCK, stop)]
            except (OSError, RuntimeError, MemoryError) as error:
                raise not_read(error, "the row") from error
            yield first, np.ascontiguousarray(block, _KEPT)


class Waveform:
    """One row of a pack of waveforms."""

    def __init__(self, pack: Waveforms, row: int, max_duration_s: float) -> None:
        self._pack, self._row, self._max_duration_s = pack, row, max_duration_s
        self.info = AudioInfo(
            sample_rate=pack.rate_hz,
            channels=1,
            codec="pcm_s16le",
            container="hdf5",
            decoder=f"h5py {h5py.__version__}",
        )
        self.length_s = pack.num_samples / pack.rate_hz

    def read(self, start: int, stop: int = END) -> Iterator[Channels]:
        """Read a span; see `Source`."""
        for first, block in self._pack.blocks(self._row, start, stop):
            check_duration(self._max_duration_s, first + len(block), self.info.sample_rate)
            yield np.divide(block, _FULL_SCALE, dtype=np.float32)[None]

    def warnings(self) -> list[str]:
        """Return nothing; see `Source`."""
        return []

    def close(self) -> None:
        """Leave the pack open for its other rows."""
