"""The results of `bench_search.py` as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

OURS = "ours"


def report(results: dict[str, Any]) -> str:
    head = f"{results['windows']:,} windows, {results['queries']} queries for each filter, "
    head += f"load {results['load_before']:.1f} before."
    idle = f"While nothing was asked, the process used {results['idle_cpu']:.1%} of a core."
    parts = [
        f"{head} {idle} In *italics*: recall below {results['target']:g}.",
        _times(results),
        _sizes(results),
        "\n".join(_notes(results)),
    ]
    if OURS in results["engines"]:
        parts += [_ratios(results), _slowest(results)]
    return "\n\n".join(part for part in parts if part)


def report_store(results: dict[str, Any]) -> str:
    """Return what `search_store` measured."""
    columns = ["filter", "expression", "windows", "recall at 10"]
    columns += ["CPU median, ms", "CPU p95, ms", "median, ms", "p95, ms", "plans"]
    rows = []
    for name, one in results["filters"].items():
        cells = [name, one["where"] or "", f"{one['num_matching']:,}", f"{one['recall']:.3f}"]
        cells += [f"{one[key]:.2f}" for key in ("cpu_median_ms", "cpu_p95_ms")]
        cells += [f"{one[key]:.2f}" for key in ("median_ms", "p95_ms")]
        rows.append([*cells, one["plan"]])
    head = f"{results['windows']:,} windows, {results['queries']} queries for each filter."
    return "\n\n".join([head, _table(columns, rows), _found_by_several(results["several"])])


def _found_by_several(several: dict[str, Any]) -> str:
    columns = ["vectors of a question", "all ten found", "recall at 10", "recall at 100"]
    rows = [
        [count, f"{one['all_ten']:.4f}", f"{one['recall_10']:.4f}", f"{one['recall_100']:.4f}"]
        for count, one in several["vectors"].items()
    ]
    head = f"{several['questions']:,} windows ask, without a filter."
    return head + "\n\n" + _table(columns, rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _trials(results: dict[str, Any], condition: str) -> dict[str, dict[str, Any]]:
    """Return what each engine did with a filter; nothing if no window matches it."""
    return {
        name: engine["filters"][condition]
        for name, engine in results["engines"].items()
        if condition in engine["filters"]
    }


def _in_italics(text: str, trial: dict[str, Any], results: dict[str, Any]) -> str:
    return text if trial["recall"] >= results["target"] else f"*{text}*"


def _times(results: dict[str, Any]) -> str:
    """Return a row for each filter and engine."""
    columns = ["filter", "windows", "engine", f"recall at {results['k']}", "median, ms", "p95, ms"]
    columns += ["CPU median, ms", "queries", "plan or setting"]
    rows = []
    for one in results["filters"]:
        first = [one["name"], f"{one['num_matching']:,}"]
        for name, trial in _trials(results, one["name"]).items():
            cells = [_in_italics(f"{trial['recall']:.3f}", trial, results)]
            cells += [f"{trial[key]:.2f}" for key in ("median_ms", "p95_ms", "cpu_median_ms")]
            rows.append([*first, name, *cells, str(trial["num_queries"]), trial["plan"]])
            first = ["", ""]
    return _table(columns, rows)


def _sizes(results: dict[str, Any]) -> str:
    columns = {
        "build, s": "build_s",
        "build, CPU s": "build_cpu_s",
        "peak memory of build, MB": "build_peak_mb",
        "memory when asked, MB": "memory_mb",
        "of it pages of files, MB": "mapped_mb",
        "disk, MB": "disk_mb",
        "queries per CPU s, in a batch": "batch_per_cpu_s",
    }
    rows = [
        [name, *(f"{engine[key]:,.0f}" for key in columns.values())]
        for name, engine in results["engines"].items()
    ]
    return _table(["engine", *columns], rows)


def _notes(results: dict[str, Any]) -> list[str]:
    engines = results["engines"].items()
    return [f"- {name}: {engine['note']}" for name, engine in engines if engine["note"]]


def _ratios(results: dict[str, Any]) -> str:
    """Return our CPU time over that of each peer, and how much longer our slow queries take."""
    peers = [name for name in results["engines"] if name != OURS]
    columns = ["CPU median of ours over that of", *peers, "ours: p95 / median", "the same of CPU"]
    rows = []
    for one in results["filters"]:
        trials = _trials(results, one["name"])
        if not trials:
            continue
        ours = trials[OURS]
        cells = [
            _in_italics(
                f"{ours['cpu_median_ms'] / trials[peer]['cpu_median_ms']:.2f}",
                trials[peer],
                results,
            )
            for peer in peers
        ]
        tails = [ours["p95_ms"] / ours["median_ms"], ours["cpu_p95_ms"] / ours["cpu_median_ms"]]
        rows.append([one["name"], *cells, *(f"{tail:.2f}" for tail in tails)])
    return _table(columns, rows)


def _slowest(results: dict[str, Any]) -> str:
    """Return how much longer than without a filter ours takes at worst."""
    ours = results["engines"][OURS]["filters"]
    parts = []
    for way, said in {"p95_ms": "p95", "cpu_p95_ms": "CPU p95"}.items():
        longest, name = max((trial[way], name) for name, trial in ours.items())
        parts.append(f"{said} {longest / ours['all'][way]:.2f} ({name})")
    return f"Slowest filter of ours over no filter: {', '.join(parts)}."
