"""A picture of what `scale.py segments` measured: time of a question over the share that matches.

python benchmarks/plot_scale.py W/segments.json --out docs/images/scale.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from plot_search import INK, finish

_COLOURS = ("#3b8ed0", "#e0492e", "#2a9d8f")
#: Of the filters, those of a tag or none, and the share of the windows that have it.
_SHARES = {"all": 100.0, "50 %": 50, "20 %": 20, "10 %": 10, "1 %": 1, "0.1 %": 0.1}


def draw(results: dict[str, Any], out: Path) -> None:
    """Draw the median and the 95th percentile of each size."""
    plt.rcParams.update({"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK})
    plt.rcParams.update({"xtick.color": INK, "ytick.color": INK, "font.size": 11})
    plt.rcParams["svg.hashsalt"] = "soundalike"  # the same picture is the same file
    figure, axis = plt.subplots(figsize=(7.5, 4.3))
    sizes = [int(size) for size in results if size.isdigit()]
    for colour, size in zip(_COLOURS, sizes, strict=False):
        for of, style in (("p95", "-"), ("p50", ":")):
            asked = [f"segments-{size}: {name} {of}_ms" for name in _SHARES]
            times = [results["query"][one] for one in asked]
            name = "95th percentile" if of == "p95" else "median"
            label = f"{size:,} windows, {name}"
            axis.plot(list(_SHARES.values()), times, style, color=colour, marker="o", label=label)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("CPU time of a question, ms")
    axis.legend(frameon=False)
    finish(axis)
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, transparent=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/scale.svg"))
    asked = parser.parse_args()
    draw(json.loads(asked.results.read_text()), asked.out)


if __name__ == "__main__":
    main()
