"""Evaluations as text for people, as data for programs, and as a table of classes."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from indexer.tags import TagVocabulary
from search.datasets.provenance import Computed, in_words
from search.evaluation.audioset import AudioSetReport
from search.evaluation.labels import LabelsReport
from search.evaluation.retrieval import Figure, RetrievalReport
from search.output import writing_text
from soundalike.show.words import count, some_of


def retrieval_lines(report: RetrievalReport) -> Iterator[str]:
    """Say how well each direction went, a line for each definition."""
    yield (
        f"{count(report.num_clips, 'sound')}, {count(report.num_captions, 'caption')}; shares in "
        f"percent, with 95 % intervals of {report.num_resamples:,} resamples"
    )
    if report.num_without_audio:
        missing = count(report.num_without_audio, "caption")
        yield f"left out: {missing} whose sound is missing"
    if report.num_without_text:
        yield f"without a caption, and so never right: {count(report.num_without_text, 'sound')}"
    for name, precision in report.precisions.items():
        yield f"{name} were embedded at {precision}"
    yield from report.notes
    yield from _tie_lines(report)
    for warning in report.warnings:
        yield f"WARNING: {warning}"
    groups = dict.fromkeys(figure[:2] for figure in report.figures)
    for direction, definition in groups:
        yield f"{direction} ({definition})"
        for figure in report.figures:
            if figure[:2] == (direction, definition):
                yield f"  {figure.name:<11} {_shown(figure)}"


def _tie_lines(report: RetrievalReport) -> Iterator[str]:
    """Say how many queries have ties: a model that says the same of everything has nothing else."""
    tied = report.num_tied
    if not any(tied.values()):
        return
    captions, sounds = tied["text to audio"], tied["audio to text"]
    num_sounds = report.num_clips - report.num_without_text
    yield (
        f"ties, which count against the model: {captions:,} of "
        f"{count(report.num_captions, 'caption')} and {sounds:,} of {count(num_sounds, 'sound')} "
        f"score something wrong exactly as what is right"
    )


def _shown(figure: Figure) -> str:
    if figure.name.endswith("rank"):
        return f"{figure.value:6.1f}  [{figure.low:.1f}, {figure.high:.1f}]"
    return f"{100 * figure.value:6.2f}  [{100 * figure.low:.2f}, {100 * figure.high:.2f}]"


def retrieval_data(report: RetrievalReport) -> dict[str, Any]:
    """Return a report as plain data; shares are from 0 to 1."""
    return {
        "num_clips": report.num_clips,
        "num_captions": report.num_captions,
        "num_without_audio": report.num_without_audio,
        "num_without_text": report.num_without_text,
        "num_resamples": report.num_resamples,
        "num_tied": {name.replace(" ", "_"): tied for name, tied in report.num_tied.items()},
        "precisions": dict(report.precisions),
        "notes": list(report.notes),
        "warnings": list(report.warnings),
        "figures": [figure._asdict() for figure in report.figures],
    }


def write_ranks(report: RetrievalReport, path: Path, *, force: bool = False) -> None:
    """Write a CSV of ranks: in each direction a row for each caption that has a sound.

    Its columns are direction, id (of the sound), caption (its row in the file, from 0), rank (from
    1) and ties (how many wrong ones have the same score). From audio to text, the best rank of a
    sound is what "Mei" counts.

    Raises:
        OutputError: If it is there already, unless by `force`, or cannot be written.
    """
    with writing_text(path, force=force) as text:
        writer = csv.writer(text)
        writer.writerow(["direction", "id", "caption", "rank", "ties"])
        for direction, ranked in report.ranked.items():
            for sound, *numbers in zip(*(column.tolist() for column in ranked), strict=True):
                writer.writerow([direction, report.audio_ids[sound], *numbers])


def audioset_lines(report: AudioSetReport) -> Iterator[str]:
    """Say how well a store's tags agree with AudioSet's labels, beside the published row."""
    tagging = report.tagging
    found = report.num_segments - report.num_missing
    yield (
        f"{found:,} of {count(report.num_segments, 'segment')} are in the store "
        f"({found / report.num_segments:.1%}); missing clips change the figures"
    )
    if report.num_extra:
        yield f"in the store and not in the list: {count(report.num_extra, 'file')}"
    if report.of_several_windows:
        several = count(len(report.of_several_windows), "clip")
        named = some_of(report.of_several_windows)
        yield f"longer than one window, of which the first counts: {several}: {named}"
    yield _computed_line(report.computed, report.padding)
    yield f"means over the {tagging.num_classes} classes that have a clip"
    if tagging.num_perfect:
        yield f"classes without a finite d', left out of the mean of d': {tagging.num_perfect:,}"
    yield (
        "mean d-prime: mean of the classes' d', as published; d-prime of AUC: that of the mean "
        "AUC, as PANNs counts"
    )
    yield f"{'':<34}{'mAP':>8}{'AUC':>8}{'mean d-prime':>14}{'d-prime of AUC':>16}"
    ours = (tagging.mean_ap, tagging.mean_auc, tagging.mean_d_prime, tagging.d_prime_of_mean_auc)
    yield _row(f"this store ({report.checkpoint})", *ours)
    if report.published:
        yield _row("published, whole evaluation set", *report.published)
    yield from filter(None, (report.padding_note, report.training_note))


def _computed_line(computed: Sequence[Computed], padding: str) -> str:
    """Say at which precision, where and how padded; published figures are of float32."""
    is_exact = all(one.precision == "fp32" for one in computed)
    advice = "" if is_exact else "; for papers, embed at fp32"
    return f"embedded at {in_words(computed)}, padding {padding}{advice}"


def _row(name: str, mean_ap: float, auc: float, *d_primes: float) -> str:
    """Return a line of the table; of d' the first, the mean, or both."""
    last = "".join(f"{one:>{width}.3f}" for one, width in zip(d_primes, (14, 16), strict=False))
    return f"{name:<34}{mean_ap:>8.3f}{auc:>8.3f}{last}"


