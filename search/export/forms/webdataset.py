"""WebDataset: tar files of at most a thousand clips, to be read as a stream."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice, takewhile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from search.datasets.joined import Sound, Split
from search.output import require_free, writing

CLIPS_PER_SHARD = 1000


def webdataset_places(split: Split, folder: Path) -> list[Path]:
    """Return where the shards of a split will be, and those of an earlier export beyond them."""
    return [*_shards(split, folder), *_stale(split, folder)]


def write_webdataset(
    split: Split,
    sounds: Iterable[Sound],
    folder: Path,
    provenance: Mapping[str, str],
    force: bool = False,
) -> list[Path]:
    """Write `{split}-000000.tar` and so on; those of an earlier export beyond them are removed.

    Each clip is four files, or three without frames: `{key}.json` (id, youtube_id, start_s, split,
    caption_ids, captions, provenance), `{key}.scene.npy` (768,) float32, `{key}.tags.npy` (527,)
    float32 and `{key}.frames.npy` (T, 768) float32. A key is the clip's id with dots as `_`, which
    would end it.

    Returns:
        What was written.
    """
    rest = iter(sounds)
    shards, stale = _shards(split, folder), _stale(split, folder)
    require_free(*stale, force=force)
    for path in shards:
        with writing(path, force=force) as file, tarfile.open(fileobj=file, mode="w") as shard:
            for sound in islice(rest, CLIPS_PER_SHARD):
                for name, content in _members(split.name, sound, provenance):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    for old in stale:
        old.unlink()  # or it would be read with the new ones
    return shards


def _shards(split: Split, folder: Path) -> list[Path]:
    number = -(-len(split.present) // CLIPS_PER_SHARD)
    return [_shard(split, folder, one) for one in range(number)]


def _shard(split: Split, folder: Path, number: int) -> Path:
    return folder / f"{split.name}-{number:06}.tar"


def _stale(split: Split, folder: Path) -> list[Path]:
    """Return what goes on counting where the new shards end, and was written by an export."""
    beyond = (_shard(split, folder, one) for one in count(len(_shards(split, folder))))
    return list(takewhile(_is_ours, beyond))


def _is_ours(path: Path) -> bool:
    """Whether a shard begins as those that are written here."""
    try:
        with tarfile.open(path) as shard:
            first = shard.next()
            text = shard.extractfile(first) if first else None
            return text is not None and "provenance" in json.load(text)
    except (OSError, tarfile.TarError, ValueError, TypeError):
        return False


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
