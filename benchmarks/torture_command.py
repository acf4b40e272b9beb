"""What `torture.py` does through the command: links, full disks, odd names and dates, signals.

Each trial yields what it tried and how much of it was lost, doubled, harmed or not reported.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bad_files
from store_content import content_of, difference, leftovers
from torture_row import Row

from indexer.paths import text_from_bytes

#: Windows of a second, so that most of the time goes into what is tested here.
_INDEX = ("index", "--checkpoint", "demo", "--native", "--quiet", "--workers", "2")
#: Dates before and after those that 64 bits of nanoseconds hold, and before 1970: in s.
_DATES_S = (13_569_465_600, 9_300_000_000, -1, -11_644_473_600)
_NAMES = (
    *(b"x" * 251 + b".wav", b"...And Justice for All/1.wav", b"=1+1.wav", b"-rf.wav", b"a\nb.wav"),
    *("é.wav".encode(), "e\u0301.wav".encode(), b"caf\xe9.wav", "\u202egpj.wav".encode(), b"@.wav"),
)
_MANY = 40


def command(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    given = [sys.executable, "-m", "soundalike", *map(str, words)]
    return subprocess.run(
        given,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        **options,  # type: ignore[call-overload, no-any-return]
    )


def is_one_line(told: subprocess.CompletedProcess[str], *said: str) -> bool:
    """Whether a command refused in one line that says something."""
    line = told.stderr.strip()
    return told.returncode == 1 and "\n" not in line and all(one in line for one in said)


class Bench:
    """A small library, and the store that is made from it without any trouble."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = folder / "library"
        bad_files.write_library(self.library, _MANY, 0)
        self.store = folder / "reference"
        self.index(self.store)
        self.content = content_of(self.store)

    def index(self, store: Path) -> None:
        told = command(*_INDEX, self.library, "--store", store, "--hidden")
        assert told.returncode == 0, told.stderr

    def victim(self) -> tuple[Path, dict[str, bytes]]:
        """Make a folder of somebody's, and return it with what is in it."""
        victim = self.folder / "victim"
        for name in ("photos/a.jpg", "00000001-0123abcd/b", f"{1:032x}/c", "thesis.tex"):
            (victim / name).parent.mkdir(parents=True, exist_ok=True)
            (victim / name).write_text("precious")
        return victim, held(victim)


def held(folder: Path) -> dict[str, bytes]:
    files = (one for one in folder.rglob("*") if one.is_file())
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}


def links(bench: Bench) -> Iterator[Row]:
    """Each part of a store is a link to somebody's; every command that changes a store is run."""
    victim, before = bench.victim()
    tried = harmed = unreported = 0
    for name in ("index", "index/segments", "parts", ".writer.lock", "index/.lock", "store.json"):
        store = bench.folder / "linked"
        shutil.copytree(bench.store, store)
        target = victim / "thesis.tex" if "lock" in name or "json" in name else victim
        shutil.rmtree(store / name, ignore_errors=True)
        (store / name).unlink(missing_ok=True)
        (store / name).symlink_to(target)
        (bench.library / "new.wav").write_bytes((bench.library / "0" / "21.flac").read_bytes())
        for words in (
            ("build", store),
            ("compact", store),
            (*_INDEX, bench.library, "--store", store),
        ):
            told = command(*words)
            touches = not (words[0] == "build" and name == ".writer.lock")
            unreported += touches and "is a symbolic link" not in told.stderr
            tried += 1
            harmed += held(victim) != before
        (bench.library / "new.wav").unlink()
        shutil.rmtree(store)
    yield Row("links in a store", tried, tried - harmed, 0, 0, unreported, 0.0, "", harmed)


def full_exports(bench: Bench) -> Iterator[Row]:
    """The disk is full while something is exported over a former file."""
    disk = bench.folder / "small"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        yield Row("full disks at exports", 0, 0, 0, 0, 0, 0.0, "left out: no right to mount")
        return
    tried = unreported = harmed = 0
    try:
        for form in ("csv", "jsonl", "npy"):
            target = disk / f"a.{form}"
            target.write_text("the former export")
            fill(disk)
            told = command("export", form, bench.store, "--output", target, "--force")
            tried += 1
            unreported += not is_one_line(told, str(target), "No space left")
            harmed += target.read_text() != "the former export" or len(list(disk.iterdir())) != 2
            target.unlink()
        table = disk / "a.parquet"
        told = command("batch", bench.store, bench.store, "--output", table)
        tried += 1
        unreported += not is_one_line(told, str(table), "No space left")
        harmed += len(list(disk.iterdir())) != 1
    finally:
        subprocess.run(["umount", disk], check=False)
    yield Row("full disks at exports", tried, tried - harmed, 0, 0, unreported, 0.0, "", harmed)


