"""Stores of several segments, and all kinds of questions: asked in shards, and in one process."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from synthetic import Synthetic, make_store

from benchmarks.search_data import FILTERS, TAGS, Library
from indexer.progress import ignore
from indexer.run.config import Settings
from indexer.tags import TagVocabulary
from indexer.windows import WINDOW_SAMPLES
from search.asking.matching import Later
from search.asking.merged import SpreadStore
from search.asking.shards import Ask, Chosen, Piece, Shard, cut
from search.asking.sound_index import SoundIndex
from search.upkeep.build import build
from soundalike.answer import Answer
from soundalike.sounds import Sounds

Array = np.ndarray[Any, Any]

#: Of each filter, by its name in benchmarks/search_data.py.
TERMS = {
    one.name: {
        name: [list(TAGS)[at] for at in some]
        for name, some in zip(("tags", "any_tags", "not_tags"), one[1:], strict=True)
    }
    for one in FILTERS
}


class Made(NamedTuple):
    """Stores that are asked together.

    Attributes:
        paths: Their folders.
        metadata: A CSV of their recordings.
        ids: Some of their live windows.
        vectors: (n, 768) float32, what else asks; the first is that of a crowd of windows.
    """

    paths: list[Path]
    metadata: Path
    ids: list[int]
    vectors: Array

    def __repr__(self) -> str:  # failing tests would print megabytes
        return "Made()"


def make_stores(folder: Path, number: int, num_windows: int = 2_400) -> Made:
    """Some stores of several segments, with dead rows, silence and crowds of equal vectors.

    The first has some recordings of each of the others, too.
    """
    each = num_windows // number
    stores = [
        make_store(folder / f"store {at}", frames="none", hop_samples=WINDOW_SAMPLES // 4)
        for at in range(number)
    ]
    for at, store in enumerate(stores):
        _fill(store, each, at)
        build(store.store, max_segment_rows=each // 6)
        store.remove(f"r{at}-3.wav", f"r{at}-11.wav")
    for at in range(1, number):
        _fill(stores[0], each // 8, at)
    for store in stores:
        build(store.store, max_segment_rows=each // 6)
    paths = [one.store.path for one in stores]
    index = SoundIndex.open(*paths)
    rows = index.live_rows()
    lines = [
        f"r{at}-{one}.wav,{'pond' if one % 3 else 'wood'},{one}"
        for at in range(number)
        for one in range(150)
    ]
    metadata = folder / "sheet.csv"
    metadata.write_text("\n".join(["path,site,n", *lines, ""]))
    ids = index.window_ids(rows[:: len(rows) // 40]).tolist()
    return Made(paths, metadata, ids, Library(1).batch()[:12])


def _fill(store: Synthetic, num_windows: int, seed: int) -> None:
    """Add recordings of 1 to 9 windows, always the same ones of a seed."""
    [(_, vectors, columns)] = Library(3_000).blocks()
    zeros, noise, loud, order = (np.random.default_rng([seed, at]) for at in range(4))
    chosen = order.permutation(len(vectors))[:num_windows]
    vectors = vectors[chosen] * (zeros.random((num_windows, 1)) > 0.02)
    vectors[5::40] = Library(1).batch()[0]  # a crowd, all over the segments and stores
    tags = noise.beta(0.2, 60, (num_windows, 527))
    for name, column in zip(TAGS, columns[:, chosen], strict=True):
        tags[:, TagVocabulary.audioset().resolve(name).index or 0] = column
    levels = loud.choice([-1.0, -60.0, np.nan, -90.0], num_windows, p=[0.5, 0.3, 0.1, 0.1])
    recordings: dict[str, int] = {}
    while (left := num_windows - sum(recordings.values())) > 0:
        recordings[f"r{seed}-{len(recordings)}"] = min(left, 1 + len(recordings) % 9)
    store.add(
        recordings,
        scene=vectors,
        tags=tags.astype(np.float16),
        levels_db=levels.astype(np.float32),
    )


def ask_all(sounds: Sounds, made: Made, **how: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name of each kind of question, and what is answered to it with the same tags."""
    ids, vectors, search, many = made.ids, made.vectors, sounds.search, sounds.search_many
    where = "site = 'pond' and n > 4 or duration < 9"
    yield "a window", search(ids[0], **how)
    yield "several windows", search(*ids[1:4], **how)
    yield "a vector", search(vectors[0], **how)
    yield "several vectors", search(vectors[:5], **how)
    yield "all windows", search(ids[4], all_windows=True, k=90, **how)
    yield "all there are", search(vectors[1], k=5_000, **how)
    yield "a crowd", search(vectors[0], all_windows=True, tag_weight=0, k=7, **how)
    yield "crowds", many([*vectors[:3]], all_windows=True, tag_weight=0, k=7, **how)
    yield "unique", search(ids[5], unique=True, k=30, **how)
    yield "files", search(ids[6], group_by="file", k=40, **how)
    yield "diverse", search(ids[7], diverse=True, **how)
    yield "least score", search(ids[8], min_score=0.2, k=400, **how)
    yield "exact", search(ids[9], exact=True, **how)
    yield "scenes", search(ids[9], tag_weight=0, **how)
    yield "itself", search(ids[9], include_self=True, **how)
    yield "unlike", search(ids[10], unlike=[ids[11]], **how)
    yield "metadata", search(ids[12], metadata=made.metadata, where=where, **how)
    if any(how.values()):
        yield "the tags", search(k=50, **how)
    yield "many", many([*ids[13:20], vectors[3:5], *vectors[5:]], **how)
    yield "many, files", many(ids[13:20], group_by="file", k=30, **how)
    yield "many, least score", many(ids[13:20], min_score=0.3, **how)
    yield "count", sounds.count(**how)
    yield "facets", sounds.facets(**how)


