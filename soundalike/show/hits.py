"""Hits and overviews as text for people and as data for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.paths import printable
from indexer.store.verify import Problem
from search.asking.answers import Hit, Step
from search.upkeep.overview import Overview
from soundalike.show.runs import tags_data
from soundalike.show.words import clock, count, hours

if TYPE_CHECKING:
    from indexer.run.recompute import DeepReport
    from indexer.store.compaction import CompactReport
    from search.generation.segments import Generation

#: Tags in one line of the table.
_TABLE_TAGS = 3


def hits_table(hits: Sequence[Hit]) -> str:
    """Return hits as lines: rank, score, file, time range, top tags; copies below their file."""
    rows = []
    for rank, hit in enumerate(hits, start=1):
        span = f"{clock(hit.start_s)}-{clock(hit.end_s)}"
        heard = [f"{one.tag.name} {one.probability:.2f}" for one in hit.tags[:_TABLE_TAGS]]
        first, *others = [shown_path(path) for path in hit.paths] or ["(no path)"]
        rows.append((str(rank), f"{hit.score:.3f}", first, span, ", ".join(heard)))
        rows.extend(("", "", f"= {other}", "", "") for other in others)
    header = ("rank", "score", "file", "time", "heard")
    wide = [max(len(row[column]) for row in [header, *rows]) for column in range(4)]
    lines = [
        f"{rank:>{wide[0]}}  {score:>{wide[1]}}  {file:<{wide[2]}}  {time:<{wide[3]}}  {heard}"
        for rank, score, file, time, heard in [header, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def shown_path(path: Path) -> str:
    """Return a path safe to print, relative to the current folder if it lies below it."""
    here = Path.cwd()
    return printable(str(path.relative_to(here) if path.is_relative_to(here) else path))


def hits_json(hits: Sequence[Hit]) -> str:
    """Return hits as a JSON list; odd bytes in paths are lone surrogates, as Python reads them."""
    return json.dumps([_hit_data(rank, hit) for rank, hit in enumerate(hits, start=1)], indent=1)


def _hit_data(rank: int, hit: Hit) -> dict[str, Any]:
    return {
        "rank": rank,
        "score": round(hit.score, 6),
        "window_id": hit.window_id,
        "recording_id": hit.recording_id.hex(),
        "paths": [str(path) for path in hit.paths],
        "start_s": hit.start_s,
        "end_s": hit.end_s,
        "tags": tags_data(hit.tags),
    }


def hits_csv(hits: Sequence[Hit]) -> str:
    """Return hits as CSV, one line each, the first path only, tags as "name probability; …"."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("rank", "score", "path", "start_s", "end_s", "window_id", "tags"))
    for rank, hit in enumerate(hits, start=1):
        path = printable(str(hit.paths[0])) if hit.paths else ""
        tags = "; ".join(f"{one.tag.name} {one.probability:.3f}" for one in hit.tags)
        span = (f"{hit.start_s:.3f}", f"{hit.end_s:.3f}")
        writer.writerow((rank, f"{hit.score:.6f}", path, *span, hit.window_id, tags))
    return text.getvalue().rstrip("\n")


def hits_m3u(hits: Sequence[Hit]) -> str:
    """Return hits as a playlist; players that know `start-time` begin at the window.

    A hit whose library is not known on this machine has no address, and is left out.
    """
    lines = ["#EXTM3U"]
    for hit in hits:
        for path in [path for path in hit.paths if path.is_absolute()][:1]:
            title = f"{hit.score:.3f} {printable(path.name)}"
            lines.append(f"#EXTINF:{hit.end_s - hit.start_s:.0f},{title}")
            lines.append(f"#EXTVLCOPT:start-time={hit.start_s:.1f}")
            lines.append(path.as_uri())
    return "\n".join(lines)


def overview_lines(store: Overview) -> Iterator[str]:
    """Say what a store holds."""
    identity = store.identity
    window = "native length" if identity.native else f"{identity.geometry.window_s:g} s"
    yield f"checkpoint  {printable(store.checkpoint)} (weights {identity.weights[:12]})"
    yield f"windows     {window}, hop {identity.geometry.hop_s:g} s, frames {identity.frames}"
    yield (
        f"holds       {count(store.num_windows, 'window')} of "
        f"{count(store.num_recordings, 'recording')}, {hours(store.audio_s)} of audio"
    )
    dead = f", {store.num_dead_windows:,} dead windows" if store.num_dead_windows else ""
    yield f"on disk     {store.size_bytes / 1e6:,.1f} MB in {count(store.num_parts, 'part')}{dead}"
    yield f"index       {_index_state(store)}"
    for (device, precision), number in store.origins.items():
        yield f"computed    on {printable(device)} at {precision} ({count(number, 'part')})"
    for library_id, root in store.libraries.items():
        yield f"library     {printable(str(root))} ({library_id[:8]})"
    named = ", ".join(f"{number:,} {status}" for status, number in store.statuses.items())
    yield f"files       {named or 'none'}"
    for (stage, reason), number in store.failures.items():
        yield f"  failed    {number:,} x {stage}: {printable(reason)}"
    for warning, number in store.warnings.items():
        yield f"  warning   {number:,} x {printable(warning)}"


