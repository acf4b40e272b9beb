"""A question in a user's words, audio files and window ids among them, and its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from indexer.errors import QueryError
from search.asking.answers import Hit, Step
from search.asking.query import Query, SoundIndex
from search.filters.conditions import Where
from search.filters.metadata import Coverage, Metadata
from search.filters.tags import TagFilter
from search.generation.places import Places

#: 63 bits have 19 digits at most.
_WINDOW_ID = re.compile("[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be found.

    Attributes:
        queries: Audio files, or window ids of the stores; none asks by tag alone. With several, a
            window's score is its best over all of them.
        start_s: Where the clip begins in each query file, in seconds.
        duration_s: Length of the clip, in seconds; None for the rest of the file.
        k: How many hits, at most.
        filter: Which windows may be hits.
        group_by: "file" gives the best window of each recording only.
        include_self: Whether the queries' own recordings may be hits.
        min_score: Hits below it are left out.
        exact: Whether only an exact answer will do, however long it takes.
        diversity: From 0 to 1: how much hits that are like earlier ones are put back.
        where: A filter expression that hits must fit as well: docs/filters.md explains. Threshold
            and descendants are those of `filter`.
        metadata: File whose columns `where` may name, see `Metadata.read`.
    """

    queries: tuple[str, ...] = ()
    start_s: float = 0.0
    duration_s: float | None = None
    k: int = 10
    filter: TagFilter = field(default_factory=TagFilter)
    group_by: Literal["file"] | None = None
    include_self: bool = False
    min_score: float | None = None
    diversity: float | None = None
    exact: bool = False
    where: str | None = None
    metadata: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    Attributes:
        hits: The best first.
        num_new_parts: Parts of the stores that their indexes do not hold yet.
        steps: How each store was searched.
        coverage: How the metadata and the stores fit together; None without metadata.
    """

    hits: list[Hit]
    num_new_parts: int
    steps: tuple[Step, ...]
    coverage: Coverage | None = None


def ask(
    stores: Sequence[Path],
    question: Question,
    *,
    checkpoint: str | None = None,
    device: str = "auto",
    progress: Callable[[int, int | None], None] | None = None,
) -> Answer:
    """Answer a question from one or several stores.

    Args:
        stores: Directories; made with the same checkpoint and settings.
        question: What is to be found.
        checkpoint: For audio queries: name or file; None for the one that the store names.
        device: For audio queries: "auto", "cpu", "cuda" or "cuda:N".
        progress: Called while a checkpoint is downloaded, with (bytes so far, bytes in all).

    Raises:
        StoreError: If a store is not there, or has no index yet.
        QueryError: If a query file cannot be read, or a window id is not there.
        UnknownTagError: If the filter names a tag that cannot be filtered by.
        ExpressionError: If the filter expression cannot be understood.
    """
    question.filter.resolve()  # a misspelt tag is found before a checkpoint is loaded
    where = _where(question)
    index = SoundIndex.open(*stores)
    coverage = _coverage(where, index)
    window_ids = [int(text) for text in question.queries if _is_window_id(text)]
    files = [Path(text) for text in question.queries if not _is_window_id(text)]
    known_vectors, windows = index.windows(window_ids)
    own = {window.recording_id for window in windows}
    vectors = [known_vectors]
    if files:
        _require_files(files)
        # Torch takes seconds to import; questions by window id or by tag do not need it.
        from search.asking.embed import embed_clip, extractor_for  # noqa: PLC0415

        extractor = extractor_for(index.stores[0], checkpoint, device, progress)
        for file in files:
            clip = embed_clip(
                file, extractor, index.identity, question.start_s, question.duration_s
            )
            vectors.append(clip.vectors)
            own.add(clip.recording_id)
    query = Query(
        vectors=np.concatenate(vectors) if question.queries else None,
        k=question.k,
        filter=question.filter,
        exclude=frozenset() if question.include_self else frozenset(own),
        group_by=question.group_by,
        min_score=question.min_score,
        exact=question.exact,
        diversity=question.diversity,
        where=where,
    )
    found = index.find(query)
    return Answer(index.hits(found), index.num_new_parts(), found.steps, coverage)


def _where(question: Question) -> Where | None:
    if question.where is None:
        if question.metadata:
            raise QueryError(
                f"nothing is asked of {question.metadata}: name its columns in a filter expression "
                f"(--where)"
            )
        return None
    tags = question.filter
    return Where.parse(
        question.where,
        Metadata.read(question.metadata) if question.metadata else None,
        threshold=tags.threshold,
        descendants=tags.descendants,
    )


def _coverage(where: Where | None, index: SoundIndex) -> Coverage | None:
    if where is None or where.metadata is None:
        return None
    return where.metadata.coverage(
        [Places(one.generation.recordings, one.roots) for one in index.opened]
    )


def split_stores(words: Sequence[str]) -> tuple[list[Path], tuple[str, ...]]:
    """Divide "STORE… QUERY…": the first word, and every folder that follows it, is a store.

    Returns:
        The stores, and the queries.

    Raises:
        QueryError: If the first word is a file: the store and the clip changed places.
    """
    if Path(words[0]).is_file():
        raise QueryError(f"{words[0]} is a file; the store comes first: STORE, then the clips")
    number = 1
    while number < len(words) and _is_folder(Path(words[number])):
        number += 1
    return [Path(word) for word in words[:number]], tuple(words[number:])


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, for one
        return False


def _is_window_id(text: str) -> bool:
    return _WINDOW_ID.fullmatch(text) is not None and not Path(text).exists()


def _require_files(files: Sequence[Path]) -> None:
    for file in files:
        try:
            file.stat()
        except FileNotFoundError as error:
            raise QueryError(
                f"no such file: {file}; a query is an audio file or a window id"
            ) from error
        except (OSError, ValueError) as error:
            raise QueryError(f"cannot open {file}: {error}") from error
