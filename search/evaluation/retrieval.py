"""How well texts find sounds and sounds find texts, from two files of embeddings.

Papers count differently, so every figure comes with the name of its definition:

- "Mei" (Mei et al. 2022, arXiv:2203.15537): a sound has found its texts at the best of their ranks.
- "DCASE" (DCASE 2023 task 6b): recall is the share of a sound's texts among the first k.

In both, mAP@10 is the average precision over all of a sound's texts. From text to sound there is
one right answer, and all is the same. A median rank is rounded down, as is usual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.errors import SoundalikeError
from search.datasets.embedded import Embedded

RECALLS_AT = (1, 5, 10, 50)
AP_AT = 10
#: Share of the resamples that lie inside an interval.
CONFIDENCE = 0.95
#: Queries that are scored at once, against all there is.
_BLOCK = 1024
#: Scores that agree to so many decimals are ties: the rounding of products would break them.
_DECIMALS = 10

#: Weights of resamples that are held at once, 128 MB.
_WEIGHTS = 2**24

Values = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.int64]


class Figure(NamedTuple):
    """One number with its interval.

    Attributes:
        direction: "text to audio" or "audio to text".
        definition: "Mei", "DCASE", or "Mei, DCASE" where they agree.
        name: "R@1", "mAP@10" or "median rank".
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
        warnings: Why these figures must not be published, if the files say so themselves.
    """

    figures: tuple[Figure, ...]
    num_clips: int
    num_captions: int
    num_without_audio: int
    num_without_text: int
    num_resamples: int
    warnings: tuple[str, ...] = ()


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
        Recall at 1, 5, 10 and 50, mAP@10 and median rank, with 95 % intervals.

    Raises:
        SoundalikeError: If they have no id in common, an audio id comes twice, or the two have
            different dimensions.
    """
    row_of = _rows(audio, text)
    owners = np.array([row_of.get(one, -1) for one in text.ids], np.int64)
    is_owned = owners >= 0
    if not is_owned.any():
        raise SoundalikeError(
            f"no text has the id of a sound: the texts begin with {text.ids[0]!r}, the sounds with "
            f"{audio.ids[0]!r}"
        )
    sounds = _normalised(audio.vectors)
    captions, owners = _normalised(text.vectors[is_owned]), owners[is_owned]
    figures = list(_figures(_counted(sounds, captions, owners), num_resamples, seed))
    return RetrievalReport(
        tuple(figures),
        num_clips=len(sounds),
        num_captions=len(captions),
        num_without_audio=int((~is_owned).sum()),
        num_without_text=len(sounds) - len(np.unique(owners)),
        num_resamples=num_resamples,
        warnings=tuple(dict.fromkeys(one.leak for one in (audio, text) if one.leak)),
    )


def _rows(audio: Embedded, text: Embedded) -> Mapping[str, int]:
    if audio.vectors.shape[1] != text.vectors.shape[1]:
        raise SoundalikeError(
            f"sounds have {audio.vectors.shape[1]} dimensions and texts {text.vectors.shape[1]}; "
            f"they must come from one model"
        )
    row_of = {one: row for row, one in enumerate(audio.ids)}
    if len(row_of) < len(audio.ids):
        twice = next(one for row, one in enumerate(audio.ids) if row_of[one] != row)
        raise SoundalikeError(f"the sound {twice!r} comes twice; give each one row")
    return row_of


class _Counted(NamedTuple):
    """What is averaged: for each query its sound, and what it scores in each column."""

    direction: str
    definition: str
    sounds: Ranks  # (num_queries,) which sound, of those with a caption
    columns: dict[str, Values]  # (num_queries,) each
    ranks: Ranks | None  # (num_queries,) whose median is told


def text_to_audio_ranks(sounds: Values, captions: Values, owners: Ranks) -> Ranks:
    """Return the rank, from 1, at which each caption finds its sound; ties come before it."""
    ranks = []
    for first in range(0, len(captions), _BLOCK):
        some = slice(first, first + _BLOCK)
        scores = np.round(captions[some] @ sounds.T, _DECIMALS)
        own = scores[np.arange(len(scores)), owners[some]]
        ranks.append((scores >= own[:, None]).sum(1))
    return np.concatenate(ranks)


