"""The network as it is run: the function of `convnext.ConvNeXt`, with fewer passes over memory.

Whatever does not depend on the audio is computed once: bn0 becomes a scale and a shift of the
spectrogram, layer scale goes into the second linear layer, and convolutions whose patches do not
overlap become linear layers. Activations stay (B, T, F, C) in memory throughout.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indexer.model.convnext import (
    KERNEL,
    NORM_EPS,
    STAGE_PATCH,
    STEM_PATCH,
    STEM_TIME_PADDING,
    Block,
    ConvNeXt,
    Output,
)

#: Positions per core that go through both linear layers of a block together, on a CPU: what is
#: between them is four times as wide, and should not leave the core's cache (decision 11).
_ROWS = 1024


class Mlp(Protocol):
    """Two linear layers with GELU, the exact one, between them, and the sum with what they add to.

    Made of (4 C, C) and (C, 4 C) weights with their biases, all of one dtype on one device.
    """

    def __init__(self, widen: tuple[Tensor, Tensor], narrow: tuple[Tensor, Tensor]) -> None:
        """Prepare the weights; raises RuntimeError or AttributeError where it does not work."""

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        """Return x + narrow(gelu(widen(y))), for (n, C) each."""
        ...


class PlainMlp:
    """See `Mlp`; in operators that work everywhere."""

    def __init__(self, widen: tuple[Tensor, Tensor], narrow: tuple[Tensor, Tensor]) -> None:
        """Take over the weights."""
        (widen_weight, self._widen_bias), (narrow_weight, self._narrow_bias) = widen, narrow
        self._widen, self._narrow = widen_weight.t(), narrow_weight.t()

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        """Return x + narrow(gelu(widen(y)))."""
        rows = len(y)
        if y.device.type == "cpu":
            rows = min(_ROWS * torch.get_num_threads(), rows)
        hidden = y.new_empty(rows, self._widen.shape[1])
        result = torch.empty_like(x)
        for first in range(0, len(y), rows):
            some = slice(first, first + rows)
            wide = hidden[: len(y[some])]
            torch.addmm(self._widen_bias, y[some], self._widen, out=wide)
            torch.ops.aten.gelu_(wide)
            torch.addmm(x[some], wide, self._narrow, out=result[some]).add_(self._narrow_bias)
        return result


class PackedMlp:
    """See `Mlp`; in oneDNN's operators for a CPU: weights packed, GELU and sum done on the way.

    They are what `torch.compile` calls, and no part of PyTorch's interface.
    """

    def __init__(self, widen: tuple[Tensor, Tensor], narrow: tuple[Tensor, Tensor]) -> None:
        """Pack the weights."""
        operators = torch.ops.mkldnn
        self._widen, self._narrow = (
            (operators._reorder_linear_weight(weight.contiguous(), None), bias)
            for weight, bias in (widen, narrow)
        )
        self._unary = operators._linear_pointwise.default
        self._binary = operators._linear_pointwise.binary

    def __call__(self, y: Tensor, x: Tensor) -> Tensor:
        """Return x + narrow(gelu(widen(y)))."""
        wide = self._unary(y, *self._widen, "gelu", [], "none")
        result: Tensor = self._binary(wide, x, *self._narrow, "add")
        return result


class InferenceNetwork:
    """A trained network, ready to be run on one device at one precision.

    Spectrogram, pooling and classifier are float32 whatever the precision, as in `ConvNeXt`.
    """

    def __init__(
        self, model: ConvNeXt, dtype: torch.dtype = torch.float32, mlp: type[Mlp] = PlainMlp
    ) -> None:
        """Prepare the weights, on the model's device; the model itself stays as it is.

        Args:
            model: Trained.
            dtype: Of what lies between spectrogram and pooling: float32 or bfloat16.
            mlp: What computes the linear layers of the blocks.
        """
        self._model, self._dtype = model, dtype
        with torch.inference_mode():
            self._scale, self._shift = _scale_and_shift(model.bn0)
            self._downsampling = [
                _Downsampling(cast(nn.Sequential, layer), dtype)
                for layer in model.downsample_layers
            ]
            self._stages = [
                [
                    _FusedBlock(cast(Block, block), dtype, mlp)
                    for block in cast(nn.Sequential, stage)
                ]
                for stage in model.stages
            ]

    @torch.inference_mode()
    def __call__(self, waveforms: Tensor) -> Output:
        """Return what `ConvNeXt.forward` does; the frame map has the network's dtype."""
        frames = self._features(self._model.log_mel(waveforms))
        scene = self._model.pool(frames.float())
        return Output(scene, frames, torch.sigmoid(self._model.head_audioset(scene)))

    def _features(self, log_mel: Tensor) -> Tensor:
        x = torch.addcmul(self._shift, log_mel[:, 0], self._scale)  # (B, num_frames, 224)
        x = F.pad(x, (0, 0, STEM_TIME_PADDING, STEM_TIME_PADDING))
        x = x.to(self._dtype).unsqueeze(3)  # (B, T, F, C), here C is 1
        for downsample, stage in zip(self._downsampling, self._stages, strict=True):
            x = downsample(x)
            for block in stage:
                x = block(x)
        return x.permute(0, 3, 1, 2)  # (B, 768, T, 7)


