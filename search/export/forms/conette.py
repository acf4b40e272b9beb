"""What CoNeTTE trains and tests with: its HDFDataModule, below `data/HDF`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from indexer.store.schema import EMBEDDING_DIM
from search.datasets.joined import Sound, Split
from search.export.forms.packed import DESCRIBED, Column, described, file_name, write_packed

#: How `conette-prepare` calls what its own ConvNeXt makes, with the captions as they are.
_SUFFIX = "resample_mean_convnext_ident"
_COLUMNS: Mapping[str, Column] = {
    "audio": Column(np.float32, (1, None, EMBEDDING_DIM)),
    **DESCRIBED,
}


def conette_places(split: Split, folder: Path) -> list[Path]:
    """Return where `write_conette` writes."""
    return [folder / file_name(split, _SUFFIX)]


def write_conette(
    split: Split,
    sounds: Iterable[Sound],
    folder: Path,
    provenance: Mapping[str, str],
    force: bool = False,
) -> list[Path]:
    """Write `clotho_dev_resample_mean_convnext_ident.hdf` and so on, or `audiocaps_train_…`.

    An item has audio (1, T, 768) float32, averaged over frequency; captions, a list of text; fname,
    dataset, subset, index; and the true shapes audio_shape and captions_shape. There is no column
    source: CoNeTTE takes None for a column that is not there, and needs None of these sets.

    Returns:
        What was written.
    """
    (path,) = places = conette_places(split, folder)
    items = _items(split, sounds)
    write_packed(path, len(split.present), _COLUMNS, items, provenance, force)
    return places


def _items(split: Split, sounds: Iterable[Sound]) -> Iterator[dict[str, Any]]:
    for row, sound in enumerate(sounds):
        assert sound.frames is not None  # without any, this form is refused before
        yield {"audio": sound.frames[None], **described(split, row, sound)}
