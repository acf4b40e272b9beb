"""Stores of several segments, and all kinds of questions: asked in shards, and in one process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from synthetic import Synthetic, make_store

from benchmarks.search_data import FILTERS, TAGS, Filter, Library
from indexer.progress import ignore
from indexer.run.config import Settings
from indexer.windows import WINDOW_SAMPLES
from search.asking.matching import Later
from search.asking.shards import Ask, Chosen, Piece, Shard, SpreadStore, cut
from search.asking.sound_index import SoundIndex
from search.upkeep.build import build
from soundalike.answer import Answer
from soundalike.sounds import Sounds

Array = np.ndarray[Any, Any]

NUM_SHARDS = 4
#: Of each filter, by its name in benchmarks/search_data.py.
TERMS: dict[str, dict[str, Any]] = {}
for _one in FILTERS:
    _names = [[list(TAGS)[at] for at in some] for some in _one[1:]]
    TERMS[_one.name] = dict(zip(("tags", "any_tags", "not_tags"), _names, strict=True))


class Made(NamedTuple):
    """Stores that are asked together.

    Attributes:
        paths: Their folders.
        metadata: A CSV of their recordings.
        ids: Some of their live windows.
        vectors: (n, 768) float32, what else asks.
    """

    paths: list[Path]
    metadata: Path
    ids: list[int]
    vectors: Array

    def __repr__(self) -> str:  # failing tests would print megabytes
        return "Made()"


def make_stores(folder: Path, number: int, num_windows: int = 2_400) -> Made:
    """Some stores of several segments with dead rows, silence and equal vectors among theirs."""
    each = num_windows // number
    paths = []
    for at in range(number):
        store = make_store(folder / f"store {at}", frames="none", hop_samples=WINDOW_SAMPLES // 4)
        _fill(store, each, at)
        build(store.store, max_segment_rows=each // 6)
        store.remove(f"r{at}-3.wav", f"r{at}-11.wav")
        if at:  # the first has some recordings of the others
            _fill(Synthetic(make_first.store, make_first.library_id), each // 8, at, share=8)
        else:
            make_first = store
        build(store.store, max_segment_rows=each // 6)
        paths.append(store.store.path)
    build(make_first.store, max_segment_rows=each // 6)
    index = SoundIndex.open(*paths)
    rows = index.live_rows()
    names = [f"r{at}-{one},{'pond' if one % 3 else 'wood'},{one}" for at in range(number) for one in range(150)]
    metadata = folder / "sheet.csv"
    metadata.write_text("path,site,n\n" + "".join(f"{one.replace(',', '.wav,', 1)}\n" for one in names))
    ids = index.window_ids(rows[:: len(rows) // 40]).tolist()
    return Made(paths, metadata, ids, Library(1).batch()[:12])


def _fill(store: Synthetic, num_windows: int, seed: int, share: int = 1) -> None:
    """Add recordings of 1 to 9 windows: of the same seed, the same ones."""
    [(_, vectors, columns)] = Library(num_windows * share + seed).blocks()
    rng = np.random.default_rng(seed)
    vectors = vectors[:num_windows] * (rng.random((num_windows, 1)) > 0.02)
    vectors[5::40] = vectors[4]  # a crowd, all over the segments
    tags = rng.beta(0.2, 60, (num_windows, 527))
    for name, column in zip(TAGS, columns, strict=True):
        from indexer.tags import TagVocabulary  # noqa: PLC0415

        tags[:, TagVocabulary.audioset().resolve(name).index] = column[:num_windows]
    levels = rng.choice([-1.0, -60.0, np.nan, -90.0], num_windows, p=[0.5, 0.3, 0.1, 0.1])
    recordings: dict[str, int] = {}
    while (left := num_windows - sum(recordings.values())) > 0:
        recordings[f"r{seed}-{len(recordings)}"] = min(left, 1 + len(recordings) % 9)
    store.add(recordings, scene=vectors, tags=tags.astype(np.float16), levels_db=levels.astype(np.float32))


#: What is asked, beside the tags of a filter.
Ask_ = Callable[[Sounds, Made, dict[str, Any]], Any]
QUESTIONS: dict[str, Callable[..., Any]] = {
    "a window": lambda sounds, made, **how: sounds.search(made.ids[0], **how),
    "several windows": lambda sounds, made, **how: sounds.search(*made.ids[1:4], **how),
    "a vector": lambda sounds, made, **how: sounds.search(made.vectors[0], **how),
    "several vectors": lambda sounds, made, **how: sounds.search(made.vectors[:5], **how),
    "all windows": lambda sounds, made, **how: sounds.search(made.ids[4], all_windows=True, k=90, **how),
    "all there are": lambda sounds, made, **how: sounds.search(made.vectors[1], k=5_000, **how),
    "unique": lambda sounds, made, **how: sounds.search(made.ids[5], unique=True, k=30, **how),
    "files": lambda sounds, made, **how: sounds.search(made.ids[6], group_by="file", k=40, **how),
    "diverse": lambda sounds, made, **how: sounds.search(made.ids[7], diverse=True, **how),
    "least score": lambda sounds, made, **how: sounds.search(made.ids[8], min_score=0.2, k=400, **how),
    "exact": lambda sounds, made, **how: sounds.search(made.ids[9], exact=True, **how),
    "scenes": lambda sounds, made, **how: sounds.search(made.ids[9], tag_weight=0, **how),
    "itself": lambda sounds, made, **how: sounds.search(made.ids[9], include_self=True, **how),
    "unlike": lambda sounds, made, **how: sounds.search(made.ids[10], unlike=[made.ids[11]], **how),
    "metadata": lambda sounds, made, **how: sounds.search(
        made.ids[12], metadata=made.metadata, where="site = 'pond' and n > 4 or duration < 9", **how
    ),
    "the terms": lambda sounds, made, **how: _terms_alone(sounds, **how),
    "many": lambda sounds, made, **how: sounds.search_many(
        [*made.ids[13:20], made.vectors[3:5], *made.vectors[5:]], **how
    ),
    "many files": lambda sounds, made, **how: sounds.search_many(made.ids[13:20], group_by="file", k=30, **how),
    "many, least": lambda sounds, made, **how: sounds.search_many(made.ids[13:20], min_score=0.3, **how),
    "count": lambda sounds, made, **how: sounds.count(**how),
    "facets": lambda sounds, made, **how: sounds.facets(**how),
}


def _terms_alone(sounds: Sounds, **how: Any) -> Any:
    return sounds.search(k=50, **how) if any(how.values()) else None


def told(answer: Any) -> Any:
    """All that an answer says: hits with their scores, counts, what goes beside them."""
    if isinstance(answer, list) and answer and isinstance(answer[0], Answer):
        return [told(one) for one in answer]
    if not isinstance(answer, Answer):
        return answer
    hits, almost = ([repr(one) for one in some] for some in (answer.hits, answer.almost))
    return hits, almost, answer.num_left_out, answer.num_silent, answer.coverage, answer.notes, answer.background


class CrewHere:
    """Shards of this process, which can be lost; what goes to and fro is pickled as elsewhere."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self.shards = [Shard(piece) for piece in pieces]
        self.lost: set[int] = set()
        self.num_sent = 0

    def send(self, chosen: Chosen, ask: Ask[Any], skipped: Set[int]) -> Later[Sequence[Any]]:
        chosen, ask = pickle.loads(pickle.dumps((chosen, ask)))  # noqa: S301 - our own
        self.num_sent += 1
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
