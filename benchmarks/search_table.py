"""The results of `bench_search.py` as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Filters that leave at least, and at most, these shares; how our p95 should compare there.
_WIDE_SHARE, _WIDE_RATIO = 0.49, 1.2
_NARROW_SHARE, _NARROW_RATIO = 0.011, 1 / 3
OURS = "ours"


def report(results: dict[str, Any]) -> str:
    target = results["target"]
    head = f"{results['windows']:,} windows, {results['queries']} queries for each filter"
    cell = "recall at 10 · median ms · p95 ms (the same of CPU time) · plan or setting"
    parts = [
        f"{head}. Each cell: {cell}. In *italics*: recall below {target:g}.",
        "\n".join(_filter_rows(results, target)),
        "\n".join(_engine_rows(results)),
        "\n".join(_notes(results)),
    ]
    if OURS in results["engines"]:
        parts.append("\n".join(_verdicts(results, target)))
    return "\n\n".join(part for part in parts if part)


def report_store(results: dict[str, Any]) -> str:
    """Return what `search_store` measured."""
    columns = ["filter", "expression", "windows", "recall at 10"]
    columns += ["CPU median, ms", "CPU p95, ms", "median, ms", "p95, ms", "plans"]
    lines = [_row(columns), _rule(len(columns))]
    for name, one in results["filters"].items():
        cells = [name, one["where"] or "", f"{one['num_matching']:,}", f"{one['recall']:.3f}"]
        cells += [f"{one[key]:.2f}" for key in ("cpu_median_ms", "cpu_p95_ms")]
        cells += [f"{one[key]:.2f}" for key in ("median_ms", "p95_ms")]
        lines.append(_row([*cells, one["plan"]]))
    head = f"{results['windows']:,} windows, {results['queries']} queries for each filter."
    return head + "\n\n" + "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(num_columns: int) -> str:
    return "|---" * num_columns + "|"


def _filter_rows(results: dict[str, Any], target: float) -> list[str]:
    engines = results["engines"]
    lines = [_row(["filter", "windows", *engines]), _rule(2 + len(engines))]
    for one in results["filters"]:
        cells = [_cell(engine["filters"].get(one["name"]), target) for engine in engines.values()]
        lines.append(_row([one["name"], f"{one['num_matching']:,}", *cells]))
    return lines


def _cell(trial: dict[str, Any] | None, target: float) -> str:
    if trial is None:
        return ""
    times = f"{trial['median_ms']:.2f} · {trial['p95_ms']:.2f}"
    cpu = f"{trial['cpu_median_ms']:.2f} · {trial['cpu_p95_ms']:.2f}"
    text = f"{trial['recall']:.3f} · {times} ({cpu}) · {trial['plan']}"
    return text if trial["recall"] >= target else f"*{text}*"


def _engine_rows(results: dict[str, Any]) -> list[str]:
    columns = {
        "build, s": "build_s",
        "peak memory of build, MB": "build_peak_mb",
        "memory when asked, MB": "memory_mb",
        "of it pages of files, MB": "mapped_mb",
        "disk, MB": "disk_mb",
        "queries/s, in a batch": "batch_per_s",
    }
    # Times taken beside other work are not to be compared with times that were not.
    lines = [_row(["engine", *columns, "load before"]), _rule(2 + len(columns))]
    for name, engine in results["engines"].items():
        cells = [f"{engine[key]:,.0f}" for key in columns.values()]
        lines.append(_row([name, *cells, f"{engine['load_before']:.1f}"]))
    return lines


def _notes(results: dict[str, Any]) -> list[str]:
    engines = results["engines"].items()
    return [f"- {name}: {engine['note']}" for name, engine in engines if engine["note"]]


def _verdicts(results: dict[str, Any], target: float) -> list[str]:
    """Compare with the quickest peers that find enough: one that does not has no time to beat."""
    ours = results["engines"][OURS]["filters"]
    ways = {"p95_ms": "p95", "median_ms": "median", "cpu_p95_ms": "CPU p95"}
    ways["cpu_median_ms"] = "CPU median"
    lines = [_row(["filter: ours / best peer", *ways.values(), "verdict on p95"]), _rule(6)]
    for one in results["filters"]:
        name, share = one["name"], one["num_matching"] / results["windows"]
        if name not in ours:
            continue
        trials = {
            peer: engine["filters"][name]
            for peer, engine in results["engines"].items()
            if peer != OURS and engine["filters"][name]["recall"] >= target
        }
        if not trials:
            lines.append(_row([name, *[""] * len(ways), f"no peer reaches {target:g}"]))
            continue
        cells = [_ratio(ours[name], trials, way) for way in ways]
        ratio = ours[name]["p95_ms"] / min(trial["p95_ms"] for trial in trials.values())
        verdict = _verdict(ratio, share, ours[name]["recall"] >= target)
        lines.append(_row([name, *cells, verdict]))
    return lines


def _ratio(ours: dict[str, Any], trials: dict[str, dict[str, Any]], way: str) -> str:
    """Return our time over that of the peer that takes the least, which is named."""
    peer = min(trials, key=lambda peer: trials[peer][way])
    return f"{ours[way] / trials[peer][way]:.2f} ({peer})"


def _verdict(ratio: float, share: float, is_right: bool) -> str:
    if not is_right:
        return "**missed**: our recall is too low"
    if share >= _WIDE_SHARE:
        return _against(ratio, _WIDE_RATIO)
    if share <= _NARROW_SHARE:
        return _against(ratio, _NARROW_RATIO)
    return "no goal"


def _against(ratio: float, goal: float) -> str:
    return f"met (≤ {goal:.2f})" if ratio <= goal else f"**missed** (> {goal:.2f})"
