"""Small stores with known content, written by the real writer: the oracle is what was put in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from indexer.arrays import ID_DTYPE
from indexer.paths import path_id
from indexer.store.creation import create_store, library_at
from indexer.store.disk import read_sealed, seal, sha256_of
from indexer.store.head import Head
from indexer.store.part import MANIFEST_FILE
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS, FramesMode, Identity, LedgerRow, Origin
from indexer.store.snapshot import Block, WindowTable
from indexer.store.writer import PartWriter
from indexer.windows import WINDOW_SAMPLES, Window

ORIGIN = Origin("cpu", "fp32", {"torch": "2.12.1"}, "2026-01-01T00:00:00+00:00")
NUM_FRAMES = 31


def identity(
    frames: FramesMode = "pooled", weights: str = "a" * 64, hop_samples: int = WINDOW_SAMPLES
) -> Identity:
    return Identity(
        weights=weights,
        front_end="logmel-test",
        resampler="none-test",
        frames=frames,
        hop_samples=hop_samples,
    )


@cache
def head(seed: int = 0) -> Head:
    """A classifier with random weights: made once, so it cannot be written to."""
    rng = np.random.default_rng(seed)
    made = Head(
        rng.normal(0, 0.1, (NUM_TAGS, EMBEDDING_DIM)).astype(np.float32),
        rng.normal(-2, 1, NUM_TAGS).astype(np.float32),
        np.ones(EMBEDDING_DIM, np.float32),
        np.zeros(EMBEDDING_DIM, np.float32),
    )
    for tensor in made:
        tensor.flags.writeable = False
    return made


def recording_id(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


@dataclass(repr=False)  # failing tests would print megabytes
class Synthetic:
    """A store, and everything that was put into it.

    `windows`, `scene`, `tags` and `levels_db` list all windows in the order of writing; `paths`
    says which recording each path named last.
    """

    store: Store
    library_id: str
    windows: list[Window] = field(default_factory=list)
    scene: list[np.ndarray[Any, Any]] = field(default_factory=list)
    tags: list[np.ndarray[Any, Any]] = field(default_factory=list)
    frames: list[np.ndarray[Any, Any]] = field(default_factory=list)
    levels_db: list[float] = field(default_factory=list)
    paths: dict[str, bytes] = field(default_factory=dict)

    def add(
        self,
        recordings: dict[str, int],
        *,
        seed: int = 0,
        scene: np.ndarray[Any, Any] | None = None,
        tags: np.ndarray[Any, Any] | None = None,
        path_prefix: str = "",
        num_frames: int = NUM_FRAMES,
        last_samples: int = WINDOW_SAMPLES,
        replaces: Sequence[str] = (),
        windows: Sequence[Window] | None = None,
        levels_db: np.ndarray[Any, Any] | None = None,
    ) -> None:
        """Commit one part: recording name → number of windows; the path is `<name>.wav`."""
        rng = np.random.default_rng(seed)
        windows = windows or [
            Window(
                recording_id(name),
                number * self.store.identity.hop_samples,
                last_samples if number == count - 1 else WINDOW_SAMPLES,
            )
            for name, count in recordings.items()
            for number in range(count)
        ]
        if scene is None:
            scene = rng.normal(0, 1, (len(windows), EMBEDDING_DIM)).astype(np.float32)
        if tags is None:
            tags = self.store.head().tags(scene)
        tags = tags.astype(np.float16)
        frames = None
        if self.store.identity.frames != "none":
            bands = (7,) if self.store.identity.frames == "full" else ()
            shape = (len(windows), num_frames, *bands, EMBEDDING_DIM)
            frames = rng.normal(0, 1, shape).astype(np.float16)
        with PartWriter(self.store, ORIGIN) as writer:
            if windows:
                writer.add_windows(Block(table(windows), scene, tags, levels_db), frames)
            writer.add_ledger(
                [self.row(f"{path_prefix}{name}.wav", recording_id(name)) for name in recordings]
            )
            writer.commit(replaces)
        self.windows += windows
        self.scene += list(scene)
        self.tags += list(tags)
        self.levels_db += [np.nan] * len(windows) if levels_db is None else levels_db.tolist()
        self.frames += [] if frames is None else list(frames)
        self.paths.update({f"{path_prefix}{name}.wav": recording_id(name) for name in recordings})

    def remove(self, *paths: str) -> None:
        """Commit that some paths are gone."""
        self.add_rows([self.row(path, self.paths.pop(path), "gone") for path in paths])

    def rename(self, old: str, new: str) -> None:
        """Commit that a file has moved."""
        recording = self.paths.pop(old)
        self.add_rows([self.row(old, recording, "moved"), self.row(new, recording)])
        self.paths[new] = recording

    def live(self) -> list[int]:
        """Positions in `windows` of what a search may find: each window once, none without path."""
        named, first = set(self.paths.values()), {}
        for position, window in enumerate(self.windows):
            if window.recording_id in named:
                first.setdefault(window, position)
        return list(first.values())

    def row(self, path: str, recording: bytes | None, status: str = "ok", **more: Any) -> LedgerRow:
        return LedgerRow(
            path_id=path_id(self.library_id, path),
            library_id=self.library_id,
            path=path,
            size=1000,
            mtime_ns=1,
            status=status,  # type: ignore[arg-type]
            recording_id=recording,
            **more,
        )

    def add_rows(self, rows: Sequence[LedgerRow]) -> None:
        """Commit a part that only has a ledger."""
        with PartWriter(self.store, ORIGIN) as writer:
            writer.add_ledger(rows)
            writer.commit()


def put_file(part: Path, name: str, table: pa.Table, **options: Any) -> None:
    """Put a table in the place of one of a part's files, with a digest that fits it."""
    pq.write_table(table, part / name, **options)
    manifest = read_sealed(part / MANIFEST_FILE)
    manifest["files"][name] = [(part / name).stat().st_size, sha256_of(part / name)]
    (part / MANIFEST_FILE).write_bytes(seal(manifest))


