"""Deep verification: a sample of windows is embedded again and compared with what is stored.

Digests show that bytes are as they were written. Whether they were right, only the audio can show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.arrays import Ids, Integers, id_bytes
from indexer.embedding.extractor import Extractor
from indexer.errors import AudioError
from indexer.progress import Listen, Step, ignore
from indexer.reading.recorded import Found, RecordedFiles, decode_window
from indexer.store.parquet import FRAMES_FILE, SCENE_FILE
from indexer.store.reader import Store
from indexer.store.schema import Origin
from indexer.store.snapshot import Snapshot
from indexer.store.verify import Problem, embedding_again

#: Between two runs in fp32 on the same device, whatever else is in the batch; measured on one
#: machine, nothing differs at all.
_EXACT = 1e-4
#: Tags and frames are stored as float16; a value near the middle of two may fall to either.
_FLOAT16_STEPS = 2
#: In bf16 or on another device: distance of scenes and of frames over their length, and difference
#: of probabilities. A cosine of 0.999; measured from fp32 to bf16 0.003.
_CLOSE = 0.045
#: Decoders that fill what was not coded with noise, which a span does not get like the whole;
#: measured 0.01, and 0.03 at 32 kbit/s (FFmpeg 8).
_NOISY_CODECS = frozenset({"aac", "ac3", "eac3"})
_NOISY = 0.1

Values = npt.NDArray[np.floating[Any]]


@dataclass(slots=True)
class DeepReport:
    """What embedding a sample of windows again has shown.

    Attributes:
        problems: Windows whose audio gives something else than what is stored: the file of the
            part that holds them, and by how much they differ.
        num_recomputed: Windows that were compared.
        num_absent: Windows whose audio is not there, or may not be read.
        num_changed: Windows whose file has other content by now.
    """

    problems: list[Problem] = field(default_factory=list)
    num_recomputed: int = 0
    num_absent: int = 0
    num_changed: int = 0

    @property
    def has_heard_nothing(self) -> bool:
        """Whether there are windows, and the audio of none of those that were chosen."""
        return not self.num_recomputed and self.num_absent + self.num_changed > 0


def recompute(
    store: Store,
    extractor: Extractor,
    *,
    num_windows: int = 20,
    seed: int = 0,
    listen: Listen = ignore,
) -> DeepReport:
    """Embed a random sample of live windows from their files, and compare.

    In fp32 and on a device of the same name, scenes must agree to 1e-4, tags and frames to that and
    two steps of float16. Otherwise scenes and frames may differ by 0.045 of their length (a cosine
    of 0.999) and tags by 0.045; for AAC and AC-3, whose decoders make up noise, all by 0.1.

    Args:
        store: To be checked. Its files should have passed `verify`: they are parsed here.
        extractor: Of the store's checkpoint.
        num_windows: To embed, at most. One of each recording is taken before a second of any.
        seed: Of the choice.
        listen: Hears how many of the windows are done.

    Raises:
        IdentityError: If the store was made with another checkpoint or other settings.
        StoreError: If the store cannot be read.
    """
    store.identity.require(
        extractor.identity(store.identity.geometry, store.identity.channel),
        f"the store {store.path} was made in another way",
        "Use the checkpoint that it was made with",
    )
    snapshot = store.snapshot()
    rows = _sample(snapshot.windows.recording_id, num_windows, seed)
    files = RecordedFiles(store, np.unique(snapshot.windows.recording_id[rows]))
    report = DeepReport()
    for number, row in enumerate(rows.tolist()):
        found = files.holding(id_bytes(snapshot.windows.recording_id[row]))
        if found.path is None:
            report.num_changed += found.has_changed
            report.num_absent += not found.has_changed
        else:
            report.num_recomputed += 1
            report.problems += _problems(store, snapshot, row, found, extractor)
        listen(Step("listening", number + 1, len(rows), "window"))
    return report


def _sample(recording_id: Ids, num_windows: int, seed: int) -> Integers:
    """Choose rows at random, one of each recording before a second of any; return them sorted."""
    shuffled = np.random.default_rng(seed).permutation(len(recording_id))
    _, recording = np.unique(recording_id[shuffled], return_inverse=True)
    grouped = np.argsort(recording, kind="stable")
    turn = np.empty(len(shuffled), np.int64)  # 0 for the first of its recording, then 1 …
    starts = np.searchsorted(recording[grouped], recording[grouped])
    turn[grouped] = np.arange(len(shuffled)) - starts
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:num_windows]])


def _problems(
    store: Store, snapshot: Snapshot, row: int, found: Found, extractor: Extractor
) -> Iterator[Problem]:
    """Embed one window again, and yield what does not agree."""
    window, part = snapshot.windows.window(row), snapshot.part_of(row)
    scene_file, frames_file = part.path / SCENE_FILE, part.path / FRAMES_FILE
    assert found.path is not None  # it is there
    where = f"{found.path} at {window.start_s:.2f} s"
    try:
        cut, codec = decode_window(found.path, window, store.identity, found.first_sample)
    except AudioError as error:
        reason = f"{where}: its audio cannot be decoded again: {error}"
        yield Problem(scene_file, reason, "bring the audio back from a copy, or index it again")
        return
    embeddings = extractor.embed_cut(cut)
    tolerance = _tolerance(part.origin, extractor, codec)
    at = np.array([row])
    pairs: dict[str, tuple[Values, Values]] = {
        "scene": (snapshot.scene(at)[0], embeddings.scene[0]),
        "tags": (snapshot.tags(at)[0], embeddings.tags[0]),
    }
    if embeddings.frames is not None:
        pairs["frames"] = (snapshot.frames(at)[0], embeddings.frames[0])
    for what, (stored, given) in pairs.items():
        difference = _difference(what, stored, given, tolerance)
        if difference:
            file = frames_file if what == "frames" else scene_file
            reason = f"{where}: its audio gives other {what}, {difference}"
            yield Problem(file, reason, embedding_again(part.path), about="index", value=store.path)


def _tolerance(origin: Origin, extractor: Extractor, codec: str) -> float | None:
    """Return how far a window may be from what is stored; None if the same must come out."""
    theirs, ours = (origin.device, origin.precision), (extractor.device_name, extractor.precision)
    if codec in _NOISY_CODECS:
        return _NOISY
    return None if theirs == ours and extractor.precision == "fp32" else _CLOSE


def _difference(what: str, stored: Values, found: Values, tolerance: float | None) -> str | None:
    """Return by how much two arrays differ, in words; None if they agree."""
    if stored.shape != found.shape:
        return f"of shape {found.shape} instead of {stored.shape}"
    wide = stored.astype(np.float32)
    off = np.abs(wide - found.astype(np.float32))
    if tolerance is None:
        steps = _FLOAT16_STEPS * np.spacing(np.abs(stored)) if stored.dtype == np.float16 else 0
        agrees = np.all(off <= _EXACT + steps)  # which NaN does not
        return None if agrees else f"by up to {off.max():.2g}"
    if what == "tags":
        return None if off.max() <= tolerance else f"by up to {off.max():.2g}"
    distance = np.linalg.norm(off) / max(np.linalg.norm(wide), np.finfo(np.float32).tiny)
    return None if distance <= tolerance else f"by {distance:.2g} of their length"
