"""What of a clip asks, by how loud it is: a quiet one is asked louder, too, and silence is not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from indexer.arrays import Mask
from indexer.level import Decibels
from indexer.windows import Geometry, Window

#: A clip whose highest peak is below is asked at full scale as well, in dBFS: with the network of
#: version 0.1.0, a clip 20 dB quieter found its own original first 47 times of 100, and so 99.
QUIET_DBFS = -6.0
#: What is so much below the loudest window of a clip does not ask, in dB. A guess: room tone is
#: some 50 dB below speech.
SILENT_BELOW_DB = 50.0


def rms(samples: npt.NDArray[np.float32]) -> float:
    """Return the root of the mean square of some samples, at least one."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def which_ask(windows: list[Window], levels_db: Decibels | None, geometry: Geometry) -> Mask:
    """Return (n,) which windows of a clip ask: all but silence between sounds, and a short tail.

    Args:
        windows: Of the clip, in order of time.
        levels_db: (n,) the root mean square of each, in dBFS; None if they are not known.
        geometry: How the clip was cut.
    """
    asks = np.ones(len(windows), bool)
    if levels_db is not None:
        asks = levels_db >= levels_db.max() - SILENT_BELOW_DB
    if windows[-1].num_samples < geometry.window_samples and asks[:-1].any():
        asks[-1] = False
    return asks
