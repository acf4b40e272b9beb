"""Evaluations as text for people, as data for programs, and as a table of classes."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from indexer.paths import printable
from indexer.tags import TagVocabulary
from search.datasets.provenance import in_words
from search.evaluation.audioset import AudioSetReport
from search.evaluation.bootstrap import Estimate
from search.evaluation.labels import LabelsReport
from search.evaluation.retrieval import Figure, RetrievalReport
from search.evaluation.robust import RobustReport
from search.output import writing_text
from soundalike.show.words import count, padded, some_of


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
    yield _computed_line(report)
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


def _computed_line(report: AudioSetReport | LabelsReport | RobustReport) -> str:
    """Say at which precision, where and how padded; published figures are of float32."""
    is_exact = all(one.precision == "fp32" for one in report.computed)
    advice = "" if is_exact else "; for papers, embed at fp32"
    filled = padded(report.padding, report.level)
    return f"embedded at {in_words(report.computed)}, {filled}{advice}"


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
        "level": report.level,
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
    yield _computed_line(report)
    yield f"in percent, with 95 % intervals of {report.num_resamples:,} resamples of recordings"
    for one in report.neighbours:
        yield f"neighbours, by {_score_in_words(one.tag_weight)}:"
        for k, precision in one.precisions.items():
            yield f"  {f'precision at {k}':<22}{_percent(precision)}"
        yield f"  {'mAP':<22}{_percent(one.mean_ap)}"
        skew = "the same for all" if one.hub_skew is None else f"skew {one.hub_skew:.2f}"
        yield f"  {'hubs (N10)':<22}{skew}, largest {one.largest_hub:,}"
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
    document["neighbours"] = [
        {
            **one._asdict(),
            "precisions": {k: value._asdict() for k, value in one.precisions.items()},
            "mean_ap": one.mean_ap._asdict(),
        }
        for one in report.neighbours
    ]
    document["probes"] = {probe.name: list(probe.accuracies) for probe in report.probes}
    return document


def _score_in_words(tag_weight: float) -> str:
    if not tag_weight:
        return "the cosine of scenes"
    return f"{1 - tag_weight:g} cos(scenes) + {tag_weight:g} cos(roots of tags)"


def _percent(one: Estimate) -> str:
    return f"{100 * one.value:5.1f}  [{100 * one.low:.1f}, {100 * one.high:.1f}]"


def robust_lines(report: RobustReport) -> Iterator[str]:
    """Say how clips that come back changed find themselves, a line for each change."""
    yield (
        f"{count(report.num_clips, 'clip')} of {count(report.num_recordings, 'recording')}; in "
        f"percent, with 95 % intervals of {report.num_resamples:,} resamples of clips"
    )
    if report.num_absent:
        yield f"not asked, as the audio is not where or what it was: {report.num_absent:,}"
    if report.failures:
        yield f"not asked, as they cannot be read: {len(report.failures):,}"
    yield _computed_line(report)
    has_labels = any(one.num_labelled for one in report.changes)
    heads = [f"{'own one first':<24}", f"{'own one among ten':<24}"]
    heads += ["first other has its label"] if has_labels else []
    yield f"{'':<24}{'clips':>6}  {''.join(heads)}"
    for one in report.changes:
        cells = [_cell(one.own_first), _cell(one.own_among_ten)]
        cells += [_cell(one.same_label)] if has_labels else []
        yield f"{one.change:<24}{one.num_clips:>6,}  {''.join(cells)}".rstrip()
    if note := report.training_note:
        yield note


def _cell(one: Estimate | None) -> str:
    return f"{'-' if one is None else _percent(one):<24}"


def robust_data(report: RobustReport) -> dict[str, Any]:
    """Return a report as plain data; shares are from 0 to 1."""
    document = asdict(report)
    del document["asked"]
    document["computed"] = [one._asdict() for one in report.computed]
    document["changes"] = [
        {
            name: value._asdict() if isinstance(value, Estimate) else value
            for name, value in one._asdict().items()
        }
        for one in report.changes
    ]
    return document


def write_asked(report: RobustReport, path: Path, *, force: bool = False) -> None:
    """Write a CSV of what became of every copy: a row for each clip and change.

    Its columns are path, start_s, change, rank (of its own recording, from 1; empty if that is not
    among ten) and same_label (1 if the first other recording with a label has the clip's; empty if
    that cannot be told).

    Raises:
        OutputError: If it is there already, unless by `force`, or cannot be written.
    """
    with writing_text(path, force=force) as text:
        writer = csv.writer(text)
        writer.writerow(["path", "start_s", "change", "rank", "same_label"])
        for one in report.asked:
            same = "" if one.has_same_label is None else int(one.has_same_label)
            rank = "" if one.rank is None else one.rank
            writer.writerow([printable(one.path), repr(one.start_s), one.change, rank, same])


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
