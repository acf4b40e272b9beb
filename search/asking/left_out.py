"""What a question leaves out, because it asks with it: recordings, or spans of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from indexer.arrays import ID_DTYPE, Integers, Mask
from indexer.audio.times import FileSpan
from indexer.windows import Window, samples_of
from search.generation.segments import Rows, Segment

#: No recording is as long, in samples.
_END = 2**62


class LeftOut(NamedTuple):
    """A span of a recording; of what overlaps it, nothing is a hit.

    Attributes:
        recording_id: The recording.
        start_sample: Where the span begins, in samples at 32 kHz.
        end_sample: Where it ends.
    """

    recording_id: bytes
    start_sample: int = 0
    end_sample: int = _END

    @classmethod
    def of_file(cls, recording_id: bytes, asked: FileSpan) -> LeftOut:
        """Return the span that a user named, which may be all of the file."""
        start, length = samples_of(asked.start_s, asked.duration_s)
        return cls(recording_id, start, _END if length is None else start + length)

    @classmethod
    def of_window(cls, window: Window) -> LeftOut:
        """Return the span of a window."""
        end = window.start_sample + window.num_samples
        return cls(window.recording_id, window.start_sample, end)

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the recording."""
        return (self.start_sample, self.end_sample) == (0, _END)

    def among(self, segment: Segment, rows: Integers) -> Integers:
        """Return those of some rows of its recording that overlap it."""
        start = segment.arrays["start_sample"][rows]
        end = start + segment.arrays["num_samples"][rows]
        return np.asarray(rows[(start < self.end_sample) & (end > self.start_sample)])


#: All that a question leaves out.
AllLeftOut = frozenset[LeftOut]


def is_left_out(
    index: Rows, asked: Integers, rows: Integers, own: Mapping[int, AllLeftOut]
) -> Mask:
    """Return (n,) which rows their question leaves out.

    Args:
        index: What the rows belong to.
        asked: (n,) number of the question that found each row.
        rows: (n,) rows.
        own: What each question leaves out, by its number.
    """
    pairs = [(number, one) for number, spans in own.items() for one in spans]
    ids = np.array([one.recording_id for _, one in pairs], ID_DTYPE)
    distinct, at = np.unique(np.concatenate([index.recording_ids(rows), ids]), return_inverse=True)
    asking = np.array([number for number, _ in pairs], np.int64)
    keys = np.concatenate([asked, asking]) * len(distinct) + at
    found, owned = keys[: len(asked)], keys[len(asked) :]
    order = np.argsort(owned, kind="stable")
    low, high = (np.searchsorted(owned[order], found, side) for side in ("left", "right"))
    spans = np.array([one[1:] for _, one in pairs], np.int64).reshape(-1, 2)[order]
    start = index.column("start_sample", rows)
    end = start + index.column("num_samples", rows)
    left_out = np.zeros(len(rows), bool)
    for number in range(int((high - low).max(initial=0))):  # one, nearly always
        begins, stops = spans[np.minimum(low + number, len(spans) - 1)].T
        left_out |= (low + number < high) & (start < stops) & (end > begins)
    return left_out
