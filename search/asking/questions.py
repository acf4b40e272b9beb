"""What a user asks with, as questions: audio files, window ids and vectors."""

from __future__ import annotations

import operator
import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16, Float32
from indexer.audio.content import asked_state
from indexer.audio.times import NO_SPAN, FileSpan, Span, file_span
from indexer.errors import QueryError
from indexer.paths import as_path
from indexer.store.schema import EMBEDDING_DIM
from search.asking.asked import GivenVectors, GivenWindow, Named
from search.asking.clip import Clip
from search.asking.example import Asking, Example, nothing_heard
from search.asking.find import Away, Question
from search.asking.left_out import LeftOut
from search.asking.levels import is_silent
from search.asking.locate import stored_patterns
from search.asking.sound_index import SoundIndex

#: An audio file or a part of it, "FILE@31:10-31:13"; a clip that was listened to; the id of a
#: window; vectors, (768,) or (q, 768).
Query = str | os.PathLike[str] | Clip | int | npt.NDArray[Any]


def make_question(
    queries: Sequence[Query],
    index: SoundIndex,
    hear: Callable[[FileSpan], Example],
    span: Span = NO_SPAN,
    away: Away | None = None,
) -> tuple[Question, list[str]]:
    """Make one question of everything that is asked with: the best score over it counts.

    Args:
        queries: What a user gave; nothing asks by the terms alone.
        index: Where windows are looked up.
        hear: Makes an example of a file, or a part of it.
        span: Which part of each file asks, where the files do not say it themselves.
        away: What hits are not to be like.

    Returns:
        The question; and a line for each file that cannot be read, where something else asks.

    Raises:
        QueryError: If there is no such file or window, a vector is none, a value is none of
            these, or there is a span and no file, or one with a span of its own; if nothing that
            asks can be read, or nothing asks and hits are not to be like something.
        IdentityError: If a clip was embedded in another way than the stores.
    """
    if not len(queries) and span == NO_SPAN:
        if away is not None:
            raise QueryError("hits are to be unlike something, and nothing says what they are like")
        return Question(), []
    heard = _listen(queries, index, hear, span)
    if not heard.asking:
        raise nothing_heard(heard.failures)
    question = Question(
        np.concatenate([one.vectors for one in heard.asking]),
        frozenset(heard.own),
        heard.tags,
        np.concatenate([one.starts_s for one in heard.asking]),
        patterns=tuple(pattern for one in heard.asking for pattern in one.patterns),
        notes=tuple(heard.notes),
        is_silent=all(one.is_silent for one in heard.asking),
        away=away,
        named=tuple(heard.named),
    )
    return question, heard.failures


def turn_away(
    unlike: Sequence[Query], index: SoundIndex, hear: Callable[[FileSpan], Example]
) -> Away | None:
    """Return what hits are not to be like, of what a user gave; None of nothing.

    Raises:
        QueryError: If there is no such file or window, one cannot be read, or a vector is none.
        IdentityError: If a clip was embedded in another way than the stores.
    """
    if not len(unlike):
        return None
    heard = _listen(unlike, index, hear, NO_SPAN)
    if heard.failures:  # the others alone would say something else
        raise nothing_heard(heard.failures)
    vectors = np.concatenate([one.vectors for one in heard.asking])
    return Away(vectors, heard.tags, frozenset(heard.own), tuple(heard.named))


@dataclass(slots=True)
class _Heard:
    """What was given, listened to.

    Attributes:
        asking: What of it asks.
        own: What it is of.
        notes: What of a clip asks, if that is not all of it as it is, in sentences.
        failures: A line for each file that cannot be read, where there is more than that one.
        named: What was given and can be read.
    """

    asking: list[Asking] = field(default_factory=list)
    own: set[LeftOut] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    named: list[Named] = field(default_factory=list)

    @property
    def tags(self) -> Float16 | Float32 | None:
        """(q, 527) probabilities; None if they are not known of all."""
        known: list[Any] = [one.tags for one in self.asking if one.tags is not None]
        return np.concatenate(known) if len(known) == len(self.asking) else None

    def add(self, example: Example, asked: FileSpan) -> None:
        """Add what a file, or a part of it, asks with."""
        self.asking.append(example.asking(example.asks))
        self.own.add(LeftOut.of_file(example.recording_id, asked))
        self.notes += example.notes(asked.file.name)
        self.named.append(asked)


