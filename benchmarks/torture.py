"""Everything that goes wrong, on one library: kills, broken files, changes, full disks, damage.

    python benchmarks/torture.py                  1,000 files, 100 of them bad in 25 ways, 20 kills
    python benchmarks/torture.py --brief --files 60 --kills 2

Prints a table and ends with exit code 1 if anything was lost, doubled, harmed or not reported.
Started as root, the work is done by a user without rights, so that locked files are locked; the
trials that need a disk of their own are left out otherwise, and the table says so.

The embeddings are those of the demo checkpoint; windows are as long as their recordings (`native`),
so that most of the time goes into what is tested here, and not into the network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import bad_files
import numpy as np
from store_content import Content, content_of, difference, leftovers
from torture_command import by_command
from torture_row import Row
from torture_work import NOBODY, PART_WINDOWS, count_file

import soundalike
from indexer.errors import SoundalikeError
from indexer.paths import text_from_bytes
from indexer.store.reader import Store
from search.upkeep.build import build
from search.upkeep.verify import verify


class Outcome(NamedTuple):
    """What a child process did: exit code, its report, and the error it printed."""

    code: int
    report: dict[str, Any]
    error: str


# --- the work, in a process of its own -----------------------------------------------------------


@contextlib.contextmanager
def started(what: str, store: Path, library: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start the work in a child, and wait until it is about to begin."""
    script = Path(__file__).with_name("torture_work.py")
    words = [sys.executable, script, what, store, *([library] if library else [])]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        try:
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                assert process.stderr
                raise RuntimeError(f"the work did not begin: {process.stderr.read()}")
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[str]) -> Outcome:
    out, error = process.communicate()
    report = json.loads(out) if process.returncode == 0 else {}
    return Outcome(process.returncode, report, "".join(error.splitlines()[-1:]))


def run(store: Path, library: Path) -> Outcome:
    with started("run", store, library) as process:
        return finished(process)


def name_of(path: Path) -> str:
    """Return a path as a store has it."""
    return text_from_bytes(os.fsencode(path))


def peak(outcome: Outcome) -> float:
    return float(outcome.report.get("peak_mb", 0.0))


# --- the trials ----------------------------------------------------------------------------------


