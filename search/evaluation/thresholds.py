"""Measuring, on labelled files, from which probability on each tag is heard.

Of each tag the lowest threshold is taken from which on it is right often enough. Among few files a
low one may be right by chance, so what has to be high enough is not the share that was right there
but a bound below it: that of Wilson (1927), one-sided, which would be too high for one tag in five.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexer.arrays import ID_DTYPE, Float32, Mask, contains
from indexer.errors import QueryError, SoundalikeError, UnknownTagError
from indexer.library.tables import read_content, read_header, read_rows, reading_table
from indexer.progress import count
from indexer.store.reader import Store
from indexer.store.schema import NUM_TAGS
from indexer.store.snapshot import Snapshot
from indexer.tags import DEFAULT_PRECISION, Tag, TagVocabulary
from search.datasets.clips import StoredClips
from search.evaluation.audioset import is_segments, read_segments
from search.evaluation.labels import LABELS, PATHS, Labelled, find_labelled, require_column
from search.filters.thresholds import TagThreshold, Thresholds
from search.generation.missing import whole_snapshot

#: A tag that fewer files have gets no threshold.
MIN_POSITIVES = 5
#: Normal quantile of 0.8: the bound is too high for one tag in five.
_QUANTILE = 0.8416
#: What may stand between several tags of a file.
_BETWEEN = ";"


class _Files(NamedTuple):
    """Labelled files that are in a store: (recording, the tags that it has)."""

    found: dict[bytes, frozenset[str]]
    num_missing: int


def measure_thresholds(
    store: Store, labels: Path, precision: float = DEFAULT_PRECISION
) -> Thresholds:
    """Find for each tag that labels name the lowest threshold that reaches a precision.

    A tag is taken as it is asked for, with all that is below it: its probability is the greatest of
    them, over all windows of a file. A file has the tag if its labels name it or something below.
    Where they name something above and nothing more exact, they do not tell, and the file is not
    counted.

    Args:
        store: With the files in it.
        labels: A CSV with the columns path (or filename) and tag (or label): names, mids or
            indices, several of them with ; between or in rows of their own, or none of a file
            without any of them. Or AudioSet's list of segments, or a pack of PANNs.
        precision: Share that has to be right of the files in which a tag is heard.

    Raises:
        QueryError: If the precision is none.
        UnknownTagError: If a label is no tag of AudioSet.
        SoundalikeError: If the table cannot be read, or none of its files is in the store.
    """
    if not 0 < precision < 1:
        raise QueryError(f"the precision is above 0 and below 1, got {precision}")
    vocabulary, snapshot = TagVocabulary.audioset(), whole_snapshot(store)
    files = _files(store, snapshot, labels)
    named = {mid for tags in files.found.values() for mid in tags}
    tags = sorted((tag for tag in vocabulary.nodes if tag.mid in named), key=lambda tag: tag.name)
    recordings = np.array(sorted(files.found), ID_DTYPE)
    probabilities = _greatest(store, snapshot, recordings)
    each = [files.found[recording] for recording in sorted(files.found)]
    return Thresholds(
        tags=tuple(_measure(tag, each, probabilities, precision) for tag in tags),
        precision=precision,
        num_files=len(each),
        num_missing=files.num_missing,
        labels=labels.name,
        checkpoint=store.checkpoint,
        weights=store.identity.weights,
        padding=store.identity.padding,
        level=store.identity.level,
    )


def _files(store: Store, snapshot: Snapshot, labels: Path) -> _Files:
    """Return the labelled files of a store.

    Raises:
        SoundalikeError: If none is there.
    """
    found: dict[bytes, set[str]] = defaultdict(set)
    with reading_table(labels):
        is_list = is_segments(labels)
    if is_list:
        clips, tags = StoredClips(store, snapshot), TagVocabulary.audioset().tags
        segments, num_there = read_segments(labels), 0
        asked = len(segments)
        for segment in segments:
            clip = clips.find(segment.youtube_id, segment.start_s)
            if clip is not None:
                found[clips.recording(clip)].update(tags[one].mid for one in segment.labels)
                num_there += 1
    else:
        tagged = read_tagged(labels)
        rows = [Labelled(path, "", None) for path in tagged]
        there = find_labelled(store, rows)
        for labelled, recording in there:
            found[recording] |= tagged[labelled.path]
        asked, num_there = len(tagged), len(there)
    if not found:
        example = next((path for path, _ in store.live_files()), "none")
        raise SoundalikeError(
            f"none of {count(asked, 'labelled file')} is in {store.path}; paths are those of the "
            f"library, such as {example!r}"
        )
    return _Files({one: frozenset(mids) for one, mids in found.items()}, asked - num_there)


def read_tagged(path: Path) -> dict[str, set[str]]:
    """Read which tags files have.

    Args:
        path: A CSV, see `measure_thresholds`.

    Returns:
        Path → mids of its tags, none of a file that has none of those that others have.

    Raises:
        UnknownTagError: If a label is no tag of AudioSet; names the line.
        SoundalikeError: If the table cannot be read, or a column or a path is missing.
    """
    vocabulary = TagVocabulary.audioset()
    found: dict[str, set[str]] = defaultdict(set)
    with reading_table(path):
        content = read_content(path)
        columns = [name.strip() for name in read_header(content).names]
        key, tag = (
            require_column(path, columns, some) for some in (PATHS, ("tag", "tags", *LABELS))
        )
        for line, row in read_rows(content):
            if not row[key]:
                raise ValueError(f"line {line} names no file")
            mids = found[row[key]]
            for name in filter(None, map(str.strip, row[tag].split(_BETWEEN))):
                try:
                    mids.add(vocabulary.resolve(name).mid)
                except UnknownTagError as error:
                    raise UnknownTagError(
                        f"{path}, line {line}: {error}", about=error.about
                    ) from error
    if not any(found.values()):
        raise SoundalikeError(f"{path} has no labels; give a path and a tag in each row")
    return dict(found)


def _greatest(store: Store, snapshot: Snapshot, recordings: np.ndarray) -> Float32:
    """Return (n, 527) the greatest probability of each tag in the windows of each recording."""
    greatest = np.full((len(recordings), NUM_TAGS), -1, np.float32)
    for block in snapshot.blocks():
        ids = block.windows.recording_id
        is_wanted = contains(recordings, ids)
        at = np.searchsorted(recordings, ids[is_wanted])
        np.maximum.at(greatest, at, block.tags[is_wanted].astype(np.float32))
    if (greatest < 0).any():
        raise SoundalikeError(f"{store.path} changed while it was read; run again")
    return greatest


def _measure(
    tag: Tag, files: Sequence[Collection[str]], probabilities: Float32, precision: float
) -> TagThreshold:
    """Measure one tag.

    Args:
        tag: Which.
        files: Mids that each file has.
        probabilities: (n, 527) of the same files.
        precision: To be reached.
    """
    vocabulary = TagVocabulary.audioset()
    below = {tag.mid, *(one.mid for one in vocabulary.descendants(tag))}
    above = {one.mid for one in vocabulary.ancestors(tag)}
    has = np.array([not below.isdisjoint(mids) for mids in files])
    may = np.array([not above.isdisjoint(_most_exact(mids)) for mids in files]) & ~has
    counts = (int(has.sum()), int(may.sum()))
    if tag.index is None:
        return TagThreshold(tag, None, *counts, reason="the model has no output of its own for it")
    if counts[0] < MIN_POSITIVES:
        reason = f"fewer than {MIN_POSITIVES} files have it"
        return TagThreshold(tag, None, *counts, reason=reason)
    scores = probabilities[~may][:, list(vocabulary.outputs(tag))].max(1)
    threshold = lowest_threshold(scores, has[~may], precision)
    if threshold is None:
        reason = f"no threshold is sure enough to be right in {precision:.0%}"
        return TagThreshold(tag, None, *counts, reason=reason)
    heard = scores >= threshold
    right = heard & has[~may]
    return TagThreshold(tag, threshold, *counts, int(heard.sum()), int(right.sum()))


def _most_exact(mids: Collection[str]) -> Iterator[str]:
    """Yield those of a file's tags that none of its others is below: Dog says that it is Animal."""
    vocabulary = TagVocabulary.audioset()
    for mid in mids:
        below = vocabulary.descendants(vocabulary.resolve(mid))
        if not any(one.mid in mids for one in below):
            yield mid


def lowest_threshold(scores: Float32, is_right: Mask, precision: float) -> float | None:
    """Return the lowest score from which on at least a share of all is right, as far as is sure.

    Args:
        scores: (n,) float32.
        is_right: (n,) of what.
        precision: The share; see the module for how it is bounded.

    Returns:
        One of the scores; None if none will do.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, num_right = scores[order], np.cumsum(is_right[order])
    num_heard = np.arange(1, len(ranked) + 1)
    is_last = np.append(ranked[1:] != ranked[:-1], True)  # equal ones are heard together
    enough = np.flatnonzero(is_last & (lower_bound(num_right, num_heard) >= precision))
    return float(ranked[enough[-1]]) if len(enough) else None


def lower_bound(num_right: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Return below which share the true one hardly is, if so many of a number are right.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927).
    """
    share, square = num_right / number, _QUANTILE**2
    spread = _QUANTILE * np.sqrt(share * (1 - share) / number + square / (4 * number**2))
    return np.asarray((share + square / (2 * number) - spread) / (1 + square / number))