def _listen(
    queries: Sequence[Query], index: SoundIndex, hear: Callable[[FileSpan], Example], span: Span
) -> _Heard:
    """Look up windows, and listen to files: in this order, vectors and clips between them."""
    heard = _Heard()
    ids = [number for one in queries if (number := _window_id(one)) is not None]
    clips = [one for one in queries if isinstance(one, Clip)]
    files = [_file(one, span) for one in queries if _is_file(one)]
    if not files and span != NO_SPAN:
        raise QueryError("a start, an end and a duration are those of a file, and none asks")
    if ids:
        vectors, windows, tags, rows = index.windows_of(ids)
        heard.own.update(map(LeftOut.of_window, windows))
        starts_s = np.array([one.start_s for one in windows])
        silent = is_silent(index.column("level_db", rows))
        heard.asking.append(Asking(vectors, tags, starts_s, stored_patterns(index, rows), silent))
        heard.named += GivenWindow.each(ids, windows, index.paths(index.recording_ids(rows)))
    given = [Asking.of_vectors(unit_vectors(one)) for one in queries if _is_array(one)]
    heard.named += [GivenVectors(len(one.vectors)) for one in given]
    heard.asking += given
    for clip in clips:
        index.identity.require(
            clip.identity,
            f"{clip.asked.file.name} was not embedded as these stores were",
            "Embed it with them",
        )
        recording_id = index.recording_of(clip.recording_id)
        recording_id = index.recording_with(recording_id, clip.audio_id)
        heard.add(clip.example._replace(recording_id=recording_id), clip.asked)
    for file in files:
        try:
            heard.add(hear(file), file)
        except QueryError as error:
            if len(queries) == 1:
                raise
            heard.failures.append(str(error))
    return heard


def unit_vectors(given: Any) -> Float32:
    """Return vectors of a user, of any length, as (q, 768) float32 of length 1.

    Raises:
        QueryError: If they have another shape, or are not finite numbers.
    """
    try:
        if np.iscomplexobj(given):
            raise TypeError("complex ones have no order")
        vectors = np.atleast_2d(np.asarray(given, np.float64))
    except (TypeError, ValueError, RuntimeError) as error:  # the last is a tensor's with a gradient
        raise QueryError(f"query vectors are real numbers: {error}") from error
    if vectors.ndim != 2 or vectors.shape[1] != EMBEDDING_DIM or not len(vectors):
        raise QueryError(
            f"query vectors need the shape ({EMBEDDING_DIM},) or (q, {EMBEDDING_DIM}), got "
            f"{np.shape(given)}"
        )
    if not np.isfinite(vectors).all():
        raise QueryError("query vectors must be finite: these have NaN or infinity in them")
    greatest = np.abs(vectors).max(axis=1, keepdims=True)
    if not greatest.all():
        raise QueryError("a query vector has a direction: one of these is all zeros")
    vectors = vectors / greatest  # the squares of the rest are finite
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _is_array(query: Any) -> bool:
    """Whether vectors are meant: a number of NumPy's, or a text, is an array too."""
    return hasattr(query, "__array__") and not isinstance(query, str) and np.ndim(query) > 0


def _window_id(query: Query) -> int | None:
    """Return the window that is meant, be it by a number of NumPy's; None for anything else."""
    if isinstance(query, bool) or _is_array(query) or not isinstance(query, SupportsIndex):
        return None
    return operator.index(query)


def _is_file(query: Query) -> bool:
    """Whether a file is meant, or nothing that can ask."""
    return not (isinstance(query, Clip) or _is_array(query) or _window_id(query) is not None)


def _file(query: Query, span: Span) -> FileSpan:
    if isinstance(query, bool) or not isinstance(query, (str, os.PathLike)):
        several = "; several are given one after the other" if isinstance(query, Iterable) else ""
        raise QueryError(
            f"a query is an audio file, the id of a window or vectors, got {reprlib.repr(query)}"
            f"{several}"
        )
    asked = file_span(as_path("a query", query), span)
    asked_state(asked.file)
    return asked
