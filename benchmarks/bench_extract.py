"""How fast extraction is, what bounds it, and what it is compared with.

    python benchmarks/bench_extract.py                     everything, 20 min on two cores
    python benchmarks/bench_extract.py --only network decode
    python benchmarks/bench_extract.py --device cuda

All that is compared is measured by turns, in one run. Tables are printed as Markdown; `--json`
keeps the figures, which plot_extract.py draws. ONNX Runtime is compared if it is installed
(`pip install onnxruntime onnxscript`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from decode_ways import WAYS, decoding_ms, ratio
from extract_library import FORMATS, read_alone, write_checkpoint, write_library
from extract_ways import rate, timed
from published_way import PublishedWay
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from indexer.embedding.cores import default_num_lanes, num_cores
from indexer.model.checkpoint import load_checkpoint
from indexer.model.convnext import ConvNeXt
from indexer.model.inference import InferenceNetwork, PackedMlp, PlainMlp
from indexer.model.tuning import quickest
from indexer.windows import WINDOW_SAMPLES

SECTIONS = ("limits", "network", "decode", "ends", "scaling")
TURNS = 7
#: Side of the matrices whose product says what the device can do at most.
MATRIX = {"cpu": 2048, "cuda": 8192}
#: Floats that are copied to measure the memory: more than any cache holds.
COPIED = 2**26
#: Windows that a variant embeds in one turn, and in one batch.
WINDOWS = {"cpu": 4, "cuda": 512}
BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (16, 64, 128, 256)}
#: For sections that go from files to a store.
FILE_BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (16, 32, 64, 128)}
#: Of each kind; all are decoded, some are embedded.
RECORDINGS = {"cpu": 160, "cuda": 4096}
NUM_FILES = {
    "cpu": {"published": 8, "soundalike": 48},
    "cuda": {"published": 64, "soundalike": 4096},
}


#: Name of a variant → function that does some work → what it returns is how much.
Variants = Mapping[str, Callable[[], float]]


def by_turns(variants: Variants, turns: int = TURNS) -> dict[str, float]:
    """Return the median of work per second of each variant; one turn goes before, uncounted."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(turns + 1):
        for name, work in variants.items():
            start = time.perf_counter()
            amount = work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                found[name].append(amount / (time.perf_counter() - start))
    return {name: statistics.median(rates) for name, rates in found.items()}


