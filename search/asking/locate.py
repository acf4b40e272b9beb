"""Where in a window what asks is: which span of its frames is most like those of the question.

A window of 10 s is one vector, and a call of 2 s in it is diluted. Its frame embeddings, one for
each 0.32 s, still tell them apart. A span is as like what asks as the mean of two similarities:

- of the span as the network would sum it up, LayerNorm(max + mean) over its frames, with what asks,
  summed up likewise: the two may be in different order, and of different sounds of a kind;
- of the frames in their order, one by one, less what the rest of the window sounds like: this says
  exactly where.

docs/decisions/0033 has what was measured of both, and of each alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers
from indexer.store.head import Head, layer_norm
from indexer.store.snapshot import WindowTable
from indexer.windows import FRAME_S, SAMPLE_RATE_HZ, num_frames
from search.asking.answers import Match
from search.asking.opened import OpenedStore
from search.asking.sound_index import SoundIndex
from search.generation.frames import StoredFrames

#: Frames that are looked at together, or those of one window: 6 MB, and 40 of what is computed.
_BLOCK_FRAMES = 2048


class Pattern(NamedTuple):
    """What is looked for inside windows: a window that asks and is shorter than they are.

    Attributes:
        num_samples: Its audio, at 32 kHz.
        frames: (T, 768) float32, with those of its padding; None where they are stored.
        stored: In which store they are, and in which row of its generation; None if they are given,
            or the store keeps none.
    """

    num_samples: int
    frames: Float32 | None = None
    stored: tuple[StoredFrames, int] | None = None

    @property
    def is_known(self) -> bool:
        """Whether there are frames of it."""
        return self.frames is not None or self.stored is not None

    @property
    def duration_s(self) -> float:
        """Its audio, in seconds."""
        return self.num_samples / SAMPLE_RATE_HZ

    def read(self) -> Float32:
        """Return (L, 768) float32: its frames, without those of padding.

        Raises:
            DamagedStoreError: If stored ones are not what was written, or not there any more.
        """
        frames = self.frames
        if frames is None:
            assert self.stored is not None
            store, row = self.stored
            frames = store.read(np.array([row]))[0]
        return frames[: num_frames(self.num_samples)]


def stored_patterns(index: SoundIndex, rows: Integers) -> tuple[Pattern | None, ...]:
    """Return what is looked for of each of some stored windows; None of one as long as any is.

    Args:
        index: The stores.
        rows: (n,) where the windows are.
    """
    found: list[Pattern | None] = [None] * len(rows)
    for one, local, at in index.by_store(rows):
        for place, pattern in zip(at.tolist(), patterns_of(one, local), strict=True):
            found[place] = pattern
    return tuple(found)


def patterns_of(opened: OpenedStore, rows: Integers) -> tuple[Pattern | None, ...]:
    """Return the same of rows of one store."""
    longest = opened.store.identity.geometry.longest_samples
    lengths = opened.generation.column("num_samples", rows).tolist()
    frames = opened.frames
    return tuple(
        Pattern(length, stored=(frames, row) if frames.are_kept else None)
        if length < longest
        else None
        for row, length in zip(rows.tolist(), lengths, strict=True)
    )


class _Block(NamedTuple):
    """A few windows: where they are, their frames, and how many of these hold no padding."""

    windows: WindowTable
    frames: list[Float32]
    lengths: Integers

    @classmethod
    def read(cls, index: SoundIndex, rows: Integers) -> _Block:
        """Read the frames of some rows."""
        windows, frames = index.windows(rows), index.frames(rows)
        lengths = np.array([num_frames(one) for one in windows.num_samples.tolist()])
        return cls(windows, frames, np.minimum(lengths, [len(one) for one in frames]))


def locate(
    index: SoundIndex, patterns: Sequence[Pattern | None], which: Integers | None, rows: Integers
) -> Match:
    """Find where in some windows what asks is.

    Args:
        index: The stores.
        patterns: What may be looked for.
        which: (n,) which of them is looked for in each window; None for all of them, of which the
            one counts that is most alike.
        rows: (n,) the windows.

    Raises:
        DamagedStoreError: If frames are not what was written, or not there any more.
    """
    found = Match.unknown(len(rows))
    numbers = [at for at, one in enumerate(patterns) if one is not None and one.is_known]
    if which is not None:
        numbers = np.intersect1d(numbers, which).tolist()
    wanted = [(at, one, one.read()) for at in numbers if (one := patterns[at]) is not None]
    looked = np.arange(len(rows)) if which is None else np.flatnonzero(np.isin(which, numbers))
    size = max(1, _BLOCK_FRAMES // num_frames(index.identity.geometry.longest_samples))
    for at in np.split(looked, range(size, len(looked), size)) if wanted and len(looked) else ():
        block = _Block.read(index, rows[at])
        for number, pattern, frames in wanted:
            here = np.arange(len(at)) if which is None else np.flatnonzero(which[at] == number)
            some = _look_into(block, here, pattern.duration_s, frames, index.head)
            better = ~(found.scores[at[here]] >= some.scores)  # of the first, nothing is known yet
            found.put(at[here[better]], some.take(better))
    return found


def _look_into(
    block: _Block, here: Integers, duration_s: float, wanted: Float32, head: Head
) -> Match:
    """Look for a pattern in some of a few windows."""
    found, lengths = Match.unknown(len(here)), block.lengths[here]
    for length in np.unique(lengths).tolist():
        at = np.flatnonzero(lengths == length)
        stacked = np.stack([block.frames[one][:length] for one in here[at].tolist()])
        first, found.scores[at] = best_spans(stacked, wanted, head)
        begin_s = block.windows.start_sample[here[at]] / SAMPLE_RATE_HZ
        end_s = begin_s + block.windows.num_samples[here[at]] / SAMPLE_RATE_HZ
        found.start_s[at] = start_s = np.minimum(begin_s + first * FRAME_S, end_s)
        found.end_s[at] = np.minimum(start_s + max(duration_s, FRAME_S), end_s)
    return found


def best_spans(frames: Float32, wanted: Float32, head: Head) -> tuple[Integers, Float32]:
    """Find in each of some windows of one length the span that is most like what is wanted.

    Args:
        frames: (n, H, 768) float32, those of n windows.
        wanted: (L, 768) float32.
        head: Of the network: its final LayerNorm sums a span up.

    Returns:
        (n,) first frames of the spans, of L frames each, or all of a window that has fewer; and
        (n,) float32, how like what is wanted they are, from -1 to 1.
    """
    length = min(len(wanted), frames.shape[1])
    summed = _unit(_summed_up(frames, length, head))  # (n, S, 768)
    of_all = summed @ _unit(_summed_up(wanted[None], len(wanted), head)[0, 0])
    scores = np.asarray((of_all + _in_order(frames, wanted)) / 2, np.float32)
    first = scores.argmax(axis=1)
    return first, np.take_along_axis(scores, first[:, None], axis=1)[:, 0]


def _summed_up(frames: Float32, length: int, head: Head) -> Float32:
    """Return (n, S, 768): the scene embeddings of all spans of so many frames."""
    num_spans = frames.shape[1] - length + 1
    most, total = frames[:, :num_spans].copy(), frames[:, :num_spans].copy()
    for step in range(1, length):
        np.maximum(most, frames[:, step : step + num_spans], out=most)
        total += frames[:, step : step + num_spans]
    return head.normalise(most + total / np.float32(length))


def _in_order(frames: Float32, wanted: Float32) -> Float32:
    """Return (n, S): the mean cosine of the frames of each span with those wanted, in their order.

    What the rest of the window sounds like is taken off both, by the share of it that is not in the
    span. Of what is longer than the windows, the part counts that is most like them.
    """
    num_windows, height = frames.shape[:2]
    length = min(len(wanted), height)
    normed = layer_norm(frames)
    rest = normed.mean(axis=1, keepdims=True) * np.float32(1 - length / height)
    cosines = _unit(normed - rest) @ _unit(layer_norm(wanted)[None] - rest).transpose(0, 2, 1)
    if len(wanted) > height:
        cosines = cosines.transpose(0, 2, 1)
    num_spans = cosines.shape[1] - length + 1
    total = np.zeros((num_windows, num_spans), np.float32)
    for step in range(length):
        total += cosines[:, step : step + num_spans, step]
    total /= length
    return total.max(axis=1, keepdims=True) if len(wanted) > height else total


def _unit(values: Float32) -> Float32:
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(values / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
