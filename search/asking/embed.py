"""Audio queries: a clip becomes vectors exactly as the store's windows did."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from indexer.arrays import Float32
from indexer.audio.content import asked_with
from indexer.audio.stream import open_audio
from indexer.audio.times import FileSpan
from indexer.embedding.extractor import Extractor
from indexer.errors import QueryError
from indexer.model.checkpoint import load_checkpoint
from indexer.model.known import name_now
from indexer.progress import Listen, Step, ignore
from indexer.reading.apart import Apart
from indexer.store.reader import Store
from indexer.store.schema import Identity
from indexer.windows import MIN_INPUT_SAMPLES, SAMPLE_RATE_HZ, Geometry, Window, samples_of
from search.asking.clip import Clip
from search.asking.example import recording_of
from search.asking.levels import is_quiet, which_ask
from search.generation.writing import normalise

#: Noise that counts as silence, by its root mean square: from what rounding to 16 bits leaves on.
_HISS_DBFS = (-98.0, -94.0, -90.0, -86.0, -82.0)


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


def embed_clip(  # noqa: PLR0913 - each is a choice of its own
    asked: FileSpan,
    extractor: Extractor,
    identity: Identity,
    recording_id: bytes | None = None,
    listen: Listen = ignore,
    *,
    level: bool = False,
    gain: float = 1.0,
    apart: Apart | None = None,
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
        apart: Decodes it in another process; None for this one.

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
        (apart.open_audio if apart else open_audio)(
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
        louder = embed_clip(
            asked, extractor, identity, recording_id, listen, gain=to_full_scale, apart=apart
        )
    has_frames = embedded[0].frames is not None
    return Clip(
        asked=asked,
        identity=identity,
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