def fill(disk: Path) -> None:
    """Leave no room on a small disk."""
    with contextlib.suppress(OSError), (disk / "ballast").open("ab") as file:
        while True:
            file.write(bytes(4096))
            file.flush()


def names_and_dates(bench: Bench) -> Iterator[Row]:
    """Names that are too long, hidden, formulas, options, not text; dates that no clock shows."""
    library, store = bench.folder / "odd", bench.folder / "odd.soundalike"
    paths = [library / os.fsdecode(name) for name in _NAMES]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((bench.library / "0" / "21.flac").read_bytes() + bytes([number]))
        date_s = _DATES_S[number % len(_DATES_S)]
        with contextlib.suppress(OSError):  # the disk does not have that date
            os.utime(path, (date_s, date_s))
    words = (*_INDEX, library, "--store", store, "--hidden")
    first, second = command(*words), command(*words)
    content = content_of(store)
    wanted = {text_from_bytes(os.fsencode(path.relative_to(library))) for path in paths}
    lost = len(wanted - {path for path, row in content.ledger.items() if row[0] == "ok"})
    out = bench.folder / "odd.out"
    out.mkdir()
    exports = [
        command("export", "csv", store, "--output", out / "a.csv"),
        command("export", "labels", store, "--output", out / "labels", "--threshold", "0.01"),
        command("search", store, "--tag", "Speech", "--threshold", "0", "--copy-to", out / "clips"),
        command("files", store, "--format", "csv"),
    ]
    unreported = sum(told.returncode not in (0, 3) for told in (first, second, *exports))
    lost += len(wanted) - len(list((out / "labels").rglob("*.txt")))
    doubled = content.num_stored - content.num_distinct
    yield Row("odd names and dates", len(paths), len(paths) - lost, lost, doubled, unreported, 0.0)


def small_shared_memory(bench: Bench) -> Iterator[Row]:
    """/dev/shm is small, or read-only, as in a container."""
    tried = lost = doubled = unreported = 0
    for options in ("size=64k", "size=1m", "ro"):
        store = bench.folder / f"shm-{options}"
        script = f'mount -t tmpfs -o {options} tmpfs /dev/shm && exec "$@"'
        words = [sys.executable, "-m", "soundalike", *_INDEX, bench.library, "--store", store]
        given = ["unshare", "-m", "sh", "-c", script, "sh", *map(str, words), "--hidden"]
        told = subprocess.run(given, capture_output=True, text=True, check=False)
        if "unshare" in told.stderr or "mount" in told.stderr:
            yield Row("small /dev/shm", 0, 0, 0, 0, 0, 0.0, "left out: no right to mount")
            return
        tried += 1
        unreported += "/dev/shm" not in told.stderr
        missing, more = difference(bench.content, content_of(store))
        lost, doubled = lost + missing, doubled + more
    yield Row("small /dev/shm", tried, tried, lost, doubled, unreported, 0.0)


def signals(bench: Bench, num_runs: int, rng: random.Random) -> Iterator[Row]:
    """Ctrl-C twice and three times, and a terminal that is closed, at random moments."""
    trials = {
        "Ctrl-C, two or three times": (signal.SIGINT, 130),
        "a terminal that is closed": (signal.SIGHUP, 129),
    }
    for number, (name, (one, code)) in enumerate(trials.items()):
        store = bench.folder / f"signalled-{number}"
        unreported = 0
        for _ in range(num_runs):
            unreported += not is_told(bench, store, one, code, rng)
        if store.exists() and not (store / "store.json").exists():
            shutil.rmtree(store)  # told before anything was written
        bench.index(store)
        lost, doubled = difference(bench.content, content_of(store))
        doubled += leftovers(store)
        yield Row(name, num_runs, num_runs, lost, doubled, unreported, 0.0)


def is_told(bench: Bench, store: Path, one: signal.Signals, code: int, rng: random.Random) -> bool:
    """Tell a run to end, several times; return whether it ended so, and without a trace."""
    words = [
        sys.executable,
        "-m",
        "soundalike",
        *_INDEX,
        bench.library,
        "--store",
        store,
        "--hidden",
    ]
    with subprocess.Popen(
        [*map(str, words)], stderr=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,
    ) as process:  # fmt: skip
        time.sleep(rng.uniform(1.0, 9.0))
        for _ in range(rng.choice([2, 3])):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, one)
            time.sleep(0.15)
        assert process.stderr
        said = process.stderr.read()
    return process.returncode in (0, code) and "Traceback" not in said


def by_command(folder: Path, num_runs: int) -> Iterator[Iterator[Row]]:
    """Yield all trials of this file."""
    bench = Bench(folder)
    yield links(bench)
    yield full_exports(bench)
    yield names_and_dates(bench)
    yield small_shared_memory(bench)
    yield signals(bench, num_runs, random.Random(0))
