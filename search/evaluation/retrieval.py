"""How well texts find sounds and sounds find texts, from embeddings or from scores.

Papers count differently, so every figure comes with the name of its definition:

- "Mei" (Mei et al. 2022, arXiv:2203.15537): a sound has found its texts at the best of their ranks.
- "DCASE" (DCASE 2023 task 6b): recall is the share of a sound's texts among the first k.

In both, mAP@10 is the average precision over all of a sound's texts. From text to sound there is
one right answer, and all is the same. A median rank is rounded down, as is usual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.errors import SoundalikeError
from search.datasets.embedded import Embedded, ScoreMatrix
from search.datasets.ranking import Cosines, Scores, best_first, rank_sounds
from search.evaluation.bootstrap import interval, resamples

RECALLS_AT = (1, 5, 10, 50)
AP_AT = 10
#: Sounds that are scored at once, against all captions.
_BLOCK = 1024

Direction = Literal["text to audio", "audio to text"]
Values = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.int64]


class Figure(NamedTuple):
    """One number with its interval.

    Attributes:
        direction: "text to audio" or "audio to text".
        definition: "Mei", "DCASE", or "Mei, DCASE" where they agree.
        name: "R@1", "mAP@10", "mean rank" or "median rank".
        value: A share from 0 to 1, or a rank from 1.
        low: Lower end of the interval.
        high: Upper end.
    """

    direction: str
    definition: str
    name: str
    value: float
    low: float
    high: float


class Ranked(NamedTuple):
    """How the captions that have a sound, and their sounds, find each other in one direction.

    Attributes:
        sounds: (n,) the row of each caption's sound.
        captions: (n,) its own row.
        ranks: (n,) from 1, at which the one finds the other; of equal scores, wrong ones first.
            From audio to text, captions of the same sound come after each other.
        ties: (n,) how many wrong ones have the very score of the right one.
    """

    sounds: Ranks
    captions: Ranks
    ranks: Ranks
    ties: Ranks


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """What came out, and of what.

    Attributes:
        figures: In the order in which they are to be read.
        num_clips: Sounds that were ranked; those without a text were never right.
        num_captions: Texts with a sound.
        num_without_audio: Texts whose sound is missing; they were left out.
        num_without_text: Sounds without a text.
        num_resamples: Of which the intervals are made.
        audio_ids: Of the sounds, by row.
        ranked: One by one, for each direction.
        warnings: Why these figures, or some of them, must not be published.
        precisions: At which "sounds" and "captions" were computed, as far as their files say so.
        notes: What a reader must know of the checkpoint, as far as their files say so.
    """

    figures: tuple[Figure, ...]
    num_clips: int
    num_captions: int
    num_without_audio: int
    num_without_text: int
    num_resamples: int
    audio_ids: Sequence[str]
    ranked: Mapping[Direction, Ranked]
    warnings: tuple[str, ...] = ()
    precisions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def num_tied(self) -> dict[Direction, int]:
        """How many queries score something wrong exactly as what is right, by direction."""
        texts, sounds = self.ranked["text to audio"], self.ranked["audio to text"]
        return {
            "text to audio": int((texts.ties > 0).sum()),
            "audio to text": len(np.unique(sounds.sounds[sounds.ties > 0])),
        }


def evaluate_retrieval(
    audio: Embedded, text: Embedded, *, num_resamples: int = 1000, seed: int = 0
) -> RetrievalReport:
    """Rank by cosine similarity, ties counted against us, and count in both definitions.

    Args:
        audio: One row per sound, no id twice.
        text: One row per caption; its id is that of its sound.
        num_resamples: Bootstrap resamples of sounds, each with all of its captions.
        seed: Of the resampling.

    Returns:
        Recall at 1, 5, 10 and 50, mAP@10, mean and median rank, with 95 % intervals.

    Raises:
        SoundalikeError: If they have no id in common, an audio id comes twice, or the two have
            different dimensions.
    """
    if audio.vectors.shape[1] != text.vectors.shape[1]:
        raise SoundalikeError(
            f"sounds have {audio.vectors.shape[1]} dimensions and texts {text.vectors.shape[1]}; "
            f"they must come from one model"
        )
    leaks = dict.fromkeys(one.leak for one in (audio, text) if one.leak)
    notes = dict.fromkeys(one.note for one in (audio, text) if one.note)
    scores = Cosines(text.vectors, audio.vectors)
    report = _evaluate(scores, text.ids, audio.ids, (*leaks,), num_resamples, seed)
    told = {"sounds": audio.precision, "captions": text.precision}
    precisions = {name: one for name, one in told.items() if one}
    return replace(report, precisions=precisions, notes=(*notes,))


def evaluate_scores(
    scored: ScoreMatrix, *, num_resamples: int = 1000, seed: int = 0
) -> RetrievalReport:
    """Do the same by scores that any model gave, see `evaluate_retrieval`."""
    return _evaluate(scored, scored.text_ids, scored.audio_ids, (), num_resamples, seed)


def _evaluate(
    scores: Scores,
    text_ids: Sequence[str],
    audio_ids: Sequence[str],
    leaks: tuple[str, ...],
    num_resamples: int,
    seed: int,
) -> RetrievalReport:
    owners = _owners(text_ids, audio_ids)
    captions = np.flatnonzero(owners >= 0)
    ranked: dict[Direction, Ranked] = {
        "text to audio": _rank_sounds(scores, captions, owners[captions]),
        "audio to text": _rank_captions(scores, captions, owners[captions]),
    }
    counted = _counted(ranked["text to audio"].ranks, ranked["audio to text"])
    num_owners = len(np.unique(owners[captions]))
    return RetrievalReport(
        tuple(_figures(counted, num_resamples, seed)),
        num_clips=len(audio_ids),
        num_captions=len(captions),
        num_without_audio=len(text_ids) - len(captions),
        num_without_text=len(audio_ids) - num_owners,
        num_resamples=num_resamples,
        audio_ids=audio_ids,
        ranked=ranked,
        warnings=(*leaks, *_trivial(len(audio_ids), len(captions))),
    )


def _owners(text_ids: Sequence[str], audio_ids: Sequence[str]) -> Ranks:
    """Return the row of each text's sound; -1 of one that is missing."""
    row_of = {one: row for row, one in enumerate(audio_ids)}
    if len(row_of) < len(audio_ids):
        twice = next(one for row, one in enumerate(audio_ids) if row_of[one] != row)
        raise SoundalikeError(f"the sound {twice!r} comes twice; give each one row")
    owners = np.array([row_of.get(one, -1) for one in text_ids], np.int64)
    if (owners < 0).all():
        raise SoundalikeError(
            f"no text has the id of a sound: the texts begin with {text_ids[0]!r}, the sounds with "
            f"{audio_ids[0]!r}"
        )
    return owners


