"""Collecting the audio of hits: each span as a file of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from indexer.audio.stream import read_span
from indexer.errors import AudioError, QueryError
from indexer.paths import printable
from search.asking.answers import Hit

#: Characters of the original name that are kept in the copy's, at most: a name has 255 bytes.
_MAX_STEM = 50


def require_folder(folder: Path) -> None:
    """Make a folder, if it is not there.

    Raises:
        QueryError: If that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise QueryError(f"cannot make the folder {folder}: {error.strerror}") from error


def copy_spans(hits: Sequence[Hit], folder: Path) -> tuple[list[Path], list[str]]:
    """Write the span of each hit as a WAV file (24 bit, at the file's own rate and channels).

    The copies are called `<rank>_<name>_<start>s.wav`, so that they sort by rank.

    Args:
        hits: Of an answer.
        folder: Where to; created if absent.

    Returns:
        The files written, and for each hit that could not be read a line that says why.

    Raises:
        QueryError: If the folder cannot be written.
    """
    require_folder(folder)
    written, failures = [], []
    try:
        for rank, hit in enumerate(hits, start=1):
            try:
                written.append(_copy(rank, hit, folder))
            except AudioError as error:
                where = printable(str(hit.paths[0])) if hit.paths else "a recording without a path"
                failures.append(f"{where}: {printable(error.reason)}")
    except (OSError, soundfile.LibsndfileError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "error_string", error)
        raise QueryError(f"cannot write to {folder}: {reason}") from error
    return written, failures


def _copy(rank: int, hit: Hit, folder: Path) -> Path:
    source, samples, sample_rate = read_hit(hit)
    stem = re.sub(r"[^\w.-]+", "_", source.stem)[:_MAX_STEM]
    target = folder / f"{rank:03d}_{stem}_{hit.start_s:.1f}s.wav"
    soundfile.write(target, samples, sample_rate, subtype="PCM_24")
    return target


def read_hit(hit: Hit) -> tuple[Path, npt.NDArray[np.float32], int]:
    """Decode a hit's span from the first of its paths where that is possible.

    Returns:
        The path, (num_samples, channels) float32, and the rate in Hz.

    Raises:
        AudioError: If none of them can be read.
    """
    failure = AudioError("open", "it has no path")
    for path in hit.paths:
        try:
            samples, sample_rate = read_span(path, hit.start_s, hit.end_s - hit.start_s)
            if len(samples):
                return path, samples, sample_rate
            failure = AudioError("decode", f"no audio at {hit.start_s:g} s any more")
        except AudioError as error:
            failure = error
    raise failure
