"""A picture of what `bench_extract.py` measured: windows per second, by readers and by batch size.

python benchmarks/plot_extract.py results.json --out docs/images/extract-speed.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

#: Seen on white as well as on black.
_INK = "#808080"
_COLOURS = ("#e0492e", "#3b8ed0", "#2a9d8f", "#c08a1e", "#9b6fd1")


def draw(figures: dict[str, Any], out: Path) -> None:
    plt.rcParams.update({"text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK})
    plt.rcParams.update({"xtick.color": _INK, "ytick.color": _INK, "font.size": 11})
    plt.rcParams["svg.hashsalt"] = "soundalike"  # the same picture is the same file
    figure, (reading, readers, batches) = plt.subplots(1, 3, figsize=(13, 4.3))
    for (kind, rates), colour in zip(figures["decode"].items(), _COLOURS, strict=True):
        _line(reading, rates, colour, kind)
    reading.set(title="reading alone", xlabel="readers")
    _line(readers, figures["num_workers"], _COLOURS[0], "files to store")
    readers.set(title="files to store", xlabel="readers")
    _line(batches, figures["batch_size"], _COLOURS[0], "files to store")
    batches.set(title="files to store", xlabel="windows in a batch")
    for axis in (readers, batches):
        axis.axhline(figures["limit"], color=_INK, linestyle=":", label="products alone, the limit")
    for axis in (reading, readers, batches):
        axis.set_ylim(0, 1.3 * axis.get_ylim()[1])  # room for the legend
        axis.set_ylabel("windows of 10 s per second")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=9, loc="upper left", ncols=2)
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, transparent=True, metadata={"Date": None})


def _line(axis: Any, rates: dict[str, float], colour: str, label: str) -> None:
    numbers = [int(number) for number in rates]
    axis.plot(numbers, list(rates.values()), "o-", color=colour, label=label)
    axis.set_xticks(numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    draw(json.loads(options.results.read_text()), options.out)


if __name__ == "__main__":
    main()
