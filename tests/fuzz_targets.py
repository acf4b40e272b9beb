"""What is fuzzed: each reader, whole files for it to begin with, and the errors it may end in."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from audio_files import encode, noise, write
from oracle import Query, ask, unit
from pack_files import write_tar, write_zip
from safetensors.numpy import save as save_safetensors
from synthetic import Synthetic, make_store

from indexer.audio.content import recording_digest, state_of
from indexer.audio.stream import open_audio
from indexer.errors import AudioError, CheckpointError, LibraryError, StoreError
from indexer.library.walk import walk
from indexer.model.checkpoint import load_checkpoint
from indexer.model.convnext import ConvNeXt
from indexer.store.disk import seal, sha256_of
from indexer.store.reader import Store
from search.asking.sound_index import SoundIndex
from search.filters.tags import TagFilter
from search.generation.manifest import GENERATION_FILE
from search.upkeep.build import build

#: Reads one input: its name, its bytes, and chance; returns whether it was read to the end.
Run = Callable[[str, bytes, random.Random], bool]


class Target(NamedTuple):
    """A reader to be fuzzed.

    Attributes:
        name: For people.
        seeds: Name → content of whole files.
        start: Prepares a folder to work in, and returns what reads an input there; any exception
            that it lets through is a finding.
    """

    name: str
    seeds: Mapping[str, bytes]
    start: Callable[[Path], Run]


def all_targets(folder: Path) -> dict[str, Target]:
    """Return all targets; `folder` is theirs as long as they are used."""
    torch.set_num_threads(1)  # threads do not survive the fork, and children would wait for them
    store = _store(folder / "store")
    found = [_decoder(folder), *_archives(folder), *_store_targets(store), _checkpoint()]
    return {target.name: target for target in found}


# --- audio ---------------------------------------------------------------------------------------


def _decoder(folder: Path) -> Target:
    folder.mkdir(parents=True, exist_ok=True)
    samples = noise(12_000, 2)
    paths = [
        write(folder / "a.wav", samples, 8000),
        write(folder / "float.wav", samples, 8000, "FLOAT"),
        write(folder / "a.flac", samples, 44_100),
        write(folder / "a.ogg", samples, 44_100),
        write(folder / "a.mp3", samples, 44_100),
        write(folder / "a.aiff", samples, 44_100),
        write(folder / "a.caf", samples, 44_100),
        write(folder / "sndfile.sf", samples, 44_100, "PCM_16", "IRCAM"),
        write(folder / "a.mat", samples, 44_100, "PCM_16", "MAT5"),  # only libsndfile reads these
        encode(folder / "a.m4a", samples, 44_100, "aac"),
        encode(folder / "a.mka", samples, 48_000, "libopus"),
        encode(folder / "a.opus", samples, 48_000, "libopus", container="ogg"),
        encode(folder / "a.wma", samples, 44_100, "wmav2", bit_rate=64_000),
        encode(folder / "a.ac3", samples, 48_000, "ac3"),
        encode(folder / "a.wv", samples, 44_100, "wavpack"),
        encode(folder / "a.ts", samples, 44_100, "aac", container="mpegts"),
        encode(folder / "a.avi", samples, 44_100, "libmp3lame", video=True),
    ]
    return Target("decoder", {path.name: path.read_bytes() for path in paths}, _start_decoder)


def _start_decoder(folder: Path) -> Run:
    folder.mkdir()

    def run(name: str, content: bytes, rng: random.Random) -> bool:
        path = folder / name
        path.write_bytes(content)
        start = rng.choice([0, 0, 4000, 40_000])
        try:
            with open_audio(path, start_sample=start, max_duration_s=600) as audio:
                for block in audio.blocks():
                    assert block.dtype == np.float32
                    assert np.isfinite(block).all()
                assert all(isinstance(one, str) for one in audio.warnings)
        except AudioError:
            return False
        return True

    return run


def _archives(folder: Path) -> list[Target]:
    """Return archives of a few kB, so that most bytes are in headers."""
    files = [(f"{number}.wav", bytes([number]) * 300) for number in range(5)]
    files += [(f"{'long/' * 30}{number}é.wav", b"RIFF" * 100) for number in range(2)]
    tars = {"USTAR": tarfile.USTAR_FORMAT, "GNU": tarfile.GNU_FORMAT, "PAX": tarfile.PAX_FORMAT}
    zips = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}
    return [
        Target(
            "tar",
            {
                f"{name}.tar": write_tar(folder / f"{name}.tar", files, form).read_bytes()
                for name, form in tars.items()
            },
            _start_archive,
        ),
        Target(
            "zip",
            {
                f"{name}.zip": write_zip(folder / f"{name}.zip", files, method).read_bytes()
                for name, method in zips.items()
            },
            _start_archive,
        ),
    ]


def _start_archive(folder: Path) -> Run:
    folder.mkdir()

    def run(name: str, content: bytes, rng: random.Random) -> bool:
        path = folder / name
        path.write_bytes(content)
        try:
            found = walk(path)
        except LibraryError:
            return False
        for file in found.files:
            local = file.local(found.root)
            assert state_of(local) == (file.size, file.mtime_ns)
            with contextlib.suppress(AudioError):
                recording_digest(local)
        return not found.unreadable

    return run


# --- stores --------------------------------------------------------------------------------------


def _store(path: Path) -> Synthetic:
    """Two parts with frames, and two generations."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = make_store(path)
    made.add({"a": 2, "b": 1}, num_frames=1)
    build(made.store)
    made.add({"c": 2}, seed=1, num_frames=1)
    made.remove("b.wav")
    build(made.store)
    return made


