"""When a tag is heard: spans in which its frame-by-frame probability stays over a threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.store.head import Head
from indexer.tags import Threshold, reaches, threshold_of
from indexer.windows import FRAME_S

#: Frame i of a window begins so long before i times `FRAME_S`: the stem pads as much.
FRAME_LEAD_S = 0.04
#: Frames that a probability is averaged over, one to either side: a second, so that a span is not
#: broken by one frame, and one loud frame is no span.
SMOOTHED_FRAMES = 3
#: Gaps in a span of up to so many seconds are closed.
MERGED_S = 0.5

Float32 = npt.NDArray[np.float32]


class Span(NamedTuple):
    """A tag, from when to when.

    Attributes:
        start_s: In the recording, in seconds.
        end_s: In the recording, in seconds.
        tag: Index among the 527, or behind them of a learned tag.
        probability: The greatest of the smoothed ones in it.
    """

    start_s: float
    end_s: float
    tag: int
    probability: float


def frame_tags(frames: npt.NDArray[np.floating], head: Head) -> Float32:
    """Return (T, 527) probabilities for (T, 768) frame embeddings averaged over frequency.

    For a single frame the scene embedding would be LayerNorm(2 x frame), and the LayerNorm cancels
    the 2: so the classifier applies to LayerNorm(frame).
    """
    return head.tags(head.normalise(frames.astype(np.float32)))


def spans_of_window(
    probabilities: Float32,
    start_s: float,
    duration_s: float,
    tags: Sequence[int],
    threshold: Threshold,
) -> Iterator[Span]:
    """Yield the spans of one window, tag by tag.

    Args:
        probabilities: (T, 527), frame by frame.
        start_s: Where the window begins in the recording, in seconds.
        duration_s: Audio in it, in seconds; frames beyond are padding.
        tags: Indices of those that are wanted.
        threshold: Probability that counts as heard; one for all tags, or (527,).
    """
    num_frames = min(len(probabilities), int(np.ceil((duration_s + FRAME_LEAD_S) / FRAME_S)))
    smooth = _smoothed(probabilities[:num_frames, list(tags)])
    heard = reaches(smooth, threshold_of(threshold, list(tags)))
    for column in np.flatnonzero(heard.any(0)).tolist():  # hardly any of 527
        changes = np.diff(heard[:, column], prepend=False, append=False)
        for first, last in np.flatnonzero(changes).reshape(-1, 2):
            begin = max(first * FRAME_S - FRAME_LEAD_S, 0.0)
            end = last * FRAME_S - FRAME_LEAD_S
            if last == num_frames:  # the network drops what is left of the last frame
                end = duration_s
            if end > begin:
                peak = float(smooth[first:last, column].max())
                yield Span(start_s + begin, start_s + end, tags[column], peak)


def _smoothed(probabilities: Float32) -> Float32:
    """Return the mean over neighbouring frames; at the ends over those that there are."""
    reach = SMOOTHED_FRAMES // 2
    padded = np.pad(probabilities, ((reach, reach), (0, 0)))
    counts = np.pad(np.ones(len(probabilities), np.float32), reach)
    steps = range(SMOOTHED_FRAMES)
    length = len(probabilities)
    total = sum((padded[step : step + length] for step in steps), np.zeros_like(probabilities))
    weight = sum((counts[step : step + length] for step in steps), np.zeros(length, np.float32))
    smooth: Float32 = total / weight[:, None]
    return smooth


def merged(spans: Sequence[Span]) -> list[Span]:
    """Join spans of one tag that overlap or have only a small gap between them; sort by start."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.tag, span.start_s)):
        last = joined[-1] if joined else None
        if last and last.tag == span.tag and span.start_s - last.end_s <= MERGED_S:
            joined[-1] = last._replace(
                end_s=max(last.end_s, span.end_s),
                probability=max(last.probability, span.probability),
            )
        else:
            joined.append(span)
    return sorted(joined)
