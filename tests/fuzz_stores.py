"""Whole stores, damaged and forged, through the command: `make fuzz` runs it.

    python tests/fuzz_stores.py [NUMBER [SEED]]

A store is changed in one of the ways of `KINDS`, some of them with digests that fit what was
changed, as a stranger would make it. Every command of `COMMANDS` is run on it, each in a process
with limits. It may refuse in one line. A traceback, a signal, no end, and a file outside of the
store that is not as it was are findings; the store is kept in ./fuzz-findings.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz import limit, mutated, say
from fuzz_targets import changed
from sketched import sketching
from synthetic import make_store

from indexer.store.disk import seal, sha256_of
from search.upkeep.build import build
from soundalike.__main__ import main

#: A command may take this long, in seconds; the slowest honest one takes one.
TIME_LIMIT_S = 30
#: Exit codes that are documented.
CODES = {0, 1, 2, 3, 4}

#: Each with STORE for the store, ID for a window in it and OUT for a folder beside it.
COMMANDS = [
    "info STORE",
    "search STORE --tag Dog -k 3",
    "search STORE ID -k 3 --include-self --format json",
    "search STORE ID -k 2 --tag Speech --threshold 0.01",
    "search STORE --where duration>2 --format m3u",
    "tags STORE",
    "files STORE --format json",
    "duplicates STORE",
    "verify STORE",
    "export csv STORE --output OUT/a.csv",
    "export npy STORE --output OUT/a.npy",
    "export labels STORE --output OUT/labels --threshold 0.4 --tag Dog",
    "build STORE",
    "compact STORE",
    "info STORE --format json",
]


#: What the commands load.
LOADED = [
    *("faiss", "h5py", "lark", "soundalike.sounds", "soundalike.cli.app", "search.upkeep.build"),
    *("search.asking.browse", "search.asking.duplicates", "search.asking.terms"),
    *("search.export.label_files", "search.export.windows", "search.filters.expression"),
]


def make(folder: Path) -> Path:
    """Make the store that is changed: two parts, some words that failed, and a sketch."""
    made = make_store(folder / "store", frames="pooled")
    made.add({"a": 290, "b": 3})
    made.add({"c": 2})
    made.add_rows([made.row("bad.wav", None, "failed")])
    with sketching():
        build(made.store)
    return made.store.path


def files_of(store: Path, *suffixes: str) -> list[str]:
    """Return the files of a store that are not empty, relative to it, sorted."""
    found = (one for one in store.rglob("*") if one.is_file() and one.stat().st_size)
    names = (str(one.relative_to(store)) for one in found if not one.name.startswith("."))
    return sorted(name for name in names if not suffixes or name.endswith(suffixes))


# --- kinds of changes: each changes one file of a store, and returns which ----------------------


def blind(store: Path, rng: random.Random) -> str:
    """Bytes, anywhere."""
    name = rng.choice(files_of(store))
    content = (store / name).read_bytes()
    (store / name).write_bytes(mutated(rng, content, content[::-1]))
    return name


def blind_resealed(store: Path, rng: random.Random) -> str:
    """Bytes of what a manifest vouches for, with a manifest that goes on doing so."""
    name = rng.choice(files_of(store, ".parquet", ".raw", ".arrow", ".txt", ".faiss"))
    content = (store / name).read_bytes()
    (store / name).write_bytes(mutated(rng, content, content[::-1]))
    reseal(store, name)
    return name


def sketch(store: Path, rng: random.Random) -> str:
    """Numbers of a sketch or of what is told of it, with digests that fit."""
    names = [name for name in files_of(store, ".raw", ".faiss") if "/sketch" in name]
    name = rng.choice([*names, None])
    if name:
        return scatter(store, name, rng)
    (file,) = store.glob("index/0*/manifest.json")
    held = json.loads(file.read_bytes())
    del held["digest"]
    told = rng.choice([one["sketch"] for one in held["segments"]] + [held["effort"]])
    key = rng.choice(sorted(told))
    told[key] = changed(told[key], rng)
    file.write_bytes(seal(held))
    return str(file.relative_to(store))


def document(store: Path, rng: random.Random) -> str:
    """A value of a document, with a digest that fits."""
    name = rng.choice(files_of(store, ".json"))
    held = json.loads((store / name).read_bytes())
    held.pop("digest", None)
    key = rng.choice(sorted(held))
    (store / name).write_bytes(seal({**held, key: changed(held[key], rng)}))
    return name


def rows(store: Path, rng: random.Random) -> str:
    """Values of a column of a part, with digests that fit."""
    name = rng.choice(files_of(store, ".parquet"))
    table = pq.read_table(store / name)
    at = rng.randrange(len(table.schema))
    field = table.schema.field(at)
    values = table[field.name].to_pylist()
    for row in rng.sample(range(len(values)), min(len(values), rng.choice([1, 3, len(values)]))):
        values[row] = odd_value(field, rng)
    table = table.set_column(at, field, pa.chunked_array([pa.array(values, field.type)]))
    flat = not name.endswith("files.parquet")
    pq.write_table(
        table, store / name, compression="none" if flat else "zstd", use_dictionary=not flat
    )
    reseal(store, name)
    return name


def numbers(store: Path, rng: random.Random) -> str:
    """Numbers of an array of the index, with digests that fit."""
    return scatter(store, rng.choice(files_of(store, ".raw")), rng)


def scatter(store: Path, name: str, rng: random.Random) -> str:
    """Put odd numbers into a file, with digests that fit."""
    content = np.fromfile(store / name, np.uint8)
    width = rng.choice([1, 2, 4, 8])
    values = content[: len(content) // width * width].view(f"<u{width}")
    at = rng.choices(range(len(values)), k=rng.choice([1, 5, 50]))
    values[at] = rng.choice([0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 127, 2**7 * width])
    content.tofile(store / name)
    reseal(store, name)
    return name


def places(store: Path, rng: random.Random) -> str:
    """Rows of the index's file of recordings, with digests that fit."""
    name = rng.choice(files_of(store, ".arrow"))
    table = pa.ipc.open_file(store / name).read_all()
    columns = {one: table[one].to_pylist() for one in table.column_names}
    column = rng.choice(sorted(columns))
    row = rng.randrange(len(table))
    columns[column][row] = odd_value(table.schema.field(column), rng)
    table = pa.table(columns, table.schema)
    if rng.random() < 0.3:
        table = table.slice(rng.randrange(len(table)))
    with pa.OSFile(str(store / name), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table)
    reseal(store, name)
    return name


