"""Collecting the audio of hits: each span as a file of its own."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from indexer.audio.stream import read_span
from indexer.errors import AudioError
from indexer.paths import printable
from search.asking.answers import Hit
from search.output import make_folder, require_free, writing

#: Characters of the original name that are kept in the copy's, at most: a name has 255 bytes.
_MAX_STEM = 50
#: Decodes a span, as `read_span` does.
Read = Callable[[Path, float, float], tuple[npt.NDArray[np.float32], int]]


def copy_spans(
    hits: Sequence[Hit], folder: Path, *, force: bool = False, read: Read = read_span
) -> tuple[list[Path], list[str]]:
    """Write the span of each hit as a WAV file (24 bit, at the file's own rate and channels).

    The span is where what asked was found in it, see `Hit.span`, or all of its window.

    The copies are called `<rank>_<name>_<start>s.wav`, so that they sort by rank.

    Args:
        hits: Of an answer.
        folder: Where to; created if absent.
        force: Whether files that are there are replaced.
        read: Decodes a span.

    Returns:
        The files written, and for each hit that could not be read a line that says why.

    Raises:
        OutputError: If one of the files is there already, or one cannot be written.
    """
    make_folder(folder)
    numbered = list(enumerate(hits, start=1))
    places = {_place(rank, hit, path, folder) for rank, hit in numbered for path in hit.paths}
    require_free(*sorted(places), force=force)
    written, failures = [], []
    for rank, hit in numbered:
        try:
            written.append(_copy(rank, hit, folder, read, force=force))
        except AudioError as error:
            where = printable(str(hit.paths[0])) if hit.paths else "a recording without a path"
            failures.append(f"{where}: {printable(error.reason)}")
    return written, failures


def _place(rank: int, hit: Hit, source: Path, folder: Path) -> Path:
    stem = re.sub(r"[^\w.-]+", "_", source.stem)[:_MAX_STEM]
    return folder / f"{rank:03d}_{stem}_{hit.span[0]:.1f}s.wav"


def _copy(rank: int, hit: Hit, folder: Path, read: Read, *, force: bool) -> Path:
    source, samples, sample_rate = read_hit(hit, read=read)
    target, wave = _place(rank, hit, source, folder), io.BytesIO()
    # Into memory first: libsndfile does not tell what failed when it writes to a file of Python.
    soundfile.write(wave, samples, sample_rate, format="WAV", subtype="PCM_24")
    with writing(target, force=force) as file:
        file.write(wave.getbuffer())
    return target


def read_hit(
    hit: Hit, *, whole_window: bool = False, read: Read = read_span
) -> tuple[Path, npt.NDArray[np.float32], int]:
    """Decode a hit's span from the first of its paths where that is possible.

    Args:
        hit: Of an answer.
        whole_window: Whether all of its window is read, and not only what matched.
        read: Decodes a span.

    Returns:
        The path, (num_samples, channels) float32, and the rate in Hz.

    Raises:
        AudioError: If none of them can be read.
    """
    start_s, end_s = (hit.start_s, hit.end_s) if whole_window else hit.span
    return read_first(hit.paths, start_s, end_s, read)


def read_first(
    paths: Sequence[Path], start_s: float, end_s: float, read: Read = read_span
) -> tuple[Path, npt.NDArray[np.float32], int]:
    """Decode a span from the first of some paths where that is possible, see `read_hit`.

    Raises:
        AudioError: If none of them can be read.
    """
    failure = AudioError("open", "it has no path")
    for path in paths:
        try:
            samples, sample_rate = read(path, start_s, end_s - start_s)
            if len(samples):
                return path, samples, sample_rate
            failure = AudioError("decode", f"no audio at {start_s:g} s any more")
        except AudioError as error:
            failure = error
    raise failure
