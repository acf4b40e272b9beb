"""Damage in any file of a real store: `verify` names the file, and no command does worse than fail.

The commands run in a process of their own: Parquet and FAISS are native code, and what a damaged
file does to them might end the process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Run
from safetensors.torch import save_file
from synthetic import write_tone
from test_extract import IN_PROCESS

import soundalike
from indexer.embedding.extractor import Extractor
from indexer.errors import SoundalikeError, StoreError
from indexer.model.checkpoint import load_checkpoint
from indexer.run.extract import extract
from indexer.store.creation import create_store
from indexer.store.reader import Store
from indexer.store.verify import Problem
from indexer.windows import Geometry
from search.upkeep.build import build
from search.upkeep.compact import compact
from search.upkeep.overview import overview
from search.upkeep.verify import verify

#: Runs in the other process: folder, number of flipped bytes in each file, share of the others.
SWEEP = "from test_damage import sweep; import sys; sweep(sys.argv[1], *map(float, sys.argv[2:]))"


@pytest.fixture(scope="module")
def folder(
    whole: None, tmp_path_factory: pytest.TempPathFactory, tiny_extractor: Extractor
) -> Path:
    """A library, its checkpoint, and its store: two parts, two generations."""
    folder = tmp_path_factory.mktemp("damage")
    save_file(tiny_extractor.checkpoint.model.state_dict(), folder / "tiny.safetensors")
    store = create_store(
        folder / "store",
        tiny_extractor.identity(Geometry()),
        tiny_extractor.head(),
        checkpoint=str(folder / "tiny.safetensors"),
        written_by="tests",
    )
    library = folder / "library"
    write_tone(library / "a.wav", 12.0, 300)
    (library / "broken.wav").write_text("not audio")
    for name in ("b.wav", "c.flac"):
        extract(library, store, tiny_extractor, IN_PROCESS)
        build(store)
        write_tone(library / name, 2.0, 500)
    (library / "c.flac").unlink()
    return folder


def files_of(store: Path) -> list[Path]:
    """All files, but for the locks, which are empty or say who holds them."""
    found = sorted(path for path in store.rglob("*") if path.is_file())
    return [path for path in found if "lock" not in path.name]


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """One byte is another: anywhere, or near an end, where headers are."""
    size = len(content)
    at = int(rng.integers(size))
    if size > 2000 and rng.random() < 0.6:
        at = int(rng.choice([rng.integers(1000), size - 1 - rng.integers(1000)]))
    changed = bytearray(content)
    changed[at] ^= int(rng.integers(1, 256))
    return bytes(changed)


def zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    """A block that the disk lost."""
    at = int(rng.integers(len(content)))
    return content[:at] + bytes(len(content[at : at + 512])) + content[at + 512 :]


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(1, len(content)))] if len(content) > 1 else b""


Damage = Callable[[bytes, np.random.Generator], bytes | None]
OTHERS: dict[str, Damage] = {
    "zeroed": zeroed,
    "cut": cut,
    "empty": lambda content, rng: b"",
    "grown": lambda content, rng: content + b"\0",
    "missing": lambda content, rng: None,
}


def cases(
    store: Path, num_flips: int, share: float, rng: np.random.Generator
) -> Iterator[tuple[Path, str, bytes | None]]:
    """Yield file, kind of damage, and what the file then holds; None if it is missing."""
    for file in files_of(store):
        content = file.read_bytes()
        kinds: list[tuple[str, Damage]] = [("flipped", flipped)] * num_flips
        kinds += [pair for pair in OTHERS.items() if rng.random() < share]
        for kind, damage in kinds if content else ():
            damaged = damage(content, rng)
            if damaged != content:
                yield file.relative_to(store), kind, damaged


def commands(path: Path, library: Path, extractor: Extractor) -> dict[str, Callable[[], object]]:
    """What each command does; those that write come last."""
    return {
        "info": lambda: overview(path),
        "tags": lambda: Store.open(path).snapshot().count_tags(),
        "search by tag": lambda: soundalike.open(path).search(tags="Dog", threshold=0.0),
        "search by id": lambda: soundalike.open(path).search(first_id(path), include_self=True),
        "compact": lambda: compact(path),
        "extract": lambda: extract(library, Store.open(path), extractor, IN_PROCESS),
        "build": lambda: build(Store.open(path)),
    }


def first_id(path: Path) -> int:
    return int(Store.open(path).snapshot().windows.window_id[0])


def problems_of(path: Path) -> list[Problem]:
    """What `verify` says; without its first document there is no store to be verified."""
    try:
        return verify(path)
    except StoreError as error:
        return [Problem(path / "store.json", str(error))]


def sweep(folder: str, num_flips: float, share: float) -> None:
    """Damage a copy of a store in many ways, and try every command on it."""
    rng = np.random.default_rng(0)
    original, library = Path(folder, "store"), Path(folder, "library")
    extractor = Extractor(load_checkpoint(Path(folder, "tiny.safetensors")), device="cpu")
    assert problems_of(original) == []
    for number, (name, kind, content) in enumerate(cases(original, int(num_flips), share, rng)):
        sys.stdout.write(f"{name} {kind}\n")  # the last line names what ended this process
        sys.stdout.flush()
        copy = Path(shutil.copytree(original, Path(folder, "copies", str(number))))
        (copy / name).unlink()
        if content is not None:
            (copy / name).write_bytes(content)
        assert copy / name in [one.path for one in problems_of(copy)], f"{kind} {name} not named"
        for command, call in commands(copy, library, extractor).items():
            sys.stdout.write(f"  {command}\n")
            with suppress(SoundalikeError):  # anything else ends this process with a traceback
                call()
        shutil.rmtree(copy)
    sys.stdout.write("done\n")


def run_sweep(folder: Path, num_flips: int, share: float) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SWEEP, str(folder), str(num_flips), str(share)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{result.returncode}: {result.stdout[-200:]}{result.stderr}"
    assert result.stdout.endswith("done\n")


@pytest.mark.whole
def test_damage_in_any_file_is_named_by_verify_and_no_command_crashes(folder: Path) -> None:
    run_sweep(folder, num_flips=1, share=0.15)


@pytest.mark.slow
def test_damage_of_every_kind_everywhere_is_named_and_no_command_crashes(folder: Path) -> None:
    run_sweep(folder, num_flips=15, share=1.0)


@pytest.mark.whole
@pytest.mark.parametrize("name", ["store.json", "head.safetensors", "scene.parquet", "CURRENT"])
def test_damage_is_one_line_and_exit_code_1_or_harmless(
    run: Run, folder: Path, tmp_path: Path, name: str
) -> None:
    store = Path(shutil.copytree(folder / "store", tmp_path / "store"))
    window_id = first_id(store)
    damaged = next(file for file in files_of(store) if file.name == name)
    content = bytearray(damaged.read_bytes())
    content[-5] ^= 0x55  # of Parquet, in the length of what describes it
    damaged.write_bytes(content)
    outcome = run("verify", store, code=1)
    assert name in outcome.out + outcome.err
    words = ("--checkpoint", folder / "tiny.safetensors", "--workers", "0")
    for command in (
        ("info", store),
        ("tags", store),
        ("search", store, window_id),
        ("search", store, "--not-tag", "Dog"),
        ("extract", folder / "library", store, *words),
        ("build", store),
    ):
        outcome = run(*command, code=None)
        assert outcome.code in (0, 1, 3)
        assert "Traceback" not in outcome.err
        if outcome.code == 1:
            assert len(outcome.err.splitlines()) == 1