def shape(store: Path, rng: random.Random) -> str:
    """A file that is missing, another's, a folder, a link, a pipe or an endless device."""
    name = rng.choice(files_of(store))
    path, victim = store / name, store.parent / "victim"
    content = path.read_bytes()
    path.unlink()
    match rng.randrange(7):
        case 0:
            pass
        case 1:
            path.write_bytes((store / rng.choice(files_of(store))).read_bytes())
        case 2:
            path.mkdir()
        case 3:
            path.symlink_to(victim / "thesis.tex")
        case 4:
            os.mkfifo(path)
        case 5:
            path.symlink_to("/dev/zero")
        case 6:
            path.write_bytes(content)
            folder = path.parent
            if folder != store:
                shutil.rmtree(folder)
                folder.symlink_to(victim)
                return str(folder.relative_to(store))
    return name


KINDS: dict[str, Callable[[Path, random.Random], str]] = {
    one.__name__: one
    for one in (blind, blind_resealed, document, rows, numbers, sketch, places, shape)
}


def odd_value(field: pa.Field, rng: random.Random) -> Any:
    """Return a value that a column could hold and should not."""
    kind = field.type
    if field.nullable and rng.random() < 0.2:
        return None
    if pa.types.is_integer(kind):
        low, high = (-(2**31), 2**31 - 1) if kind.bit_width == 32 else (-(2**63), 2**63 - 1)
        return rng.choice([0, 1, -1, low, high, 12_345])
    if pa.types.is_floating(kind):
        return rng.choice([float("nan"), float("inf"), float("-inf"), 1e30, -81.0, 0.0])
    if pa.types.is_fixed_size_binary(kind):
        return rng.choice([bytes(16), b"\xff" * 16, rng.randbytes(16)])
    if pa.types.is_fixed_size_list(kind):
        number = rng.choice([float("nan"), float("inf"), -1.0, 1e4, 0.0])
        return [np.float16(number)] * kind.list_size
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return rng.choice([b"", b"\0", b"../../victim", rng.randbytes(99)])
    texts = ("", "x", "../../victim/thesis.tex", "/etc/passwd", "\x1b[2J\x1b]0;x\x07", "a\0b")
    return rng.choice(
        [*texts, "ok", "gone", "\u202egpj.exe", r"\xff\xzz\x", "y" * 5000, "a/" * 900]
    )


def reseal(store: Path, name: str) -> None:
    """Give the manifests that name a file its size and digest."""
    path = store / name
    told = [path.stat().st_size, sha256_of(path)]
    for manifest in store.rglob("manifest.json"):
        held = json.loads(manifest.read_bytes())
        del held["digest"]
        for files in (
            held["files"] if manifest.parent == path.parent else {},
            *(one["files"] for one in held.get("segments", ()) if one["name"] == path.parent.name),
        ):
            if path.name in files:
                files[path.name] = told
        manifest.write_bytes(seal(held))


