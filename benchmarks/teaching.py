"""What teaching finds and costs: labels against precision, by how windows were chosen; and seconds.

    python benchmarks/teaching.py AUDIO --plot docs/images/teaching.svg
    python benchmarks/teaching.py --cost 100000 1000000

AUDIO has the folders esc10_seen and esc10_heldout: a folder for each class in them. A class is
taught on the first, three yes and seven no to begin with, then five windows at a time as `review`
chooses them, answered by their folders; the tag is judged on the second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
from sklearn.metrics import average_precision_score

import soundalike
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.generation.mapped import Lookup
from search.generation.segments import Segment
from search.learned.labels import By
from search.learned.line import vectors_of
from search.learned.tags import LearnedTag
from search.learned.training import NUM_WEAK, Examples, learn_line

#: Draws of the first labels, and rounds of five labels each.
NUM_DRAWS, NUM_ROUNDS, PER_ROUND = 5, 8, 5
FIRST_YES, FIRST_NO = 3, 7

Array = Any


def load(folder: Path, store: Path) -> tuple[Array, Array, Array]:
    """Return vectors, kinds and recordings of the windows of a folder."""
    sounds = soundalike.open(store, checkpoint="demo")
    sounds.index(folder)
    stored = sounds.rows()
    hits = sounds.windows(*stored.window_ids.tolist())
    scenes = stored.scene / np.linalg.norm(stored.scene, axis=1, keepdims=True)
    kinds = np.array([one.path.parent.name for one in hits])
    return vectors_of(scenes.astype(np.float32), stored.tags), kinds, stored.recording_ids


def choose(by: By, logits: Array, vectors: Array, free: Array, rng: Any) -> Array:
    """Return what is labelled next, as `search.learned.review` chooses."""
    if by == "random":
        return rng.permutation(free)[:PER_ROUND]
    worth = -np.abs(logits[free]) if by == "margin" else logits[free]
    order = free[np.argsort(-worth)]
    if by != "diverse":
        return order[:PER_ROUND]
    pool, chosen = order[: 3 * PER_ROUND], [0]
    while len(chosen) < min(PER_ROUND, len(pool)):
        nearest = (vectors[pool] @ vectors[pool[chosen]].T).max(1)
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return pool[chosen]


def teach(seen: Any, heldout: Any, by: By, kind: str, draw: int) -> list[float]:
    """Return the average precision on what was not taught with, round after round."""
    vectors, kinds, recordings = seen
    rng = np.random.default_rng([draw, sorted(set(kinds)).index(kind)])
    is_kind = kinds == kind
    labelled = np.concatenate(
        [
            rng.choice(np.flatnonzero(is_kind), FIRST_YES, replace=False),
            rng.choice(np.flatnonzero(~is_kind), FIRST_NO, replace=False),
        ]
    )
    found = []
    for _ in range(NUM_ROUNDS + 1):
        free = np.setdiff1d(np.arange(len(kinds)), labelled)
        weak = rng.permutation(free)[:NUM_WEAK]
        line, _ = learn_line(
            Examples(vectors[labelled], is_kind[labelled], recordings[labelled]), vectors[weak]
        )
        found.append(average_precision_score(heldout[1] == kind, line.logits(heldout[0])))
        labelled = np.append(labelled, choose(by, line.logits(vectors), vectors, free, rng))
    return found


def compare(audio: Path, plot: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        seen, heldout = (
            load(audio / name, Path(folder) / name) for name in ("esc10_seen", "esc10_heldout")
        )
    labels = FIRST_YES + FIRST_NO + PER_ROUND * np.arange(NUM_ROUNDS + 1)
    kinds = sorted(set(seen[1]))
    print("labels   " + "".join(f"{one:7}" for one in labels))
    curves = {}
    for by in get_args(By):
        runs = [teach(seen, heldout, by, kind, n) for kind in kinds for n in range(NUM_DRAWS)]
        curves[by] = np.mean(runs, axis=0)
        print(f"{by:9}" + "".join(f"{one:7.3f}" for one in curves[by]))
    wanted = curves["random"][-1]
    for by, curve in curves.items():
        reached = np.flatnonzero(curve >= wanted)
        told = labels[reached[0]] if len(reached) else f"more than {labels[-1]}"
        print(f"AP {wanted:.3f}, that of all random labels, by {by}: {told} labels")
    if plot:
        draw(labels, curves, plot)


def draw(labels: Array, curves: dict[Any, Array], plot: Path) -> None:
    from matplotlib import pyplot  # noqa: PLC0415 - only for the picture

    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for by, curve in curves.items():
        axes.plot(labels, curve, marker="o", label=by)
    axes.set(xlabel="labels", ylabel="average precision on clips not taught with")
    axes.legend(title="chosen by")
    axes.grid(alpha=0.3)
    figure.savefig(plot)


def cost(num_windows: int) -> None:
    """Print CPU seconds from a click to the new order of so many windows."""
    rng = np.random.default_rng(0)
    scenes = rng.standard_normal((num_windows, EMBEDDING_DIM), np.float32)
    scenes /= np.linalg.norm(scenes, axis=1, keepdims=True)
    tags = rng.random((num_windows, NUM_TAGS), np.float32).astype(np.float16)
    some = vectors_of(scenes[:520], tags[:520])
    examples = Examples(some[:20], np.arange(20) < 5, np.array([f"{n}" for n in range(20)], "S16"))
    arrays = {"vectors": scenes, "tags": tags}
    alive = np.ones(num_windows, bool)
    codes, lookup = np.empty((0, 0), "u1"), Lookup.of(np.arange(num_windows))
    segment = Segment(Path(), arrays, codes, alive, np.empty(0, "i4"), lookup, lookup)
    for turn in range(3):
        began, wall = time.process_time(), time.perf_counter()
        line, _ = learn_line(examples, some[20:])
        learned = time.process_time()
        tag = LearnedTag(f"turn{turn}", line, "", {})
        heard = tag.column(segment).astype(np.float32)
        np.argpartition(-heard, 100)
        done = time.process_time()
        print(
            f"{num_windows:,} windows: learning {learned - began:.3f} s CPU, all windows "
            f"{done - learned:.3f} s; {time.perf_counter() - wall:.3f} s in all"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path, nargs="?")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--cost", type=int, nargs="*", default=[])
    given = parser.parse_args()
    if given.audio:
        compare(given.audio, given.plot)
    for number in given.cost:
        cost(number)


if __name__ == "__main__":
    main()