def _trivial(num_sounds: int, num_captions: int) -> Iterator[str]:
    """Say which recalls are 100 % whatever a model does: those at all that there is, or more."""
    for direction, number, what in (
        ("text to audio", num_sounds, "sounds"),
        ("audio to text", num_captions, "captions"),
    ):
        names = [f"R@{k}" for k in RECALLS_AT if k >= number]
        if names:
            yield (
                f"{direction}: of {number} {what} all are among the first {number}, so "
                f"{', '.join(names)} would be 100 % of any model"
            )


def _rank_sounds(scores: Scores, captions: Ranks, owners: Ranks) -> Ranked:
    """Rank all sounds for each caption."""
    return Ranked(owners, captions, *rank_sounds(scores, captions, owners))


def _rank_captions(scores: Scores, captions: Ranks, owners: Ranks) -> Ranked:
    """Rank all captions for each sound that has one; of equal scores, others' come first."""
    groups = _groups(owners)
    sounds = owners[[group[0] for group in groups]]
    ranks, ties = np.empty((2, len(captions)), np.int64)
    for first in range(0, len(groups), _BLOCK):
        some = slice(first, first + _BLOCK)
        block = scores.of_sounds(sounds[some])[:, captions]
        for group, row in zip(groups[some], block, strict=True):
            ordered = group[best_first(row[group])]
            own = row[ordered, None]
            others = np.delete(row, group)
            ranks[ordered] = (others >= own).sum(1) + np.arange(1, len(group) + 1)
            ties[ordered] = (others == own).sum(1)
    return Ranked(owners, captions, ranks, ties)


