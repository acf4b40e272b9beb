"""Steps of on_gpu.py: the forward pass alone, right and quick, and where its time goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from gpu_bench import LEAST_COSINE, MOST_DIFFERENCE, Bench, cosine, first_line
from recipe import CHIRP_TOLERANCE, CLIPS, GOLDEN, SEED, TOLERANCE, UKULELE, clip, fill
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity
from torch.profiler import profile as watch

from indexer.model.convnext import ConvNeXt
from indexer.model.inference import InferenceNetwork
from indexer.windows import WINDOW_SAMPLES

#: Goal: windows/s in bfloat16 on an H100.
GOAL_WINDOWS = 5000


@torch.inference_mode()
def golden(bench: Bench) -> None:
    """The golden arrays on the device: float32 within the tolerances of a CPU, bfloat16 near."""
    model = fill(ConvNeXt(), SEED).eval().to(bench.device)
    networks = {"fp32": InferenceNetwork(model), "bf16": InferenceNetwork(model, torch.bfloat16)}
    names = [name for name in CLIPS if name != "ukulele" or UKULELE.exists()]
    names = ["noise_5_2"] if bench.is_small else names  # the network is the large one even so
    with np.load(GOLDEN) as arrays:
        for precision, network in networks.items():
            for name in names:
                tolerance = CHIRP_TOLERANCE if name.startswith("chirp") else TOLERANCE
                output = network(clip(name).to(bench.device))
                found = {
                    "scene": output.scene[0].cpu().numpy(),
                    "probs": output.tags[0].cpu().numpy(),
                    "frames_mean_over_freq": output.frames[0].float().mean(2).cpu().numpy(),
                }
                off = {
                    key: float(np.abs(values - arrays[f"{name}/{key}"]).max())
                    for key, values in found.items()
                }
                likeness = cosine(found["scene"], arrays[f"{name}/scene"])
                if precision == "fp32":
                    holds = all(off[key] <= tolerance[key] for key in off)
                else:
                    holds = likeness >= LEAST_COSINE and off["probs"] <= MOST_DIFFERENCE
                words = ", ".join(f"{key} {value:.1e}" for key, value in off.items())
                line = f"{precision} {name}: cosine {likeness:.6f}, off by {words}"
                bench.require(holds, line, **{f"{precision} {name}": [likeness, off]})


def network(bench: Bench) -> None:
    """The forward pass alone, beside the limits of the device."""
    limits(bench)
    net = prepared(bench)
    if not bench.is_gpu:
        measure(bench, "eager", lambda: net, (1, 2))
    else:
        measure(bench, "eager", lambda: net, (32, 64, 128, 256, 512))
        measure(bench, "CUDA graph", lambda: Graphed(net), (64, 128, 256))
    best = bench.figures.get("best", 0.0)
    missed = bench.is_gpu and not bench.is_small and best < GOAL_WINDOWS
    goal = f"goal {GOAL_WINDOWS:,} on an H100{': missed' if missed else ''}"
    bench.require(best > 0, f"best: {best:,.1f} windows/s; {goal}")


def compiled(bench: Bench) -> None:
    """The same with torch.compile: in a process of its own, since what fails there may stay broken.

    The spectrogram is not compiled: PyTorch 2.11 cannot.
    """
    if not bench.is_gpu:
        bench.was_skipped = True
        bench.say("takes a CPU minutes, and a compiler")
        return
    net = prepared(bench)
    features = net._features
    measure(bench, "eager", lambda: net, (128,))
    for mode in ("default", "max-autotune-no-cudagraphs"):
        net._features = torch.compile(features, dynamic=False, mode=mode)  # type: ignore[method-assign]
        measure(bench, f"torch.compile, {mode}", lambda: net, (128, 256))


def prepared(bench: Bench) -> InferenceNetwork:
    """Return the network as an extractor has it on this device."""
    dtype = torch.bfloat16 if bench.is_gpu else torch.float32
    return InferenceNetwork(bench.network().to(bench.device), dtype)


def measure(
    bench: Bench,
    name: str,
    make: Callable[[], Callable[[torch.Tensor], object]],
    batches: tuple[int, ...],
) -> None:
    """Note the windows/s of a way to run the network, and the best of all so far."""
    for size in batches:
        try:
            waveforms = 0.1 * torch.randn(size, WINDOW_SAMPLES, device=bench.device)
            clips = bench.rate(partial(make(), waveforms), size)
        except Exception as error:  # noqa: BLE001 - what does not work is told, and the next is tried
            bench.say(f"{name}, batch {size}: {first_line(error)}")
            continue
        best = max(clips, bench.figures.get("best", 0.0))
        bench.say(
            f"{name}, batch {size}: {clips:,.1f} windows/s", **{f"{name} {size}": clips}, best=best
        )


def profile(bench: Bench) -> None:
    """Where the time of the network goes."""
    net = prepared(bench)
    size, times = (2, 1) if bench.is_small else (128, 5)
    waveforms = 0.1 * torch.randn(size, WINDOW_SAMPLES, device=bench.device)
    for _ in range(3):
        net(waveforms)
    bench.sync()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.is_gpu else [])]
    with watch(activities=activities) as seen:
        for _ in range(times):
            net(waveforms)
        bench.sync()
    by = "self_device_time_total" if bench.is_gpu else "self_cpu_time_total"
    averages = seen.key_averages()
    (bench.out / "profile.txt").write_text(averages.table(sort_by=by, row_limit=40))
    kind = DeviceType.CUDA if bench.is_gpu else DeviceType.CPU
    times_us: Counter[str] = Counter()
    for one in averages:  # on a GPU kernels, not the operators that gave them to it
        if one.device_type == kind and not one.is_user_annotation:
            times_us[one.key] += getattr(one, by)
    whole = sum(times_us.values())
    for name, taken in times_us.most_common(12):
        bench.say(f"{taken / whole:.1%} {name[:90]}")
    bench.require(whole > 0, f"{size * times} windows: {whole / 1000:.1f} ms")


def limits(bench: Bench) -> None:
    """Products of matrices, and copies within the device and to it."""
    side = 256 if bench.is_small else 8192 if bench.is_gpu else 2048
    dtype = torch.bfloat16 if bench.is_gpu else torch.float32
    a, b = torch.rand(2, side, side, device=bench.device, dtype=dtype)
    tflop = bench.rate(lambda: a @ b, 2 * side**3 / 1e12)
    num = 2**20 if bench.is_small else 2**28
    source, target = torch.zeros(2, num, device=bench.device)
    copied = bench.rate(lambda: target.copy_(source), 2 * source.nbytes / 1e9)
    bench.say(
        f"products of matrices {tflop:,.1f} TFLOP/s ({dtype}), memory {copied:,.0f} GB/s",
        tflop=tflop,
        memory=copied,
    )
    if not bench.is_gpu:
        return
    host = torch.zeros(2**26)
    pinned = host.pin_memory()
    there = torch.zeros(2**26, device=bench.device)
    rates = {
        "to the device, pinned": lambda: there.copy_(pinned, non_blocking=True),
        "to the device, not pinned": lambda: there.copy_(host),
        "into pinned memory": host.pin_memory,
    }
    for name, call in rates.items():
        bench.say(f"{name}: {bench.rate(call, host.nbytes / 1e9):.1f} GB/s")


class Graphed:
    """A forward pass of one batch size, recorded once and played again."""

    def __init__(self, net: InferenceNetwork) -> None:
        self._net = net
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, waveforms: torch.Tensor) -> object:
        if self._graph is None:
            self._record(waveforms)
        assert self._graph is not None
        self._input.copy_(waveforms)
        self._graph.replay()
        return self._output

    def _record(self, waveforms: torch.Tensor) -> None:
        self._input = waveforms.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # plans and handles are made now, not while recording
                self._net(self._input)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._output = self._net(self._input)
        self._graph = graph
