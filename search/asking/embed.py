"""Audio queries: a clip becomes vectors exactly as the store's windows did."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from indexer.arrays import Float16, Float32
from indexer.audio.file import asked_with
from indexer.audio.stream import open_audio
from indexer.embedding.extractor import Extractor
from indexer.errors import QueryError
from indexer.model.checkpoint import load_checkpoint
from indexer.model.known import name_now
from indexer.progress import Listen, Step, ignore
from indexer.store.reader import Store
from indexer.store.schema import Identity
from indexer.windows import MIN_INPUT_SAMPLES, Geometry, Window, samples_of
from search.asking.example import Example, recording_of
from search.generation.writing import normalise


class Clip(NamedTuple):
    """A clip that is asked about, cut into windows as the store's recordings were.

    Attributes:
        scene: (n, 768) float32 scene embeddings, one for each of its windows, not normalised.
        frames: Frame embeddings of each window, as the store keeps them; None if it keeps none.
        tags: (n, 527) float32 probabilities.
        recording_id: Digest of the file's bytes, so that the same recording can be left out.
        windows: Where each of them is in the file.
        audio_id: Digest of the samples of a whole file, see `AudioStream`; None of a part.
    """

    scene: Float32
    frames: list[Float16] | None
    tags: Float32
    recording_id: bytes
    windows: list[Window]
    audio_id: bytes | None = None

    @property
    def vectors(self) -> Float32:
        """(n, 768) float32 of length 1: what is asked with."""
        return normalise(self.scene)

    @property
    def example(self) -> Example:
        """What a question needs of it."""
        return Example(self.vectors, self.recording_id, self.windows, self.tags)


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

    Padded ones are all alike. Of others, lengths are taken that lie a fifth apart.
    """
    longest = geometry.longest_samples
    shortest = MIN_INPUT_SAMPLES if geometry.native else longest
    num_lengths = 1 + round(math.log(longest / shortest) / math.log(1.2))
    lengths = np.geomspace(shortest, longest, num_lengths).round().astype(int).tolist()
    return normalise(np.concatenate([extractor(torch.zeros(1, one)).scene for one in lengths]))


def embed_clip(
    path: Path,
    extractor: Extractor,
    identity: Identity,
    start_s: float = 0.0,
    duration_s: float | None = None,
    recording_id: bytes | None = None,
    listen: Listen = ignore,
) -> Clip:
    """Embed a clip with a store's own geometry and channel.

    Args:
        path: Audio file.
        extractor: Of the store's checkpoint.
        identity: Of the store.
        start_s: Where the clip begins in the file, in seconds.
        duration_s: Its length, in seconds; None for the rest of the file.
        recording_id: `recording_of` the file, if it is known.
        listen: Hears how many windows are done.

    Raises:
        QueryError: If the file is not there, cannot be read, has no audio at `start_s`, or an
            embedding is not finite.
    """
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
            embedded.append(extractor(torch.from_numpy(cut.waveform)[None]))
            embedded[-1].require_finite(audio.peak)
            place = audio.start_sample + cut.start_sample
            windows.append(Window(recording_id, place, cut.num_samples))
            listen(Step("listening", len(windows), None, "window"))
    if not embedded:
        why = audio.absence()
        raise QueryError(f"{path} has no audio at {start_s:g} s; {why}", about="start_s")
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
    )
