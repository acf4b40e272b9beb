"""Fuzzing: damaged and hostile bytes for everything that parses them; `make fuzz` runs it.

    python tests/fuzz.py [SECONDS [SEED]]

Every reader works in child processes under a time limit and a memory limit, so that a crash in
native code or a hang is found as well as an exception that is not documented. What caused it is
saved in ./fuzz-findings, and the exit code is 1. Inputs are mutated blindly: what parses is native
code without instrumentation, and there is no coverage to be guided by.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import fuzz_targets
from fuzz_targets import Target

#: One input may take this long, in seconds; the slowest honest one takes less than one.
TIME_LIMIT_S = 20
#: Address space that a child may add to what it begins with, in bytes.
MEMORY_LIMIT = 2 << 30
#: A child ends after so long, in seconds, so that what leaks does not add up.
CHILD_S = 5.0
#: More findings than this of one target are more of the same.
MAX_FINDINGS = 10
#: Exit code of a child that met an exception which is not documented.
_UNFORESEEN = 42


class Tally(NamedTuple):
    """What one target was put through.

    Attributes:
        num_runs: Inputs.
        num_accepted: Of them, those that were read to the end.
        seconds: How long it took.
        findings: What should not have happened, in one line each.
    """

    num_runs: int
    num_accepted: int
    seconds: float
    findings: list[str]


def fuzz(target: Target, seconds: float, seed: int, findings_folder: Path) -> Tally:
    """Mutate the seeds of a target and run it on them.

    Args:
        target: What to run.
        seconds: For how long.
        seed: Of the mutations.
        findings_folder: Where inputs are saved that should not have done what they did.
    """
    begun, num_runs, num_accepted = time.monotonic(), 0, 0
    findings: list[str] = []
    while (left := begun + seconds - time.monotonic()) > 0 and len(findings) < MAX_FINDINGS:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            scratch = Path(folder)
            status = _in_child(target, f"{seed}-{num_runs}", min(left, CHILD_S), scratch)
            runs, accepted = map(int, (scratch / "tally").read_text().split())
            num_runs, num_accepted = num_runs + runs, num_accepted + accepted
            if status:
                findings.append(_keep(target, status, scratch, findings_folder, num_runs))
    return Tally(num_runs, num_accepted, time.monotonic() - begun, findings)


def _in_child(target: Target, seed: str, seconds: float, scratch: Path) -> int:
    """Run inputs in a child for a while; return how it ended, as `os.waitpid` tells."""
    (scratch / "tally").write_text("0 0")
    child = os.fork()
    if child == 0:
        code = _UNFORESEEN
        try:
            limit()
            _run_inputs(target, random.Random(seed), seconds, scratch)
            code = 0
        except BaseException:  # noqa: BLE001 - written down, and a finding
            with contextlib.suppress(BaseException):
                (scratch / "error").write_text(traceback.format_exc())
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def limit() -> None:
    """Bound this process, and let what a library prints go nowhere."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_LIMIT, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, whatever it is at
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _run_inputs(target: Target, rng: random.Random, seconds: float, scratch: Path) -> None:
    until = time.monotonic() + seconds
    run = target.start(scratch / "work")
    names = sorted(target.seeds)
    num_runs = num_accepted = 0
    while time.monotonic() < until:
        name = rng.choice(names)
        content = mutated(rng, target.seeds[name], target.seeds[rng.choice(names)])
        (scratch / "input").write_bytes(content)
        (scratch / "name").write_text(name)
        num_runs += 1
        (scratch / "tally").write_text(f"{num_runs} {num_accepted}")
        signal.alarm(TIME_LIMIT_S)
        num_accepted += run(name, content, rng)
        signal.alarm(0)
    (scratch / "tally").write_text(f"{num_runs} {num_accepted}")


def _keep(target: Target, status: int, scratch: Path, folder: Path, number: int) -> str:
    """Save the input that ended a child, and return what happened in one line."""
    folder.mkdir(parents=True, exist_ok=True)
    name = (scratch / "name").read_text() if (scratch / "name").exists() else "start"
    kept = folder / f"{target.name}-{number}-{name}".replace("/", "_").replace(" ", "-")
    if (scratch / "input").exists():
        shutil.copyfile(scratch / "input", kept)
    if os.WIFSIGNALED(status):
        what = signal.Signals(os.WTERMSIG(status)).name
        return f"{kept}: {'no end' if what == 'SIGALRM' else what}"
    error = (scratch / "error").read_text() if (scratch / "error").exists() else "exited"
    kept.with_name(f"{kept.name}.txt").write_text(error)
    return f"{kept}: {error.strip().splitlines()[-1]}"


