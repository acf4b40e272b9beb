"""What embeddings are: everything that shapes the numbers, known without loading the network."""

from __future__ import annotations

from indexer.audio.resample import RESAMPLER
from indexer.model.front_end import FRONT_END
from indexer.store.schema import FramesMode, Identity
from indexer.windows import FORMER_NATIVE_SAMPLES, Geometry, Level


def identify(
    weights: str,
    frames: FramesMode,
    geometry: Geometry,
    channel: int | None,
    level: Level = "off",
) -> Identity:
    """Return the identity of what this version of the program embeds.

    Args:
        weights: Digest of the network's weights.
        frames: Which frame embeddings are kept.
        geometry: How recordings are cut.
        channel: Which channel of each recording, counted from 1; None for the mean of all.
        level: What is done to the loudness of windows.
    """
    return Identity(
        weights=weights,
        front_end=FRONT_END,
        resampler=RESAMPLER,
        frames=frames,
        hop_samples=geometry.hop_samples,
        native=geometry.native,
        window_samples=geometry.window_samples,
        channel=channel,
        # Where it says nothing, it must keep no stores apart.
        native_samples=geometry.native_samples if geometry.native else FORMER_NATIVE_SAMPLES,
        padding=geometry.padding,
        level=level,
    )
