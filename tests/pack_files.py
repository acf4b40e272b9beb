"""Makers of packs with known content, as the programs write them that they are named after."""

from __future__ import annotations

import io
import json
import tarfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

#: (num_clips, num_samples) int16.
Waveforms = npt.NDArray[np.int16]


def tones(num_clips: int, seconds: float = 1.0, rate: int = 32_000, seed: int = 0) -> Waveforms:
    """Tones in some noise, each another."""
    rng, times = np.random.default_rng(seed), np.arange(round(seconds * rate)) / rate
    tone = [0.3 * np.sin(2 * np.pi * (150 + 40 * clip) * times) for clip in range(num_clips)]
    noise = rng.normal(0, 0.02, (num_clips, len(times)))
    return np.round((np.array(tone) + noise) * 32767).astype(np.int16)


def names_of(num_clips: int) -> list[bytes]:
    """`Y<11 characters>.wav`, not in the order of the alphabet."""
    return [b"Y%011d.wav" % (clip * 7 % 100) for clip in range(num_clips)]


def write_waveforms(
    path: Path, waveforms: Waveforms, names: Sequence[bytes] | None = None, **options: Any
) -> Path:
    """A pack as PANNs writes it, with labels that are made up; options are those of `waveform`."""
    names = names_of(len(waveforms)) if names is None else names
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("audio_name", data=np.array(names, "S20"))
        file.create_dataset("waveform", data=waveforms, **options)
        file.create_dataset("target", data=targets_of(len(names)))
        file.attrs.create("sample_rate", data=32_000, dtype=np.int32)
    return path


def targets_of(num_clips: int) -> npt.NDArray[np.bool_]:
    """(num_clips, 527): three labels of twenty for each clip."""
    rng = np.random.default_rng(5)
    targets = np.zeros((num_clips, 527), bool)
    for row in targets:
        row[rng.choice(20, 3, replace=False)] = True
    return targets


def wave(samples: npt.NDArray[Any], rate: int = 32_000, kind: str = "WAV") -> bytes:
    """The bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def write_table(
    path: Path,
    rows: Sequence[tuple[bytes | None, str | None]],
    column: str = "audio",
    marked: Sequence[str] = (),
    **options: Any,
) -> Path:
    """Parquet as `datasets` writes it: a column of bytes and path; options are Parquet's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    sounds = pa.array([{"bytes": content, "path": name} for content, name in rows], kind)
    table = pa.table({column: sounds, "label": list(range(len(rows)))})
    if marked:
        features = {name: {"sampling_rate": 32_000, "_type": "Audio"} for name in marked}
        note = json.dumps({"info": {"features": features}}).encode()
        table = table.replace_schema_metadata({b"huggingface": note})
    pq.write_table(table, path, **options)
    return path


#: The date of members, unless another is asked for: whole seconds, and even, as a zip has them.
DATE_S = 1_600_000_000


def write_tar(
    path: Path, files: Sequence[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT
) -> Path:
    """A tar as Python writes it, of names and contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), DATE_S
            tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(
    path: Path, files: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    """A zip as Python writes it, of names and contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as found:
        for name, content in files:
            info = zipfile.ZipInfo(name, time.gmtime(DATE_S)[:6])
            found.writestr(info, content, method)
    return path
