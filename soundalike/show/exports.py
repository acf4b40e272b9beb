"""What was exported, as text for people and as data for programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.export.captioned import ExportReport
from search.export.label_files import LabelsExport
from soundalike.show.captioned import (
    files_line,
    leak_line,
    much_missing_line,
    shared_data,
    shared_lines,
    split_lines,
    unused_data,
    unused_lines,
)
from soundalike.show.words import count, some_of


def export_lines(report: ExportReport) -> Iterator[str]:
    """Say what of each split is there, and what is wrong with it."""
    for split in report.splits:
        yield from split_lines(split, "clip", split.num_captions)
        if split.num_of_several_windows:
            yield (
                f"  longer than one window, of which only the first is exported: "
                f"{some_of(split.of_several_windows)} (see --native and --native-max)"
            )
    if report.num_extra:
        yield f"in the store and in no table: {count(report.num_extra, 'recording')}"
    if report.looked_for:
        yield much_missing_line(report.looked_for, report.extra)
    if report.padding_note:
        yield report.padding_note
    yield from unused_lines(report.unused)
    yield from shared_lines(report.shared, "clip")
    if report.leak:
        yield leak_line(report.leak)
    yield files_line(report.files)


def export_data(report: ExportReport) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "splits": {
            split.name: {
                "num_present": len(split.present),
                "num_missing": len(split.missing),
                "num_captions": split.num_captions,
                "num_empty_captions": split.num_empty,
                "num_of_several_windows": split.num_of_several_windows,
                "of_several_windows": list(split.of_several_windows),
            }
            for split in report.splits
        },
        "num_extra": report.num_extra,
        "looked_for": list(report.looked_for),
        "extra": list(report.extra),
        "padding_note": report.padding_note,
        **unused_data(report.unused),
        "shared": shared_data(report.shared),
        "leak": report.leak,
        "files": [str(path) for path in report.files],
    }


def label_files_lines(report: LabelsExport, folder: Path) -> Iterator[str]:
    """Say how many label files lie below a folder, and what is in them."""
    spans = sum(file.num_spans for file in report.files)
    told = f"{count(spans, 'span')} in {count(len(report.files), 'file')} below {folder}"
    yield told + (f"; in {report.num_silent:,} nothing is heard" if report.num_silent else "")


def label_files_data(report: LabelsExport) -> dict[str, Any]:
    """Return the same as plain data."""
    files = {str(file.path): file.num_spans for file in report.files}
    failures = list(report.failures)
    return {"files": files, "num_silent": report.num_silent, "failures": failures}
