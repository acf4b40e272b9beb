"""Regions of a map, and what they are called: by tags that are heard there and not elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float16, Float32, Integers, widened
from indexer.tags import DEFAULT_THRESHOLD, Tag, TagVocabulary, reaches

#: Regions: so many times the fourth root of the number of windows, so that 100 windows have 8, and
#: 100,000 have 43; and never more than so many, as nobody reads more names.
_PER_FOURTH_ROOT = 2.4
_MOST_CLUSTERS = 60
#: Landmarks of a region, on average, at the least.
_LANDMARKS_EACH = 4
#: Tags in a name.
_MOST_NAMES = 3
#: Windows as the whole library has them that are counted with those of each side, so that few
#: windows prove little.
_PRIOR = 5.0
#: A tag names a region if it is heard in this share of its windows, and in so many times the share
#: of all others.
_LEAST_SHARE, _LEAST_RATIO = 0.1, 2.0
#: A tag says nothing beside one below it that is heard in this share of its windows.
_SAME_SHARE = 0.5
#: A further name says at least this much of what the first says.
_LEAST_WORTH = 0.25


class Cluster(NamedTuple):
    """A region of a map.

    Attributes:
        tags: Up to three tags that are heard in it more often than elsewhere, the most telling
            first; none if no tag is.
        centre: Where the landmark in its middle lies, x and y from 0 to 1.
        num_windows: Windows in it.
    """

    tags: tuple[Tag, ...]
    centre: tuple[float, float]
    num_windows: int

    @property
    def name(self) -> str:
        """Its tags in words."""
        return "; ".join(tag.name for tag in self.tags) or "mixed"


def divide(places: Float32, num_windows: int) -> Integers:
    """Divide landmarks into regions of the map, by Ward's method.

    Args:
        places: (m, 2) float32.
        num_windows: All windows of the map, which the number of regions depends on.

    Returns:
        (m,) which region each is in, from 0, that with the most landmarks.
    """
    from sklearn.cluster import AgglomerativeClustering  # noqa: PLC0415 - it takes a second

    wanted = min(round(_PER_FOURTH_ROOT * num_windows**0.25), _MOST_CLUSTERS)
    number = max(2, min(wanted, len(places) // _LANDMARKS_EACH))
    found = AgglomerativeClustering(number, linkage="ward").fit_predict(places.astype(np.float64))
    order = np.argsort(-np.bincount(found), kind="stable")
    return np.asarray(np.argsort(order)[found], np.int64)


def middles(places: Float32, clusters: Integers) -> Integers:
    """Return (k,) the landmark that lies nearest to the mean of each region."""
    found = []
    for number in range(int(clusters.max()) + 1):
        mine = np.flatnonzero(clusters == number)
        away = ((places[mine] - places[mine].mean(0)) ** 2).sum(1)
        found.append(mine[away.argmin()])
    return np.array(found, np.int64)


def count_heard(tags: Float16, clusters: Integers, number: int) -> Integers:
    """Return (number, 527) in how many of some windows of each region each tag is heard.

    Args:
        tags: (n, 527) float16 probabilities.
        clusters: (n,) regions of the windows.
        number: How many regions there are.
    """
    is_in = (np.arange(number)[:, None] == clusters).astype(np.float32)
    heard = reaches(widened(tags), DEFAULT_THRESHOLD).astype(np.float32)
    return np.asarray(np.rint(is_in @ heard), np.int64)  # exact: no block has 2^24 windows


def name_clusters(heard: Integers, sizes: Integers) -> list[tuple[Tag, ...]]:
    """Name regions by the tags that are over-represented in them.

    What a tag says of a region is its share there, times the logarithm of how many times its share
    elsewhere that is: its part of what tells the region from the rest. So what is heard everywhere
    names nothing, and neither does what is heard in two windows of a thousand. Of a tag and one
    below it in the ontology the latter counts, if it is heard in half as many windows.

    Args:
        heard: (k, 527) in how many windows of each region each tag is heard.
        sizes: (k,) windows of each region.

    Returns:
        For each region up to three tags, the most telling first.
    """
    total, number = heard.sum(0), int(sizes.sum())
    usual = total / max(number, 1)
    inside = (heard + _PRIOR * usual) / (sizes[:, None] + _PRIOR)
    outside = (total - heard + _PRIOR * usual) / (number - sizes[:, None] + _PRIOR)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(inside > 0, inside / outside, 0)
        worth = np.where(inside > 0, inside * np.log(ratio), 0)
    is_telling = (inside >= _LEAST_SHARE) & (ratio >= _LEAST_RATIO)
    return [tuple(_choose(*row)) for row in zip(inside, worth, is_telling, strict=True)]


def _choose(share: Float32, worth: Float32, is_telling: Integers) -> Iterator[Tag]:
    """Yield the tags of one region's name."""
    vocabulary = TagVocabulary.audioset()
    said = np.flatnonzero(is_telling)
    ranked = said[np.argsort(-worth[said], kind="stable")].tolist()
    told = set(ranked)
    names = []
    for index in ranked:
        tag = vocabulary.tags[index]
        below = {one.index for one in vocabulary.descendants(tag)} & told
        if all(share[one] < _SAME_SHARE * share[index] for one in below):
            names.append(index)
    for index in names[:_MOST_NAMES]:
        if worth[index] >= _LEAST_WORTH * worth[names[0]]:
            yield vocabulary.tags[index]


def named(mids: list[str]) -> tuple[Tag, ...]:
    """Return the tags of a name by their identifiers in the ontology."""
    vocabulary = TagVocabulary.audioset()
    return tuple(vocabulary.resolve(mid) for mid in mids)
