"""Draw the picture in the README: a query, and what a store finds for it.

    soundalike index data/samples --checkpoint demo
    python docs/images/draw_search.py samples.soundalike data/samples/birds/blackbird.ogg search.png

Needs matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

import soundalike
from indexer.audio.stream import open_audio
from indexer.model.checkpoint import load_checkpoint

NUM_HITS = 5
SHOWN_S = 4.0


def log_mel(path: Path) -> np.ndarray:
    """Return (224, num_frames) dB of the first seconds of a file."""
    with open_audio(path, num_samples=int(SHOWN_S * 32_000)) as audio:
        waveform = np.concatenate(list(audio.blocks()))
    padded = np.zeros(int(SHOWN_S * 32_000), np.float32)
    padded[: len(waveform)] = waveform
    model = load_checkpoint("demo").model
    return model.log_mel(torch.from_numpy(padded)[None])[0, 0].numpy().T


def main(store: Path, query: Path, picture: Path) -> None:
    """Ask, and draw."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - the backend comes first

    sounds = soundalike.open(store)
    (own,) = sounds.search(query, k=1, include_self=True)
    hits = sounds.search(query, k=NUM_HITS)
    figure, axes = plt.subplots(1, NUM_HITS + 1, figsize=(13, 2.9), layout="constrained")
    for column, (axis, hit) in enumerate(zip(axes, [own, *hits], strict=True)):
        decibels = log_mel(hit.paths[0])
        top = decibels.max()
        axis.imshow(decibels, origin="lower", aspect="auto", cmap="magma", vmin=top - 70, vmax=top)
        axis.set_xticks([])
        axis.set_yticks([])
        names = (f"{one.tag.name.split(',')[0]} {one.probability:.2f}" for one in hit.tags[:3])
        label = "the query" if column == 0 else f"{column}.   score {hit.score:.2f}"
        color = "tab:orange" if column == 0 else "black"
        axis.set_title(f"{label}\n{hit.paths[0].name}", fontsize=10, color=color)
        axis.set_xlabel("\n".join(names), fontsize=9)
        for spine in axis.spines.values():
            spine.set_color(color)
            spine.set_linewidth(2.5 if column == 0 else 0.8)
    figure.savefig(picture, dpi=90)


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:4]))
