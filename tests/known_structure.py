"""A captioned store whose sounds and texts are made of the same hidden numbers, in unlike ways.

A sound is what saturating functions make of them, a text what cosines make of them: no linear map
leads from one to the other.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import Synthetic, make_store

from indexer.store.schema import EMBEDDING_DIM

NUM_HIDDEN, NUM_TEXT = 6, 64
CAPTIONS_EACH = 2
SIZES = {"train": 600, "val": 80, "test": 200}


def make_captioned(folder: Path, sizes: dict[str, int] = SIZES, gain: float = 2.5) -> Synthetic:
    """Make `store`, `train.csv` and so on (path, caption), and `texts.npz` in a folder."""
    fixed, random = np.random.default_rng(7), np.random.default_rng(8)
    to_sound = fixed.normal(size=(NUM_HIDDEN, EMBEDDING_DIM))
    to_text = gain * fixed.normal(size=(NUM_HIDDEN, NUM_TEXT)) / np.sqrt(NUM_HIDDEN)
    phases = fixed.uniform(0, 2 * np.pi, NUM_TEXT)
    made = make_store(folder / "store", frames="none")
    ids: list[str] = []
    vectors: list[np.ndarray[Any, Any]] = []
    for split, number in sizes.items():
        hidden = random.normal(size=(number, NUM_HIDDEN))
        noise = 0.3 * random.normal(size=(number, EMBEDDING_DIM))
        scene = (np.tanh(hidden @ to_sound) + noise).astype(np.float32)
        names = [f"{split}-{sound}" for sound in range(number)]
        made.add(dict.fromkeys(names, 1), scene=scene)
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "caption"])
            for name, one in zip(names, hidden, strict=True):
                for caption in range(CAPTIONS_EACH):
                    writer.writerow([f"{name}.wav", f"{name} said in way {caption}"])
                    ids.append(f"{name}.wav")
                    said = np.cos(one @ to_text + phases)
                    vectors.append(said + 0.1 * random.normal(size=NUM_TEXT))
    np.savez(folder / "texts.npz", ids=ids, embeddings=np.array(vectors, np.float32))
    return made
