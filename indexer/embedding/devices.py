"""Which device computes; and if a GPU is there and does not, why not, and what to do about it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import torch

from indexer.embedding.cores import has_gpu, require_device_name
from indexer.errors import SoundalikeError, SoundalikeWarning

#: What a driver of NVIDIA's makes; who may not open it sees no GPU.
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvidia0")
#: Memory that the network and a few windows need; the rest only makes batches larger.
_LEAST_FREE_BYTES = 2**30
#: What PyTorch or CUDA says → what to do about it.
_ADVICE = {
    "without CUDA|not compiled with CUDA": "install a PyTorch that has CUDA",
    "driver.*too old": "update the driver, or install a PyTorch for an older CUDA",
    "no NVIDIA driver": "install NVIDIA's driver; a container has to be given the GPU, too",
    "permission": "let this user into the group that owns it",
    "memory": "close what uses its memory; nvidia-smi lists it",
    "CUDA error 80[34]": "restart after an update of the driver, or install one that fits this GPU",
    "CUDA error 802": "start nvidia-fabricmanager, which GPUs that are linked wait for",
    "forked": "start this process by spawning, or use the GPU before it is forked",
    "busy": "another process has it for itself; nvidia-smi lists them",
    "no kernel image|not compatible": "install a PyTorch that has code for it",
}
_ANYTHING_ELSE = "see what nvidia-smi says"
#: Programs that look at GPUs take a second or two where all is well.
_PATIENCE_S = 30


def choose_device(asked: str) -> torch.device:
    """Return a device that computes; a GPU always with its number.

    Args:
        asked: "cpu", "cuda", "cuda:N"; or "auto", which is the first GPU that is there and can be
            used, otherwise the CPU, with a warning if there is one that cannot.

    Raises:
        QueryError: If the name is none of these.
        SoundalikeError: If the device cannot be used.
    """
    require_device_name(asked)
    if asked == "cpu":
        return torch.device(asked)
    number = int(asked.partition(":")[2] or 0)
    fault = gpu_fault(number)
    if fault is None:
        return torch.device("cuda", number)
    if asked != "auto":
        raise SoundalikeError(f"{asked} cannot be used: {fault}", about="device", value="cpu")
    if has_gpu():
        warnings.warn(
            SoundalikeWarning(
                f"the GPU of this machine cannot be used: {fault}. The CPU computes instead",
                about="device",
                value="cpu",
            ),
            stacklevel=2,
        )
    return torch.device("cpu")


def other_gpus(than: int) -> list[int]:
    """Return the numbers of all GPUs that can be used beside one; warn of those that cannot."""
    found = []
    for number in range(torch.cuda.device_count()):
        if number == than:
            continue
        if fault := gpu_fault(number):
            left_out = f"GPU {number} cannot be used: {fault}. The others compute without it"
            warnings.warn(SoundalikeWarning(left_out), stacklevel=2)
        else:
            found.append(number)
    return found


def gpu_fault(number: int) -> str | None:
    """Return why a GPU cannot be used, and what to do about it, in a sentence; None if it can."""
    problem = _problem(number)
    if problem is None:
        return None
    advice = (advice for words, advice in _ADVICE.items() if re.search(words, problem))
    return f"{problem}; {next(advice, _ANYTHING_ELSE)}"


def _problem(number: int) -> str | None:
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return f"PyTorch {torch.__version__} is one without CUDA"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they say what the error says
            torch.cuda.init()  # type: ignore[no-untyped-call]
            if number >= (count := torch.cuda.device_count()):
                return _unseen(count)
            free_bytes, all_bytes = torch.cuda.mem_get_info(number)
            torch.ones(1, device=f"cuda:{number}").add_(1).item()  # code that it can run
    except (AssertionError, RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        return _unseen(0) if "No CUDA GPUs" in str(error) else _reason(str(error))
    own_bytes = torch.cuda.memory_reserved(number) - torch.cuda.memory_allocated(number)
    free_bytes += own_bytes  # what this process keeps, it can use
    if free_bytes < _LEAST_FREE_BYTES:
        free, all_ = free_bytes / 2**30, all_bytes / 2**30
        return f"of its memory of {all_:.1f} GiB, {free:.1f} GiB are free"
    return None


def _unseen(count: int) -> str:
    """Say that PyTorch sees so many GPUs and not the one that was asked for."""
    for file in _DEVICE_FILES:
        if Path(file).exists() and not os.access(file, os.R_OK | os.W_OK):
            return f"there is no permission to open {file}"
    return f"PyTorch sees {count} GPUs"


def _reason(text: str) -> str:
    """Return the heart of what an error of PyTorch's says, which may be behind other words."""
    if numbered := re.search(r"Error (\d+): (.*)", text):
        return f"CUDA error {numbered[1]}: {numbered[2].rstrip('.')}"
    text = text.rpartition("with error: ")[2].strip()
    return re.split(r"\.\s|\n", text, maxsplit=1)[0].rstrip(".")


def describe_gpus() -> list[str]:
    """Return a line for each GPU that PyTorch sees: name, memory, and what keeps it from working.

    One line says why, if PyTorch sees none that is there.
    """
    count = torch.cuda.device_count()
    if not count:
        return [f"none that can be used: {gpu_fault(0)}"] if has_gpu() else ["none"]
    return [_describe_gpu(number) for number in range(count)]


def _describe_gpu(number: int) -> str:
    if fault := gpu_fault(number):
        return f"{number} cannot be used: {fault}"
    properties = torch.cuda.get_device_properties(number)
    gib = properties.total_memory / 2**30
    capability = f"{properties.major}.{properties.minor}"
    return f"{number}: {properties.name}, {gib:.1f} GiB, compute capability {capability}"


def driver_version() -> str:
    """Return the version of NVIDIA's driver; "none" if there is none."""
    if (file := Path("/sys/module/nvidia/version")).exists():
        return file.read_text().strip()
    if shutil.which("nvidia-smi"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # it waits for a sick driver
            told = subprocess.run("nvidia-smi", capture_output=True, text=True, timeout=_PATIENCE_S)
            if found := re.search(r"Driver Version: *([\d.]+)", told.stdout):
                return found[1]
    return "none"
