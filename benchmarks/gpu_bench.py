"""What the steps of on_gpu.py share: the device, sounds, networks, and what was found so far."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from extract_library import write_library
from recipe import SEED, fill
from safetensors.torch import save_file

from indexer.model.convnext import ConvNeXt

#: Least cosine of a scene on the device with that of a CPU in float32, and the greatest difference
#: of a probability.
LEAST_COSINE, MOST_DIFFERENCE = 0.9995, 0.02


@dataclass
class Bench:
    """What a step is given, and what it found."""

    device: torch.device
    is_small: bool
    work: Path
    out: Path
    found: Path
    lines: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    was_skipped: bool = False

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def say(self, line: str, **figures: Any) -> None:
        """Note a line and figures; they are kept if the step is stopped."""
        self.lines.append(line)
        self.figures |= figures
        self.write()

    def require(self, holds: object, line: str, **figures: Any) -> None:
        """Note something that must hold."""
        if not holds:
            self.problems.append(line)
        self.say(line if holds else f"**{line}**", **figures)

    def write(self, state: str | None = None) -> None:
        result = {"lines": self.lines, "figures": self.figures, "problems": self.problems}
        part = self.found.with_suffix(".part")
        part.write_text(json.dumps(result | ({"state": state} if state else {})))
        part.replace(self.found)  # whenever this process is stopped, it is whole

    def sync(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def network(self) -> ConvNeXt:
        """Return the network of the golden arrays, or a narrow one."""
        if self.is_small:
            return fill(ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 16, 16, 768)), SEED).eval()
        return fill(ConvNeXt(), SEED).eval()

    def checkpoint(self) -> Path:
        """Return a file with its weights."""
        path = self.work / "recipe.safetensors"
        if not path.exists():
            save_file(self.network().state_dict(), path)
        return path

    def best_of_network(self) -> float | None:
        """Return the windows/s that the step before found, if it found any."""
        path = self.found.with_name("network.json")
        found = json.loads(path.read_text())["figures"] if path.exists() else {}
        return found.get("best")

    def library(self, kind: str, num_files: int) -> Path:
        """Return so many recordings of 10 s, no two alike."""
        folder = self.work / str(num_files)
        folder.mkdir(exist_ok=True)
        return write_library(folder, kind, num_files)

    def rate(self, call: Callable[[], object], amount: float, least_s: float = 0.5) -> float:
        """Return how much is done in a second, once it has been done twice."""
        for _ in range(2):
            call()
        self.sync()
        times, start = 0, time.perf_counter()
        while time.perf_counter() - start < (0.05 if self.is_small else least_s):
            call()
            self.sync()
            times += 1
        return amount * times / (time.perf_counter() - start)


def cosine(a: Any, b: Any) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:300]