def assert_same(spread: Sounds, plain: Sounds, made: Made, **how: Any) -> None:
    """Hold all kinds of questions against those that one process answers: all that is told."""
    pairs = zip(ask_all(spread, made, **how), ask_all(plain, made, **how), strict=True)
    for (name, answer), (_, expected) in pairs:
        assert told(answer) == told(expected), name


def told(answer: Any) -> Any:
    """All that an answer tells but times: hits with every digit of their scores, and counts."""
    if isinstance(answer, list):
        return [told(one) for one in answer]
    if not isinstance(answer, Answer):
        return answer
    numbers = answer.num_left_out, answer.num_silent
    beside = answer.coverage, answer.notes, answer.background
    return repr(answer.hits), repr(answer.almost), numbers, beside


class CrewHere:
    """Shards of this process, which can be lost; what goes to and fro is pickled as elsewhere."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self.shards = [Shard(piece) for piece in pieces]
        self.lost: set[int] = set()

    def send(self, chosen: Chosen, ask: Ask[Any], skipped: Set[int]) -> Later[Sequence[Any]]:
        chosen, ask = pickle.loads(pickle.dumps((chosen, ask)))  # noqa: S301 - our own
        answers = [
            None if at in skipped or at in self.lost else shard.ask(chosen, ask)
            for at, shard in enumerate(self.shards)
        ]
        return lambda: pickle.loads(pickle.dumps(answers))  # noqa: S301 - our own


class SpreadHere:
    """In the place of `soundalike.spread.Spread`: all shards in this process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.crews: list[CrewHere] = []

    def over(self, index: SoundIndex) -> SoundIndex:
        self.crews = [CrewHere(pieces) for pieces in cut(index.opened, self.number)]
        return SoundIndex(
            [
                SpreadStore(one.store, one.generation, one.index, one.places, crew)
                for one, crew in zip(index.opened, self.crews, strict=True)
            ]
        )


def open_here(paths: Sequence[Path], number: int) -> tuple[Sounds, SpreadHere]:
    spread = SpreadHere(number)
    return Sounds(paths, Settings(), ignore, spread=spread), spread  # type: ignore[arg-type]
