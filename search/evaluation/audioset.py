"""AudioSet's evaluation: the published lists of segments, and a store's tags beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexer.errors import SoundalikeError
from indexer.library.tables import read_content, reading_table
from indexer.store.reader import Store
from indexer.store.schema import NUM_TAGS
from indexer.tags import TagVocabulary
from indexer.windows import Level, Padding
from search.datasets.clips import Clip, StoredClips, clip_of, youtube_id_of
from search.datasets.provenance import (
    Computed,
    how_computed,
    known_checkpoint,
    padding_note,
    training_note,
)
from search.evaluation.panns import read_targets
from search.evaluation.tagging import Mask, TaggingReport, evaluate_tagging
from search.generation.missing import whole_snapshot

_NUM_FIELDS = 4
_HDF5 = {".h5", ".hdf", ".hdf5"}


class Published(NamedTuple):
    """A row of a paper's table."""

    mean_ap: float
    auc: float
    d_prime: float


#: The paper's figures on the evaluation set, by checkpoint. Source: arXiv:2306.00830.
PUBLISHED = {"convnext-tiny-471": Published(0.471, 0.973, 3.071)}


class Segment(NamedTuple):
    """One row of AudioSet's lists.

    Attributes:
        youtube_id: 11 characters; none of a clip that whoever made the list did not have.
        start_s: Where the clip begins in the video; None if nobody says.
        labels: Indices of its tags among the 527.
    """

    youtube_id: str
    start_s: float | None
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AudioSetReport:
    """Figures, and how much of the set they are of.

    Attributes:
        tagging: Class by class.
        checkpoint: What the store was made with.
        training_note: What a reader must know of it; None of a published one.
        computed: At which precisions, and where.
        padding: What follows audio that is shorter than a window.
        level: What was done to the loudness of windows.
        padding_note: How windows differ from those of published figures; None if they do not.
        published: The paper's row for that checkpoint, if it has one.
        num_segments: In the list.
        num_missing: Of those, not in the store.
        num_extra: Clips of the store that the list does not have, and files that are no clip.
        of_several_windows: YouTube ids of clips with more than one window; the first one counts.
    """

    tagging: TaggingReport
    checkpoint: str
    training_note: str | None
    computed: tuple[Computed, ...]
    padding: Padding
    level: Level
    padding_note: str | None
    published: Published | None
    num_segments: int
    num_missing: int
    num_extra: int
    of_several_windows: tuple[str, ...]


def read_segments(path: Path) -> list[Segment]:
    """Read a list of segments as AudioSet publishes it, or the targets that PANNs makes of it.

    Args:
        path: A CSV of YouTube id, start and end in seconds, and the mids of the labels in quotes;
            lines that begin with # are comments. Or an .h5 with the datasets audio_name (n names
            of files, `YID.wav`) and target (n, 527).

    Raises:
        SoundalikeError: If the file is not there, or a line is not of that form; names the line.
    """
    with reading_table(path):
        try:
            if path.suffix in _HDF5:
                segments = list(_targets_of_panns(path))
            else:
                text = io.StringIO(read_content(path).decode(), newline="")
                segments = list(_segments(path, text))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError("it is no table of text") from error
    if not any(segment.youtube_id for segment in segments):
        raise SoundalikeError(
            f"{path} has no segments; give AudioSet's eval_segments.csv, or a pack of PANNs"
        )
    return segments


def is_segments(path: Path) -> bool:
    """Whether a file is what `read_segments` takes, and no table with a header.

    Raises:
        ValueError: If it cannot be read; the text is the reason.
        OSError: Likewise.
    """
    return path.suffix in _HDF5 or read_content(path).lstrip().startswith(b"#")


def _segments(path: Path, lines: Iterator[str]) -> Iterator[Segment]:
    index_of = {tag.mid: index for index, tag in enumerate(TagVocabulary.audioset().tags)}
    rows = csv.reader(lines, skipinitialspace=True)
    for row in rows:
        if not row or row[0].startswith("#"):
            continue
        where = f"{path}, line {rows.line_num}"
        if len(row) != _NUM_FIELDS:
            raise SoundalikeError(f"{where}: {len(row)} fields, not YTID, start, end and labels")
        mids = [mid.strip() for mid in row[3].split(",") if mid.strip()]
        unknown = [mid for mid in mids if mid not in index_of]
        if unknown or not mids:
            what = f"{unknown[0]!r} is none of the 527 labels" if unknown else "no labels"
            raise SoundalikeError(f"{where}: {what}")
        try:
            start_s = float(row[1])
            round(1000 * start_s)
        except (ValueError, OverflowError) as error:
            raise SoundalikeError(f"{where}: the start {row[1]!r} is no number") from error
        yield Segment(youtube_id_of(row[0]), start_s, tuple(index_of[mid] for mid in mids))


def _targets_of_panns(path: Path) -> Iterator[Segment]:
    for name, labels in read_targets(path):
        if not name:  # it belongs to the set, and is missing
            yield Segment("", None, labels)
            continue
        clip = clip_of(name)
        if clip is None:
            raise SoundalikeError(
                f"cannot read {path}: {name!r} is no name of a clip, such as YID.wav"
            )
        start_s = None if clip.start_ms is None else clip.start_ms / 1000
        yield Segment(clip.youtube_id, start_s, labels)


def evaluate_audioset(store: Store, segments: list[Segment]) -> AudioSetReport:
    """Compare a store's tags with AudioSet's labels.

    Probabilities are computed again from the stored scenes and classifier, in float32: stored ones
    are float16, where many near 1 are equal.

    Args:
        store: Of the evaluation set; files are named as in `search.datasets.clips`.
        segments: What is labelled.

    Raises:
        SoundalikeError: If the store has none of the segments.
    """
    known = known_checkpoint(store)
    snapshot = whole_snapshot(store)
    clips = StoredClips(store, snapshot)
    rows: list[int] = []
    kept: list[Segment] = []
    used: set[Clip] = set()
    several: list[str] = []
    for segment in segments:
        clip = clips.find(segment.youtube_id, segment.start_s)
        if clip is None:
            continue
        windows = clips.rows(clip)
        if not len(windows):  # embedded since the snapshot was taken
            continue
        used.add(clip)
        rows.append(int(windows[0]))
        kept.append(segment)
        if len(windows) > 1:
            several.append(segment.youtube_id)
    if not rows:
        raise SoundalikeError(
            f"{store.path} has none of the {len(segments)} segments; its files must be named by "
            f"YouTube id: ID.wav, YID.wav, ID_30.flac, ID_30_40.wav or ID_30000_40000.wav"
        )
    probabilities = store.head().tags(snapshot.scene(np.array(rows)))
    return AudioSetReport(
        evaluate_tagging(_targets(kept), probabilities),
        checkpoint=store.checkpoint,
        training_note=training_note(store),
        computed=how_computed(store),
        padding=store.identity.padding,
        level=store.identity.level,
        padding_note=padding_note(store),
        published=PUBLISHED.get(known.name) if known else None,
        num_segments=len(segments),
        num_missing=len(segments) - len(kept),
        num_extra=len(clips) - len(used) + clips.num_unnamed,
        of_several_windows=tuple(several),
    )


def _targets(segments: list[Segment]) -> Mask:
    targets = np.zeros((len(segments), NUM_TAGS), bool)
    for row, segment in enumerate(segments):
        targets[row, list(segment.labels)] = True
    return targets