def audio_to_text_ranks(sounds: Values, captions: Values, owners: Ranks) -> Iterator[Ranks]:
    """Yield for each sound with captions the ranks, from 1, of those; best first.

    Of equal scores, other sounds' captions come first.
    """
    order = np.argsort(owners, kind="stable")
    owned, starts = np.unique(owners[order], return_index=True)
    groups = np.split(order, starts[1:])
    for first in range(0, len(owned), _BLOCK):
        some = slice(first, first + _BLOCK)
        scores = np.round(sounds[owned[some]] @ captions.T, _DECIMALS)
        for group, row in zip(groups[some], scores, strict=True):
            own = np.sort(row[group])[::-1]
            at_least = (row >= own[:, None]).sum(1) - (own >= own[:, None]).sum(1)
            yield at_least + np.arange(1, len(own) + 1)


def _counted(sounds: Values, captions: Values, owners: Ranks) -> Iterator[_Counted]:
    _, clusters = np.unique(owners, return_inverse=True)
    ranks = text_to_audio_ranks(sounds, captions, owners)
    precision = {f"mAP@{AP_AT}": np.where(ranks <= AP_AT, 1 / ranks, 0.0)}
    yield _Counted("text to audio", "Mei, DCASE", clusters, _recalls(ranks) | precision, ranks)
    found = list(audio_to_text_ranks(sounds, captions, owners))
    everyone = np.arange(len(found))
    best = np.array([one[0] for one in found])
    shares = {f"R@{k}": np.array([(ranks <= k).mean() for ranks in found]) for k in RECALLS_AT}
    yield _Counted("audio to text", "Mei", everyone, _recalls(best), best)
    yield _Counted("audio to text", "DCASE", everyone, shares, None)
    precision = {f"mAP@{AP_AT}": np.array([_average_precision(ranks) for ranks in found])}
    yield _Counted("audio to text", "Mei, DCASE", everyone, precision, None)


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
        for weights in _resamples(one.sounds, num_resamples, seed):
            means.append(weights @ columns / weights.sum(1, keepdims=True))
            if one.ranks is not None:
                medians.append(_medians(one.ranks, weights))
        resampled = np.concatenate(means)
        for place, name in enumerate(names):
            value = float(columns[:, place].mean())
            yield Figure(
                one.direction, one.definition, name, value, *_interval(resampled[:, place])
            )
        if one.ranks is not None:
            value = float(np.median(one.ranks) // 1)
            interval = _interval(np.concatenate(medians))
            yield Figure(one.direction, one.definition, "median rank", value, *interval)


def _resamples(sounds: Ranks, num_resamples: int, seed: int) -> Iterator[Ranks]:
    """Yield how often each query counts, (resamples, num_queries) at a time.

    Sounds are drawn, with all their queries: captions of one sound are no independent witnesses.
    The same seed draws the same sounds in every direction, so that the intervals compare.
    """
    random = np.random.default_rng(seed)
    num_sounds = int(sounds.max()) + 1
    at_once = max(_WEIGHTS // len(sounds), 1)
    for first in range(0, num_resamples, at_once):
        num_rows = min(at_once, num_resamples - first)
        drawn = random.multinomial(num_sounds, np.full(num_sounds, 1 / num_sounds), num_rows)
        yield drawn[:, sounds]


def _medians(ranks: Ranks, weights: Ranks) -> Values:
    """Return the median of each resample, rounded down."""
    order = np.argsort(ranks, kind="stable")
    upto = np.cumsum(weights[:, order], axis=1)  # how many have at most this rank
    total = upto[:, -1:]
    lower = (upto >= (total + 1) // 2).argmax(1)
    upper = (upto >= total // 2 + 1).argmax(1)
    middle: Values = (ranks[order][lower] + ranks[order][upper]) // 2
    return middle


def _interval(resampled: Values) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def _normalised(vectors: npt.NDArray[np.floating]) -> Values:
    wide = vectors.astype(np.float64)
    lengths = np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(float).tiny)
    unit: Values = wide / lengths
    return unit
