"""How well a store tells apart what somebody has labelled: neighbours and two simple probes.

Neighbours are ranked by more than one score: the cosine of scenes, and with a weight w the blend
(1 - w) cos(scenes) + w cos(√p), p being the probabilities of the tags.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from indexer.arrays import ID_DTYPE, contains
from indexer.errors import QueryError, SoundalikeError
from indexer.library.names import ByName
from indexer.library.tables import find_column, read_content, read_header, read_rows, reading_table
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from indexer.windows import Level, Padding
from search.datasets.provenance import Computed, how_computed, training_note
from search.evaluation.bootstrap import Estimate, estimates
from search.generation.missing import whole_snapshot

PRECISIONS_AT = (1, 5, 10)
#: Weights of the tags in the scores that neighbours are ranked by.
TAG_WEIGHTS = (0.0, 0.35)
#: A hub is among the so many nearest of many others.
HUBS_AT = 10
#: Neighbours that vote in the k-NN probe.
NEIGHBOURS = 5
#: Made by us where none are given.
_NUM_FOLDS = 5
_MAX_ITERATIONS = 2000
#: Names of columns, the first that is there counts; ESC-50's own among them.
PATHS = ("path", "filename", "file", "fname")
LABELS = ("label", "category", "class", "target")
_FOLDS = ("fold",)

Values = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Labelled(NamedTuple):
    """One file.

    Attributes:
        path: As in the store, or only the file's name.
        label: Its class.
        fold: Which fold it belongs to; None if nobody said.
    """

    path: str
    label: str
    fold: str | None


class Probe(NamedTuple):
    """Accuracy of a classifier that was trained on the other folds.

    Attributes:
        name: Of the classifier.
        accuracies: One for each fold, in their order.
    """

    name: str
    accuracies: tuple[float, ...]


class Neighbours(NamedTuple):
    """How near files with the same label are to each other, by one score.

    Attributes:
        tag_weight: Of the tags in the score; 0 is the cosine of scenes.
        precisions: k → share of the k nearest other files that have the same label.
        mean_ap: Mean average precision of all others, ranked; of equal ones the wrong come first.
        hub_skew: Skewness of N10, how many others each file is among the ten nearest of: 0 where
            nothing is a hub, above 1 where few files are near to many; None if it is the same for
            all.
        largest_hub: The greatest N10.
    """

    tag_weight: float
    precisions: dict[int, Estimate]
    mean_ap: Estimate
    hub_skew: float | None
    largest_hub: int


@dataclass(frozen=True, slots=True)
class LabelsReport:
    """What came out, and of what.

    Attributes:
        neighbours: By each score.
        num_resamples: Of recordings, of which the intervals are made.
        probes: k-NN and logistic regression; empty if there are not two folds.
        folds: Their names; made up if none were given.
        are_folds_given: Whether somebody gave them.
        num_files: With a label, in the store.
        num_labels: Different ones.
        num_missing: Files with a label that are not in the store.
        num_alone: Files whose label no other file has; they are asked nothing.
        checkpoint: What the store was made with.
        training_note: What a reader must know of it; None of a published one.
        computed: At which precisions, and where.
        padding: What follows audio that is shorter than a window.
        level: What was done to the loudness of windows.
    """

    neighbours: tuple[Neighbours, ...]
    num_resamples: int
    probes: tuple[Probe, ...]
    folds: tuple[str, ...]
    are_folds_given: bool
    num_files: int
    num_labels: int
    num_missing: int
    num_alone: int
    checkpoint: str
    training_note: str | None
    computed: tuple[Computed, ...]
    padding: Padding
    level: Level


def read_labels(path: Path) -> list[Labelled]:
    """Read a table of labels.

    Args:
        path: A CSV with a header, separated and encoded as metadata may be: a column path (or
            filename), a column label (or category), and if there are official folds a column
            fold. ESC-50's esc50.csv is one.

    Raises:
        SoundalikeError: If it is not there, or a column or a cell is missing; says which.
    """
    with reading_table(path):
        content = read_content(path)
        columns = [name.strip() for name in read_header(content).names]
        key, label = (require_column(path, columns, some) for some in (PATHS, LABELS))
        fold = find_column(columns, _FOLDS)
        rows = [
            Labelled(row[key], row[label], row[fold] if fold else None)
            for _, row in read_rows(content)
        ]
    for number, row in enumerate(rows, start=1):
        if not row.path or not row.label or row.fold == "":
            raise SoundalikeError(f"{path}, row {number}: an empty cell in {row}")
    if not rows:
        raise SoundalikeError(f"{path} has no rows; give a path and a label in each")
    return rows


def require_column(path: Path, columns: Sequence[str], names: Sequence[str]) -> str:
    """Return the column with the first of some names.

    Raises:
        SoundalikeError: If there is none; names those that there are.
    """
    found = find_column(columns, names)
    if found is None:
        raise SoundalikeError(
            f"{path} has no column {names[0]} (or {', '.join(names[1:])}), only "
            f"{', '.join(columns)}"
        )
    return found


def labels_of_folders(store: Store) -> list[Labelled]:
    """Return every file of a store with the name of the folder that it lies in as its label."""
    return [
        Labelled(path, PurePosixPath(path).parent.name, None)
        for path, _ in store.live_files()
        if PurePosixPath(path).parent.name
    ]


def evaluate_labels(
    store: Store,
    labels: Sequence[Labelled],
    *,
    tag_weights: Sequence[float] = TAG_WEIGHTS,
    num_resamples: int = 1000,
    seed: int = 0,
) -> LabelsReport:
    """Ask for each file which others sound like it, and train two probes.

    A file is the mean of its windows' scene embeddings, each of length 1, and of the roots of their
    tags' probabilities, likewise. Probes are trained on scenes.

    Args:
        store: With the files in it.
        labels: Of some or all of them; a path may be only a file's name, if no two files share it.
        tag_weights: Weights of the tags in the scores, from 0 to 1.
        num_resamples: Bootstrap resamples of recordings, each with all of its files.
        seed: Of the resampling.

    Raises:
        QueryError: If a weight is none.
        SoundalikeError: If fewer than two of the files are in the store, or all have one label.
    """
    for weight in tag_weights:
        if not 0 <= weight <= 1:
            raise QueryError(f"the weight of tags is from 0 to 1, got {weight}")
    found = find_labelled(store, labels)
    kept = [labelled for labelled, _ in found]
    names = sorted({labelled.label for labelled in kept})
    if len(names) < 2:
        raise SoundalikeError(
            f"{len(kept)} of {len(labels)} labelled files are in {store.path}, with "
            f"{len(names)} labels: at least two are needed; paths are those of the library, such "
            f"as {next((path for path, _ in store.live_files()), 'none')!r}"
        )
    if max(Counter(labelled.label for labelled in kept).values()) < 2:
        raise SoundalikeError("no two files have the same label: there is nothing to be found")
    recordings = [recording for _, recording in found]
    vectors, tags = _file_vectors(store, recordings)
    classes = np.array([names.index(labelled.label) for labelled in kept])
    clusters = np.unique(np.array(recordings, ID_DTYPE), return_inverse=True)[1]
    ranked = []
    for weight in tag_weights:
        # One vector, whose dot product is the blend.
        blended = np.hstack([math.sqrt(1 - weight) * vectors, math.sqrt(weight) * tags])
        ranked.append(_neighbours(weight, blended, classes, clusters, num_resamples, seed))
    folds, are_given = _folds(kept, classes)
    return LabelsReport(
        tuple(ranked),
        num_resamples,
        tuple(_probes(vectors, classes, folds)),
        tuple(sorted(set(folds.tolist()))),
        are_given,
        num_files=len(kept),
        num_labels=len(names),
        num_missing=len(labels) - len(kept),
        num_alone=int((np.bincount(classes) == 1).sum()),
        checkpoint=store.checkpoint,
        training_note=training_note(store),
        computed=how_computed(store),
        padding=store.identity.padding,
        level=store.identity.level,
    )


def find_labelled(store: Store, labels: Sequence[Labelled]) -> list[tuple[Labelled, bytes]]:
    """Return those of some labelled files that a store has, each with its recording.

    Args:
        store: With the files in it.
        labels: A path is that in the library, or only a file's name.

    Raises:
        SoundalikeError: If one may be several files.
    """
    files = list(store.live_files())
    by_path = ByName((path, (path, recording)) for path, recording in files)
    by_name = ByName((PurePosixPath(path).name, (path, recording)) for path, recording in files)
    found = []
    for labelled in labels:
        asked = labelled.path.removeprefix("./")
        named = by_path[asked] or by_name[asked]
        if len(named) > 1:
            raise SoundalikeError(
                f"{labelled.path} may be {named[0][0]} or {named[1][0]}; give the path in the "
                f"library, and evaluate libraries with the same paths in stores of their own"
            )
        found += [(labelled, recording) for _, recording in named]
    return found


def _file_vectors(store: Store, recordings: Sequence[bytes]) -> tuple[Values, Values]:
    """Return (n, 768) and (n, 527), each of length 1: the mean directions of recordings' windows.

    The first of scenes, the second of the roots of probabilities.
    """
    wanted, numbers = np.unique(np.array(recordings, ID_DTYPE), return_inverse=True)
    scenes, tags = (np.zeros((len(wanted), width)) for width in (EMBEDDING_DIM, NUM_TAGS))
    for block in whole_snapshot(store).blocks():
        ids = block.windows.recording_id
        is_wanted = contains(wanted, ids)
        at = np.searchsorted(wanted, ids[is_wanted])
        np.add.at(scenes, at, _directions(block.scene[is_wanted].astype(np.float64)))
        np.add.at(tags, at, _directions(np.sqrt(block.tags[is_wanted].astype(np.float64))))
    if not scenes.any(1).all():
        raise SoundalikeError(f"{store.path} changed while it was read; run again")
    return _directions(scenes)[numbers], _directions(tags)[numbers]


def _directions(vectors: Values) -> Values:
    """Return vectors of length 1; zeros, such as those of a window without any tag, stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    made: Values = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return made