def _groups(owners: Ranks) -> list[Ranks]:
    """Return the places of the captions of each sound that has one."""
    order = np.argsort(owners, kind="stable")
    _, starts = np.unique(owners[order], return_index=True)
    return np.split(order, starts[1:])


class _Counted(NamedTuple):
    """What is averaged: for each query its sound, and what it scores in each column."""

    direction: Direction
    definition: str
    sounds: Ranks  # (num_queries,) which sound, of those with a caption
    columns: dict[str, Values]  # (num_queries,) each
    ranks: Ranks | None  # (num_queries,) whose median is told


def _counted(ranks: Ranks, of_sounds: Ranked) -> Iterator[_Counted]:
    _, clusters = np.unique(of_sounds.sounds, return_inverse=True)
    precision = {f"mAP@{AP_AT}": np.where(ranks <= AP_AT, 1 / ranks, 0.0)}
    columns = _recalls(ranks) | precision | _mean_rank(ranks)
    yield _Counted("text to audio", "Mei, DCASE", clusters, columns, ranks)
    found = [np.sort(of_sounds.ranks[group]) for group in _groups(of_sounds.sounds)]
    everyone = np.arange(len(found))
    best = np.array([one[0] for one in found])
    shares = {f"R@{k}": np.array([(ranks <= k).mean() for ranks in found]) for k in RECALLS_AT}
    columns = _recalls(best) | _mean_rank(best)
    yield _Counted("audio to text", "Mei", everyone, columns, best)
    yield _Counted("audio to text", "DCASE", everyone, shares, None)
    precision = {f"mAP@{AP_AT}": np.array([_average_precision(ranks) for ranks in found])}
    yield _Counted("audio to text", "Mei, DCASE", everyone, precision, None)


def _mean_rank(ranks: Ranks) -> dict[str, Values]:
    return {"mean rank": ranks.astype(np.float64)}


def _recalls(ranks: Ranks) -> dict[str, Values]:
    """Score queries by one rank each."""
    return {f"R@{k}": (ranks <= k).astype(np.float64) for k in RECALLS_AT}


def _average_precision(ranks: Ranks) -> float:
    """Return that of one query, by the ranks of all that is right, best first."""
    precisions = np.arange(1, len(ranks) + 1) / ranks
    return float(precisions[ranks <= AP_AT].sum() / len(ranks))


def _figures(counted: Iterator[_Counted], num_resamples: int, seed: int) -> Iterator[Figure]:
    for one in counted:
        names, columns = list(one.columns), np.column_stack(list(one.columns.values()))
        means, medians = [], []
        for weights in resamples(one.sounds, num_resamples, seed):
            means.append(weights @ columns / weights.sum(1, keepdims=True))
            if one.ranks is not None:
                medians.append(_medians(one.ranks, weights))
        resampled = np.concatenate(means)
        for place, name in enumerate(names):
            value = float(columns[:, place].mean())
            yield Figure(one.direction, one.definition, name, value, *interval(resampled[:, place]))
        if one.ranks is not None:
            value = float(np.median(one.ranks) // 1)
            ends = interval(np.concatenate(medians))
            yield Figure(one.direction, one.definition, "median rank", value, *ends)


def _medians(ranks: Ranks, weights: Ranks) -> Values:
    """Return the median of each resample, rounded down."""
    order = np.argsort(ranks, kind="stable")
    upto = np.cumsum(weights[:, order], axis=1)  # how many have at most this rank
    total = upto[:, -1:]
    lower = (upto >= (total + 1) // 2).argmax(1)
    upper = (upto >= total // 2 + 1).argmax(1)
    middle: Values = (ranks[order][lower] + ranks[order][upper]) // 2
    return middle