def _store_targets(made: Synthetic) -> list[Target]:
    """Return the files of a store as they are, and with digests made to fit what was changed.

    The latter is no damage but forgery. It may not crash or hang a process, or fill its memory;
    what it raises is open, since every single value would have to be distrusted.
    """
    root = made.store.path
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.stat().st_size
    }
    index = {name: content for name, content in files.items() if name.startswith("index/")}
    rest = {name: content for name, content in files.items() if name not in index}
    documents = {name: content for name, content in files.items() if name.endswith(".json")}
    parquet = {name: content for name, content in rest.items() if name.endswith(".parquet")}
    vectors = unit(made.scene[0]).astype(np.float32)

    def read_parts(path: Path) -> None:
        store = Store.open(path)
        store.libraries()
        store.head()
        store.files_at(store.ledger().path_id)
        snapshot = store.snapshot()
        rows = np.arange(len(snapshot))
        snapshot.scene(rows)
        snapshot.frames(rows)
        snapshot.count_tags()

    def read_index(path: Path) -> None:
        opened = SoundIndex.open(path)
        ask(opened, Query(vectors=vectors, k=3))
        ask(opened, Query(filter=TagFilter(("Dog",), threshold=0.0), k=3))
        opened.num_new_parts()

    def read_all(path: Path) -> None:
        read_parts(path)
        read_index(path)

    def start(
        read: Callable[[Path], None],
        allowed: type[Exception] = StoreError,
        *,
        reseals: bool = False,
    ) -> Callable[[Path], Run]:
        return lambda folder: _start_store(root, folder, files, read, allowed, reseals=reseals)

    return [
        Target("parts", rest, start(read_parts)),
        Target("index", index, start(read_index)),
        Target("resealed parts", parquet, start(read_parts, Exception, reseals=True)),
        Target("resealed documents", documents, start(read_all, Exception, reseals=True)),
    ]


def _start_store(
    original: Path,
    folder: Path,
    files: Mapping[str, bytes],
    read: Callable[[Path], None],
    allowed: type[Exception],
    *,
    reseals: bool,
) -> Run:
    shutil.copytree(original, folder)

    def run(name: str, content: bytes, rng: random.Random) -> bool:
        (folder / name).write_bytes(content)
        if reseals:
            _reseal(folder / name, files[name], rng)
        try:
            read(folder)
        except allowed:
            return False
        finally:
            manifest = str((folder / name).with_name("manifest.json").relative_to(folder))
            for damaged in {name, manifest} & files.keys():
                (folder / damaged).write_bytes(files[damaged])
        return True

    return run


def _reseal(path: Path, original: bytes, rng: random.Random) -> None:
    """Give a changed file a manifest that vouches for it; change a document in its values."""
    if path.suffix == ".json":
        document = json.loads(original)
        document.pop("digest", None)
        key = rng.choice(sorted(document))
        path.write_bytes(seal({**document, key: changed(document[key], rng)}))
        return
    manifest_file = path.with_name(GENERATION_FILE)
    manifest = json.loads(manifest_file.read_bytes())
    del manifest["digest"]
    manifest["files"][path.name] = [path.stat().st_size, sha256_of(path)]
    manifest_file.write_bytes(seal(manifest))


_ODD: list[Any] = [
    *(None, True, 0, -1, 1, 2**31, 2**63, 2**70, 1e308, 0.5, "", "x", "../..", "a" * 300, [], {}),
    *("\0", "\ud800", [[]], [None], {"": 0}),
]


def changed(document: Any, rng: random.Random) -> Any:
    """Replace, drop or repeat one value somewhere in a document."""
    if isinstance(document, dict) and document and rng.random() < 0.85:
        key = rng.choice(sorted(document))
        if rng.random() < 0.1:
            return {name: value for name, value in document.items() if name != key}
        return {**document, key: changed(document[key], rng)}
    if isinstance(document, list) and document and rng.random() < 0.7:
        at = rng.randrange(len(document))
        if rng.random() < 0.3:
            return [*document, *document]
        return [*document[:at], changed(document[at], rng), *document[at + 1 :]]
    return rng.choice(_ODD)


# --- checkpoints ---------------------------------------------------------------------------------


def _checkpoint() -> Target:
    torch.manual_seed(0)
    weights = ConvNeXt(depths=(1, 1, 1, 1), dims=(2, 2, 2, 768)).state_dict()
    # One value for all of a tensor, so that most bytes are in the headers.
    small = {name: tensor.clone() for name, tensor in weights.items()}
    seeds = {
        "a.safetensors": save_safetensors({name: one.numpy() for name, one in small.items()}),
        "a.pth": _saved({"model": small}, new_format=True),
        "old.pt": _saved(small, new_format=False),
    }
    return Target("checkpoint", seeds, _start_checkpoint)


def _saved(content: object, *, new_format: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=new_format)
    return file.getvalue()


def _start_checkpoint(folder: Path) -> Run:
    folder.mkdir()

    def run(name: str, content: bytes, rng: random.Random) -> bool:
        path = folder / name
        path.write_bytes(content)
        try:
            load_checkpoint(path)
        except CheckpointError:
            return False
        return True

    return run
