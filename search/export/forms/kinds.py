"""The forms by name: where the files of each lie, what writes them, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from search.datasets.joined import Sound, Split
from search.export.forms.conette import CONETTE
from search.export.forms.dcase2023 import dcase2023_places, write_dcase2023
from search.export.forms.dcase2024 import DCASE2024
from search.export.forms.tables import npz_places, parquet_places, write_npz, write_parquet
from search.export.forms.webdataset import webdataset_places, write_webdataset

Form = Literal["parquet", "npz", "hdf5-dcase2023", "hdf5-dcase2024", "hdf5-conette", "webdataset"]
Write = Callable[[Split, Iterable[Sound], Path, Mapping[str, str], bool], list[Path]]


class Kind(NamedTuple):
    """A form.

    Attributes:
        places: Where the files of a split lie in a folder.
        write: Writes them.
        contents: What is in them, for the card.
        needs_frames: Whether it is made of frame embeddings.
    """

    places: Callable[[Split, Path], list[Path]]
    write: Write
    contents: str
    needs_frames: bool = False


KINDS: Mapping[Form, Kind] = {
    "parquet": Kind(
        parquet_places,
        write_parquet,
        "A row per clip: id, youtube_id, start_s, split, caption_ids, captions, scene (768 "
        "float32), tags (527 probabilities), frames (T x 768 float16, averaged over frequency).",
    ),
    "npz": Kind(
        npz_places,
        write_npz,
        "Arrays ids (n), embeddings (n, 768) float32 and tags (n, 527) float32; and a table of "
        "captions: id, caption_id, caption.",
    ),
    "hdf5-dcase2023": Kind(
        dcase2023_places,
        write_dcase2023,
        "As the baseline of DCASE 2023 task 6b reads it: under each id (T, 768) float32, averaged "
        "over frequency; and a table of captions: tid, fid, fname, raw_text, text, tokens.",
        needs_frames=True,
    ),
    "hdf5-dcase2024": Kind(
        DCASE2024.places,
        DCASE2024.write,
        "As the baseline of DCASE 2024 task 6 reads it, packed as torchoutil 0.3 does: frame_embs "
        "(768, T) float32, averaged over frequency, clipwise_output (527), captions, fname, "
        "dataset, subset, index, frame_embs_shape, captions_shape.",
        needs_frames=True,
    ),
    "hdf5-conette": Kind(
        CONETTE.places,
        CONETTE.write,
        "As CoNeTTE reads it, packed as torchoutil 0.3 does: audio (1, T, 768) float32, averaged "
        "over frequency, captions, fname, dataset, subset, index, audio_shape, captions_shape.",
        needs_frames=True,
    ),
    "webdataset": Kind(
        webdataset_places,
        write_webdataset,
        "Tar files of at most a thousand clips: of each a json, scene.npy (768,), tags.npy (527,) "
        "and, if the store has frames, frames.npy (T, 768), all float32.",
    ),
}
