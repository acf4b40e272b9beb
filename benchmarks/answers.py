"""How well sounds of one class find each other: before and after, in one table with intervals.

    python benchmarks/answers.py esc=esc10_seen drums=sets/drums digit=sets/digit \\
        --before demo-0.1.0.safetensors
    python benchmarks/answers.py esc=esc10_heldout --table lengths levels silence --work DIR

Each set is a folder whose subfolders are its classes. Of the other tables see `answers_changed` and
`answers_tails`. Of that of classes: every clip asks, itself left out; the others
are ranked by cosine of scenes, and by the blend with how alike tags are. "Before" is another
checkpoint with windows that are padded with silence. Everything is embedded at fp32, and ranked
exactly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from answers_changed import length_lines, level_lines, silence_lines
from answers_tails import tail_lines
from tqdm import tqdm

from indexer.audio.stream import open_audio
from indexer.embedding.extractor import Extractor
from indexer.errors import AudioError
from indexer.library.walk import walk
from indexer.model.checkpoint import load_checkpoint
from indexer.windows import Geometry, Padding
from search.nearest.blend import unit_roots

Values = npt.NDArray[np.float64]
K = 10
WEIGHTS = (0.0, 0.2, 0.35, 0.5, 0.9)
#: Resamples of the queries; intervals are their percentiles.
NUM_RESAMPLES, SEED = 2000, 0
#: Tables beside that of classes: of a set's folder, and one to work in, their lines.
TABLES = {
    "lengths": length_lines,
    "levels": level_lines,
    "silence": silence_lines,
    "tails": tail_lines,
}


class Heard(NamedTuple):
    """A set, embedded: scenes and roots of tags of length 1, and classes."""

    scenes: Values
    roots: Values
    classes: npt.NDArray[np.int64]

    def scores(self, weight: float) -> Values:
        """(n, n) of all with all; -inf of a clip with itself."""
        found = (1 - weight) * self.scenes @ self.scenes.T + weight * self.roots @ self.roots.T
        np.fill_diagonal(found, -np.inf)
        return found

    def hits(self, weight: float) -> Values:
        """(n, K) which of the best have the class of what asks."""
        best = np.argsort(-self.scores(weight), axis=1, kind="stable")[:, :K]
        return (self.classes[best] == self.classes[:, None]).astype(float)


def hear(folder: Path, extractor: Extractor, padding: Padding) -> Heard:
    """Embed the first window of each clip of a set."""
    scenes, tags, labels = [], [], []
    for file in tqdm(walk(folder).files, f"{folder.name} {padding}", disable=None):
        try:
            with open_audio(folder / file.path) as audio:
                cut = next(iter(audio.windows(Geometry(padding=padding))))
        except AudioError as error:
            print(f"left out: {file.path}: {error}", file=sys.stderr)
            continue
        embedded = extractor(torch.from_numpy(cut.waveform)[None])
        scenes.append(embedded.scene[0])
        tags.append(embedded.tags[0])
        labels.append(file.path.split("/")[0])
    stacked = np.stack(scenes).astype(np.float64)
    return Heard(
        stacked / np.linalg.norm(stacked, axis=1, keepdims=True),
        unit_roots(np.stack(tags)).astype(np.float64),
        np.unique(labels, return_inverse=True)[1],
    )


def interval(values: Values) -> tuple[float, float, float]:
    """Mean and 95 % interval over resampled queries."""
    picks = np.random.default_rng(SEED).integers(0, len(values), (NUM_RESAMPLES, len(values)))
    return (values.mean(), *np.percentile(values[picks].mean(1), [2.5, 97.5]))


def lines(name: str, before: Heard | None, heard: dict[str, Heard]) -> Iterator[str]:
    """A line of the table for each way to pad and to score."""
    base = heard["repeat"].hits(0.0).mean(1)
    ways: list[tuple[str, Heard, float]] = []
    if before:
        ways.append(("before: zero, scenes", before, 0.0))
    ways += [
        (f"{padding}, {'scenes' if not weight else f'w = {weight:g}'}", one, weight)
        for padding, one in heard.items()
        for weight in WEIGHTS
    ]
    for told, one, weight in ways:
        hits = one.hits(weight)
        first, ten = interval(hits[:, 0]), interval(hits.mean(1))
        delta = interval(hits.mean(1) - base)
        yield (
            f"| {name} ({len(hits)}) | {told} | {first[0]:.3f} [{first[1]:.3f}, {first[2]:.3f}] "
            f"| {ten[0]:.3f} [{ten[1]:.3f}, {ten[2]:.3f}] "
            f"| {delta[0]:+.3f} [{delta[1]:+.3f}, {delta[2]:+.3f}] |"
        )


def main(words: Sequence[str]) -> None:
    """Embed the sets, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--before", type=Path, help="another checkpoint's file")
    parser.add_argument("--table", nargs="+", choices=["classes", *TABLES], default=["classes"])
    parser.add_argument("--work", type=Path, help="where other tables keep files and stores")
    given = parser.parse_args(words)
    others = [name for name in given.table if name in TABLES]
    if others and not given.work:
        parser.error(f"{others[0]} needs --work")
    for one, table in product(given.sets, others):
        name, _, folder = one.partition("=")
        print(f"\n{name}: {table}\n")
        for line in TABLES[table](Path(folder), given.work / name):
            print(line, flush=True)
    if "classes" in given.table:
        compare_classes(given)


def compare_classes(given: argparse.Namespace) -> None:
    """Print the table of classes."""
    after = Extractor(load_checkpoint("demo"), device="cpu", precision="fp32", frames="none")
    former = None
    if given.before:
        loaded = load_checkpoint(given.before)
        former = Extractor(loaded, device="cpu", precision="fp32", frames="none")
    print("| set | how | P@1 | P@10 | P@10 less that of repeat, scenes |")
    print("|---|---|---|---|---|")
    for one in given.sets:
        name, _, folder = one.partition("=")
        path = Path(folder)
        before = hear(path, former, "zero") if former else None
        heard = {padding: hear(path, after, padding) for padding in ("zero", "repeat")}
        for line in lines(name, before, heard):
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