class Bench:
    """What all sections share: a network, windows of noise, and threads with one core each."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, torch.device(device)
        self.kind = self.device.type
        self.figures: dict[str, Any] = {"device": device, "cores": num_cores()}
        self.checkpoint = write_checkpoint(folder)
        self.model = load_checkpoint(self.checkpoint).model.to(self.device)
        batch = max(BATCHES[self.kind])
        self.waveforms = 0.1 * torch.randn(batch, WINDOW_SAMPLES, device=self.device)
        self.num_lanes = default_num_lanes(self.kind)
        # What the network is run in: on a GPU bfloat16.
        self.dtype = torch.bfloat16 if self.kind == "cuda" else torch.float32
        side = MATRIX[self.kind]
        self._matrices = torch.rand(2, side, side, device=self.device, dtype=self.dtype)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            self.model(self.waveforms[:1])
        self.gflop = counter.get_total_flops() / 1e9
        self._lanes = ThreadPoolExecutor(self.num_lanes, initializer=self._begin)
        self._lanes.submit(time.sleep, 0).result()
        torch.set_num_threads(num_cores())

    def _begin(self) -> None:
        """Set up the thread that calls this as `indexer.embedding.lanes.Lanes` does."""
        if self.kind == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream(self.device))
        else:
            torch.set_num_threads(1)

    def _library(self, kind: str) -> Path:
        """Return recordings of a kind, written when they are first asked for."""
        return write_library(self.folder, kind, RECORDINGS[self.kind])

    def side_by_side(self, work: Callable[[], object], times: int) -> None:
        """Do something so many times, in all lanes."""
        for future in [self._lanes.submit(work) for _ in range(times)]:
            future.result()

    def multiply(self) -> float:
        """Multiply two matrices in every lane; return the GFLOP of it."""
        times = 2 * self.num_lanes
        self.side_by_side(lambda: self._matrices[0] @ self._matrices[1], times)
        return times * 2 * MATRIX[self.kind] ** 3 / 1e9

    def limits(self) -> Iterator[str]:
        """Arithmetic and memory."""
        source, target = torch.zeros(2, COPIED, device=self.device)

        def copy() -> float:
            target.copy_(source)
            return 2 * source.nbytes / 1e9

        found = by_turns({"multiply": self.multiply, "copy": copy})
        clips = found["multiply"] / self.gflop
        self.figures["limit"] = clips
        yield f"Products of matrices: {found['multiply']:.0f} GFLOP/s."
        yield f"A window needs {self.gflop:.1f} GFLOP;"
        yield f"that is {clips:.2f} windows/s at most. Memory: {found['copy']:.1f} GB/s."

    def network(self) -> Iterator[str]:
        """The forward pass alone, by turns with the products that are its limit."""
        published, model = PublishedWay(self.model), self.model
        variants: dict[str, Callable[[], float]] = {
            "limit: products of matrices": lambda: self.multiply() / self.gflop,
            "published way, three calls, batch 1": self._once(published.all_three),
            "published way, one call, batch 1": self._once(published.tags),
            "definition, one call, batch 1": self._once(torch.inference_mode()(model)),
        }
        for name, net in self._networks().items():
            if self.kind == "cpu":
                variants[f"{name}, all cores, batch 2"] = self._batches(net, 2)
            for size in BATCHES[self.kind]:
                variants[f"{name}, lanes, batch {size}"] = self._in_lanes(net, size)
        if self.kind == "cpu" and (onnx := _onnx_runtime(model, self.folder)):
            variants["ONNX Runtime, all cores, batch 1"] = self._once(onnx)
        found = by_turns(variants)
        limit, baseline = (found[name] for name in list(variants)[:2])
        if self.kind == "cpu":
            yield f"Chosen by the start-up measurement: {quickest(torch.float32).mlp.__name__}."
        yield "| forward pass | windows/s | to the published way | of the limit |"
        yield "|---|---|---|---|"
        for name, clips in found.items():
            yield f"| {name} | {clips:.2f} | {clips / baseline:.2f} | {clips / limit:.0%} |"

    def _networks(self) -> dict[str, InferenceNetwork]:
        if self.kind == "cpu":
            kinds = {"plain layers": PlainMlp, "packed layers": PackedMlp}
            return {name: InferenceNetwork(self.model, mlp=mlp) for name, mlp in kinds.items()}
        dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
        return {name: InferenceNetwork(self.model, dtype) for name, dtype in dtypes.items()}

    def _once(self, call: Callable[[Tensor], object]) -> Callable[[], float]:
        return self._batches(call, 1, 1 if self.kind == "cpu" else 16)

    def _batches(
        self, call: Callable[[Tensor], object], size: int, windows: int | None = None
    ) -> Callable[[], float]:
        windows = windows or WINDOWS[self.kind]

        def work() -> float:
            for _ in range(windows // size):
                call(self.waveforms[:size])
            return windows

        return work

    def _in_lanes(self, call: Callable[[Tensor], object], size: int) -> Callable[[], float]:
        times = max(WINDOWS[self.kind] // size, self.num_lanes)

        def work() -> float:
            self.side_by_side(lambda: call(self.waveforms[:size]), times)
            return times * size

        return work

    def decode(self) -> Iterator[str]:
        """Decoding beside other libraries; and reading: decoding, mono, windows, their way here."""
        yield f"| CPU ms for 10 s, at their own rate | {' | '.join(WAYS)} | ratio |"
        yield f"|---{'|---' * len(WAYS)}|---|"
        for kind in FORMATS:
            least = decoding_ms(self._library(kind) / f"0.{kind}")
            self.figures.setdefault("decode_ms", {})[kind] = least
            cells = " | ".join(f"{ms:.1f}" for ms in least.values())
            yield f"| {kind} | {cells} | {ratio(least):.2f} |"
        yield ""
        counts = (1, 2, 3) if num_cores() < 4 else (1, 4, num_cores())
        yield f"| windows/s decoded | {' | '.join(f'{n} readers' for n in counts)} |"
        yield f"|---{'|---' * len(counts)}|"
        for kind in FORMATS:
            library = self._library(kind)
            found = by_turns(
                {
                    str(n): partial(read_alone, library, n, 4, defers=self.kind == "cuda")
                    for n in counts
                },
                3,
            )
            self.figures.setdefault("decode", {})[kind] = found
            yield f"| {kind} | {' | '.join(f'{one:.0f}' for one in found.values())} |"

    def ends(self) -> Iterator[str]:
        """From files to a store."""
        yield "| files | published way | soundalike | ratio | with --frames full | |"
        yield "|---|---|---|---|---|---|"
        for kind in FORMATS:
            library = self._library(kind)
            rates = [self._pair(library) for _ in range(3)]
            old, new, full = (statistics.median(column) for column in zip(*rates, strict=True))
            ratio = statistics.median(ours / theirs for theirs, ours, _ in rates)
            yield f"| {kind} | {old:.2f} | {new:.2f} | {ratio:.2f} | {full:.2f} | {self.told} |"

    def _timed(self, way: str, library: Path, **options: Any) -> Any:
        """Embed recordings in one way, in a process of its own."""
        num_files = NUM_FILES[self.kind][way]
        return timed(way, library, self.checkpoint, num_files, device=self.kind, **options)

    def _pair(self, library: Path) -> tuple[float, float, float]:
        published = self._timed("published", library)
        ours, full = (
            self._timed("soundalike", library, **more) for more in ({}, {"frames": "full"})
        )
        self.told = ours["report"]["bound"]
        return rate(published), rate(ours), rate(full)

    def scaling(self) -> Iterator[str]:
        """From files to a store, by batch size and by readers."""
        library = self._library("flac")
        yield "| option | windows/s | |"
        yield "|---|---|---|"
        readers = (0, 1, 2, 3) if self.kind == "cpu" else (1, 2, 4, 8, num_cores())
        for name, values in (("batch_size", FILE_BATCHES[self.kind]), ("num_workers", readers)):
            for value in values:
                outcome = self._timed("soundalike", library, **{name: value})
                told = outcome["report"]["bound"]
                self.figures.setdefault(name, {})[value] = rate(outcome)
                yield f"| {name} {value} | {rate(outcome):.2f} | {told} |"


def _onnx_runtime(model: ConvNeXt, folder: Path) -> Callable[[Tensor], object] | None:
    """Return the network in ONNX Runtime, behind the same spectrogram; None if it is missing."""
    try:
        import onnxruntime  # noqa: PLC0415 - it may be missing
        import onnxscript  # noqa: F401, PLC0415 - what PyTorch exports with
    except ImportError:
        return None

    class Behind(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            frames = self.model.forward_features(log_mel)
            scene = self.model.pool(frames)
            return scene, frames, torch.sigmoid(self.model.head_audioset(scene))

    example = torch.zeros(1, 1, 1001, 224)
    torch.onnx.export(
        Behind().eval(), (example,), folder / "network.onnx", dynamo=True, verbose=False
    )
    session = onnxruntime.InferenceSession(folder / "network.onnx")
    (name,) = (one.name for one in session.get_inputs())

    @torch.inference_mode()
    def call(waveforms: Tensor) -> object:
        return session.run(None, {name: model.log_mel(waveforms).numpy()})

    return call


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--json", type=Path, help="keep the figures for plot_extract.py")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        bench = Bench(Path(name), options.device)
        for section in options.only:
            print(f"\n## {section}\n")
            for line in getattr(bench, section)():
                print(line, flush=True)
    if options.json:
        options.json.write_text(json.dumps(bench.figures, indent=1))


if __name__ == "__main__":
    main()
