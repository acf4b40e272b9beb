"""What a run did and what was heard, as text for people and as plain data for programs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.paths import printable
from indexer.run.commit import CommitReport
from indexer.run.report import ExtractReport, FailedFile
from indexer.tags import HeardTag
from soundalike.show.tags import tags_data
from soundalike.show.words import clock, count, files_command, hours, padded

if TYPE_CHECKING:  # it imports torch, which a report does not need
    from indexer.embedding.tagging import TaggedWindow

#: Kinds of failure that the summary lists; the ledger has all.
_MAX_KINDS = 12
#: Copying to and from a GPU that takes less is left out of the summary, in seconds.
_WORTH_NAMING_S = 0.1
#: A stage that is busy for less of the time bounds nothing.
_BUSY = 0.5


def report_lines(report: ExtractReport) -> Iterator[str]:
    """Say in a few lines what a run did, what failed, and where the time went."""
    total = report.seconds["total"]
    speed = f", {report.audio_s / total:.0f} x real time" if report.num_windows and total else ""
    embedded = f"{count(report.num_embedded, 'file')}: {count(report.num_windows, 'window')}"
    yield (
        f"embedded {embedded}, {hours(report.audio_s)} of audio in {total:.1f} s on "
        f"{_devices(report)} ({report.precision}, {padded(report.padding, report.level)}){speed}"
        if report.device
        else f"nothing to embed; looking took {total:.1f} s"
    )
    beside = {
        "unchanged": report.num_unchanged,
        "with known content": report.num_known,
        "moved": report.num_moved,
        "gone": report.num_gone,
        "failed before": report.num_failed_before,
        "without an audio extension": report.num_skipped,
        "left out by --include or --exclude": report.num_excluded,
        "hidden, which --hidden reads": report.num_hidden,
        "with warnings": report.num_warnings,
    }
    named = [f"{number:,} {what}" for what, number in beside.items() if number]
    if named:
        which = "files beside those" if report.device else "files"
        yield f"{which}: {', '.join(named)}"
    if report.num_windows:
        yield _stages(report)
        yield bound(report)
    if report.most_windows < report.batch_size:
        yield (
            f"there was no memory for batches of {report.batch_size}: "
            f"{count(report.most_windows, 'window')} at a time were embedded"
        )
    if report.failures:
        yield f"{count(len(report.failures), 'failure')}, recorded in the store:"
        yield from _failure_lines(report.failures)


def searchable_line(store: Path, num_windows: int, report: ExtractReport) -> str:
    """Say how a store is searched after a run; if nothing is in it, what became of the files.

    Args:
        store: Its folder.
        num_windows: That are in its index.
        report: Of the run.
    """
    name = printable(str(store))
    if num_windows:
        return f"{name}: {count(num_windows, 'window')}; soundalike search {shlex.quote(name)} CLIP"
    has_failed = report.failures or report.num_failed_before
    listed = files_command(store, "failed" if has_failed else None)
    what = "what failed" if has_failed else "what became of each file"
    return f"{name}: no window is in it, so nothing can be searched; {what}: {printable(listed)}"


def staged_line(store: Path, stage: Path) -> str:
    """Say how what was staged comes into the store."""
    names = " ".join(shlex.quote(printable(str(one))) for one in (store, stage))
    return f"staged; when all shards are done: soundalike commit {names}"


def commit_lines(store: Path, report: CommitReport) -> Iterator[str]:
    """Say in a few lines what came into a store, and which shards did not."""
    name = shlex.quote(printable(str(store)))
    published, windows = count(len(report.published), "shard"), count(report.num_windows, "window")
    yield (
        f"published {published}: {count(report.num_files, 'file')} and {windows} in "
        f"{count(report.num_parts, 'part')}"
    )
    if report.already:
        yield f"in {name} already: {count(len(report.already), 'shard')}"
    if report.num_left_out:
        yield (
            f"{count(report.num_left_out, 'file')} had content that {name} no longer has: the "
            f"next run reads them"
        )
    if report.refused:
        yield f"{count(len(report.refused), 'shard')} not published:"
        yield from (f"  {printable(one.reason)}" for one in report.refused)
    if report.published:
        yield f"then: soundalike index LIBRARY --store {name}"


def commit_data(report: CommitReport) -> dict[str, Any]:
    """Return what a commit did as plain data."""
    return {
        **asdict(report),
        "published": [str(one) for one in report.published],
        "already": [str(one) for one in report.already],
        "refused": [{"path": str(one.path), "reason": one.reason} for one in report.refused],
    }


def _devices(report: ExtractReport) -> str:
    several = f"{report.num_devices} x " if report.num_devices > 1 else ""
    workers = f" of {count(report.num_remote, 'worker')}" if report.num_remote else ""
    return f"{several}{report.device}{workers}"


def _stages(report: ExtractReport) -> str:
    seconds = report.seconds
    readers = count(report.num_workers, "reader") if report.num_workers else "the run itself"
    copying = seconds["to_device"] + seconds["to_host"]
    parts = [
        f"decoding {seconds['decode']:.1f} s by {readers}",
        f"model {seconds['network']:.1f} s by {count(report.num_lanes, 'thread')}",
        *([f"copying {copying:.1f} s"] if copying >= _WORTH_NAMING_S else []),
        f"writing {seconds['write']:.1f} s",
        *([f"publishing {seconds['publish']:.1f} s"] if report.num_remote else []),
    ]
    return f"time: {', '.join(parts)}, side by side in {seconds['embed']:.1f} s"


def bound(report: ExtractReport) -> str:
    """Say in one sentence which stage kept a run from being faster, and what would help.

    It is the one that was busy for the greatest part of the time. How fast a stage would be alone
    follows from the work that it did and the time that it took.
    """
    seconds, num_windows, taken = report.seconds, report.num_windows, report.busy()
    readers, each = max(report.num_workers, 1), max(report.num_remote, 1)
    copying = seconds["to_device"] + seconds["to_host"]
    stage = max(taken, key=taken.__getitem__)
    if taken[stage] <= _BUSY * seconds["embed"]:
        return "bound by no stage: the run was too short, or waited to be started"
    rate = f"{num_windows / taken[stage]:,.1f} windows/s"
    if stage == "decoding":
        more = report.num_workers < report.num_cores
        return f"bound by decoding: {count(readers, 'reader')} can give {rate}; " + (
            f"more would help (--workers {min(2 * readers, report.num_cores) // each})"
            if more
            else "all cores are in use"
        )
    if stage == "publishing":
        return f"bound by publishing: what the workers wrote came into the store at {rate}"
    if stage == "writing":
        written = report.bytes_written / taken[stage] / 1e6
        return f"bound by writing: the disk took {written:,.0f} MB/s, {rate}"
    if report.device == "cpu":
        cores = count(report.num_cores, "core")
        return f"bound by the model: {cores} can give {rate} at {report.precision}"
    if copying > seconds["network"]:
        return f"bound by copying to and from the GPU: {rate}"
    return f"bound by the model: {_devices(report)} can give {rate} at {report.precision}"


def _failure_lines(failures: Sequence[FailedFile]) -> Iterator[str]:
    kinds = Counter((failure.stage, failure.reason) for failure in failures)
    for (stage, reason), number in kinds.most_common(_MAX_KINDS):
        example = next(f.path for f in failures if (f.stage, f.reason) == (stage, reason))
        others = f" and {number - 1:,} more" if number > 1 else ""
        yield f"  {stage}: {printable(reason)}: {printable(example)}{others}"
    if len(kinds) > _MAX_KINDS:
        yield f"  … and {len(kinds) - _MAX_KINDS:,} other reasons"


def report_data(report: ExtractReport) -> dict[str, Any]:
    """Return a report as plain data."""
    document = asdict(report)
    document["bound"] = bound(report) if report.num_windows else None
    document["failures"] = [failure._asdict() for failure in report.failures]
    return document


def tagged_lines(
    windows: Iterable[TaggedWindow], frames: str | None = None, *, by_index: bool = False
) -> Iterator[str]:
    """Say what was heard in each window: probability, index and name of every tag.

    Args:
        windows: In order.
        frames: "pooled" or "full": say the shapes of the embeddings, too.
        by_index: Tags in the order of AudioSet, not the most probable first.
    """
    for window in windows:
        shapes = f"  scene 768, frames {' x '.join(map(str, _frames(window, frames)))}"
        yield f"{clock(window.start_s)} to {clock(window.end_s)}{shapes if frames else ''}"
        for heard in _ordered(window.tags, by_index=by_index):
            yield f"  {heard.probability:.3f}  {heard.tag.index:>3}  {heard.tag.name}"
        if not window.tags:
            yield "  nothing over the threshold"


def tagged_data(
    windows: Iterable[TaggedWindow], frames: str | None = None, *, by_index: bool = False
) -> list[dict[str, Any]]:
    """Return what was heard in each window, and the shapes of its embeddings, as plain data."""
    return [
        {
            "start_s": window.start_s,
            "end_s": window.end_s,
            "tags": [
                {**tag, "logit": round(float(window.logits[tag["index"]]), 6)}
                for tag in tags_data(_ordered(window.tags, by_index=by_index))
            ],
            "shapes": {"scene": window.scene_shape, "frames": _frames(window, frames)},
        }
        for window in windows
    ]


def _frames(window: TaggedWindow, frames: str | None) -> tuple[int, ...]:
    return window.map_shape if frames == "full" else window.frames_shape


def _ordered(tags: Iterable[HeardTag], *, by_index: bool) -> list[HeardTag]:
    return sorted(tags, key=lambda heard: heard.tag.index or 0) if by_index else list(tags)