# --- running -------------------------------------------------------------------------------------


def in_child(work: Callable[[], None], printed: Path) -> int:
    """Do something in a process with limits; return its exit code, or the signal below 0."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            limit()
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            signal.alarm(TIME_LIMIT_S)
            work()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException:  # noqa: BLE001 - printed, and a finding
            os.write(2, traceback.format_exc().encode())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Told(NamedTuple):
    """How a command ended.

    Attributes:
        command: Of `COMMANDS`.
        code: Its exit code, or below 0 the signal that ended it.
        printed: What it printed.
    """

    command: str
    code: int
    printed: str

    @property
    def finding(self) -> str | None:
        """What should not have happened, in one line."""
        if self.code not in CODES or "Traceback" in self.printed:
            last = self.printed.strip().splitlines()[-1:] or [""]
            return f"{self.command}: exit {self.code}: {last[0][:300]}"
        if "\x1b" in self.printed:
            return f"{self.command}: an escape sequence reached the terminal"
        return None


def run_command(words: list[str]) -> None:
    """Run the command, as the installed script does."""
    sys.argv = ["soundalike", *words]
    main()


def run_commands(store: Path, window: str) -> Iterator[Told]:
    """Run every command on a store, where nothing else is beside it."""
    out, printed = store.parent / "out", store.parent / "printed"
    for command in COMMANDS:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        places = {"STORE": store, "ID": window, "OUT": out}
        words = command
        for name, place in places.items():
            words = words.replace(name, str(place))

        code = in_child(partial(run_command, words.split()), printed)
        yield Told(command, code, printed.read_text(errors="replace"))


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    files = (one for one in folder.rglob("*") if one.is_file())
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}


def fuzz_stores(number: int, seed: int, kinds: list[str]) -> int:
    """Change so many stores, one kind after the other, run all commands on each, and say it.

    Returns:
        How much should not have happened.
    """
    for module in LOADED:  # once, and not in every process
        importlib.import_module(module)
    num_found = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-stores-") as scratch:
        made = Path(scratch, "made")
        in_child(lambda: (make(made), None)[1], Path(scratch, "printed"))
        scene = pq.read_table(next(made.rglob("scene.parquet")))
        window = str(scene["window_id"][0].as_py())
        for told in run_commands(
            Path(shutil.copytree(made, f"{scratch}/as-made"), "store"), window
        ):
            if told.code not in (0, 3):  # 3: its library is not there
                raise RuntimeError(f"the store as it was made: {told}")
        for place, kind in enumerate(kinds_of(number, kinds)):
            work = Path(scratch, str(place))
            shutil.copytree(made, work)
            name, findings = fuzz_one(work, kind, random.Random(f"{seed}-{place}"), window)
            for finding in findings:
                say(f"  {kind} {place} ({name}): {finding}")
            if findings:
                shutil.copytree(work, f"fuzz-findings/store-{seed}-{place}-{kind}", symlinks=True)
            num_found += len(findings)
            shutil.rmtree(work)
    say(", ".join(f"{kind} {count}" for kind, count in Counter(kinds_of(number, kinds)).items()))
    return num_found


def kinds_of(number: int, kinds: list[str]) -> list[str]:
    """Return the kind of each of so many stores."""
    return [kinds[place % len(kinds)] for place in range(number)]


def fuzz_one(work: Path, kind: str, rng: random.Random, window: str) -> tuple[str, list[str]]:
    """Change a store, and run all commands on it; keep it beside as it was changed.

    Returns:
        The file that was changed, and what should not have happened.
    """
    store, victim = work / "store", work / "victim"
    for file in ("photos/a.jpg", "00000001-0123abcd/b", f"{1:032x}/c", "thesis.tex"):
        (victim / file).parent.mkdir(parents=True, exist_ok=True)
        (victim / file).write_text("precious")
    before = contents(victim)
    name = KINDS[kind](store, rng)
    if kind != "shape":  # pipes cannot be copied
        shutil.copytree(store, work / "changed")
    findings = [found for told in run_commands(store, window) if (found := told.finding)]
    if contents(victim) != before:
        findings.append("what is outside of the store was touched")
    for pipe in store.rglob("*"):
        if pipe.is_fifo():
            pipe.unlink()
    return name, findings


def run() -> int:
    """Fuzz stores, say what was found, and return the exit code."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 2**32
    kinds = sys.argv[3:] or list(KINDS)
    say(f"seed {seed}")
    return 1 if fuzz_stores(number, seed, kinds) else 0


if __name__ == "__main__":
    sys.exit(run())
