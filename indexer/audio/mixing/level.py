"""How loud a recording is, and what is doubtful about that although it can be embedded."""

from __future__ import annotations

import math

import numpy as np

from indexer.audio.source import AudioInfo, Channels
from indexer.windows import SAMPLE_RATE_HZ, Samples

#: No second of what lies within full scale has more mean power: that of a square wave. Decoders of
#: lossy formats go beyond full scale by a decibel or two now and then, never in the mean.
_FULL_POWER = 1.0
#: A recording whose loudest second has less mean power than this is doubtful, -80 dB of full scale:
#: its samples of 16 bits would be of three steps, where the noise of microphones fills ten or more.
_QUIET_POWER = 1e-8
#: Above this rate, so much can lie beyond what is heard that the rest is nothing: music at 96 kHz
#: has its power below 16 kHz, and white noise at 384 kHz has a twelfth of it there.
_FAR_ABOVE_HZ = 2 * SAMPLE_RATE_HZ
#: Hardly anything is heard if 99 % of the power lie above: -20 dB, as for channels that cancel.
_HEARD_SHARE = 0.01


class Level:
    """Power of a recording, second by second, before and after it is brought to 32 kHz.

    Attributes:
        peak: The greatest sample where the power is beyond full scale, which is 1; otherwise 0.
    """

    def __init__(self) -> None:
        self.peak = 0.0
        self._loudest = 0.0  # mean power of a chunk, of all channels
        self._num_samples = self._num_heard = 0
        self._power = self._power_heard = 0.0

    def add(self, channels: Channels, power: float, num_samples: int, power_of_mean: float) -> None:
        """Take a chunk: its channels, the sum of all their squares, and that of their mean."""
        mean_power = power / (len(channels) * max(num_samples, 1))
        self._loudest = max(self._loudest, mean_power)
        if mean_power > _FULL_POWER:  # which saves two looks at every sample of all others
            self.peak = max(self.peak, *(float(np.abs(one).max()) for one in channels))
        self._num_samples += num_samples
        self._power += power_of_mean

    def hear(self, samples: Samples) -> None:
        """Take what became of it at 32 kHz."""
        self._num_heard += len(samples)
        self._power_heard += float(np.square(samples, dtype=np.float64).sum())

    @staticmethod
    def asks_for_heard(rate_hz: int) -> bool:
        """Whether it wants to `hear` what becomes of a recording of this rate."""
        return rate_hz > _FAR_ABOVE_HZ

    def warnings(self, info: AudioInfo) -> list[str]:
        """Return what is doubtful, in short sentences."""
        found: list[str] = []
        if self.peak:
            found.append(f"its samples reach {self.peak:,.5g}, and full scale is 1")
        elif self._num_samples and self._loudest < _QUIET_POWER:
            found += self._quiet(info.num_streams - 1)
        if self._is_above(info.sample_rate):
            found.append("hardly any of its power is below 16 kHz, and nothing else is heard")
        return found

    def _quiet(self, num_others: int) -> list[str]:
        how = "it is silent"
        if self._loudest:
            loudest_db = 10 * math.log10(self._loudest)
            how = f"it is nearly silent: {loudest_db:.0f} dB of full scale in its loudest second"
        if not num_others:
            return [how]
        others = "is another audio stream, which was"
        if num_others > 1:
            others = f"are {num_others} other audio streams, which were"
        return [how, f"there {others} not read"]

    def _is_above(self, rate_hz: int) -> bool:
        if not self._num_heard or self._loudest < _QUIET_POWER:
            return False
        heard, power = self._power_heard / self._num_heard, self._power / self._num_samples
        return heard < _HEARD_SHARE * power