class Torture:
    """A library, a store made from it without any trouble, and what is done to others like it."""

    def __init__(self, folder: Path, num_files: int, num_kills: int) -> None:
        self.folder, self.num_kills = folder, num_kills
        self.random = random.Random(0)
        num_bad = max(len(bad_files.KINDS), num_files // 10)
        self.library = bad_files.write_library(folder / "library", num_files - num_bad, num_bad)
        own(folder)
        self.reference = folder / "reference"

    def untroubled(self) -> Iterator[Row]:
        """A run that nothing happens to; only the files are bad."""
        outcome = run(self.reference, self.library.root)
        assert outcome.code == 0, outcome.error
        content = self.content = content_of(self.reference)
        ok = sum(content.ledger.get(name_of(p), ("",))[0] == "ok" for p in self.library.good)
        doubled = content.num_stored - content.num_distinct
        yield Row(
            "good files, strange names among them",
            len(self.library.good), ok, len(self.library.good) - ok, doubled, 0, peak(outcome),
        )  # fmt: skip
        told = 0
        for path in self.library.bad:
            status, stage, *_, warnings = content.ledger.get(name_of(path), ("", "", None))
            told += bool((status == "failed" and stage) or (status == "ok" and warnings))
        tried = len(self.library.bad)
        kinds = len(set(self.library.bad.values()))
        yield Row(f"bad files, in {kinds} ways", tried, tried, 0, 0, tried - told, peak(outcome))

    def kills(self) -> Iterator[Row]:
        """SIGKILL at random moments, then a run to the end: the same store as without."""
        store = self.folder / "killed"
        for _ in range(self.num_kills):
            with started("run", store, self.library.root) as process:
                time.sleep(self.random.uniform(0.0, 6.0))
                process.kill()
                process.wait()
        outcome = run(store, self.library.root)
        assert outcome.code == 0, outcome.error
        lost, doubled = difference(self.content, content_of(store))
        needed, computed = num_computed(self.reference), num_computed(store)
        yield Row(
            "kills of a run", self.num_kills, self.num_kills, lost,
            doubled + leftovers(store), 0, peak(outcome),
            f"{computed - needed} windows were computed twice, of {needed}; "
            f"a part has {PART_WINDOWS}",
        )  # fmt: skip

    def two_writers(self) -> Iterator[Row]:
        """Three runs at once on one store."""
        store = self.folder / "shared"
        with contextlib.ExitStack() as stack:
            library = self.folder / "library of three"
            bad_files.write_library(library, 40, 0)
            own(library)
            runs = [stack.enter_context(started("run", store, library)) for _ in range(3)]
            outcomes = [finished(one) for one in runs]
        content = content_of(store)
        embedded = sum(one.report["windows"] for one in outcomes)
        doubled = embedded - len(content.windows) + content.num_stored - content.num_distinct
        lost = 40 - sum(row[0] == "ok" for row in content.ledger.values())
        ended = sum(one.code == 0 for one in outcomes)
        yield Row("runs at once on one store", 3, ended, lost, doubled, 0, max(map(peak, outcomes)))

    def changes(self) -> Iterator[Row]:
        """The library moves; files are renamed, edited, deleted and added."""
        store = self.folder / "followed"
        copy_of(self.reference, store)
        moved = self.library.root.rename(self.folder / "library moved")
        self.library = self.library._replace(root=moved)
        outcome = run(store, moved)
        lost, doubled = difference(self.content, content_of(store))
        wasted = outcome.report["windows"]
        survived = int(outcome.code == 0)
        yield Row("move of the library", 1, survived, lost, doubled + wasted, 0, peak(outcome))
        plain = [path for path in self.library.good if len(path.parts) == 2]
        chosen = self.random.sample(plain, min(40, len(plain) // 5 * 4))
        quarter = len(chosen) // 4
        renamed, edited, deleted, added = (chosen[n * quarter :][:quarter] for n in range(4))
        new = 0
        for number, path in enumerate(renamed):
            (moved / path).rename(moved / path.with_stem(f"renamed {number}"))
        for number, path in enumerate([*edited, *(p.with_stem(f"added {p.stem}") for p in added)]):
            bad_files.soundfile.write(
                moved / path, bad_files.tone(2.0, 9000 + number), bad_files.RATE_HZ
            )
            new += 1
        for path in deleted:
            (moved / path).unlink()
        own(moved)
        outcome = run(store, moved)
        content = content_of(store)
        files = {name_of(p.relative_to(moved)) for p in moved.rglob("*") if not p.is_dir()}
        states = {path: row[0] for path, row in content.ledger.items()}
        lost = sum(states.get(path) not in ("ok", "failed") for path in files)
        stale = sum(state == "ok" and path not in files for path, state in states.items())
        wasted = outcome.report["windows"] - new
        told = outcome.report["moved"] + outcome.report["gone"]
        yield Row(
            "files renamed, edited, deleted, added", 4 * quarter, 4 * quarter - lost - stale,
            lost, max(0, wasted) + stale, 2 * quarter - told, peak(outcome),
        )  # fmt: skip
        self.followed, self.content_now = store, content

    def compaction(self) -> Iterator[Row]:
        """Compaction, killed now and then, while searches and builds go on."""
        store = self.followed
        build(Store.open(store))
        own(store)
        wanted = len(self.content_now.windows)
        everything = {"k": wanted + 1000, "not_tags": "Speech", "threshold": 1.0}
        answers, is_over = [], threading.Event()

        def ask() -> None:
            while not is_over.is_set():
                answers.append(len(soundalike.open(store).search(**everything)))

        thread = threading.Thread(target=ask)
        thread.start()
        num_kills = max(2, self.num_kills // 4)
        for _ in range(num_kills):
            with started("compact", store) as process:
                time.sleep(self.random.uniform(0.0, 0.3))
                process.kill()
                process.wait()
        with started("compact", store) as process:
            outcome = finished(process)
        assert outcome.code == 0, outcome.error
        is_over.set()
        thread.join()
        lost, doubled = difference(self.content_now, content_of(store))
        incomplete = sum(number != wanted for number in answers)
        yield Row(
            "kills of a compaction", num_kills, num_kills, lost, doubled + leftovers(store), 0,
            peak(outcome), f"{len(Store.open(store).part_names())} parts are left",
        )  # fmt: skip
        yield Row(
            "searches meanwhile", len(answers), len(answers) - incomplete, incomplete, 0, 0, 0.0
        )

    def full_disk(self) -> Iterator[Row]:
        """A disk that is full again and again; each time it becomes a little larger."""
        disk = self.folder / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size=3m,mode=777,uid={NOBODY}", "tmpfs", disk],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if mounted.returncode:
            yield Row("full disks", 0, 0, 0, 0, 0, 0.0, f"left out: {mounted.stderr.strip()}")
            return
        try:
            tried = told = 0
            for megabytes in (5, 9, 15, 25, 4096):
                outcome = run(disk / "store", self.library.root)
                if outcome.code == 0:
                    break
                tried += 1
                told += "No space left on device" in outcome.error and "again" in outcome.error
                subprocess.run(["mount", "-o", f"remount,size={megabytes}m", disk], check=True)
            outcome = run(disk / "store", self.library.root)
            content = content_of(disk / "store")
            lost, _ = difference(self.content_now_live(), content._replace(ledger={}))
            doubled = content.num_stored - content.num_distinct + leftovers(disk / "store")
            survived = tried * (outcome.code == 0)
            yield Row("full disks", tried, survived, lost, doubled, tried - told, peak(outcome))
        finally:
            subprocess.run(["umount", disk], check=False)

    def content_now_live(self) -> Content:
        """What the library holds now, without the words on files that are no longer there."""
        return self.content_now._replace(ledger={})

    def read_only(self) -> Iterator[Row]:
        """A store that may be read and not written, by a user without rights."""
        if os.geteuid() != 0:
            yield Row("read-only store", 0, 0, 0, 0, 0, 0.0, "left out: needs root")
            return
        store = self.folder / "read-only"
        shutil.copytree(self.reference, store)
        for path in [store, *store.rglob("*")]:
            os.chown(path, 0, 0)
        before = content_of(store)
        outcome = run(store, self.library.root)
        lost, doubled = difference(before, content_of(store))
        told = outcome.code == 1 and "Permission denied" in outcome.error
        yield Row("read-only store", 1, int(told), lost, doubled, int(not told), peak(outcome))

    def unplugged(self) -> Iterator[Row]:
        """The disk with the library goes away in the middle of a run, and comes back."""
        store, away = self.folder / "unplugged", self.folder / "away"
        told = 0
        with started("run", store, self.library.root) as process:
            while not (store / "store.json").exists() or not Store.open(store).part_names():
                time.sleep(0.05)
            self.library.root.rename(away)
            outcome = finished(process)
        told += outcome.code == 1 and "vanished" in outcome.error
        away.rename(self.library.root)
        outcome = run(store, self.library.root)
        lost, doubled = difference(self.content_now_live(), content_of(store)._replace(ledger={}))
        survived = int(outcome.code == 0)
        yield Row("library unplugged", 1, survived, lost, doubled, 1 - told, peak(outcome))

    def damage(self) -> Iterator[Row]:
        """One bit flipped, anywhere: found by verify, which names the file."""
        store = self.folder / "damaged"
        shutil.copytree(self.followed, store)
        files = [
            path for path in store.rglob("*")
            if path.is_file() and path.stat().st_size and not path.name.endswith(".lock")
        ]  # fmt: skip
        tried, found = 10 * self.num_kills, 0
        for number in range(tried):
            path = files[number % len(files)]
            found += flipped_is_found(store, path, self.random.randrange(path.stat().st_size * 8))
        yield Row("flipped bits", tried, tried, 0, 0, tried - found, 0.0)


def flipped_is_found(store: Path, path: Path, bit: int) -> bool:
    """Flip one bit, ask for everything and verify, and flip it back."""
    flip(path, bit)
    try:
        with contextlib.suppress(SoundalikeError):  # anything else ends the torture
            soundalike.open(store).search(tags="Music", threshold=0.1)
        try:
            return any(problem.path == path for problem in verify(store))
        except SoundalikeError as error:  # store.json itself
            return path.name in str(error)
    finally:
        flip(path, bit)


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (value,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([value ^ 1 << bit % 8]))


def num_computed(store: Path) -> int:
    """Return how many windows were computed for a store, by all runs, killed ones included."""
    return int(np.fromfile(count_file(store), np.int64)[0])


def copy_of(store: Path, target: Path) -> None:
    shutil.copytree(store, target)
    own(target)


def own(folder: Path) -> None:
    """Give a folder to the user that does the work; what is locked stays locked to them."""
    if os.geteuid() != 0:
        return
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink() and path.lstat().st_mode & 0o777:
            os.chown(path, NOBODY, NOBODY)


def table(rows: list[Row]) -> str:
    head = "| trial | tried | survived | lost | doubled | harmed | unreported | peak memory | |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        memory = f"{row.peak_mb:.0f} MB" if row.peak_mb else ""
        counts = (*row[1:5], row.harmed, row.unreported)
        numbers = " | ".join(f"{number:,}" for number in counts)
        lines.append(f"| {row.trial} | {numbers} | {memory} | {row.note} |")
    return "\n".join(lines)


#: Methods of `Torture`, in an order in which each finds what it needs.
BRIEF = ["untroubled", "kills", "changes", "compaction", "damage"]
ALL = [*BRIEF, "two_writers", "full_disk", "read_only", "unplugged"]


def torture(folder: Path, trials: list[str], num_files: int, num_kills: int) -> list[Row]:
    """Do it all; a folder that everybody may enter is needed."""
    victim = Torture(folder, num_files, num_kills)
    done = [getattr(victim, name)() for name in trials]
    rows: list[Row] = []
    for trial in chain(done, by_command(folder / "by command", num_kills) if trials is ALL else ()):
        clock = time.monotonic()
        for row in trial:
            rows.append(row)
            print(f"{time.monotonic() - clock:6.1f} s  {row}", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--brief", action="store_true", help="only what is quick")
    options = parser.parse_args()
    fewest = len(bad_files.KINDS) + 35
    if options.files < fewest:
        parser.error(f"--files {options.files} leaves too few good ones; give {fewest} or more")
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        Path(name).chmod(0o755)
        trials = BRIEF if options.brief else ALL
        rows = torture(Path(name), trials, options.files, options.kills)
    print(table(rows))
    sys.exit(any(row.lost or row.doubled or row.harmed or row.unreported for row in rows))


if __name__ == "__main__":
    main()
