"""Whether the last, short window of a recording is better repeated, or begun earlier.

A table of `answers.py`. Recordings are made of three clips, 5 + 5 s and a bit of the third, which
is alone in the last window. It is embedded as `soundalike` does, repeated, and as the last 10 s of
the recording. What is alike is told by the third clip's kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from answers_changed import K, clips_of, loudest, said, told

from indexer.audio.stream import open_audio
from indexer.embedding.extractor import Extractor
from indexer.model.checkpoint import load_checkpoint
from indexer.windows import SAMPLE_RATE_HZ, WINDOW_SAMPLES, Geometry
from search.asking.terms import DEFAULT_TAG_WEIGHT
from search.nearest.blend import unit_roots

Array = np.ndarray[Any, Any]

HALF = WINDOW_SAMPLES // 2
TAILS_S = (1, 3)
MAKES = ("of one kind", "of three kinds")
#: Windows embedded at a time.
BATCH = 8


def hear(waveforms: list[Array], extractor: Extractor, weight: float = DEFAULT_TAG_WEIGHT) -> Array:
    """Return (n, 1295): the product of two is the blend."""
    pad = Geometry(padding="repeat").pad
    found = []
    for first in range(0, len(waveforms), BATCH):
        block = np.stack([pad(one) for one in waveforms[first : first + BATCH]])
        embedded = extractor(torch.from_numpy(block.astype(np.float32)))
        scenes = embedded.scene / np.linalg.norm(embedded.scene, axis=1, keepdims=True)
        both = np.sqrt(1 - weight) * scenes, np.sqrt(weight) * unit_roots(embedded.tags)
        found.append(np.concatenate(both, axis=1))
    return np.concatenate(found).astype(np.float64)


def partners(kinds: Array, sources: Array, make: str, random: np.random.Generator) -> Array:
    """Draw (n, 2) the clips before each: of its kind, or of two others; none of its source."""
    drawn = []
    for kind, source in zip(kinds, sources, strict=True):
        if make == MAKES[0]:
            drawn.append(random.choice(np.flatnonzero((kinds == kind) & (sources != source)), 2))
        else:
            two = random.choice(np.unique(kinds[kinds != kind]), 2, replace=False)
            drawn.append(np.array([random.choice(np.flatnonzero(kinds == one)) for one in two]))
    return np.array(drawn)


def precision(scores: Array, asking: Array, kinds: Array, is_own: Array) -> Array:
    """Return for each line which share of the ten best is of its kind; its own do not count."""
    best = np.argsort(np.where(is_own, np.inf, -scores), axis=1, kind="stable")[:, :K]
    return np.asarray((kinds[best] == asking[:, None]).mean(1))


def tail_lines(folder: Path, _: Path) -> Iterator[str]:
    """What clips find of last windows, and what these find."""
    extractor = Extractor(load_checkpoint("demo"), device="cpu", precision="fp32", frames="none")
    clips, samples = clips_of(folder), []
    for clip in clips:
        with open_audio(clip.path) as audio:
            samples.append(np.concatenate(list(audio.blocks()))[:HALF])
    kinds = np.array([clip.kind for clip in clips])
    sources = np.array([clip.path.stem.rsplit("-", 1)[0] for clip in clips])
    whole = hear(samples, extractor)
    yield (
        "| last window | recordings | how | clips find last windows, P@10 "
        "| last windows find clips, P@10 | the third clip finds its own first | among ten |"
    )
    yield "|---|---|---|---|---|---|---|"
    for length_s, make in product(TAILS_S, MAKES):
        before = partners(kinds, sources, make, np.random.default_rng(0))
        lasts = [
            loudest(one, length_s * SAMPLE_RATE_HZ) if len(one) > length_s * SAMPLE_RATE_HZ else one
            for one in samples
        ]
        joined = [
            np.concatenate([samples[one], samples[other], last])
            for (one, other), last in zip(before, lasts, strict=True)
        ]
        firsts = hear([one[:WINDOW_SAMPLES] for one in joined], extractor)
        # Which recordings have something of the source of which clip.
        inside = np.concatenate([before, np.arange(len(clips))[:, None]], axis=1)
        is_own = (sources[inside][None] == sources[:, None, None]).any(2)
        measured = {}
        for how in ("repeated", "shifted"):
            cut = lasts if how == "repeated" else [one[-WINDOW_SAMPLES:] for one in joined]
            tails = hear(cut, extractor)
            scores = whole @ tails.T
            all_scores = np.concatenate([scores, whole @ firsts.T], axis=1)
            rank = (all_scores > np.diag(scores)[:, None]).sum(1)
            measured[how] = np.array(
                [
                    precision(scores, kinds, kinds, is_own),
                    precision(scores.T, kinds, kinds, is_own.T),
                    rank == 0,
                    rank < K,
                ],
                float,
            )
        measured["shifted less repeated"] = measured["shifted"] - measured["repeated"]
        for how, values in measured.items():
            cells = " | ".join(
                told(one, np.unique(sources, return_inverse=True)[1]) for one in values
            )
            yield f"| {length_s} s | {make} | {how} | {cells} |"
    yield f"({said(DEFAULT_TAG_WEIGHT)})"
