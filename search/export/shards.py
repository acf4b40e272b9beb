"""WebDataset: tar files of at most a thousand clips, to be read as a stream."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from search.export.joined import Sound, Split

CLIPS_PER_SHARD = 1000


def write_webdataset(
    split: Split, sounds: Iterable[Sound], folder: Path, provenance: Mapping[str, str]
) -> list[Path]:
    """Write `{split}-000000.tar` and so on.

    Each clip is four files, or three without frames: `{key}.json` (id, youtube_id, start_s, split,
    caption_ids, captions, provenance), `{key}.scene.npy` (768,) float32, `{key}.tags.npy` (527,)
    float32 and `{key}.frames.npy` (T, 768) float32. A key is the clip's id with dots as `_`, which
    would end it.

    Returns:
        What was written.
    """
    for old in folder.glob(f"{split.name}-" + 6 * "[0-9]" + ".tar"):
        old.unlink()  # or it would be read with the new ones
    rest = iter(sounds)
    written = []
    for number in range(-(-len(split.present) // CLIPS_PER_SHARD)):
        path = folder / f"{split.name}-{number:06}.tar"
        with tarfile.open(path, "w") as shard:
            for sound in islice(rest, CLIPS_PER_SHARD):
                for name, content in _members(split.name, sound, provenance):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
        written.append(path)
    return written


def _members(
    split: str, sound: Sound, provenance: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    captioned = sound.captioned
    key = captioned.file_id.replace(".", "_")
    described = {
        "id": captioned.file_id,
        "youtube_id": captioned.youtube_id,
        "start_s": captioned.start_s,
        "split": split,
        "caption_ids": captioned.caption_ids,
        "captions": captioned.captions,
        "provenance": dict(provenance),
    }
    yield f"{key}.json", json.dumps(described).encode()
    yield f"{key}.scene.npy", _npy(sound.scene)
    yield f"{key}.tags.npy", _npy(sound.tags)
    if sound.frames is not None:
        yield f"{key}.frames.npy", _npy(sound.frames)


def _npy(values: npt.NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()
