"""What the baseline of DCASE 2023 task 6b reads: embeddings, captions, and vectors of them."""

from __future__ import annotations

import csv
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.errors import SoundalikeError
from search.datasets.joined import Sound, Split
from search.datasets.splits import Role, renamed
from search.datasets.text_vectors import NO_VECTOR, TextVectors, names_of
from search.export.forms.hdf5 import writing_hdf5
from search.output import writing, writing_text

#: How its configuration calls the splits.
_SPLITS: Mapping[Role, str] = {"train": "development", "val": "validation", "test": "evaluation"}
#: How it calls the vectors of all captions.
_TEXT_VECTORS = "sbert_embeds.pkl"


def dcase2023_places(split: Split, folder: Path) -> list[Path]:
    """Return where `write_dcase2023` writes."""
    name = renamed(split.name, _SPLITS)
    return [folder / f"{name}_audio_convnext.hdf5", folder / f"{name}_text.csv"]


def write_dcase2023(
    split: Split,
    sounds: Iterable[Sound],
    folder: Path,
    provenance: Mapping[str, str],
    force: bool = False,
) -> list[Path]:
    """Write `development_audio_convnext.hdf5` and `development_text.csv`, and so on.

    The first holds (T, 768) float32 under each file id, averaged over frequency, and what it was
    made from as attributes; the second has a row per caption: tid, fid, fname, raw_text, text (in
    lower case, without punctuation) and tokens, its words as a Python list.

    Returns:
        What was written.
    """
    path, table = places = dcase2023_places(split, folder)
    with writing_hdf5(path, force) as (file, require_room):
        file.attrs.update(provenance)
        for sound in sounds:
            require_room()
            file[sound.captioned.file_id] = sound.frames
    with writing_text(table, force=force) as text:
        writer = csv.writer(text)
        writer.writerow(["tid", "fid", "fname", "raw_text", "text", "tokens"])
        for one in split.present:
            for tid, caption in zip(names_of(one), one.captions, strict=True):
                words = re.sub(r"[^\w\s']", " ", caption.lower()).split()
                writer.writerow([tid, one.file_id, one.file_id, caption, " ".join(words), words])
    return places


def text_vectors_place(folder: Path) -> Path:
    """Return where `write_text_vectors` writes."""
    return folder / _TEXT_VECTORS


def chosen_vectors(
    splits: Sequence[Split], vectors: TextVectors
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the vectors of all captions that are written, by tid.

    Args:
        splits: With their captions.
        vectors: By the ids of the tables (audiocap_id), or tids.

    Raises:
        SoundalikeError: If a caption has none, or it cannot be told whose a vector is.
    """
    sounds = [one for split in splits for one in split.present]
    tids = [tid for one in sounds for tid in names_of(one)]
    rows = np.concatenate([np.empty(0, np.int64), *vectors.of_captions(sounds)])
    missing = np.flatnonzero(rows == NO_VECTOR)
    if len(missing):
        called = [one for sound in sounds for one in sound.caption_ids][missing[0]]
        raise SoundalikeError(
            f"{len(missing):,} of {len(tids):,} captions have no vector, {called} for one"
        )
    return dict(zip(tids, vectors.take(rows).astype("<f4"), strict=True))


def write_text_vectors(
    vectors: Mapping[str, npt.NDArray[np.float32]], folder: Path, force: bool
) -> Path:
    """Write `sbert_embeds.pkl`: a pickled dictionary of tid → vector, for all splits.

    Returns:
        What was written.
    """
    path = text_vectors_place(folder)
    with writing(path, force=force) as file:
        _Pickler(file, protocol=4).dump(dict(vectors))
    return path


class _Pickler(pickle.Pickler):
    """Pickles arrays so that any NumPy reads them: in pickles, 2 has other names than 1."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, np.ndarray):
            return np.frombuffer, (value.tobytes(), value.dtype.str)
        return NotImplemented
