"""What a map costs, and how well it keeps neighbours: `python benchmarks/map.py --help`.

Trustworthiness at 15 (Venna and Kaski 2001) is 1 if the 15 nearest points on the map are among the
15 nearest by their vectors, 0.5 for points at random. It is computed exactly, against all windows,
for some windows drawn at random; so is the share of the 15 nearest by vectors that are among those
on the map. Beside it are the first two principal components, and points at random.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from rows_in_memory import generation, segment

import soundalike
from indexer.arrays import Float32
from indexer.store.own import Own
from indexer.store.schema import Identity
from search.generation.segments import Rows
from search.map import landmarks
from search.map.drawing import draw_map

NEIGHBOURS = 15
_SEED = 20_260_101
#: Of the made-up library: kinds of sound, sources of each, and directions in which a source varies.
_KINDS, _SOURCES, _DIRECTIONS = 20, 10, 6
#: How far sources lie from their kind, windows from their source along its directions, and besides.
_OF_KIND, _OF_SOURCE, _NOISE = 0.7, 0.35, 0.3


def made_up(number: int) -> Rows:
    """Return windows of a hierarchy: kinds, sources within them, and what varies in a source."""
    rng = np.random.default_rng(_SEED)
    kinds = rng.normal(size=(_KINDS, 1, 768))
    centres = (kinds + _OF_KIND * rng.normal(size=(_KINDS, _SOURCES, 768))).reshape(-1, 768)
    directions = rng.normal(size=(len(centres), _DIRECTIONS, 768))
    source = rng.choice(len(centres), number, p=rng.dirichlet(np.ones(len(centres))))
    vectors = np.empty((number, 768), np.float32)
    for one in range(len(centres)):
        at = np.flatnonzero(source == one)
        varied = rng.normal(size=(len(at), _DIRECTIONS)) @ directions[one]
        noise = rng.normal(size=(len(at), 768))
        vectors[at] = centres[one] + _OF_SOURCE * varied + _NOISE * noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tags = np.zeros((number, 527), np.float16)
    tags[np.arange(number), source] = 0.5
    tags[:, -1] = 0.5  # what is heard everywhere
    ids = rng.permutation(np.sort(rng.choice(2**62, number)))
    return generation(segment(0, vectors, tags, ids))


def judge(vectors: Float32, xy: Float32, num_asked: int) -> tuple[float, float]:
    """Return trustworthiness at 15, and the share of neighbours by vectors that are kept."""
    number = len(vectors)
    drawn = np.random.default_rng(_SEED).permutation(number)[:num_asked]
    penalty, kept = 0.0, 0
    for one in drawn.tolist():
        away = ((xy - xy[one]) ** 2).sum(1)
        away[one] = np.inf
        near = np.argpartition(away, NEIGHBOURS)[:NEIGHBOURS]
        cosine = vectors @ vectors[one]
        cosine[one] = -np.inf
        ranks = (cosine > cosine[near][:, None]).sum(1) + 1
        penalty += np.maximum(ranks - NEIGHBOURS, 0).sum()
        kept += int((ranks <= NEIGHBOURS).sum())
    worst = NEIGHBOURS * (2 * number - 3 * NEIGHBOURS - 1) / 2
    return 1 - penalty / len(drawn) / worst, kept / len(drawn) / NEIGHBOURS


def principal(vectors: Float32) -> Float32:
    """Return the first two principal components."""
    centred = vectors - vectors.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ axes[:, :-3:-1], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stores", nargs="*", type=Path, help="Stores; none for a made-up library.")
    parser.add_argument("--windows", type=int, default=100_000, help="Of the made-up library.")
    parser.add_argument("--asked", type=int, default=1000, help="Windows that are judged.")
    most = landmarks.MAX_LANDMARKS
    parser.add_argument("--landmarks", type=int, default=most, help="At most.")
    how = parser.parse_args()
    landmarks.MAX_LANDMARKS = how.landmarks
    if how.stores:
        index = soundalike.open(*how.stores)._kept.open_newest()
        rows: Rows = index
        identity = index.identity
    else:
        rows, identity = made_up(how.windows), Identity("a" * 64, "made-up", "made-up", "none")
    with tempfile.TemporaryDirectory() as folder:
        own = Own(Path(folder) / "own")
        began, spent = perf_counter(), process_time()
        found = draw_map(rows, identity, own, Path(folder))
        spent, took = process_time() - spent, perf_counter() - began
        kept = sum(file.stat().st_size for file in own.folder.rglob("*") if file.is_file())
        spent_again = process_time()
        draw_map(rows, identity, own, Path(folder))
        spent_again = process_time() - spent_again
    print(f"{len(found):,} windows, {len(found.clusters)} regions, {os.cpu_count()} cores")
    print(f"drawn in {spent:.1f} s of CPU, {took:.1f} s by the clock; {kept / 1e6:.1f} MB kept")
    print(f"asked for again: {spent_again:.2f} s of CPU")
    with threadpool_limits(1):
        vectors = rows.vectors(found.rows)
        others = np.random.default_rng(_SEED).random((len(vectors), 2), np.float32)
        for name, xy in (
            ("map", found.xy),
            ("principal components", principal(vectors)),
            ("at random", others),
        ):
            trust, share = judge(vectors, xy, min(how.asked, len(vectors)))
            print(f"{name:22} trustworthiness at 15 {trust:.4f}, neighbours kept {share:.3f}")


if __name__ == "__main__":
    main()
