"""All that has to be proved on a machine with a GPU, in one command.

    sh benchmarks/gpu_wheels.sh                              where there is a package index
    python3 benchmarks/on_gpu.py --out DIR --minutes 8       where there is a GPU
    python3 benchmarks/on_gpu.py --out DIR --device cpu --small

It needs a checkout, the packages of a CUDA image (PyTorch, torchaudio, NumPy, pyarrow, h5py, Typer,
tqdm, scikit-learn, safetensors, platformdirs) and, for what the image lacks, the wheels that
gpu_wheels.sh collects. The audio and the rows are made here. The most important steps
come first; each is a process with a time limit, and what it found is in DIR as soon as it ends:

    results.json   figures of all steps so far
    report.md      the same as lines for people
    log.txt        what the steps printed
    profile.txt    where the time of the network goes, kernel by kernel

The last line says which steps passed. The exit code is 0 if some did and the others were skipped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
#: Step → the most time that it is given, in seconds. What is left of the whole may be less.
STEPS = {
    "machine": 60,
    "golden": 90,
    "store": 120,
    "network": 150,
    "profile": 60,
    "many": 60,
    "reading": 180,
    "memory": 60,
    "tests": 120,
    "compile": 150,
}
STOPS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
#: A step that would get less is not begun.
LEAST_S = 10


def main() -> None:
    options = parse()
    deadline = time.monotonic() + 60 * options.minutes
    for number in STOPS - {signal.SIGINT}:  # which is Python's own
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    results: dict[str, Any] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="on-gpu-") as name:
            work = Path(name)
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(python_path(options, work))}
            run_steps(options, work, environment, deadline, results)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        print(summary(results), flush=True)
    states = {one["state"] for one in results.values()}
    sys.exit(not ("passed" in states and states <= {"passed", "skipped"}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for what was found")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all steps")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--small", action="store_true", help="small network, a few short files")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--wheels", type=Path, default=REPOSITORY / "gpu-wheels")
    options = parser.parse_args()
    if not re.fullmatch(r"cpu|cuda(:\d+)?", options.device):
        parser.error(f"unknown device {options.device!r}; use cpu, cuda or cuda:N")
    if not 0 < options.minutes < math.inf:
        parser.error(f"--minutes must be more than 0, got {options.minutes:g}")
    if (options.out / "results.json").exists():
        parser.error(f"{options.out} holds results already; name another folder")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"{options.out} cannot be made: {error.strerror}")
    return options


def python_path(options: argparse.Namespace, work: Path) -> list[str]:
    """Return where the steps find the code, and make places for what is not installed."""
    path = [str(folder) for folder in (REPOSITORY, HERE, REPOSITORY / "tests")]
    site = work / "site"
    if not is_installed("soundalike"):  # else all that it needs is there, too
        if wheels := sorted(options.wheels.glob("*.whl")):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
            pip += ["--disable-pip-version-check", "--no-compile", "--target", str(site)]
            done = subprocess.run([*pip, *map(str, wheels)], check=False)
            if done.returncode:  # what is there may do
                print(f"the wheels in {options.wheels} could not be installed", flush=True)
        about = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
        folder = site / f"soundalike-{about['version']}.dist-info"
        folder.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: soundalike\nVersion: {about['version']}\n"
        (folder / "METADATA").write_text(text)  # a run writes its version into the store
        path.append(str(site))
    return path


def is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def run_steps(
    options: argparse.Namespace,
    work: Path,
    environment: dict[str, str],
    deadline: float,
    results: dict[str, Any],
) -> None:
    with (options.out / "log.txt").open("w") as log:
        for step in dict.fromkeys(options.only):
            limit_s = min(STEPS[step], deadline - time.monotonic())
            result: dict[str, Any] = {"lines": [], "state": "interrupted"}
            results[step] = result
            try:
                if limit_s < LEAST_S:
                    result |= {"lines": ["there was no time left"], "state": "not begun"}
                    continue
                print(f"{step} …", flush=True)
                log.write(f"\n## {step}\n")
                log.flush()
                run_step(step, options, work, environment, limit_s, log, result)
            finally:  # also when this process is told to stop
                write(options.out, results)


def run_step(
    step: str,
    options: argparse.Namespace,
    work: Path,
    environment: dict[str, str],
    limit_s: float,
    log: Any,
    result: dict[str, Any],
) -> None:
    """Run a step in a process of its own; note what it found, up to where it came."""
    found = work / f"{step}.json"
    words = [sys.executable, str(HERE / "gpu_steps.py"), step, "--device", options.device]
    words += ["--work", str(work), "--out", str(options.out.resolve()), "--found", str(found)]
    words += ["--small"] if options.small else []
    started = time.monotonic()
    # A signal within Popen would leave a process that nobody knows of: it waits until the try.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    process = subprocess.Popen(
        words,
        env=environment,
        stdout=log,
        stderr=log,
        cwd=work,
        start_new_session=True,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, held),
    )
    state = "interrupted"
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        code = process.wait(limit_s)
        state = f"failed with exit code {code}" if code else ""
    except subprocess.TimeoutExpired:
        state = f"stopped after {limit_s:.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its readers, too
            process.wait()
        told = json.loads(found.read_text()) if found.exists() else {}
        result |= told
        result["state"] = told.get("state") or state or "failed without a word"
        result["seconds"] = round(time.monotonic() - started, 1)
        print("\n".join(f"  {line}" for line in [*result["lines"], result["state"]]), flush=True)


def write(out: Path, results: dict[str, Any]) -> None:
    whole = out / "results.json"
    whole.with_suffix(".part").write_text(json.dumps(results, indent=1))
    whole.with_suffix(".part").replace(whole)  # never half of it
    text = "".join(
        f"## {step}: {result['state']}\n\n"
        + "".join(f"{line}\n" for line in result["lines"])
        + "\n"
        for step, result in results.items()
    )
    (out / "report.md").write_text(f"{text}{summary(results)}\n")


def summary(results: dict[str, Any]) -> str:
    by_state: dict[str, list[str]] = {}
    for step, result in results.items():
        by_state.setdefault(result["state"], []).append(step)
    return "; ".join(f"{state}: {', '.join(steps)}" for state, steps in by_state.items())


if __name__ == "__main__":
    main()
