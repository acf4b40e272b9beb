"""HDF5 as two code bases for captions read it: CoNeTTE's family, and the DCASE 2023 baseline."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.datasets.joined import Sound, Split
from search.export.unfailing import Unfailing
from search.output import writing, writing_text

#: What torchoutil's `HDFDataset` appends to a column's name for the true shapes of padded rows.
_SHAPE_SUFFIX = "__shape"
_ENCODING = "utf-8"


def conette_places(split: Split, folder: Path) -> list[Path]:
    """Return where `write_conette` writes."""
    return [folder / f"{split.name}.hdf"]


def write_conette(
    split: Split,
    sounds: Iterable[Sound],
    folder: Path,
    provenance: Mapping[str, str],
    force: bool = False,
) -> list[Path]:
    """Write `{split}.hdf`, for torchoutil's `HDFDataset`, as CoNeTTE and DCASE 2024 task 6 read it.

    Each item has frame_embs (768, T) float32, averaged over frequency; frame_embs_lens, which is T;
    clipwise_output (527,) float32 probabilities; captions, a list; fname, dataset, subset, index.
    What the file was made from is among its attributes, under user_attrs.

    Returns:
        What was written.
    """
    (path,) = places = conette_places(split, folder)
    num_clips = len(split.present)
    texts = {
        "captions": [text for one in split.present for text in one.captions],
        "fname": [one.file_id for one in split.present],
        "dataset": [provenance["dataset"].lower()],
        "subset": [split.name],
    }
    most = max((len(one.captions) for one in split.present), default=0)
    with _hdf5(path, force) as (file, require_room):
        # One window after the other: how long the longest is shows on the way.
        frames = file.create_dataset(
            "frame_embs",
            (num_clips, EMBEDDING_DIM, 0),
            "float32",
            # A split of which nothing is there has an empty file, and no room to grow.
            maxshape=(num_clips, EMBEDDING_DIM, None) if num_clips else None,
            chunks=(1, EMBEDDING_DIM, 32) if num_clips else None,
        )
        columns = {
            "frame_embs": frames,
            "frame_embs_lens": file.create_dataset("frame_embs_lens", num_clips, "int64"),
            "clipwise_output": file.create_dataset(
                "clipwise_output", (num_clips, NUM_TAGS), "float32"
            ),
            "index": file.create_dataset("index", num_clips, "int64"),
        }
        for name, held in texts.items():
            shape = (num_clips, most) if name == "captions" else (num_clips,)
            columns[name] = file.create_dataset(name, shape, _bytes_type(held))
        types = {name: str(column.dtype) for name, column in columns.items()}
        types |= {name: _text_type(held) for name, held in texts.items()}
        shapes = {
            name: file.create_dataset(f"{name}{_SHAPE_SUFFIX}", (num_clips, width), "int32")
            for name, width in (("frame_embs", 2), ("captions", 1))
        }
        for row, sound in enumerate(sounds):
            require_room()
            _write_row(columns, shapes, row, sound)
            for name in ("dataset", "subset"):
                columns[name][row] = texts[name][0].encode(_ENCODING)
        for name, value in _attributes(num_clips, list(shapes), types, provenance).items():
            file.attrs[name] = value
    return places


@contextmanager
def _hdf5(path: Path, force: bool) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Write an HDF5 file through a file of Python.

    Yields:
        The file, and what raises if the disk is full: to be asked now and then.
    """
    with writing(path, force=force) as file:
        unfailing = Unfailing(file, path)
        with h5py.File(unfailing, "w") as hdf5:
            yield hdf5, unfailing.require
        unfailing.require()


def _bytes_type(texts: Sequence[str]) -> str:
    """Return the type that the reader expects of text: bytes, as many as the longest has."""
    return f"S{max((len(text.encode(_ENCODING)) for text in texts), default=1) or 1}"


def _text_type(texts: Sequence[str]) -> str:
    """Return the type that the reader makes of them again."""
    return f"<U{max((len(text) for text in texts), default=1) or 1}"


def _write_row(
    columns: Mapping[str, Any], shapes: Mapping[str, Any], row: int, sound: Sound
) -> None:
    assert sound.frames is not None  # without any, this form is refused before
    captioned, (num_frames, _) = sound.captioned, sound.frames.shape
    frames = columns["frame_embs"]
    if num_frames > frames.shape[2]:
        frames.resize(num_frames, axis=2)
    frames[row, :, :num_frames] = sound.frames.T
    columns["frame_embs_lens"][row] = num_frames
    columns["clipwise_output"][row] = sound.tags
    columns["captions"][row, : len(captioned.captions)] = [
        text.encode(_ENCODING) for text in captioned.captions
    ]
    columns["fname"][row] = captioned.file_id.encode(_ENCODING)
    columns["index"][row] = row
    shapes["frame_embs"][row] = (EMBEDDING_DIM, num_frames)
    shapes["captions"][row] = (len(captioned.captions),)


def _attributes(
    num_clips: int,
    padded: Sequence[str],
    types: Mapping[str, str],
    provenance: Mapping[str, str],
) -> dict[str, Any]:
    """Return what the reader looks for in the attributes of a file."""
    return {
        "added_columns": [f"{name}{_SHAPE_SUFFIX}" for name in padded],
        "creation_date": "",
        "encoding": _ENCODING,
        "file_kwds": "{}",
        "global_hash_value": -1,
        "info": json.dumps({"written_by": provenance["written_by"]}),
        "item_type": "dict",
        "length": num_clips,
        "load_as_complex": "{}",
        "pre_transform": "",
        "shape_suffix": _SHAPE_SUFFIX,
        "source_dataset": provenance["dataset"],
        "src_np_dtypes": json.dumps(dict(types)),
        "store_complex_as_real": False,
        "store_str_as_vlen": False,
        "user_attrs": json.dumps(dict(provenance)),
    }


def dcase_places(split: Split, folder: Path) -> list[Path]:
    """Return where `write_dcase` writes."""
    return [folder / f"{split.name}_audio_convnext.hdf5", folder / f"{split.name}_text.csv"]


def write_dcase(
    split: Split,
    sounds: Iterable[Sound],
    folder: Path,
    provenance: Mapping[str, str],
    force: bool = False,
) -> list[Path]:
    """Write `{split}_audio_convnext.hdf5` and `{split}_text.csv`, for the DCASE 2023 6b baseline.

    The first holds (T, 768) float32 under each file id, averaged over frequency, and what it was
    made from as attributes; the second has a row per caption: tid, fid, fname, raw_text, text (in
    lower case, without punctuation) and tokens, its words as a Python list.

    Returns:
        What was written.
    """
    path, table = places = dcase_places(split, folder)
    with _hdf5(path, force) as (file, require_room):
        file.attrs.update(provenance)
        for sound in sounds:
            require_room()
            file[sound.captioned.file_id] = sound.frames
    with writing_text(table, force=force) as text:
        writer = csv.writer(text)
        writer.writerow(["tid", "fid", "fname", "raw_text", "text", "tokens"])
        for one in split.present:
            for caption_id, caption in zip(one.caption_ids, one.captions, strict=True):
                words = re.sub(r"[^\w\s']", " ", caption.lower()).split()
                row = [caption_id, one.file_id, one.file_id, caption, " ".join(words), words]
                writer.writerow(row)
    return places