# --- mutations -----------------------------------------------------------------------------------

#: Integers at the edges of what a field of 1, 2, 4 or 8 bytes can hold, and of 2^36 samples.
_EDGES = [
    *(0, 1, 2, 3, 7, 8, 16, 31, 32, 63, 64, 100, 127, 128, 255, 256, 512, 1000, 1024, 4096),
    *(32767, 32768, 65535, 65536, 2**24 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**36),
    *(2**62, 2**63 - 1, 2**63, 2**64 - 1),
]
#: Headers are at the beginning of a file, of a Parquet file at its end.
_HEADER_BYTES, _FOOTER_BYTES = 512, 4096


def mutated(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Return bytes with a few changes, small ones and large ones."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 5, 8, 16])):
        at = _place(rng, len(changed))
        length = min(1 << rng.randrange(0, 14), max(len(changed) - at, 1))
        rng.choice(_CHANGES)(rng, changed, other, at, length)
    return bytes(changed)


def _place(rng: random.Random, size: int) -> int:
    region = rng.randrange(3)
    if region == 0:
        return rng.randrange(min(size, _HEADER_BYTES) or 1)
    if region == 1:
        return max(0, size - 1 - rng.randrange(_FOOTER_BYTES))
    return rng.randrange(size or 1)


def _flip(rng: random.Random, data: bytearray, other: bytes, at: int, length: int) -> None:
    if data:
        data[at] ^= 1 << rng.randrange(8)


def _set_integer(rng: random.Random, data: bytearray, other: bytes, at: int, length: int) -> None:
    width = rng.choice([1, 2, 4, 8])
    value = rng.choice(_EDGES) % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, rng.choice(["little", "big"]))


def _add(rng: random.Random, data: bytearray, other: bytes, at: int, length: int) -> None:
    if data:
        data[at] = (data[at] + rng.randint(-9, 9)) % 256


def _randomise(rng: random.Random, data: bytearray, other: bytes, at: int, length: int) -> None:
    data[at : at + length] = rng.randbytes(length)


def _delete(rng: random.Random, data: bytearray, other: bytes, at: int, length: int) -> None:
    del data[at : at + length]


def _repeat(rng: random.Random, data: bytearray, other: bytes, at: int, length: int) -> None:
    data[at:at] = data[at : at + length] * rng.choice([1, 1, 2, 50])


def _zero(rng: random.Random, data: bytearray, other: bytes, at: int, length: int) -> None:
    data[at : at + length] = bytes(length)


def _move(rng: random.Random, data: bytearray, other: bytes, at: int, length: int) -> None:
    source = _place(rng, len(data))
    piece = data[source : source + length]
    data[at : at + len(piece)] = piece


def _splice(rng: random.Random, data: bytearray, other: bytes, at: int, length: int) -> None:
    source = _place(rng, len(other))
    data[at : at + length] = other[source : source + length]


def _truncate(rng: random.Random, data: bytearray, other: bytes, at: int, length: int) -> None:
    del data[at:]


_Change = Callable[[random.Random, bytearray, bytes, int, int], None]
_CHANGES: list[_Change] = [
    *(_flip, _flip, _flip, _set_integer, _set_integer, _set_integer, _add, _randomise, _zero),
    *(_delete, _repeat, _move, _splice, _truncate),
]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Fuzz all targets in turn, say what was found, and return the exit code."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 2**32
    say(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        targets: Mapping[str, Target] = fuzz_targets.all_targets(Path(folder))
        found = False
        for target in targets.values():
            tally = fuzz(target, seconds / len(targets), seed, Path("fuzz-findings"))
            found |= bool(tally.findings)
            rate, accepted = tally.num_runs / tally.seconds, tally.num_accepted
            say(f"{target.name}: {tally.num_runs} inputs, {rate:.0f} a second, {accepted} read")
            for finding in tally.findings:
                say(f"  {finding}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
