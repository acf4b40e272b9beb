"""Label files for people: one per recording, in the form that an editor of sound reads."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np

from indexer.arrays import Integers, id_bytes
from indexer.embedding.extractor import Extractor
from indexer.errors import OutputError
from indexer.progress import Listen, Step, ignore
from indexer.store.head import Head
from indexer.store.reader import Store
from indexer.store.schema import NUM_TAGS
from indexer.store.snapshot import Snapshot
from indexer.tags import DEFAULT_THRESHOLD, TagVocabulary, Threshold
from search.datasets.provenance import store_provenance
from search.export.card import card_place, labels_lines, write_card
from search.export.cells import path_cell
from search.export.frames import Frames, RecomputedFrames, StoredFrames
from search.export.label_forms import Label, audacity_text, raven_text
from search.export.spans import Span, frame_tags, merged, spans_of_window
from search.filters.tags import LEARNED_PREFIX, LEARNED_THRESHOLD
from search.generation.missing import whole_snapshot
from search.generation.writing import normalise
from search.learned.tags import LearnedTag, probabilities
from search.output import is_of_one_name, make_folder, require_free, writing_text

LabelForm = Literal["audacity", "raven", "csv"]
#: What is appended to a recording's path.
_SUFFIXES: Mapping[LabelForm, str] = {
    "audacity": ".txt",
    "raven": ".selections.txt",
    "csv": ".csv",
}
_CONTENTS: Mapping[LabelForm, str] = {
    "audacity": "A label track of Audacity for each recording: start and end in seconds, tag",
    "raven": "A selection table of Raven for each recording",
    "csv": "A table for each recording: path, start_s, end_s, tag, name, probability",
}
#: What a name may have on the file systems of Linux and macOS.
_MAX_NAME_BYTES = 255
#: Hex digits that tell apart names that begin alike.
_DIGEST_DIGITS = 8
#: Windows whose frames are read at once.
_WINDOWS = 64


class LabelFile(NamedTuple):
    """One that was written: where, and how many spans are in it."""

    path: Path
    num_spans: int


@dataclass(frozen=True, slots=True)
class LabelsExport:
    """What was written.

    Attributes:
        files: One per file of the library in which something is heard.
        num_silent: Files in which nothing is; they have none.
        failures: A line for each file that could not be written for its name or place.
    """

    files: tuple[LabelFile, ...]
    num_silent: int
    failures: tuple[str, ...] = ()


def export_labels(  # noqa: PLR0913 - each is a choice of its own
    store: Store,
    folder: Path,
    form: LabelForm,
    *,
    tags: Sequence[int] | None = None,
    learned: Sequence[LearnedTag] = (),
    threshold: Threshold = DEFAULT_THRESHOLD,
    extractor: Extractor | None = None,
    force: bool = False,
    listen: Listen = ignore,
) -> LabelsExport:
    """Write when each tag is heard, for every recording of a store.

    A tag is heard where its probability, frame by frame and averaged over a second, is at least the
    threshold; gaps of half a second are closed. Files lie in `folder` as recordings do in their
    library, and are called like them, with a suffix more; see `_named` for long names. Beside them
    lies a card that says what they are, `{store}.{form}.card.md`.

    Args:
        store: With frame embeddings, unless there is an extractor, or only learned tags are wanted.
        folder: Where to; it is made.
        form: "audacity" (start, end, name), "raven" (a selection table) or "csv".
        tags: Indices among the 527; None for all.
        learned: Learned tags, which are heard from 0.5 on, and in whole windows.
        threshold: Probability that counts as heard; one for all tags, or (527,).
        extractor: Computes frames again from the audio: of the store's checkpoint, with
            frames="pooled". None reads the stored ones.
        force: Whether files that are there are replaced.
        listen: Hears of every recording, as the step "listening".

    Raises:
        SoundalikeError: If the store keeps no frames, or the audio cannot be read again.
        OutputError: If one of the files is there already; then none is written. Or if the disk is
            full or read-only.
    """
    snapshot = whole_snapshot(store)
    names = [*TagVocabulary.audioset().names, *(f"{LEARNED_PREFIX}{one.name}" for one in learned)]
    wanted = range(len(TagVocabulary.audioset().tags)) if tags is None else tags
    found: Iterable[tuple[bytes, list[Span]]]
    if wanted:
        frames: StoredFrames | RecomputedFrames = (
            RecomputedFrames(store, snapshot, extractor)
            if extractor
            else StoredFrames(store, snapshot)
        )
        found = _recordings(snapshot, store.head(), frames, wanted, threshold)
    else:
        found = [(id_bytes(one), []) for one in np.unique(snapshot.windows.recording_id)]
    paths = _paths(store)
    places = {one: _named(folder, one, _SUFFIXES[form]) for some in paths.values() for one in some}
    about = folder / f"{store.path.resolve().stem}.{form}"
    require_free(*places.values(), card_place(about), force=force)
    make_folder(folder)
    written, failures, num_silent = [], [], 0
    own = _learned_spans(snapshot, learned)
    for done, (recording, of_frames) in enumerate(found, start=1):
        spans = merged([*of_frames, *own.get(recording, ())])
        for path in paths.get(recording, ()):
            num_silent += not spans
            if not spans and not places[path].exists():
                continue  # a former file is replaced by an empty one
            try:
                _write(places[path], _text(form, path, spans, names), force=force)
                written.append(LabelFile(places[path], len(spans)))
            except OutputError as error:
                if not is_of_one_name(error):
                    raise
                failures.append(str(error))
        listen(Step("listening", done, len(paths), "recording"))
    report = LabelsExport(tuple(written), num_silent, tuple(failures))
    if written:
        heard = [names[one] for one in (*wanted, *range(NUM_TAGS, len(names)))]
        provenance = _provenance(store, heard, threshold, extractor)
        lines = labels_lines(store, len(written), provenance, _contents(form, report))
        write_card(about, lines, force=force)
    return report


def _contents(form: LabelForm, report: LabelsExport) -> str:
    """Say what is in the files, and what has none."""
    told = [f"{_CONTENTS[form]}; in {report.num_silent:,} others nothing is heard"]
    if report.failures:
        told.append(f"{len(report.failures):,} could not be written")
    return f"{', and '.join(told)}."


def _provenance(
    store: Store, heard: Sequence[str], threshold: Threshold, extractor: Extractor | None
) -> dict[str, str]:
    """Return what was listened for, and how."""
    computed = {}
    if extractor:
        computed = {"precision": f"{extractor.precision} on {extractor.device_name}"}
    is_all = heard == [*TagVocabulary.audioset().names]
    return {
        "tags": "all" if is_all else "; ".join(heard),
        "threshold": "of each tag its own" if np.ndim(threshold) else f"{threshold:g}",
        **store_provenance(store),
        **computed,
    }


def _write(path: Path, text: str, *, force: bool) -> None:
    make_folder(path.parent)
    with writing_text(path, force=force) as file:
        file.write(text)


def _named(folder: Path, path: str, suffix: str) -> Path:
    """Return where the labels of a recording are written.

    A name that would be longer than a name can be is shortened, and ends in a digest of itself.
    """
    target = folder / f"{path}{suffix}"
    name = os.fsencode(target.name)
    if len(name) <= _MAX_NAME_BYTES:
        return target
    end = f"~{hashlib.sha256(name).hexdigest()[:_DIGEST_DIGITS]}{suffix}"
    begin = name[: _MAX_NAME_BYTES - len(end)].decode(errors="ignore")
    return target.with_name(f"{begin}{end}")


def outputs_of(names: Sequence[str]) -> list[int]:
    """Return the indices that some tags stand for: their own, and those of all below them.

    Raises:
        UnknownTagError: If there is no such tag; names the nearest.
    """
    vocabulary = TagVocabulary.audioset()
    return sorted(
        {index for name in names for index in vocabulary.outputs(vocabulary.resolve(name))}
    )


def _paths(store: Store) -> dict[bytes, list[str]]:
    """Return recording → its paths; below a folder for each library, if there are several."""
    table = store.latest_files(("path", "recording_id", "status", "library_id"))
    rows = [row for row in table.to_pylist() if row["status"] == "ok"]
    libraries = sorted({row["library_id"] for row in rows})
    found: dict[bytes, list[str]] = defaultdict(list)
    for row in rows:
        # A path in a store from elsewhere may lead out of the folder.
        parts = PurePosixPath(row["path"].replace("\0", r"\x00")).parts
        path = PurePosixPath(*(part for part in parts if part != ".." and part[0] != "/"))
        if len(libraries) > 1:
            path = PurePosixPath(f"library {libraries.index(row['library_id']) + 1}") / path
        if str(path) not in found[row["recording_id"]]:  # once, however many spans it has
            found[row["recording_id"]].append(str(path))
    return found


def _recordings(
    snapshot: Snapshot,
    head: Head,
    frames: Callable[[Integers], Sequence[Frames]],
    tags: Sequence[int],
    threshold: Threshold,
) -> Iterator[tuple[bytes, list[Span]]]:
    """Yield each recording with its spans, once all of its windows were read.

    Rows are read in the order in which they are stored: frames come in groups of rows.
    """
    windows = snapshot.windows
    _, numbers, num_left = np.unique(windows.recording_id, return_inverse=True, return_counts=True)
    held: dict[int, list[Span]] = defaultdict(list)
    for first in range(0, len(snapshot), _WINDOWS):
        rows = np.arange(first, min(first + _WINDOWS, len(snapshot)))
        for row, some in zip(rows.tolist(), frames(rows), strict=True):
            window, number = windows.window(row), int(numbers[row])
            heard, duration_s = frame_tags(some, head), window.end_s - window.start_s
            held[number] += spans_of_window(heard, window.start_s, duration_s, tags, threshold)
            num_left[number] -= 1
            if not num_left[number]:
                yield window.recording_id, merged(held.pop(number))


def _learned_spans(snapshot: Snapshot, learned: Sequence[LearnedTag]) -> Mapping[bytes, list[Span]]:
    """Return recording → the windows in which learned tags are heard, numbered behind the 527."""
    found: dict[bytes, list[Span]] = defaultdict(list)
    for block in snapshot.blocks() if learned else ():
        scenes = normalise(block.scene)
        for number, tag in enumerate(learned, start=NUM_TAGS):
            heard = probabilities(tag.logits(scenes, block.tags))
            for row in np.flatnonzero(heard >= np.float16(LEARNED_THRESHOLD)).tolist():
                window = block.windows.window(row)
                span = Span(window.start_s, window.end_s, number, float(heard[row]))
                found[id_bytes(window.recording_id)].append(span)
    return found


def _text(form: LabelForm, path: str, spans: Sequence[Span], names: Sequence[str]) -> str:
    if form == "audacity":
        return audacity_text(Label(one.start_s, one.end_s, [names[one.tag]]) for one in spans)
    if form == "raven":
        heard = ((one, [names[one.tag], f"{one.probability:.4f}"]) for one in spans)
        labels = (Label(one.start_s, one.end_s, values) for one, values in heard)
        return raven_text(labels, ["Tag", "Probability"])
    buffer = io.StringIO()
    writer = csv.writer(buffer)  # with a lone \n at the end of lines, \r in a name is not quoted
    writer.writerow(["path", "start_s", "end_s", "tag", "name", "probability"])
    for span in spans:
        where = (path_cell(path), f"{span.start_s:.3f}", f"{span.end_s:.3f}")
        index = span.tag if span.tag < NUM_TAGS else ""  # a learned tag has none
        writer.writerow([*where, index, names[span.tag], f"{span.probability:.4f}"])
    return buffer.getvalue()