def _neighbours(
    tag_weight: float,
    vectors: Values,
    classes: Integers,
    clusters: Integers,
    num_resamples: int,
    seed: int,
) -> Neighbours:
    """Rank all other files for each, by the dot products of their vectors."""
    sizes, asked, rows = np.bincount(classes)[classes], [], []
    num_near = np.zeros(len(vectors), np.int64)
    for query in range(len(vectors)):
        scores = np.round(vectors @ vectors[query], 10)
        others = np.delete(np.arange(len(vectors)), query)
        is_right = classes[others] == classes[query]
        order = np.lexsort((is_right, -scores[others]))
        num_near[others[order[:HUBS_AT]]] += 1
        if sizes[query] > 1:
            ranked = is_right[order]
            places = np.flatnonzero(ranked)
            precision = (np.cumsum(ranked)[places] / (places + 1)).mean()
            rows.append([*(ranked[:k].mean() for k in PRECISIONS_AT), precision])
            asked.append(query)
    of_asked = np.unique(clusters[asked], return_inverse=True)[1]
    *at_k, mean_ap = estimates(np.array(rows), of_asked, num_resamples, seed)
    precisions = dict(zip(PRECISIONS_AT, at_k, strict=True))
    return Neighbours(tag_weight, precisions, mean_ap, _skewness(num_near), int(num_near.max()))


