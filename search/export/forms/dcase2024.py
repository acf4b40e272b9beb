"""What the baseline of DCASE 2024 task 6 reads: its HDFDatamodule, below `data/HDF`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.datasets.joined import Sound, Split
from search.export.forms.packed import DESCRIBED, Column, described, file_name, write_packed

#: How its configuration calls what its own ConvNeXt makes: `clotho_dev_cnext.hdf`.
_SUFFIX = "cnext"
_COLUMNS: Mapping[str, Column] = {
    "frame_embs": Column(np.float32, (EMBEDDING_DIM, None)),
    "clipwise_output": Column(np.float32, (NUM_TAGS,)),
    **DESCRIBED,
}


def dcase2024_places(split: Split, folder: Path) -> list[Path]:
    """Return where `write_dcase2024` writes."""
    return [folder / file_name(split, _SUFFIX)]


def write_dcase2024(
    split: Split,
    sounds: Iterable[Sound],
    folder: Path,
    provenance: Mapping[str, str],
    force: bool = False,
) -> list[Path]:
    """Write `clotho_dev_cnext.hdf`, `clotho_val_cnext.hdf` or `clotho_eval_cnext.hdf`.

    Of AudioCaps it is `audiocaps_train_cnext.hdf` and so on. An item has frame_embs (768, T)
    float32, averaged over frequency; clipwise_output (527,) float32 probabilities; captions, a list
    of text; fname, dataset, subset, index; and the true shapes frame_embs_shape and captions_shape.

    Returns:
        What was written.
    """
    (path,) = places = dcase2024_places(split, folder)
    items = _items(split, sounds)
    write_packed(path, len(split.present), _COLUMNS, items, provenance, force)
    return places


def _items(split: Split, sounds: Iterable[Sound]) -> Iterator[dict[str, Any]]:
    for row, sound in enumerate(sounds):
        assert sound.frames is not None  # without any, this form is refused before
        frames, tags = sound.frames.T, sound.tags
        yield {"frame_embs": frames, "clipwise_output": tags, **described(split, row, sound)}
