"""The HEAR 2021 API: what the tools of that benchmark call, over the same network.

    heareval's runner takes the name of this module, `indexer.hear`, and a checkpoint as the model.

Sounds are embedded at their own length, without windows and padding. Scene embeddings are those of
the store; timestamp embeddings are its frame embeddings, averaged over frequency.
Source: https://hearbenchmark.com/hear-api.html
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indexer.audio.resample import half_width, output_length, torchaudios_kernel
from indexer.model.checkpoint import Checkpoint, load_checkpoint
from indexer.model.convnext import EMBEDDING_DIM, STAGE_PATCH, STEM_PATCH, Output
from indexer.model.front_end import HOP_SAMPLES
from indexer.model.known import DEFAULT_CHECKPOINT
from indexer.windows import MIN_INPUT_SAMPLES, SAMPLE_RATE_HZ

#: HEAR takes 16, 22.05, 44.1 or 48 kHz. The last loses nothing that the network hears, up to
#: 14 kHz, and has a small filter to 32 kHz.
_HEAR_RATE_HZ = 48_000
#: A frame is a patch of the stem, halved by each of the three stages behind it: 0.32 s.
_FRAME_SAMPLES = HOP_SAMPLES * STEM_PATCH * STAGE_PATCH**3
#: The stem pads the spectrogram by as much as a patch before the first, 0.04 s: so much earlier
#: than its place in the grid does each frame begin.
_AHEAD_SAMPLES = HOP_SAMPLES * STEM_PATCH


class HearModel(nn.Module):
    """A network with the attributes that HEAR asks for; `.to(device)` moves it.

    Attributes:
        sample_rate: Of the audio that it takes, in Hz.
        scene_embedding_size: Values in a scene embedding.
        timestamp_embedding_size: Values in a timestamp embedding.
    """

    sample_rate = _HEAR_RATE_HZ
    scene_embedding_size = EMBEDDING_DIM
    timestamp_embedding_size = EMBEDDING_DIM

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network = checkpoint.model
        kernel = torch.from_numpy(torchaudios_kernel(_HEAR_RATE_HZ))
        self.register_buffer("kernel", kernel[:, None], persistent=False)
        self.kernel: Tensor

    def forward(self, audio: Tensor) -> Output:
        """Embed (n_sounds, n_samples) float32; what is shorter than 0.25 s is padded to that."""
        if audio.ndim != 2 or audio.shape[1] == 0:
            raise ValueError(f"audio is (n_sounds, n_samples), got {tuple(audio.shape)}")
        waveforms = self._resample(audio.float())
        missing = MIN_INPUT_SAMPLES - waveforms.shape[1]
        output: Output = self.network(F.pad(waveforms, (0, max(missing, 0))))
        if not all(one.isfinite().all() for one in output):
            raise ValueError("the embeddings are not finite: samples are of -1 to 1")
        return output

    def _resample(self, audio: Tensor) -> Tensor:
        """Return (n_sounds, n_samples) at 32 kHz; silence is before and after."""
        width = half_width(_HEAR_RATE_HZ)
        period = self.kernel.shape[2] - 2 * width
        padded = F.pad(audio[:, None], (width, width + period))
        phases = F.conv1d(padded, self.kernel, stride=period)  # (n_sounds, phases, periods)
        resampled = phases.transpose(1, 2).flatten(1)
        return resampled[:, : output_length(audio.shape[1], _HEAR_RATE_HZ)]


def load_model(model_file_path: str = "") -> HearModel:
    """Load a checkpoint.

    Args:
        model_file_path: A file, or one of the known names; "" is the default checkpoint.

    Raises:
        CheckpointError: If it is not there, or not what it should be.
    """
    return HearModel(load_checkpoint(model_file_path or DEFAULT_CHECKPOINT)).eval()


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Return (n_sounds, 768) float32 for (n_sounds, n_samples) in [-1, 1] at 48 kHz."""
    output: Output = model(audio)
    return output.scene


@torch.no_grad()
def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Return what is heard when.

    Args:
        audio: (n_sounds, n_samples) float32 in [-1, 1] at 48 kHz.
        model: From `load_model`, on the device of the audio.

    Returns:
        (n_sounds, n_timestamps, 768) float32 embeddings, one for every 0.32 s, and (n_sounds,
        n_timestamps) float32 the middle of each in ms.
    """
    frames = model(audio).frames  # (n_sounds, 768, n_timestamps, 7)
    embeddings = frames.mean(3).transpose(1, 2).contiguous()
    starts = torch.arange(embeddings.shape[1], device=audio.device) * _FRAME_SAMPLES
    middles = starts - _AHEAD_SAMPLES + _FRAME_SAMPLES / 2
    timestamps_ms = middles.float() * (1000 / SAMPLE_RATE_HZ)
    return embeddings, timestamps_ms.expand(len(audio), -1)
