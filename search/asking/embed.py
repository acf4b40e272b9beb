"""Audio queries: a clip becomes vectors exactly as the store's windows did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from indexer.arrays import Float16, Float32, Mask
from indexer.audio.content import asked_with
from indexer.audio.stream import open_audio
from indexer.audio.times import FileSpan
from indexer.embedding.extractor import Extractor
from indexer.errors import QueryError
from indexer.model.checkpoint import load_checkpoint
from indexer.model.known import name_now
from indexer.progress import Listen, Step, ignore
from indexer.store.reader import Store
from indexer.store.schema import Identity
from indexer.windows import (
    MIN_INPUT_SAMPLES,
    SAMPLE_RATE_HZ,
    WINDOW_SAMPLES,
    Decibels,
    Geometry,
    Window,
    samples_of,
)
from search.asking.example import Example, Louder, recording_of
from search.asking.levels import is_quiet, which_ask
from search.asking.locate import Pattern
from search.generation.frames import pooled
from search.generation.writing import normalise

#: Noise that counts as silence, by its root mean square: from what rounding to 16 bits leaves on.
_HISS_DBFS = (-98.0, -94.0, -90.0, -86.0, -82.0)


class Clip(NamedTuple):
    """A clip that is asked about, cut into windows as the store's recordings were.

    Attributes:
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
        louder = self.louder and Louder(
            self.louder.vectors, self.louder.tags, -float(levels.max()), self.louder.patterns
        )
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


def extractor_for(
    store: Store,
    checkpoint: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    listen: Listen = ignore,
) -> Extractor:
    """Load the checkpoint that a store was made with.

    Args:
        store: To be asked.
        checkpoint: Name or file; None for the one that the store names.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32" or "bf16".
        listen: Hears how far a checkpoint is downloaded, if it has to be.

    Raises:
        CheckpointError: If it is not there.
        IdentityError: If it is not the one that the store was made with.
    """
    made_with = name_now(store.checkpoint, store.identity.weights)
    extractor = Extractor(
        load_checkpoint(checkpoint or made_with, listen=listen),
        device=device,
        precision=precision,
        frames=store.identity.frames,
        level=store.identity.level,
    )
    store.identity.require(
        extractor.identity(store.identity.geometry, store.identity.channel),
        f"the store {store.path} was made with another checkpoint or version",
        f"Use the one that it was made with ({made_with})",
        about="checkpoint",
    )
    return extractor


def embed_silence(extractor: Extractor, geometry: Geometry) -> Float32:
    """Return (n, 768) vectors of length 1: what the network makes of silence in a store's windows.

    That is nothing, and noise that nobody hears: `_HISS_DBFS`, as it is and as 16 bits hold it.
    Padded windows are all alike. Of others, lengths are taken that lie a fifth apart.
    """
    longest = geometry.longest_samples
    shortest = MIN_INPUT_SAMPLES if geometry.native else longest
    num_lengths = 1 + round(math.log(longest / shortest) / math.log(1.2))
    lengths = np.geomspace(shortest, longest, num_lengths).round().astype(int).tolist()
    scenes = [extractor(some).scene for one in lengths for some in _silences(one, geometry)]
    return normalise(np.concatenate(scenes))


def _silences(num_samples: int, geometry: Geometry) -> Iterator[torch.Tensor]:
    """Yield (1, num_samples) waveforms in which nobody hears anything."""
    yield torch.zeros(1, num_samples)
    noise = np.random.default_rng(0).standard_normal(num_samples).astype(np.float32)
    for level_db in _HISS_DBFS:
        hiss = noise * np.float32(10 ** (level_db / 20))
        for one in (hiss, np.round(hiss * 2**15).astype(np.float32) / np.float32(2**15)):
            yield torch.from_numpy(one)[None]
            if not geometry.native:
                yield torch.from_numpy(geometry.pad(one[:SAMPLE_RATE_HZ]))[None]


def embed_clip(
    asked: FileSpan,
    extractor: Extractor,
    identity: Identity,
    recording_id: bytes | None = None,
    listen: Listen = ignore,
    *,
    level: bool = False,
    gain: float = 1.0,
) -> Clip:
    """Embed a clip with a store's own geometry and channel.

    Args:
        asked: Audio file, or a part of one.
        extractor: Of the store's checkpoint.
        identity: Of the store.
        recording_id: `recording_of` the file, if it is known.
        listen: Hears how many windows are done.
        level: Whether a quiet clip is embedded at full scale as well, where levels count.
        gain: What all samples are multiplied with.

    Raises:
        QueryError: If the file is not there, cannot be read, has no audio there, or an
            embedding is not finite.
    """
    path, start_s, duration_s = asked
    start_sample, num_samples = samples_of(start_s, duration_s)
    recording_id = recording_id or recording_of(path)
    embedded, windows = [], []
    listen(Step("listening", 0, None, "window"))
    with (
        asked_with(path),
        open_audio(
            path,
            start_sample=start_sample,
            num_samples=num_samples,
            channel=identity.channel,
        ) as audio,
    ):
        if not start_sample and num_samples is None:
            audio.identify()
        for cut in audio.windows(identity.geometry):
            embedded.append(extractor.embed_cut(cut, gain))
            embedded[-1].require_finite(audio.peak)
            place = audio.start_sample + cut.start_sample
            windows.append(Window(recording_id, place, cut.num_samples))
            listen(Step("listening", len(windows), None, "window"))
    if not embedded:
        why = audio.absence()
        raise QueryError(f"{path} has no audio at {start_s:g} s; {why}", about="start_s")
    levels = np.concatenate([one.level_db for one in embedded])
    louder = None
    if level and identity.level == "off" and is_quiet(levels):
        to_full_scale = 10 ** (-float(levels.max()) / 20)
        louder = embed_clip(asked, extractor, identity, recording_id, listen, gain=to_full_scale)
    has_frames = embedded[0].frames is not None
    return Clip(
        scene=np.concatenate([one.scene for one in embedded]),
        frames=[one.frames[0] for one in embedded if one.frames is not None]
        if has_frames
        else None,
        tags=np.concatenate([one.tags for one in embedded]),
        recording_id=recording_id,
        windows=windows,
        audio_id=audio.audio_id,
        asks=which_ask(windows, levels, identity.geometry),
        levels_db=levels,
        louder=louder,
        longest_samples=identity.geometry.longest_samples,
    )