class _FusedBlock:
    """Depthwise convolution, LayerNorm, and two linear layers with all that is between them."""

    def __init__(self, block: Block, dtype: torch.dtype, mlp: type[Mlp]) -> None:
        weight, self._convolution_bias = _parameters(block.dwconv, dtype)
        self._convolution = weight.contiguous(memory_format=torch.channels_last)
        self._norm = _parameters(block.norm, dtype)
        weight, bias = _parameters(block.pwconv2, torch.float32)
        scale = block.gamma.detach()
        narrow = ((scale[:, None] * weight).to(dtype), (scale * bias).to(dtype))
        self._mlp = mlp(_parameters(block.pwconv1, dtype), narrow)

    def __call__(self, x: Tensor) -> Tensor:
        channels = x.shape[3]
        y = F.conv2d(
            x.permute(0, 3, 1, 2),
            self._convolution,
            self._convolution_bias,
            padding=KERNEL // 2,
            groups=channels,
        ).permute(0, 2, 3, 1)  # (B, T, F, C): both views of the same memory
        y = F.layer_norm(y, (channels,), *self._norm, NORM_EPS)
        return self._mlp(y.reshape(-1, channels), x.reshape(-1, channels)).view(x.shape)


class _Downsampling:
    """LayerNorm and a convolution of patches that do not overlap; in the stem, the other way."""

    def __init__(self, layer: nn.Sequential, dtype: torch.dtype) -> None:
        self._is_stem = isinstance(layer[0], nn.Conv2d)
        convolution, norm = (layer[0], layer[1]) if self._is_stem else (layer[1], layer[0])
        weight, self._bias = _parameters(convolution, dtype)
        self._weight = weight.permute(0, 2, 3, 1).flatten(1)  # (C_out, patch x patch x C_in)
        self._norm = _parameters(norm, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        if self._is_stem:
            return self._normalised(F.linear(_patches(x, STEM_PATCH), self._weight, self._bias))
        return F.linear(_patches(self._normalised(x), STAGE_PATCH), self._weight, self._bias)

    def _normalised(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[3:], *self._norm, NORM_EPS)


def _patches(x: Tensor, side: int) -> Tensor:
    """Return (B, T // side, F // side, side * side * C), as if for a linear layer."""
    num_clips, num_times, num_bands, channels = x.shape
    num_times, num_bands = num_times // side, num_bands // side
    whole = x[:, : num_times * side, : num_bands * side]
    split = whole.reshape(num_clips, num_times, side, num_bands, side, channels)
    return split.transpose(2, 3).flatten(3)  # (B, T, F, side, side, C) before


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what a trained BatchNorm multiplies with, and adds: (num_features,) each."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None  # a norm that tracks no statistics would have none
    assert variance is not None
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


def _parameters(layer: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    return weight.detach().to(dtype), bias.detach().to(dtype)
