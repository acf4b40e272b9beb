"""What comes back from a search: rows, how they were found, and what is known about each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers, Mask
from indexer.audio.content import exists
from indexer.errors import DamagedStoreError
from indexer.tags import HeardTag
from search.asking.clock import clock_at
from search.filters.columns import Value
from search.nearest.plan import Plan

#: Column of metadata that says when a recording begins: ISO 8601, or a time in Parquet.
BEGIN_COLUMN = "recorded_at"


@dataclass(frozen=True, slots=True)
class Hit:
    """One window that answers a query.

    Attributes:
        score: How like the query it is, see `search.nearest.blend`; without a clip, how well the
            tags fit, 0 to 1.
        window_id: 63-bit id, the same in every store that has the window.
        recording_id: 16-byte digest of the file's content.
        paths: All places of the recording on this machine, if their libraries still are where they
            were last seen.
        start_s: Start of the window, in seconds.
        end_s: End of the window, in seconds.
        tags: The most probable tags; before them the learned ones that the question names.
        scene_score: Cosine similarity of its scene to that of the query; None without a clip.
        tag_score: How like those of the query its tags are; None if that has no part in the score.
        query_start_s: Where in its file the window begins that asked and is nearest, in seconds.
        stands_for: How many hits it is shown for, itself among them: more than 1 if near-copies
            were collapsed into it.
        match_start_s: Where in it what asked is, if that is shorter, in seconds from the start of
            the recording; None if that was not looked for, or cannot be said.
        match_end_s: Where that ends, in seconds.
        match_score: How like what asked that span is, see `search.asking.locate`.
        metadata: What the user's file says of the recording, by column: None where it says nothing;
            empty if no file was given.
    """

    score: float
    window_id: int
    recording_id: bytes
    paths: tuple[Path, ...]
    start_s: float
    end_s: float
    tags: tuple[HeardTag, ...]
    scene_score: float | None = None
    tag_score: float | None = None
    query_start_s: float | None = None
    stands_for: int = 1
    match_start_s: float | None = None
    match_end_s: float | None = None
    match_score: float | None = None
    metadata: Mapping[str, Value] = field(default_factory=dict, hash=False)

    @property
    def has_match(self) -> bool:
        """Whether it is known where in it what asked is."""
        return self.match_start_s is not None and self.match_end_s is not None

    @property
    def span(self) -> tuple[float, float]:
        """What to listen to, from when to when, in seconds: the match, or all of the window."""
        if self.match_start_s is None or self.match_end_s is None:
            return self.start_s, self.end_s
        return self.match_start_s, self.match_end_s

    @property
    def clock(self) -> datetime | None:
        """Date and time when its span begins; None if nothing tells.

        It is told by `recorded_at` in the metadata, or else by the name that a recorder gave its
        file, see `search.asking.clock`. It has the zone, if that is known.
        """
        names = (path.name for path in self.paths)
        return clock_at(names, self.metadata.get(BEGIN_COLUMN), self.span[0])

    @property
    def path(self) -> Path | None:
        """The first of its paths where something is, or the first; None if none is known."""
        there = (path for path in self.paths if exists(Path(path)))
        return next(there, self.paths[0] if self.paths else None)

    @property
    def is_there(self) -> bool:
        """Whether the recording is at one of its paths now; they are looked at each time."""
        return any(exists(Path(path)) for path in self.paths)


class Why(NamedTuple):
    """Of what the scores of some answers are made, and what of the question they answer.

    Attributes:
        scene: (n,) float32 cosines of scenes; NaN where no clip asked.
        heard: (n,) float32 cosines of the square roots of probabilities; NaN of scenes alone.
        starts_s: (n,) where in its file the window begins that each is nearest to; NaN if that
            cannot be said.
    """

    scene: Float32
    heard: Float32
    starts_s: npt.NDArray[np.float64]


class Match(NamedTuple):
    """Where in some windows what asked is.

    Attributes:
        start_s: (n,) from the start of the recording, in seconds; NaN if that is not known.
        end_s: (n,) likewise.
        scores: (n,) float32: how like what asked that is, -1 to 1; NaN likewise.
    """

    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    scores: Float32

    def take(self, at: Integers | Mask) -> Match:
        """Return what is known of some of the windows."""
        return Match(self.start_s[at], self.end_s[at], self.scores[at])

    def put(self, at: Integers, some: Match) -> None:
        """Say what is known of some of the windows."""
        self.start_s[at], self.end_s[at], self.scores[at] = some

    @classmethod
    def unknown(cls, number: int) -> Match:
        """Return what is known of windows in which nothing was looked for."""
        nowhere = np.full(number, np.nan)
        return cls(nowhere, nowhere.copy(), nowhere.astype(np.float32))


@dataclass(frozen=True, slots=True)
class Step:
    """How one store was searched.

    Attributes:
        store: Its directory.
        plan: What was done; of several rounds, in the last.
        num_matching: Rows that the filter left.
        num_windows: Live rows.
        num_lists: Lists of the index; 0 if it has none.
        filter_ms: Milliseconds to find the matching rows, on average of the stores.
        scan_ms: Milliseconds to find candidates, in all rounds.
        rescore_ms: Milliseconds to score these again from the stored vectors, in all rounds.
    """

    store: Path
    plan: Plan
    num_matching: int
    num_windows: int
    num_lists: int
    filter_ms: float
    scan_ms: float
    rescore_ms: float


@dataclass(frozen=True, slots=True)
class Found:
    """The windows that answer some questions, question by question, the best first.

    Attributes:
        num_questions: How many were asked.
        asked: (n,) which of them each window answers.
        scores: (n,) float32.
        window_ids: (n,) int64.
        rows: (n,) positions in the `SoundIndex`.
        stands_for: (n,) how many hits each is returned for, see `Hit`.
        num_left_out: (num_questions,) windows that the terms allow and that are left out of each
            answer because they are what was asked with, or overlap it.
        num_silent: (num_questions,) windows that the terms allow and that are left out of each
            answer because nothing is heard in them.
        steps: How each store was searched, if there was one question.
        num_overlooked: (num_questions,) windows that may be hits and were not looked into, if these
            are ranked by place.
        match: Where in the windows what asked is; None if that was not looked for, or there is
            trouble.
        trouble: Why it cannot be said, if frames are damaged or gone.
    """

    num_questions: int
    asked: Integers
    scores: Float32
    window_ids: Integers
    rows: Integers
    stands_for: Integers
    num_left_out: Integers
    num_silent: Integers
    num_overlooked: Integers
    steps: tuple[Step, ...] = ()
    match: Match | None = None
    trouble: DamagedStoreError | None = None

    @property
    def ranks(self) -> Integers:
        """(n,) place of each window in its answer, from 1 on."""
        first = np.searchsorted(self.asked, self.asked)
        return np.arange(1, len(self.asked) + 1) - first
