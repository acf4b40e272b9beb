"""Drawing windows at random, the same ones every time."""

from __future__ import annotations

import numpy as np

from indexer.arrays import Integers, Mask

#: Odd constants that mix the bits of ids (the finaliser of SplitMix64, Steele et al. 2014).
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def in_drawn_order(window_ids: Integers, salt: str) -> Integers:
    """Return (n,) positions of windows as they are drawn: at random, and the same every time.

    It depends on nothing but ids and salt, so that more windows change no order of those there.
    """
    mixed = window_ids.astype(np.uint64) + np.uint64(
        int.from_bytes(salt.encode(), "little") % 2**61
    )
    for constant, shift in zip(_MIX, (30, 27), strict=True):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * constant
    return np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")


def drawn_so_far(window_ids: Integers, is_proposed: Mask, salt: str) -> Mask:
    """Return (n,) which labelled windows are a sample of all, whatever else was labelled.

    Drawing passes over what is labelled already: that was drawn as well, and answered before. To
    leave it out would leave out what a tag is surest of. So a window counts if after it one was
    labelled that was proposed by drawing, and that comes behind it.

    Args:
        window_ids: (n,) in the order in which they were labelled.
        is_proposed: (n,) which of them were proposed by drawing.
        salt: By which was drawn.
    """
    place = np.argsort(in_drawn_order(window_ids, salt))
    reached = np.maximum.accumulate(np.where(is_proposed, place, -1)[::-1])[::-1]
    return np.asarray(place <= reached)
