"""The digest of decoded samples: the same for the same sound, whatever tags stand beside it."""

from __future__ import annotations

import struct

import numpy as np
from xxhash import xxh3_128

from indexer.audio.source import AudioInfo, Channels


class SampleDigest:
    """XXH3, 128 bits, of rate, channels, `first_sample` and the frames, as float32, interleaved.

    It does not depend on how a decoder chunks them. It is no digest against forgery, which would
    take thirty times as long: who forges one spoils the windows of the forged file, and no others.
    """

    def __init__(self, info: AudioInfo) -> None:
        """Begin with what stands before the samples."""
        self._num_channels = info.channels
        self._digest = xxh3_128()
        head = (info.sample_rate, info.channels, info.first_sample)
        self._digest.update(struct.pack("<qqq", *head))

    def add(self, channels: Channels) -> None:
        """Take the next samples, before they are mixed."""
        if len(channels) != self._num_channels:
            self._num_channels = len(channels)
            self._digest.update(struct.pack("<q", len(channels)))
        if isinstance(channels, np.ndarray):
            frames = channels.T  # decoders of packed samples have it in this order
        else:
            frames = np.empty((len(channels[0]), len(channels)), np.float32)
            for number, channel in enumerate(channels):
                frames[:, number] = channel
        self._digest.update(np.ascontiguousarray(frames, "<f4").data)

    def digest(self) -> bytes:
        """Return it, of all that came."""
        return self._digest.digest()
