"""What decoding costs beside libsndfile and FFmpeg, measured in one process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "goal"), [("flac", 1.3), ("ogg", 1.3), ("mp3", 1.4)])
def test_reading_costs_little_more_than_decoding(tmp_path: Path, kind: str, goal: float) -> None:
    from decode_ways import decoding_ms, ratio  # noqa: PLC0415 - a benchmark, found by then
    from extract_library import write_library  # noqa: PLC0415 - likewise

    library = write_library(tmp_path, kind, 1)
    best = min(ratio(decoding_ms(library / f"0.{kind}")) for _ in range(3))
    assert best < goal + 0.1, f"{best:.2f} times the better of libsndfile and FFmpeg"
