"""What the model hears in a file: the published demo's job."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from indexer.arrays import Float32
from indexer.audio.content import asked_with
from indexer.audio.stream import as_channel, open_audio
from indexer.audio.times import FileSpan
from indexer.embedding.extractor import Extractor
from indexer.errors import QueryError
from indexer.progress import Listen, Step, ignore
from indexer.store.schema import EMBEDDING_DIM, FRAME_BANDS
from indexer.tags import DEFAULT_THRESHOLD, HeardTag, Threshold, pick_heard
from indexer.windows import SAMPLE_RATE_HZ, Geometry, samples_of


@dataclass(frozen=True, slots=True)
class TaggedWindow:
    """What the model heard in one window of a file.

    Attributes:
        start_s: Start of the window, in seconds.
        end_s: End of its audio, in seconds.
        tags: Tags over the threshold, the most probable first.
        scene_shape: Of the scene embedding.
        frames_shape: Of the frame embeddings as they are stored, time first: (T, 768), or (T, 7,
            768) if they are not averaged over frequency; () if there are none.
        map_shape: Of the network's own frame map, (768, T, 7), which `Model.embed_file` gives.
        logits: (527,) float32: what the probabilities are the sigmoids of.
    """

    start_s: float
    end_s: float
    tags: tuple[HeardTag, ...]
    scene_shape: tuple[int, ...]
    frames_shape: tuple[int, ...]
    map_shape: tuple[int, ...]
    logits: Float32 = field(compare=False, repr=False)


def tag_file(  # noqa: PLR0913 - each is one thing that a caller may want otherwise
    path: Path,
    extractor: Extractor,
    *,
    threshold: Threshold = DEFAULT_THRESHOLD,
    top: int | None = None,
    geometry: Geometry | None = None,
    span: tuple[int, int | None] = (0, None),
    channel: int | None = None,
    listen: Listen = ignore,
) -> list[TaggedWindow]:
    """Listen to a file, window by window.

    Args:
        path: Audio file.
        extractor: Model and device.
        threshold: Probability from which on a tag is heard; one for all, or (527,).
        top: At most this many tags per window; None for all.
        geometry: How the file is cut; 10-s windows unless told otherwise.
        span: Where to begin in the file and how much to hear, in samples at 32 kHz; None for all
            that follows.
        channel: Which channel to listen to, counted from 1; None for the mean of all.
        listen: Hears how many windows are done.

    Raises:
        AudioError: If the file cannot be read, or an embedding is not finite.
        QueryError: If it has no audio there.
    """
    tagged: list[TaggedWindow] = []
    head = extractor.head()
    listen(Step("listening", 0, None, "window"))
    start_sample, num_samples = span
    with open_audio(
        path, start_sample=start_sample, num_samples=num_samples, channel=channel
    ) as audio:
        for cut in audio.windows(geometry or Geometry()):
            start = audio.start_sample + cut.start_sample
            embeddings = extractor.embed_cut(cut)
            embeddings.require_finite(audio.peak)
            scene, frames, tags, _ = embeddings
            tagged.append(
                TaggedWindow(
                    start_s=start / SAMPLE_RATE_HZ,
                    end_s=(start + cut.num_samples) / SAMPLE_RATE_HZ,
                    tags=tuple(pick_heard(tags[0], threshold=threshold, top=top)),
                    scene_shape=scene.shape[1:],
                    frames_shape=() if frames is None else frames.shape[1:],
                    map_shape=()
                    if frames is None
                    else (EMBEDDING_DIM, frames.shape[1], FRAME_BANDS),
                    logits=head.logits(scene)[0],
                )
            )
            listen(Step("listening", len(tagged), None, "window"))
    if not tagged:
        at_s, why = start_sample / SAMPLE_RATE_HZ, audio.absence()
        raise QueryError(f"{path} has no audio at {at_s:g} s; {why}", about="start_s")
    return tagged


def listen_to(
    asked: FileSpan,
    extractor: Extractor,
    threshold: Threshold,
    top: int | None,
    geometry: Geometry | None = None,
    channel: int | None = None,
    listen: Listen = ignore,
) -> list[TaggedWindow]:
    """Do the same for a user: what cannot be done is an error that names the file or the number.

    Raises:
        QueryError: If the file cannot be read or embedded, or has no audio there, the threshold is
            no probability, or `top` or `channel` below 1.
    """
    is_one = not isinstance(threshold, np.ndarray)  # those of each tag were read as such
    if is_one and not (isinstance(threshold, Real) and 0 <= threshold <= 1):
        raise QueryError(f"the threshold is a probability from 0 to 1, got {threshold!r}")
    if top is not None and (not isinstance(top, Integral) or top < 1):
        raise QueryError(f"the most tags of a window are a whole number from 1 on, got {top!r}")
    how: dict[str, Any] = {
        "threshold": threshold,
        "top": top,
        "geometry": geometry,
        "listen": listen,
    }
    file, start_s, duration_s = asked
    with asked_with(file):
        span, number = samples_of(start_s, duration_s), as_channel(channel)
        return tag_file(file, extractor, span=span, channel=number, **how)
