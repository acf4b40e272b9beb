"""Precision at 10, by class, on a folder of recordings whose subfolders are the classes.

    soundalike index esc10_heldout --checkpoint demo --padding zero
    python benchmarks/precision_at_10.py esc10_heldout.soundalike 0

Every recording is a query, itself left out; a hit is right if it lies in the same folder. The
number is the weight of tags, if it is to be another than by default.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

import soundalike
from indexer.store.reader import Store

K = 10


def precision_by_class(path: Path, **terms: float) -> dict[str, float]:
    """Return class → mean precision at 10 over its recordings."""
    store = Store.open(path)
    sounds = soundalike.open(path)
    files = store.latest_files(("path", "recording_id", "status")).to_pylist()
    label = {
        row["recording_id"]: row["path"].split("/")[0] for row in files if row["status"] == "ok"
    }
    precision: dict[str, list[float]] = defaultdict(list)
    windows = store.snapshot().windows
    answers = sounds.search_many(windows.window_id.tolist(), k=K, **terms)
    for number, hits in enumerate(answers):
        own = label[windows.window(number).recording_id]
        precision[own].append(float(np.mean([label[hit.recording_id] == own for hit in hits])))
    return {name: float(np.mean(values)) for name, values in sorted(precision.items())}


if __name__ == "__main__":
    weight = {"tag_weight": float(sys.argv[2])} if sys.argv[2:] else {}
    by_class = precision_by_class(Path(sys.argv[1]), **weight)
    for name, value in by_class.items():
        print(f"{name:<16} {value:.2f}")
    print(f"{'mean':<16} {np.mean(list(by_class.values())):.3f}")