def _index_state(store: Overview) -> str:
    if store.num_indexed is None:
        return "none yet; 'soundalike build' makes one"
    behind = f"; {count(store.num_new_parts, 'new part')}: run 'soundalike build'"
    state = f"{count(store.num_indexed, 'window')}, {store.index_kind}"
    return f"{state}{behind if store.num_new_parts else ''}"


def generation_lines(generation: Generation) -> Iterator[str]:
    """Say what kind of index a generation has, and what was measured when it was built."""
    found = generation_data(generation)
    held = count(generation.num_windows, "window")
    yield f"{generation.path.name}: {held}, {found['kind']} index"
    for level in found["levels"]:
        yield (
            f"  {level['share']:>8.2%} of the windows match: {level['effort']:,} lists visited, "
            f"recall {level['recall']:.3f}, {level['ms']:.1f} ms"
        )
    if found["levels"]:
        yield "  fewer: exact"


def generation_data(generation: Generation) -> dict[str, Any]:
    """Return the same as plain data."""
    entry = generation.manifest["structure"]
    return {
        "generation": generation.path.name,
        "windows": generation.num_windows,
        "kind": entry["kind"] if entry["trained"] else "exact",
        **entry["calibration"],
    }


def steps_lines(steps: Sequence[Step]) -> Iterator[str]:
    """Say how an answer was found: matching rows, plan, effort, exactness, milliseconds."""
    for step in steps:
        plan = step.plan
        share = step.num_matching / max(1, step.num_windows)
        matching = f"{step.num_matching:,} of {step.num_windows:,} windows match ({share:.3%})"
        yield f"{shown_path(step.store)}: {matching}"
        if plan.is_exact:
            yield "  plan     exact: the score of every matching window was computed"
        else:
            yield (
                f"  plan     lists: {plan.effort:,} of {step.num_lists:,} visited; recall "
                f"{plan.recall:.3f} when the index was built; --exact overlooks nothing"
            )
        yield (
            f"  time     {step.filter_ms:.1f} ms filter, {step.scan_ms:.1f} ms scan, "
            f"{step.rescore_ms:.1f} ms scores; {plan.expected_ms:.1f} ms were expected"
        )


def steps_data(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return the same as plain data."""
    return [
        {
            "store": str(step.store),
            "plan": step.plan.name,
            "exact": step.plan.is_exact,
            "effort": step.plan.effort,
            "lists": step.num_lists,
            "recall": step.plan.recall,
            "matching": step.num_matching,
            "windows": step.num_windows,
            "filter_ms": round(step.filter_ms, 3),
            "scan_ms": round(step.scan_ms, 3),
            "rescore_ms": round(step.rescore_ms, 3),
        }
        for step in steps
    ]


def compact_lines(store: Path, report: CompactReport) -> Iterator[str]:
    """Say what a compaction did."""
    if not report.has_changed:
        yield f"{printable(str(store))}: nothing to compact"
        return
    yield (
        f"removed {count(report.num_windows_removed, 'window')} and "
        f"{count(report.num_rows_removed, 'row')} of the ledger"
    )
    yield (
        f"{printable(str(store))}: {count(report.num_parts_before, 'part')}, "
        f"{report.size_bytes_before / 1e6:,.1f} MB before; "
        f"{count(report.num_parts_after, 'part')}, {report.size_bytes_after / 1e6:,.1f} MB now"
    )


def overview_data(store: Overview) -> dict[str, Any]:
    """Return an overview as plain data."""
    document = asdict(store)
    document["path"] = str(store.path)
    document["libraries"] = {key: str(root) for key, root in store.libraries.items()}
    document["failures"] = [
        {"stage": stage, "reason": reason, "files": number}
        for (stage, reason), number in store.failures.items()
    ]
    document["origins"] = [
        {"device": device, "precision": precision, "parts": number}
        for (device, precision), number in store.origins.items()
    ]
    return document


def verified_lines(
    store: Path, problems: Sequence[Problem], deep: DeepReport | None
) -> Iterator[str]:
    """Say that a store is as it was written, if it is, and what was heard again."""
    if deep:
        yield f"{count(deep.num_recomputed, 'window')} embedded again from the audio"
    if deep and deep.num_absent:
        yield f"{count(deep.num_absent, 'window')} not compared: the audio is not there"
    if deep and deep.num_changed:
        yield f"{count(deep.num_changed, 'window')} not compared: the file has other content now"
    if deep and deep.has_heard_nothing:
        yield "nothing could be compared with its audio; is the library where it was?"
    if not problems:
        yield f"{printable(str(store))} is as it was written"


def verified_data(problems: Sequence[Problem], deep: DeepReport | None) -> dict[str, Any]:
    """Return what a verification found as plain data."""
    rows = [{"path": str(problem.path), "reason": problem.reason} for problem in problems]
    if deep is None:
        return {"problems": rows}
    counts = {"recomputed": deep.num_recomputed, "absent": deep.num_absent}
    return {"problems": rows, **counts, "changed": deep.num_changed}
