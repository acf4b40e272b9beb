"""What was heard in a window: the tags whose probability reaches a threshold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.tags import Tag, TagVocabulary

#: Of the published demo (audioset-convnext-inf).
DEFAULT_THRESHOLD = 0.25


class HeardTag(NamedTuple):
    """A tag, and its probability in a window."""

    tag: Tag
    probability: float


def reaches(probabilities: npt.NDArray[np.floating], threshold: float) -> npt.NDArray[np.bool_]:
    """Return which probabilities reach a threshold; both are compared as float32."""
    return np.asarray(probabilities.astype(np.float32) >= np.float32(threshold))


def heard(
    probabilities: npt.NDArray[np.floating], *, threshold: float, top: int | None = None
) -> list[HeardTag]:
    """Return the tags of one window that reach a threshold.

    Args:
        probabilities: (527,), of any floating type.
        threshold: Probability from which on a tag counts.
        top: At most this many; None for all.

    Returns:
        The most probable first; of equals, the lower index.
    """
    vocabulary = TagVocabulary.audioset().tags
    order = np.argsort(-probabilities.astype(np.float32), kind="stable")[:top]
    reached = order[reaches(probabilities[order], threshold)]
    return [HeardTag(vocabulary[index], float(probabilities[index])) for index in reached]
