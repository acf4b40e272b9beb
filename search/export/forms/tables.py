"""Parquet and .npz: what any program reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.datasets.joined import Sound, Split
from search.output import writing, writing_text

#: Clips in a row group: with their frames some 6 MB.
_ROW_GROUP = 64
_STRINGS = pa.list_(pa.string())


def parquet_places(split: Split, folder: Path) -> list[Path]:
    """Return where `write_parquet` writes."""
    return [folder / f"{split.name}.parquet"]


def write_parquet(
    split: Split,
    sounds: Iterable[Sound],
    folder: Path,
    provenance: Mapping[str, str],
    force: bool = False,
) -> list[Path]:
    """Write `{split}.parquet`, a row per clip.

    Columns: id, youtube_id, start_s, split, caption_ids and captions (lists), scene (768 float32),
    tags (527 float32), frames (a list of T times 768 float16, or null). What the file was made from
    is in the metadata of its schema, under "soundalike".

    Returns:
        What was written.
    """
    (path,) = places = parquet_places(split, folder)
    with (
        writing(path, force=force) as file,
        pq.ParquetWriter(file, _schema(provenance)) as writer,
    ):
        for some in _in_groups(sounds):
            writer.write_batch(_batch(split.name, some))
    return places


def _in_groups(sounds: Iterable[Sound]) -> Iterable[Sequence[Sound]]:
    held: list[Sound] = []
    for sound in sounds:
        held.append(sound)
        if len(held) == _ROW_GROUP:
            yield held
            held = []
    if held:
        yield held


def _schema(provenance: Mapping[str, str]) -> pa.Schema:
    columns = {
        "id": pa.string(),
        "youtube_id": pa.string(),
        "start_s": pa.float64(),
        "split": pa.string(),
        "caption_ids": _STRINGS,
        "captions": _STRINGS,
        "scene": pa.list_(pa.float32(), EMBEDDING_DIM),
        "tags": pa.list_(pa.float32(), NUM_TAGS),
        "frames": pa.list_(pa.list_(pa.float16(), EMBEDDING_DIM)),
    }
    return pa.schema(columns, {"soundalike": json.dumps(dict(provenance))})


def _batch(split: str, sounds: Sequence[Sound]) -> pa.RecordBatch:
    captioned = [sound.captioned for sound in sounds]
    columns = [
        pa.array([one.file_id for one in captioned]),
        pa.array([one.youtube_id for one in captioned], pa.string()),
        pa.array([one.start_s for one in captioned]),
        pa.array([split] * len(sounds)),
        pa.array([one.caption_ids for one in captioned], _STRINGS),
        pa.array([one.captions for one in captioned], _STRINGS),
        _vectors(np.stack([sound.scene for sound in sounds])),
        _vectors(np.stack([sound.tags for sound in sounds])),
        _frames(sounds),
    ]
    return pa.record_batch(columns, schema=_schema({}).with_metadata(None))


def _vectors(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])


def _frames(sounds: Sequence[Sound]) -> pa.Array:
    frames = [sound.frames for sound in sounds if sound.frames is not None]
    if not frames:
        return pa.nulls(len(sounds), pa.list_(pa.list_(pa.float16(), EMBEDDING_DIM)))
    ends = np.cumsum([0, *(len(one) for one in frames)]).astype(np.int32)
    rows = _vectors(np.concatenate(frames).astype(np.float16))
    return pa.ListArray.from_arrays(pa.array(ends), rows)


def npz_places(split: Split, folder: Path) -> list[Path]:
    """Return where `write_npz` writes."""
    return [folder / f"{split.name}.npz", folder / f"{split.name}_captions.csv"]


def write_npz(
    split: Split,
    sounds: Iterable[Sound],
    folder: Path,
    provenance: Mapping[str, str],
    force: bool = False,
) -> list[Path]:
    """Write `{split}.npz` and `{split}_captions.csv`.

    The arrays are ids (n), embeddings (n, 768) float32, tags (n, 527) float32 and provenance, a
    string of JSON; the table has the columns id, caption_id and caption. There are no frames.

    Returns:
        What was written.
    """
    scenes = np.empty((len(split.present), EMBEDDING_DIM), np.float32)
    tags = np.empty((len(split.present), NUM_TAGS), np.float32)
    for row, sound in enumerate(sounds):
        scenes[row], tags[row] = sound.scene, sound.tags
    path, table = places = npz_places(split, folder)
    with writing(path, force=force) as file:
        np.savez(
            file,
            ids=np.array([one.file_id for one in split.present], np.str_),
            embeddings=scenes,
            tags=tags,
            provenance=np.array(json.dumps(dict(provenance))),
        )
    with writing_text(table, force=force) as text:
        writer = csv.writer(text)
        writer.writerow(["id", "caption_id", "caption"])
        for one in split.present:
            for caption_id, caption in zip(one.caption_ids, one.captions, strict=True):
                writer.writerow([one.file_id, caption_id, caption])
    return places
