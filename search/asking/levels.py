"""What of a clip asks, by how loud it is: a quiet one is asked louder, too, and silence is not."""

from __future__ import annotations

import numpy as np

from indexer.arrays import Mask
from indexer.windows import SILENT_DBFS, Decibels, Geometry, Window

#: A clip whose highest peak is below is asked at full scale as well, in dBFS: 40 dB quieter, a clip
#: found its own original first 75 times of 100, and so always: see docs/decisions/0031.
QUIET_DBFS = -6.0
#: What is so much below the loudest window of a clip does not ask, in dB: from 30 on, pieces of
#: clips found no more of their kind than chance does, see docs/decisions/0031.
SILENT_BELOW_DB = 50.0


def which_ask(windows: list[Window], levels_db: Decibels, geometry: Geometry) -> Mask:
    """Return (n,) which windows of a clip ask: all but silence between sounds, and a short tail.

    Args:
        windows: Of the clip, in order of time.
        levels_db: (n,) the highest peak of each, in dBFS; NaN where it is not known.
        geometry: How the clip was cut.
    """
    asks = np.ones(len(windows), bool)
    if not np.isnan(levels_db).any():
        asks = levels_db >= levels_db.max() - SILENT_BELOW_DB
    if windows[-1].num_samples < geometry.window_samples and asks[:-1].any():
        asks[-1] = False
    return asks


def is_quiet(levels_db: Decibels) -> bool:
    """Whether a clip is to be asked at full scale as well, by the highest peaks of its windows.

    That is not known where one of these is not, and nothing makes digital silence louder.
    """
    return bool(-np.inf < levels_db.max() < QUIET_DBFS)  # not if it is NaN


def is_silent(levels_db: Decibels) -> bool:
    """Whether nothing is heard in any of some windows, by their highest peaks."""
    return bool((levels_db < SILENT_DBFS).all())