def _skewness(values: Integers) -> float | None:
    """Return the third moment over the second to the power of 3/2; None if all are equal."""
    centred = values - values.mean()
    variance = (centred**2).mean()
    return float((centred**3).mean() / variance**1.5) if variance else None


def _folds(kept: Sequence[Labelled], classes: Integers) -> tuple[npt.NDArray[np.str_], bool]:
    given = [labelled.fold for labelled in kept]
    if all(fold is not None for fold in given):
        return np.array(given, np.str_), True
    least = min(Counter(classes.tolist()).values())
    if least < 2:
        return np.full(len(kept), "1"), False
    folds = np.empty(len(kept), object)
    splits = StratifiedKFold(min(_NUM_FOLDS, least), shuffle=True, random_state=0)
    for number, (_, tested) in enumerate(splits.split(classes, classes), start=1):
        folds[tested] = str(number)
    return folds.astype(np.str_), False


def _probes(vectors: Values, classes: Integers, folds: npt.NDArray[np.str_]) -> Iterator[Probe]:
    names = sorted(set(folds.tolist()))
    if len(names) < 2:
        return
    accuracies: dict[str, list[float]] = defaultdict(list)
    for name in names:
        tested = folds == name
        train, test = vectors[~tested], vectors[tested]
        truth = classes[tested]
        voted = _votes(train, classes[~tested], test)
        accuracies[f"{NEIGHBOURS}-NN"].append(float((voted == truth).mean()))
        learned = set(classes[~tested].tolist())
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MAX_ITERATIONS))
        if len(learned) > 1:
            right = probe.fit(train, classes[~tested]).predict(test) == truth
        else:  # it knows one answer
            right = truth == next(iter(learned))
        accuracies["logistic regression"].append(float(right.mean()))
    for name, values in accuracies.items():
        yield Probe(name, tuple(values))


def _votes(train: Values, classes: Integers, test: Values) -> Integers:
    """Return the label that most of the nearest have; of equal ones that with greater scores."""
    found = []
    for vector in test:
        scores = train @ vector
        nearest = np.argsort(-scores, kind="stable")[:NEIGHBOURS]
        # A vote weighs more than all scores together; they decide among labels with equal votes.
        weights = 2 * NEIGHBOURS + scores[nearest]
        found.append(np.bincount(classes[nearest], weights).argmax())
    return np.array(found, np.int64)
