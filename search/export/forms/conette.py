"""What CoNeTTE trains and tests with: its HDFDataModule, below `data/HDF`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from indexer.store.schema import EMBEDDING_DIM
from search.datasets.joined import Sound
from search.export.forms.packed import Column, PackedForm


def _embeddings(sound: Sound) -> Mapping[str, Any]:
    assert sound.frames is not None  # without any, this form is refused before
    return {"audio": sound.frames[None]}


#: `clotho_dev_resample_mean_convnext_ident.hdf` and so on, or `audiocaps_train_…`: so
#: `conette-prepare` calls what its own ConvNeXt makes, with the captions as they are.
#:
#: An item has audio (1, T, 768) float32, averaged over frequency; captions, a list of text; fname,
#: dataset, subset, index; and the true shapes audio_shape and captions_shape. There is no column
#: source: CoNeTTE takes None for a column that is not there, and needs None of these sets.
CONETTE = PackedForm(
    "resample_mean_convnext_ident",
    {"audio": Column(np.float32, (1, None, EMBEDDING_DIM))},
    _embeddings,
)
