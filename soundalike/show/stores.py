"""What a store holds, and what was done to it, as text for people and as data for programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.paths import printable
from indexer.store.verify import Problem
from indexer.windows import SAMPLE_RATE_HZ
from search.upkeep.overview import Overview
from soundalike.hints import hinted
from soundalike.show.teaching import taught_line
from soundalike.show.words import count, files_command, hours, padded, size

if TYPE_CHECKING:
    from indexer.run.forget import Forgotten
    from indexer.run.recompute import DeepReport
    from indexer.store.compaction import CompactReport
    from search.generation.segments import Generation


def overview_lines(store: Overview) -> Iterator[str]:
    """Say what a store holds."""
    identity = store.identity
    geometry = identity.geometry
    longest_s = geometry.longest_samples / SAMPLE_RATE_HZ
    native = f"native length up to {longest_s:g} s"
    window = native if identity.native else f"{geometry.window_s:g} s"
    known = f", which is {store.known}" if store.known not in (None, store.checkpoint) else ""
    name = f"{printable(store.checkpoint)}{printable(known)}"
    yield f"checkpoint  {name} (weights {identity.weights[:12]})"
    channel = f", channel {identity.channel}" if identity.channel else ""
    hop = f"hop {geometry.hop_s:g} s"
    filled = padded(identity.padding, identity.level)
    yield f"windows     {window}, {hop}, {filled}, frames {identity.frames}{channel}"
    yield (
        f"holds       {count(store.num_windows, 'window')} of "
        f"{count(store.num_recordings, 'recording')}, {hours(store.audio_s)} of audio"
    )
    held = [f"{size(store.size_bytes)} in {count(store.num_parts, 'part')}"]
    kinds = {"dead": store.num_dead_windows, "unfinished": store.num_unfinished_windows}
    held += [count(number, f"{kind} window") for kind, number in kinds.items() if number]
    many = "; 'soundalike compact' makes them few" if store.has_many_parts else ""
    yield f"on disk     {', '.join(held)}{many}"
    yield f"index       {_index_state(store)}"
    for (device, precision), number in store.origins.items():
        yield f"computed    on {printable(device)} at {precision} ({count(number, 'part')})"
    for library_id, root in store.libraries.items():
        yield f"library     {printable(str(root))} ({library_id[:8]})"
    if store.own:
        yield f"added       {', '.join(store.own)}"
    for one in store.taught:
        yield f"taught      {taught_line(one)}"
    if store.projections:
        yield f"text        {', '.join(store.projections)}"
    named = ", ".join(f"{number:,} {status}" for status, number in store.statuses.items())
    yield f"files       {named or 'none'}"
    for (stage, reason), number in store.failures.items():
        yield f"  failed    {number:,} x {stage}: {printable(reason or '')}"
    if store.failures:
        yield f"  by name   {files_command(store.path, 'failed')}"
    for warning, number in store.warnings.items():
        yield f"  warning   {number:,} x {printable(warning)}"
    if store.warnings:
        yield f"  by name   {files_command(store.path, 'warnings')}"


def _index_state(store: Overview) -> str:
    if store.is_outdated:
        return "of another version of soundalike; 'soundalike build' replaces it"
    if store.num_indexed is None:
        return "none yet; 'soundalike build' makes one"
    behind = f"; {count(store.num_new_parts, 'new part')}: run 'soundalike build'"
    state = f"{count(store.num_indexed, 'window')}, {_way(is_sketched=store.is_sketched)}"
    parts = count(store.num_missing_parts, "part")
    missing = f"; {parts} that it was made from missing: run 'soundalike verify'"
    return (
        f"{state}{behind if store.num_new_parts else ''}"
        f"{missing if store.num_missing_parts else ''}"
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


def generation_lines(generation: Generation) -> Iterator[str]:
    """Say how a generation is searched, and what was measured when it was built."""
    held, effort = count(generation.num_windows, "window"), generation.manifest.effort
    way = _way(is_sketched=generation.manifest.is_sketched)
    aim = f", with a recall of {effort.target:g} in view" if effort.measured else ""
    yield f"{generation.path.name}: {held}, {way}{aim}"
    for one in effort.measured:
        yield (
            f"  {one.share:>4.0%} of the windows match: {one.num_scanned:,} are looked at, "
            f"{one.num_scored} scored; recall {one.recall:.3f}, {one.ms:.1f} ms"
        )


def generation_data(generation: Generation) -> dict[str, Any]:
    """Return the same as plain data."""
    effort = asdict(generation.manifest.effort)
    return {
        "generation": generation.path.name,
        "windows": generation.num_windows,
        "is_sketched": generation.manifest.is_sketched,
        **effort,
        "measured": [one._asdict() for one in generation.manifest.effort.measured],
    }


def _way(*, is_sketched: bool) -> str:
    return "searched by sketches" if is_sketched else "searched exactly"


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
        f"{size(report.size_bytes_before)} before; "
        f"{count(report.num_parts_after, 'part')}, {size(report.size_bytes_after)} now"
    )


def forgotten_lines(store: Path, found: Forgotten) -> Iterator[str]:
    """Say what went with a library, or would go."""
    goes = "was forgotten" if found.is_done else "would be forgotten"
    held = f"{count(found.num_files, 'file')}, {count(found.num_windows, 'window')}"
    yield f"{printable(str(found.root))} {goes}: {held}, {hours(found.audio_s)} of audio"
    if found.num_shared_windows:
        stay = "stays" if found.num_shared_windows == 1 else "stay"
        yield f"{count(found.num_shared_windows, 'window')} {stay}: other libraries hold the same"
    if found.is_done:
        name = shlex.quote(str(store))
        yield f"run: soundalike build {name}, then searches see it; compact gives the room back"
    else:
        yield "nothing was changed; say --yes to do it"


def problem_lines(problems: Sequence[Problem]) -> Iterator[str]:
    """Say what is wrong with each file, and what to do."""
    for path, reason, remedy, about, value in problems:
        text = "; ".join(one for one in (f"{path}: {reason}", remedy) if one)
        yield printable(hinted(text, about, value))


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
    rows = [{"path": str(one.path), "reason": one.reason, "remedy": one.remedy} for one in problems]
    if deep is None:
        return {"problems": rows}
    counts = {"recomputed": deep.num_recomputed, "absent": deep.num_absent}
    return {"problems": rows, **counts, "changed": deep.num_changed}
