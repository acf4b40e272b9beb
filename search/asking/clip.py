"""A clip that was listened to: what of it asks, as often as it is asked with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from indexer.arrays import Float16, Float32, Mask
from indexer.audio.times import FileSpan
from indexer.store.schema import Identity
from indexer.windows import WINDOW_SAMPLES, Decibels, Window
from search.asking.example import Example, Louder
from search.asking.locate import Pattern
from search.generation.frames import pooled
from search.generation.writing import normalise


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A clip that is asked about, cut into windows as the store's recordings were.

    Attributes:
        asked: The file, and which part of it.
        identity: How it was embedded: as which stores were.
        scene: (n, 768) float32 scene embeddings, one for each of its windows, not normalised.
        frames: Frame embeddings of each window, as the store keeps them; None if it keeps none.
        tags: (n, 527) float32 probabilities.
        recording_id: Digest of the file's bytes, so that the same recording can be left out.
        windows: Where each of them is in the file.
        audio_id: Digest of the samples of a whole file, see `AudioStream`; None of a part.
        asks: (n,) which of its windows ask, see `which_ask`.
        levels_db: (n,) the highest peak of each window, in dBFS.
        louder: The same at full scale, if it is quiet and that was asked for.
        longest_samples: Of the windows of the store, the longest, at 32 kHz.
    """

    asked: FileSpan
    identity: Identity
    scene: Float32
    frames: list[Float16] | None
    tags: Float32
    recording_id: bytes
    windows: list[Window]
    audio_id: bytes | None = None
    asks: Mask | None = None
    levels_db: Decibels | None = None
    louder: Clip | None = None
    longest_samples: int = WINDOW_SAMPLES

    @property
    def vectors(self) -> Float32:
        """(n, 768) float32 of length 1: what is asked with."""
        return normalise(self.scene)

    @property
    def example(self) -> Example:
        """What a question needs of it."""
        unknown = np.full(len(self.windows), np.nan, np.float32)
        levels = unknown if self.levels_db is None else self.levels_db
        louder = None
        if one := self.louder:
            louder = Louder(one.vectors, one.tags, -float(levels.max()), one.patterns)
        asks = np.ones(len(self.windows), bool) if self.asks is None else self.asks
        own = self.vectors, self.recording_id, self.windows, self.tags, asks, levels
        return Example(*own, louder, self.patterns)

    @property
    def patterns(self) -> tuple[Pattern | None, ...]:
        """What is looked for inside windows; None of a window that is as long as they can be."""
        return tuple(
            Pattern(window.num_samples, None if self.frames is None else pooled(self.frames[at]))
            if window.num_samples < self.longest_samples
            else None
            for at, window in enumerate(self.windows)
        )
