"""A network that anyone can make, and the sounds for which the published code was run on it.

`golden/golden.npz` holds what came out: weights by a recipe, so that no large file is needed.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from indexer.model.convnext import ConvNeXt
from indexer.windows import SAMPLE_RATE_HZ

HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "golden.npz"
#: Not in the repository: a recording whose licence is not ours to pass on.
UKULELE = HERE.parents[1] / "shared" / "audio" / "f62-S-v2swA_200000_210000.wav"

CLIPS = ("ukulele", "noise_10_1", "noise_5_2", "noise_32.5_3", "chirp_10_0", "silence_10_0")
SEED = 20230601
#: `state_digest` of the network that computed the golden arrays.
GOLDEN_WEIGHTS = "cd130e5c58050a29f524c1e65bdb24ee2d7a595eb5929de965965f9dab9c0c84"

#: Largest absolute deviation. Measured on an x86 CPU: scene 1.0e-5 (ukulele; others 2.1e-6), tags
#: 1.4e-6, frames 5.7e-5, log-mel 4.8e-3 dB (ukulele; others 1.7e-4 dB).
TOLERANCE = {
    "logits": 1e-4,
    "scene": 1e-4,
    "probs": 1e-5,
    "frames_shape": 0,
    "frames_mean_over_freq": 1e-4,
    "frames_first_channels": 2e-4,
    "logmel_every_25th_frame": 2e-2,
}
#: Away from the chirp's tone, power is float32 rounding, in which an FFT and the published DFT by
#: convolution differ. Measured: scene 3.1e-4, tags 5.4e-5, frames 2.9e-3, log-mel 0.27 dB.
CHIRP_TOLERANCE = {
    "logits": 1e-3,
    "scene": 1e-3,
    "probs": 1e-4,
    "frames_shape": 0,
    "frames_mean_over_freq": 5e-3,
    "frames_first_channels": 1e-2,
    "logmel_every_25th_frame": 0.5,
}


def fill(model: ConvNeXt, seed: int) -> ConvNeXt:
    """Give a network weights that any implementation with the same names can make for itself.

    Each tensor comes from a generator of its own, keyed by the seed and the CRC-32 of its name,
    at a scale that keeps activations near 1 and lets every path of the network matter.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            key = [seed, zlib.crc32(name.encode())]
            generator = np.random.Generator(np.random.Philox(key=key))
            values = draw(generator, name, tuple(tensor.shape))
            tensor.copy_(torch.from_numpy(values.astype(np.float32)))
    return model


def draw(
    generator: np.random.Generator, name: str, shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    kind = name.rpartition(".")[2]
    if kind == "running_mean":
        return generator.uniform(-40, -20, shape)  # like a log-mel spectrogram, in dB
    if kind == "running_var":
        return generator.uniform(80, 200, shape)
    if kind == "gamma":
        return generator.uniform(0.1, 0.5, shape)
    if kind == "bias":
        return generator.normal(0, 0.1, shape)
    if len(shape) == 1:
        return generator.uniform(0.5, 1.5, shape)
    values = generator.normal(0, 1, shape)
    values /= np.sqrt(math.prod(shape[1:]))
    return values


def clip(name: str) -> Tensor:
    """Return (1, num_samples) of the recording or signal that a golden name stands for."""
    if name == "ukulele":
        samples = soundfile.read(UKULELE, dtype="float32")[0]
        return torch.from_numpy(samples)[None]
    kind, seconds, seed = name.split("_")
    num_samples = int(float(seconds) * SAMPLE_RATE_HZ)
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    if kind == "noise":
        generator = np.random.Generator(np.random.Philox(key=[int(seed), 7]))
        signal = generator.normal(0, 0.1, num_samples)
    elif kind == "chirp":
        signal = 0.5 * np.sin(2 * np.pi * (100 * time_s + 400 * time_s**2))
    else:
        signal = np.zeros(num_samples)
    return torch.from_numpy(signal.astype(np.float32))[None]
