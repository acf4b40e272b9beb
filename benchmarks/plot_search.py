"""A picture of what `bench_search.py` measured: time and recall over the share that matches.

python benchmarks/plot_search.py results.json [more.json] --out docs/images/search-speed.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

#: Seen on white as well as on black.
INK = "#808080"
_STYLES = {
    "ours": ("#e0492e", "o"),
    "ours-rows": ("#f0a090", "h"),
    "faiss-hnsw": ("#3b8ed0", "s"),
    "faiss-ivf": ("#2a9d8f", "D"),
    "faiss-ivf-exact": ("#1d5f8a", "X"),
    "hnswlib": ("#c08a1e", "^"),
    "usearch": ("#9b6fd1", "v"),
    "lancedb": ("#8a9a5b", "P"),
    "qdrant-edge": ("#c2528b", "*"),
}
_LABELS = {
    "ours": "soundalike",
    "ours-rows": "its index alone",
    "faiss-hnsw": "FAISS HNSW",
    "faiss-ivf": "FAISS IVF",
    "faiss-ivf-exact": "FAISS IVF, scored again",
}


def draw(results: list[dict[str, Any]], out: Path) -> None:
    plt.rcParams.update({"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK})
    plt.rcParams.update({"xtick.color": INK, "ytick.color": INK, "font.size": 11})
    plt.rcParams["svg.hashsalt"] = "soundalike"  # the same picture is the same file
    figure, axes = plt.subplots(
        len(results), 2, figsize=(11, 4.3 * len(results) + 0.5), squeeze=False
    )
    for row, one in zip(axes, results, strict=True):
        _draw_times(row[0], one)
        _draw_recall(row[1], one)
        for axis in row:
            finish(axis)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=6, frameon=False)
    figure.tight_layout(rect=(0, 0.4 / figure.get_figheight(), 1, 1))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, transparent=True, dpi=150)


def _points(results: dict[str, Any], engine: str) -> list[tuple[float, dict[str, Any]]]:
    """Return (share of windows in %, trial) of the filters with one tag or none, rare first."""
    trials = results["engines"][engine]["filters"]
    points = [
        (100 * one["num_matching"] / results["windows"], trials[one["name"]])
        for one in results["filters"]
        if one["num_terms"] <= 1 and one["name"] in trials
    ]
    return sorted(points, key=lambda point: point[0])


def _draw_times(axis: Any, results: dict[str, Any]) -> None:
    for name in results["engines"]:
        colour, marker = _STYLES[name]
        points = _points(results, name)
        shares, times = [share for share, _ in points], [trial["p95_ms"] for _, trial in points]
        width, label = (2.8 if name == "ours" else 1.4), _LABELS.get(name, name)
        axis.plot(shares, times, color=colour, lw=width, marker=marker, label=label)
        for share, trial in points:
            if trial["recall"] < results["target"]:  # hollow: this time finds too little
                axis.plot(share, trial["p95_ms"], marker, color=colour, mfc="white", ms=8)
    axis.set_yscale("log")
    axis.set_ylabel("p95 of a query, ms")
    axis.set_title(
        f"{results['windows']:,} windows: time (hollow: recall below {results['target']:g})"
    )


def _draw_recall(axis: Any, results: dict[str, Any]) -> None:
    for name in results["engines"]:
        colour, marker = _STYLES[name]
        points = _points(results, name)
        shares, recalls = [share for share, _ in points], [trial["recall"] for _, trial in points]
        axis.plot(shares, recalls, color=colour, lw=2.8 if name == "ours" else 1.4, marker=marker)
    axis.axhline(results["target"], color=INK, lw=1, ls=":")
    axis.set_ylim(top=1.005, bottom=min(0.9, axis.get_ylim()[0]))
    axis.set_ylabel(f"recall at {results['k']}")
    axis.set_title(f"{results['windows']:,} windows: what was found")


def finish(axis: Any) -> None:
    axis.set_xscale("log")
    axis.set_xlabel("windows that match the filter, %")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.grid(color=INK, alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/search-speed.svg"))
    asked = parser.parse_args()
    results = [json.loads(path.read_text()) for path in asked.results]
    draw(sorted(results, key=lambda one: one["windows"]), asked.out)


if __name__ == "__main__":
    main()
