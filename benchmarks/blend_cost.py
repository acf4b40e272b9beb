"""What the blend of scenes and tags costs, beside scenes alone and beside the code before it.

    git worktree add BEFORE f2e49c6
    OMP_NUM_THREADS=1 python benchmarks/blend_cost.py FOLDER … --windows 1000000 \\
        --work DIR --before BEFORE

The library is made of real windows: the recordings of the folders, whose subfolders are the kinds,
whole and in cuts of 2 s. A window of the library lies anywhere between two of a kind, with noise.
Each of the questions, windows of the library, is asked of all ways by turns: they are processes
of their own that hold the store open. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from search_ours import write_rows

from indexer.audio.stream import open_audio
from indexer.embedding.extractor import Extractor
from indexer.library.walk import walk
from indexer.model.checkpoint import load_checkpoint
from indexer.store.disk import read_sealed, seal
from indexer.store.reader import Store
from indexer.store.schema import STORE_FILE
from indexer.windows import SAMPLE_RATE_HZ, Geometry
from search.generation.manifest import GENERATION_FILE
from search.upkeep.build import build

CUT_S = 2
BLOCK_ROWS = 50_000
#: Length of the noise, for a scene of length 1; and the spread of the logarithm of a probability.
NOISE, TAG_NOISE = 0.3, 0.3
WARM_UP, NUM_QUESTIONS = 3, 40
DEFAULT_WEIGHT = 0.35
REPOSITORY = Path(__file__).parent.parent
#: What identities say since then, and is here as it was for all before.
NEW_FIELDS = ("padding", "level")
#: Formats of stores and of their indexes that were read then; what they lack is not looked at here.
FORMAT_BEFORE, INDEX_BEFORE = 2, 3


class Real(NamedTuple):
    """Real windows: scenes of length 1, probabilities, and for each the windows of its kind."""

    scenes: Any
    tags: Any
    of_kind: list[Any]


def hear(folders: Sequence[Path]) -> Real:
    """Embed all recordings, whole and in cuts."""
    extractor = Extractor(load_checkpoint("demo"), device="cpu", precision="fp32", frames="none")
    geometry = Geometry(padding="repeat")
    scenes, tags, kinds = [], [], []
    for folder in folders:
        for file in walk(folder).files:
            with open_audio(folder / file.path) as audio:
                samples = np.concatenate(list(audio.blocks()))
            length = CUT_S * SAMPLE_RATE_HZ
            cuts = [samples[: geometry.window_samples]]
            cuts += [samples[at : at + length] for at in range(0, len(samples) - length, length)]
            stacked = np.stack([geometry.pad(cut) for cut in cuts if np.any(cut)])
            embedded = extractor(torch.from_numpy(stacked.astype(np.float32)))
            scenes.append(embedded.scene)
            tags.append(embedded.tags)
            kinds += [f"{folder.name}/{file.path.split('/')[0]}"] * len(stacked)
    joined = np.concatenate(scenes).astype(np.float32)
    number = np.unique(kinds, return_inverse=True)[1]
    return Real(
        joined / np.linalg.norm(joined, axis=1, keepdims=True),
        np.concatenate(tags).astype(np.float32),
        [np.flatnonzero(number == one) for one in number],
    )


def rows(real: Real, num_windows: int) -> Iterator[tuple[int, Any, Any]]:
    """Yield first row, scenes and probabilities of the made-up library, block by block."""
    for first in range(0, num_windows, BLOCK_ROWS):
        random = np.random.default_rng(first)
        count = min(BLOCK_ROWS, num_windows - first)
        one = random.integers(0, len(real.scenes), count)
        other = np.array([random.choice(real.of_kind[at]) for at in one])
        share = random.random((count, 1), np.float32)
        scenes = share * real.scenes[one] + (1 - share) * real.scenes[other]
        scenes /= np.linalg.norm(scenes, axis=1, keepdims=True)
        noise = random.standard_normal(scenes.shape, np.float32)
        scenes += NOISE / np.sqrt(scenes.shape[1]) * noise
        roots = share * np.sqrt(real.tags[one]) + (1 - share) * np.sqrt(real.tags[other])
        tags = roots**2 * np.exp(TAG_NOISE * random.standard_normal(roots.shape, np.float32))
        yield first, scenes, np.clip(tags, 0, 1).astype(np.float16)


def as_before(store: Path) -> Path:
    """Return the same store, by links, with an identity that earlier code can read."""
    former = store.with_name("before.soundalike")
    shutil.rmtree(former, ignore_errors=True)
    shutil.copytree(store, former, copy_function=os.link)
    document = read_sealed(former / STORE_FILE)
    document["identity"] = {
        name: value for name, value in document["identity"].items() if name not in NEW_FIELDS
    }
    document["format_version"] = FORMAT_BEFORE
    put(former / STORE_FILE, document)
    for file in former.glob(f"index/*/{GENERATION_FILE}"):
        put(file, {**read_sealed(file), "format": INDEX_BEFORE})
    return former


def put(file: Path, document: dict[str, Any]) -> None:
    """Put a document in the place of one that is a link: the other stays as it is."""
    file.unlink()
    file.write_bytes(seal(document))


class Asker:
    """A process that asks, by the code of a checkout."""

    def __init__(self, checkout: Path, store: Path) -> None:
        script = Path(__file__).with_name("blend_asker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(store)],
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, window_id: int, exact: bool, weight: float | None) -> Any:
        """Return what a line of the output says, see `blend_asker`."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([window_id, exact, weight]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def compare(store: Path, ids: Any, before: Path) -> None:
    """Ask by turns, and print medians and their ratios."""
    former, now = Asker(before, as_before(store)), Asker(REPOSITORY, store)
    ways = {
        "before": (former, None),
        "now, scenes alone": (now, 0.0),
        f"now, w = {DEFAULT_WEIGHT}": (now, DEFAULT_WEIGHT),
    }
    asking = np.random.default_rng(0).choice(ids, WARM_UP + NUM_QUESTIONS, replace=False).tolist()
    print("| plan | code | whole answer, ms | to before | vector index, ms | to before | recall |")
    print("|---|---|--:|--:|--:|--:|--:|")
    true: dict[tuple[str, int], set[int]] = {}
    for exact in (True, False):
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        shares: dict[str, list[float]] = {name: [] for name in ways}
        plans = set()
        for window_id in asking:
            for name, (asker, weight) in ways.items():
                whole_s, plan_s, plan, found = asker.ask(window_id, exact, weight)
                best = true.setdefault((name, window_id), set(found))
                took[name].append((whole_s, plan_s))
                shares[name].append(len(best & set(found)) / len(best))
                plans.add(plan)
        kept = {name: np.array(values[WARM_UP:]) * 1e3 for name, values in took.items()}
        for name, values in kept.items():
            ratios = np.median(values / kept["before"], axis=0)
            whole, plan_ms = np.median(values, axis=0)
            print(
                f"| {'/'.join(sorted(plans))} | {name} | {whole:.1f} | {ratios[0]:.2f} "
                f"| {plan_ms:.1f} | {ratios[1]:.2f} | {np.mean(shares[name]):.3f} |",
                flush=True,
            )
    former.close()
    now.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="real recordings")
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, required=True, help="for the store: 10 kB a window")
    parser.add_argument("--before", type=Path, required=True, help="a checkout of earlier code")
    given = parser.parse_args()
    store, kept = given.work / "made-up.soundalike", given.work / "window_ids.npy"
    if not kept.exists():
        given.work.mkdir(parents=True, exist_ok=True)
        ids = write_rows(store, given.windows, rows(hear(given.folders), given.windows))
        build(Store.open(store))
        np.save(kept, ids)
    compare(store, np.load(kept), given.before)


if __name__ == "__main__":
    main()
