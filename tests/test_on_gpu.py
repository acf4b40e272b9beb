"""`benchmarks/on_gpu.py` where there is no GPU: the same steps, small, on the CPU."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY

pytestmark = pytest.mark.whole

STEPS = (
    "machine",
    "golden",
    "store",
    "network",
    "profile",
    "many",
    "reading",
    "memory",
    "tests",
    "compile",
)


def on_gpu(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = REPOSITORY / "benchmarks" / "on_gpu.py"
    command = [sys.executable, script, "--out", out, "--device", "cpu", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.timeout(400)
def test_on_gpu_small_on_a_cpu_passes_every_step_and_keeps_what_it_found(tmp_path: Path) -> None:
    told = on_gpu(tmp_path / "out", "--small")
    assert told.returncode == 0, told.stdout + (tmp_path / "out" / "log.txt").read_text()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert tuple(results) == STEPS
    states = {step: result["state"] for step, result in results.items()}
    assert list(states.values()) == ["passed"] * 8 + ["skipped"] * 2  # there is no GPU for these
    assert told.stdout.splitlines()[-1] == (
        f"passed: {', '.join(STEPS[:8])}; skipped: tests, compile"
    )
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["log.txt", "profile.txt", "report.md", "results.json"]
    assert results["golden"]["figures"]["fp32 noise_5_2"][0] > 0.999999
    assert results["store"]["figures"]["demo cosine"] > 0.999999
    assert results["network"]["figures"]["best"] > 0
    assert results["many"]["figures"]["ratio"] > 0
    assert results["many"]["figures"]["questions_s"].keys() == {
        "with the copy",
        "copied",
        "without scoring again",
    }
    assert results["reading"]["figures"]["flac"]["alone"] > 0
    assert results["memory"]["figures"]["batches"] == [4, 1]


def test_on_gpu_a_step_that_takes_too_long_is_stopped_and_what_it_found_is_kept(
    tmp_path: Path,
) -> None:
    told = on_gpu(tmp_path, "--only", "many", "tests", "--minutes", "0.25")
    assert told.returncode == 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["many"]["state"].startswith("stopped after 1")
    assert results["many"]["lines"][0].startswith("PyTorch and cpu begin in ")
    assert results["tests"]["state"] == "not begun"
    assert told.stdout.splitlines()[-1].startswith("stopped after 1")
    assert told.stdout.splitlines()[-1].endswith("; not begun: tests")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--device", "gpu"], "unknown device 'gpu'; use cpu, cuda or cuda:N"),
        (["--minutes", "nan"], "--minutes must be more than 0, got nan"),
        (["--only", "nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_on_gpu_wrong_usage_is_one_line(tmp_path: Path, words: list[str], sentence: str) -> None:
    told = on_gpu(tmp_path / "out", *words)
    assert told.returncode == 2
    assert sentence in told.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_on_gpu_overwrites_no_results(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    told = on_gpu(tmp_path)
    assert told.returncode == 2
    assert "holds results already" in told.stderr
    assert (tmp_path / "results.json").read_text() == "{}"


def test_on_gpu_that_is_told_to_stop_keeps_what_it_found_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    script = REPOSITORY / "benchmarks" / "on_gpu.py"
    command = [sys.executable, script, "--out", tmp_path, "--device", "cpu", "--only", "golden"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "golden …\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (steps := children.read_text().split()):
            time.sleep(0.1)
        process.terminate()
        told = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert told.splitlines()[-1] == "interrupted: golden"
    assert json.loads((tmp_path / "results.json").read_text())["golden"]["state"] == "interrupted"
    assert not any(Path(f"/proc/{step}").exists() for step in steps)
