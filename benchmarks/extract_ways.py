"""Two ways to embed a folder, each in a process of its own, as a user would start it.

    python benchmarks/extract_ways.py published FOLDER CHECKPOINT NUM_FILES
    python benchmarks/extract_ways.py soundalike FOLDER CHECKPOINT NUM_FILES [option=value …]

Options are those of `Settings` and `ExtractConfig`; the published way takes a device. Prints a line
of JSON: windows, seconds, and what the run says of itself. Loading the libraries and the checkpoint
is not counted, neither here nor there; starting the readers is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from published_way import PublishedWay, embed_files

from indexer.model.checkpoint import load_checkpoint
from indexer.run.config import Settings
from indexer.run.extract import ExtractConfig, extract
from indexer.run.prepare import prepare
from soundalike.show.runs import report_data


def published(
    files: list[Path], checkpoint: Path, out: Path, device: str = "cpu"
) -> dict[str, Any]:
    way = PublishedWay(load_checkpoint(checkpoint).model.to(device))
    embed_files(way, files[:1], out)  # so that nothing is done for the first time
    start = time.perf_counter()
    embed_files(way, files, out)
    return {"windows": len(files), "seconds": time.perf_counter() - start}


def soundalike(files: list[Path], checkpoint: Path, out: Path, **options: Any) -> dict[str, Any]:
    listed = out / "files.txt"
    listed.write_text("\n".join(str(file) for file in files))
    names = {field.name for field in fields(Settings)} & options.keys()
    settings = Settings(str(checkpoint), **{name: options[name] for name in names})
    config = {name: int(value) for name, value in options.items() if name not in names}
    store, extractor = prepare(out / "store", settings)
    folder = files[0].parent
    report = extract(folder, store, extractor, ExtractConfig(files_from=listed, **config))
    told = {"windows": report.num_windows, "seconds": report.seconds["total"]}
    return told | {"report": report_data(report)}


def timed(way: str, library: Path, checkpoint: Path, num_files: int, **options: Any) -> Any:
    """Embed the first files of a library in a new process; return what it prints."""
    words = [f"{name}={value}" for name, value in options.items()]
    command = [sys.executable, __file__, way, library, checkpoint, str(num_files), *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{way}: {result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def rate(outcome: Any) -> float:
    """Return windows per second."""
    return float(outcome["windows"] / outcome["seconds"])


def main() -> None:
    way, library, checkpoint, num_files, *words = sys.argv[1:]
    files = sorted(Path(library).iterdir())[: int(num_files)]
    options = dict(word.split("=") for word in words)
    with tempfile.TemporaryDirectory(prefix="extract-") as folder:
        embed = {"published": published, "soundalike": soundalike}[way]
        print(json.dumps(embed(files, Path(checkpoint), Path(folder), **options)))


if __name__ == "__main__":
    main()