def audioset_data(report: AudioSetReport) -> dict[str, Any]:
    """Return a report as plain data."""
    tagging = report.tagging
    return {
        "checkpoint": report.checkpoint,
        "training_note": report.training_note,
        "computed": [one._asdict() for one in report.computed],
        "padding": report.padding,
        "padding_note": report.padding_note,
        "num_segments": report.num_segments,
        "num_missing": report.num_missing,
        "num_extra": report.num_extra,
        "of_several_windows": list(report.of_several_windows),
        "num_classes": tagging.num_classes,
        "mAP": _number(tagging.mean_ap),
        "AUC": _number(tagging.mean_auc),
        "d_prime": _number(tagging.mean_d_prime),
        "d_prime_of_mean_AUC": _number(tagging.d_prime_of_mean_auc),
        "num_perfect": tagging.num_perfect,
        "published": report.published._asdict() if report.published else None,
    }


def write_classes(report: AudioSetReport, path: Path, *, force: bool = False) -> None:
    """Write a CSV with a row per class; figures of a class without a positive are empty.

    Raises:
        OutputError: If it is there already, unless by `force`, or cannot be written.
    """
    tagging = report.tagging
    columns = (tagging.average_precision, tagging.auc, tagging.d_prime)
    with writing_text(path, force=force) as text:
        writer = csv.writer(text)
        writer.writerow(["index", "mid", "name", "num_positives", "AP", "AUC", "d_prime"])
        for index, tag in enumerate(TagVocabulary.audioset().tags):
            values = [
                "" if np.isnan(column[index]) else repr(float(column[index])) for column in columns
            ]
            writer.writerow([index, tag.mid, tag.name, int(tagging.num_positives[index]), *values])


def labels_lines(report: LabelsReport) -> Iterator[str]:
    """Say how well a store tells labels apart."""
    missing = f"; {report.num_missing:,} more are not in the store" if report.num_missing else ""
    yield f"{count(report.num_files, 'file')} with {report.num_labels} labels{missing}"
    if report.num_alone:
        yield f"the only ones with their label, and not asked: {count(report.num_alone, 'file')}"
    yield _computed_line(report.computed, report.padding)
    yield "neighbours, by cosine similarity:"
    for k, precision in report.precisions.items():
        yield f"  {f'precision at {k}':<22}{precision:6.1%}"
    yield f"  {'mAP':<22}{report.mean_ap:6.1%}"
    if report.probes:
        whose = "given" if report.are_folds_given else "drawn at random"
        folds = f"{len(report.folds)} {whose}"
        yield f"probes, trained on all folds but one and tested on that ({folds}):"
    for probe in report.probes:
        mean = float(np.mean(probe.accuracies))
        each = ", ".join(f"{accuracy:.1%}" for accuracy in probe.accuracies)
        yield f"  {probe.name:<22}{mean:6.1%}  ({each})"
    if note := report.training_note:
        yield note


def labels_data(report: LabelsReport) -> dict[str, Any]:
    """Return a report as plain data."""
    document = asdict(report)
    document["computed"] = [one._asdict() for one in report.computed]
    document["probes"] = {probe.name: list(probe.accuracies) for probe in report.probes}
    return document


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
