"""What computes the network fastest on this CPU: a short measurement, since its flags do not say.

bfloat16 is eight times as fast where there are tiles for it, and half as fast where it is put
together from float32. oneDNN's packed layers win on AVX-512, plain ones on AVX2.
"""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

from indexer.model.inference import Mlp, PackedMlp, PlainMlp
from indexer.model.remembered import recall, remember

#: Linear layers of the third stage of ConvNeXt-Tiny, which does half of the work; 5 s of audio.
_CHANNELS, _ROWS = 384, 441
_TURNS = 5
#: What takes so many times as long as the best is not measured again.
_HOPELESS = 5.0


#: By these a user chooses the instructions that PyTorch and oneDNN compute with.
_CHOOSING = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


class Arithmetic(NamedTuple):
    """Number format and operators.

    Attributes:
        dtype: float32 or bfloat16.
        mlp: What computes the linear layers.
    """

    dtype: torch.dtype
    mlp: type[Mlp]

    @property
    def name(self) -> str:
        """By which it is remembered."""
        return f"{self.dtype} {self.mlp.__name__}"


#: Each with how much faster than those before it must be: to be no accident of the measurement,
#: and for bfloat16 to be worth its rounding.
_CANDIDATES = (
    (Arithmetic(torch.float32, PlainMlp), 1.0),
    (Arithmetic(torch.float32, PackedMlp), 1.1),
    (Arithmetic(torch.bfloat16, PackedMlp), 1.5),
)


@functools.cache
def quickest(*dtypes: torch.dtype) -> Arithmetic:
    """Return what is fastest on one core: measured once for a processor, and remembered.

    Args:
        dtypes: What may be chosen; float32, bfloat16 or both, the one that always works first.
    """
    by_name = {one.name: one for one, _ in _CANDIDATES if one.dtype in dtypes}
    key = f"{_this_machine()}; {', '.join(by_name)}"
    found = by_name.get(recall("arithmetic", key) or "")
    if found is None:
        found = measure(*dtypes)
        remember("arithmetic", key, found.name)
    return found


def _this_machine() -> str:
    """Return all that a measurement depends on: the processor, and versions of what computes."""
    cpuinfo = Path("/proc/cpuinfo")  # Linux; elsewhere the platform has a name that tells
    lines = cpuinfo.read_text().split("\n\n")[0].splitlines() if cpuinfo.exists() else []
    telling = ("model name", "flags", "CPU implementer", "CPU part", "Features")
    processor = [line for line in lines if line.startswith(telling)] or [platform.processor()]
    chosen = [f"{name}={os.environ.get(name)}" for name in _CHOOSING]
    return "; ".join([platform.machine(), *processor, *chosen, f"torch {version('torch')}"])


def measure(*dtypes: torch.dtype) -> Arithmetic:
    """Find out, in 0.2 s or so, what `quickest` returns; nothing is remembered."""
    allowed = [(one, advantage) for one, advantage in _CANDIDATES if one.dtype in dtypes]
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _seconds([one for one, _ in allowed])
    finally:
        torch.set_num_threads(num_threads)
    best, best_s = Arithmetic(dtypes[0], PlainMlp), float("inf")
    for (candidate, advantage), candidate_s in zip(allowed, seconds, strict=True):
        if candidate_s * advantage < best_s:
            best, best_s = candidate, candidate_s
    return best


@torch.inference_mode()
def _seconds(candidates: Sequence[Arithmetic]) -> list[float]:
    """Return how long a pair of layers takes each of them, in seconds; infinity if it fails.

    By turns, so that whatever else this machine does is the same for all.
    """
    least = [float("inf")] * len(candidates)
    layers = [_layers(candidate) for candidate in candidates]
    for turn in range(_TURNS + 1):
        for place, work in enumerate(layers):
            if work is None or (turn > 1 and least[place] > _HOPELESS * min(least)):
                continue
            start = time.perf_counter()
            work()
            if turn:  # the first is slower for all
                least[place] = min(least[place], time.perf_counter() - start)
    return least


def _layers(candidate: Arithmetic) -> Callable[[], object] | None:
    """Return what computes a pair of layers once; None if it does not work here."""
    dtype, wide = candidate.dtype, 4 * _CHANNELS
    widen, narrow = torch.full((wide, _CHANNELS), 0.01), torch.full((_CHANNELS, wide), 0.01)
    x = torch.full((_ROWS, _CHANNELS), 0.1, dtype=dtype)
    try:
        mlp = candidate.mlp(*((one.to(dtype), one[:, 0].to(dtype)) for one in (widen, narrow)))
        mlp(x[:1], x[:1])
    except (AttributeError, NotImplementedError, RuntimeError):
        return None  # private operators, which another version may lack
    return lambda: mlp(x, x)