def table(windows: Sequence[Window]) -> WindowTable:
    return WindowTable(
        np.array([window.window_id for window in windows], np.int64),
        np.array([window.recording_id for window in windows], ID_DTYPE),
        np.array([window.start_sample for window in windows], np.int64),
        np.array([window.num_samples for window in windows], np.int32),
    )


def windows_of(name: str, count: int) -> list[Window]:
    """The first windows of a recording, one after the other."""
    recording = recording_id(name)
    return [Window(recording, at * WINDOW_SAMPLES, WINDOW_SAMPLES) for at in range(count)]


def block_of(name: str, count: int, seed: int = 0) -> Block:
    """What the network would give for `windows_of`, with tags that fit `head()`."""
    scene = np.random.default_rng(seed).normal(0, 1, (count, EMBEDDING_DIM)).astype(np.float32)
    return Block(table(windows_of(name, count)), scene, head().tags(scene).astype(np.float16))


def frames_of(count: int, *shape: int) -> np.ndarray[Any, Any]:
    """(count, *shape, 768) float16; without a shape, one frame for each window."""
    rng = np.random.default_rng(1)
    return rng.normal(0, 1, (count, *(shape or (1,)), EMBEDDING_DIM)).astype(np.float16)


def make_store(
    path: Path,
    *,
    frames: FramesMode = "pooled",
    root: Path | None = None,
    weights: str = "a" * 64,
    hop_samples: int = WINDOW_SAMPLES,
) -> Synthetic:
    """Create an empty store with one library."""
    made = identity(frames, weights, hop_samples)
    store = create_store(path, made, head(), checkpoint="test", written_by="tests")
    return Synthetic(store, library_at(store, root or path.parent / "library"))


def write_tone(
    path: Path, seconds: float, hz: float = 440.0, rate: int = 32_000, peak: float = 0.3
) -> Path:
    """Write a tone, quiet unless told otherwise, with a little noise, always the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    num_samples = max(1, round(seconds * rate))
    noise = np.random.default_rng(int(hz)).normal(0, 0.01, num_samples)
    tone = peak * np.sin(2 * np.pi * hz * np.arange(num_samples) / rate) + noise
    soundfile.write(path, tone.astype(np.float32), rate, subtype="PCM_16")
    return path
