"""Which Pythons and systems find every dependency as a wheel; nothing is installed.

    pip install uv
    python benchmarks/resolve_wheels.py

For each, uv chooses the highest versions that the bounds in pyproject.toml allow, and may not take
what is only there as source. pip cannot be asked this: it decides conditions such as
`sys_platform == "linux"` by the machine that it runs on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
#: Name → what uv calls it.
SYSTEMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux ARM64": "aarch64-manylinux_2_28",
    "macOS 15 ARM64": "aarch64-apple-darwin",
    "macOS 15 x86-64": "x86_64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
}
SHOWN = ("torch", "torchaudio", "faiss-gpu", "faiss-cpu", "numpy", "numba", "pyarrow", "av")


def resolve(python: str, platform: str) -> subprocess.CompletedProcess[str]:
    words = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    choice = ["--python-version", python, "--python-platform", platform]
    return subprocess.run(
        [sys.executable, "-m", "uv", *words, *choice, str(PROJECT)],
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": "15.0"},
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> None:
    print("| system | Python | packages | " + " | ".join(SHOWN) + " |")
    print("|---" * (len(SHOWN) + 3) + "|")
    missing = []
    for system, platform in SYSTEMS.items():
        for python in PYTHONS:
            result = resolve(python, platform)
            found = dict(re.findall(r"^([\w-]+)==(\S+)", result.stdout, re.MULTILINE))
            if result.returncode:
                missing.append(f"{system}, Python {python}: {' '.join(result.stderr.split())}")
            cells = [found.get(name, "") for name in SHOWN]
            count = str(len(found)) if found else "none"
            print(f"| {system} | {python} | {count} | " + " | ".join(cells) + " |", flush=True)
    print(*missing, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
