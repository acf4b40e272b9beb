"""How well a store tells apart what somebody has labelled: neighbours and two simple probes."""

from __future__ import annotations

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
from indexer.errors import SoundalikeError
from indexer.library.names import ByName
from indexer.library.tables import find_column, read_content, read_header, read_rows, reading_table
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM
from indexer.windows import Padding
from search.datasets.provenance import Computed, how_computed, training_note
from search.generation.missing import whole_snapshot

PRECISIONS_AT = (1, 5, 10)
#: Neighbours that vote in the k-NN probe.
NEIGHBOURS = 5
#: Made by us where none are given.
_NUM_FOLDS = 5
_MAX_ITERATIONS = 2000
#: Names of columns, the first that is there counts; ESC-50's own among them.
_PATHS = ("path", "filename", "file", "fname")
_LABELS = ("label", "category", "class", "target")
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


@dataclass(frozen=True, slots=True)
class LabelsReport:
    """What came out, and of what.

    Attributes:
        precisions: k → share of the k nearest other files that have the same label.
        mean_ap: Mean average precision of all others, ranked; of equal ones the wrong come first.
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
    """

    precisions: dict[int, float]
    mean_ap: float
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
        key, label = (_column(path, columns, some) for some in (_PATHS, _LABELS))
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


def _column(path: Path, columns: Sequence[str], names: Sequence[str]) -> str:
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


def evaluate_labels(store: Store, labels: Sequence[Labelled]) -> LabelsReport:
    """Ask for each file which others sound like it, and train two probes.

    A file is the mean of its windows' scene embeddings, each of length 1. Neighbours are ranked by
    cosine similarity.

    Args:
        store: With the files in it.
        labels: Of some or all of them; a path may be only a file's name, if no two files share it.

    Raises:
        SoundalikeError: If fewer than two of the files are in the store, or all have one label.
    """
    found = _found(store, labels)
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
    vectors = _file_vectors(store, [recording for _, recording in found])
    classes = np.array([names.index(labelled.label) for labelled in kept])
    precisions, mean_ap, num_alone = _neighbours(vectors, classes)
    folds, are_given = _folds(kept, classes)
    return LabelsReport(
        precisions,
        mean_ap,
        tuple(_probes(vectors, classes, folds)),
        tuple(sorted(set(folds.tolist()))),
        are_given,
        num_files=len(kept),
        num_labels=len(names),
        num_missing=len(labels) - len(kept),
        num_alone=num_alone,
        checkpoint=store.checkpoint,
        training_note=training_note(store),
        computed=how_computed(store),
        padding=store.identity.padding,
    )


def _found(store: Store, labels: Sequence[Labelled]) -> list[tuple[Labelled, bytes]]:
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


def _file_vectors(store: Store, recordings: Sequence[bytes]) -> Values:
    """Return (n, 768), each of length 1: the mean direction of a recording's windows."""
    wanted, numbers = np.unique(np.array(recordings, ID_DTYPE), return_inverse=True)
    sums = np.zeros((len(wanted), EMBEDDING_DIM))
    for block in whole_snapshot(store).blocks():
        ids = block.windows.recording_id
        is_wanted = contains(wanted, ids)
        scenes = block.scene[is_wanted].astype(np.float64)
        directions = scenes / np.linalg.norm(scenes, axis=1, keepdims=True)
        np.add.at(sums, np.searchsorted(wanted, ids[is_wanted]), directions)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    if not lengths.all():
        raise SoundalikeError(f"{store.path} changed while it was read; run again")
    vectors: Values = (sums / lengths)[numbers]
    return vectors


def _neighbours(vectors: Values, classes: Integers) -> tuple[dict[int, float], float, int]:
    """Return precision at each k, mAP, and how many files have a label of their own."""
    sizes = np.bincount(classes)[classes]
    at_k: dict[int, list[float]] = {k: [] for k in PRECISIONS_AT}
    precisions = []
    for query in np.flatnonzero(sizes > 1):
        scores = np.round(vectors @ vectors[query], 10)
        others = np.delete(np.arange(len(vectors)), query)
        is_right = classes[others] == classes[query]
        ranked = is_right[np.lexsort((is_right, -scores[others]))]
        hits = np.cumsum(ranked)
        for k in PRECISIONS_AT:
            at_k[k].append(ranked[:k].mean())
        places = np.flatnonzero(ranked)
        precisions.append((hits[places] / (places + 1)).mean())
    means = {k: float(np.mean(values)) for k, values in at_k.items()}
    return means, float(np.mean(precisions)), int((sizes == 1).sum())


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
