"""What the baseline of DCASE 2024 task 6 reads: its HDFDatamodule, below `data/HDF`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.datasets.joined import Sound
from search.export.forms.packed import Column, PackedForm


def _embeddings(sound: Sound) -> Mapping[str, Any]:
    assert sound.frames is not None  # without any, this form is refused before
    return {"frame_embs": sound.frames.T, "clipwise_output": sound.tags}


#: `clotho_dev_cnext.hdf`, `clotho_val_cnext.hdf` or `clotho_eval_cnext.hdf`, and of AudioCaps
#: `audiocaps_train_cnext.hdf` and so on: so its configuration calls what its own ConvNeXt makes.
#:
#: An item has frame_embs (768, T) float32, averaged over frequency; clipwise_output (527,) float32
#: probabilities; captions, a list of text; fname, dataset, subset, index; and the true shapes
#: frame_embs_shape and captions_shape.
DCASE2024 = PackedForm(
    "cnext",
    {
        "frame_embs": Column(np.float32, (EMBEDDING_DIM, None)),
        "clipwise_output": Column(np.float32, (NUM_TAGS,)),
    },
    _embeddings,
)
