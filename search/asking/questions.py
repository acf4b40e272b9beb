"""What a user asks with, as questions: audio files, window ids and vectors."""

from __future__ import annotations

import operator
import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32
from indexer.audio.content import in_its_place, state_of
from indexer.audio.times import NO_SPAN, FileSpan, Span, file_span
from indexer.errors import QueryError
from indexer.paths import as_path
from indexer.store.schema import EMBEDDING_DIM
from search.asking.example import Asking, Example, nothing_heard
from search.asking.find import Question
from search.asking.left_out import LeftOut
from search.asking.levels import is_silent
from search.asking.locate import stored_patterns
from search.asking.sound_index import SoundIndex

#: An audio file or a part of it, "FILE@31:10-31:13"; the id of a window; vectors, (768,) or
#: (q, 768).
Query = str | os.PathLike[str] | int | npt.NDArray[Any]


def make_question(
    queries: Sequence[Query],
    index: SoundIndex,
    hear: Callable[[FileSpan], Example],
    span: Span = NO_SPAN,
) -> tuple[Question, list[str]]:
    """Make one question of everything that is asked with: the best score over it counts.

    Args:
        queries: What a user gave; nothing asks by the terms alone.
        index: Where windows are looked up.
        hear: Makes an example of a file, or a part of it.
        span: Which part of each file asks, where the files do not say it themselves.

    Returns:
        The question; and a line for each file that cannot be read, where something else asks.

    Raises:
        QueryError: If there is no such file or window, a vector is none, a value is none of
            these, or there is a span and no file, or one with a span of its own; or if nothing that
            asks can be read.
    """
    if not len(queries) and span == NO_SPAN:
        return Question(), []
    ids = [number for one in queries if (number := _window_id(one)) is not None]
    files = [_file(one, span) for one in queries if _window_id(one) is None and not _is_array(one)]
    if not files and span != NO_SPAN:
        raise QueryError("a start, an end and a duration are those of a file, and none asks")
    own: set[LeftOut] = set()
    asking: list[Asking] = []
    if ids:
        vectors, windows, tags, rows = index.windows_of(ids)
        own.update(map(LeftOut.of_window, windows))
        starts_s = np.array([one.start_s for one in windows])
        silent = is_silent(index.column("level_db", rows))
        asking.append(Asking(vectors, tags, starts_s, stored_patterns(index, rows), silent))
    asking += [Asking.of_vectors(unit_vectors(one)) for one in queries if _is_array(one)]
    failures: list[str] = []
    notes: list[str] = []
    for file in files:
        try:
            heard = hear(file)
            asking.append(heard.asking(heard.asks))
            own.add(LeftOut.of_file(heard.recording_id, file))
            notes += heard.notes(file.file.name)
        except QueryError as error:
            if len(queries) == 1:
                raise
            failures.append(str(error))
    if not asking:
        raise nothing_heard(failures)
    known: list[Any] = [one.tags for one in asking if one.tags is not None]
    question = Question(
        np.concatenate([one.vectors for one in asking]),
        frozenset(own),
        np.concatenate(known) if len(known) == len(asking) else None,
        np.concatenate([one.starts_s for one in asking]),
        patterns=tuple(pattern for one in asking for pattern in one.patterns),
        notes=tuple(notes),
        is_silent=all(one.is_silent for one in asking),
    )
    return question, failures


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


def _file(query: Query, span: Span) -> FileSpan:
    if isinstance(query, bool) or not isinstance(query, (str, os.PathLike)):
        several = "; several are given one after the other" if isinstance(query, Iterable) else ""
        raise QueryError(
            f"a query is an audio file, the id of a window or vectors, got {reprlib.repr(query)}"
            f"{several}"
        )
    asked = file_span(as_path("a query", query), span)
    try:
        state_of(asked.file)
    except FileNotFoundError as error:
        told = in_its_place(asked.file) or "a query is an audio file or a window id"
        raise QueryError(f"no such file: {asked.file}; {told}") from error
    except (OSError, ValueError) as error:
        raise QueryError(f"cannot open {asked.file}: {error}") from error
    return asked
