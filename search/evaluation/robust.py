"""Whether a store finds its own clips when they come back changed: anybody can judge a network so.

Each clip is asked with as a file would be, and all of the store may be found, the clip itself too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers, id_bytes
from indexer.errors import AudioError, QueryError, SoundalikeError
from indexer.progress import Listen, Step, count, ignore
from indexer.reading.recorded import RecordedFiles, decode_window
from indexer.store.reader import Store
from indexer.windows import SAMPLE_RATE_HZ, Level, Padding
from search.datasets.provenance import Computed, how_computed, training_note
from search.evaluation.bootstrap import Estimate, estimates
from search.evaluation.changes import CHANGES, changed_copies
from search.evaluation.labels import Labelled, find_labelled
from search.generation.segments import Generation

#: Recordings that are looked at: the own one is among them or not.
NUM_HITS = 10

#: Asks with some files, one by one: for each the recordings that sound most like it, best first.
Ask = Callable[[Sequence[Path]], Sequence[Sequence[bytes]]]


class Asked(NamedTuple):
    """One clip, changed in one way.

    Attributes:
        path: Where the clip is from.
        start_s: Where it begins there, in seconds.
        change: What was done to it, one of `CHANGES`.
        rank: Of its own recording, from 1; None if it is not among the first ten.
        has_same_label: Whether the first other recording with a label has the clip's; None if the
            clip has none, no other has the same, or there is no such hit.
    """

    path: str
    start_s: float
    change: str
    rank: int | None
    has_same_label: bool | None


class Robustness(NamedTuple):
    """How clips that were changed in one way find themselves.

    Attributes:
        change: One of `CHANGES`.
        num_clips: How many asked.
        own_first: Share whose own recording is the first hit; None if none asked.
        own_among_ten: Share whose own recording is among the first ten.
        num_labelled: How many have a label that another hit could have.
        same_label: Share of these of which the first other hit has the same; None of none.
    """

    change: str
    num_clips: int
    own_first: Estimate | None
    own_among_ten: Estimate | None
    num_labelled: int
    same_label: Estimate | None


@dataclass(frozen=True, slots=True)
class RobustReport:
    """What came out, and of what.

    Attributes:
        changes: In the order in which they are to be read.
        asked: One by one.
        num_recordings: In the store's index.
        num_clips: That were drawn, and could be read.
        num_absent: That were drawn, and are not where they were.
        failures: A line for each that was drawn and cannot be read.
        num_resamples: Of clips, of which the intervals are made.
        checkpoint: What the store was made with.
        training_note: What a reader must know of it; None of a published one.
        computed: At which precisions, and where.
        padding: What follows audio that is shorter than a window.
        level: What was done to the loudness of windows.
    """

    changes: tuple[Robustness, ...]
    asked: tuple[Asked, ...]
    num_recordings: int
    num_clips: int
    num_absent: int
    failures: tuple[str, ...]
    num_resamples: int
    checkpoint: str
    training_note: str | None
    computed: tuple[Computed, ...]
    padding: Padding
    level: Level


class _Clip(NamedTuple):
    path: Path
    recording: bytes
    start_s: float
    samples: Float32


def evaluate_robustness(
    store: Store,
    ask: Ask,
    labels: Sequence[Labelled] = (),
    *,
    max_clips: int = 100,
    seed: int = 0,
    num_resamples: int = 1000,
    listen: Listen = ignore,
) -> RobustReport:
    """Ask with changed copies of a store's own clips.

    A clip is a window of a recording; both are drawn at random, no recording twice.

    Args:
        store: With an index, and its audio where it was.
        ask: Asks it, with files: it leaves nothing out, and gives each recording once.
        labels: Of some or all files; see `find_labelled`.
        max_clips: How many are drawn, at most.
        seed: Of the drawing, the noise and the resampling.
        num_resamples: Bootstrap resamples of clips.
        listen: Hears how many clips are done.

    Raises:
        QueryError: If a number is out of range.
        SoundalikeError: If the store is empty, or none of the clips that were drawn can be read.
        StoreError: If it has no index yet.
    """
    for name, number in (("max_clips", max_clips), ("num_resamples", num_resamples)):
        if number < 1:
            raise QueryError(f"{name} is at least 1, got {number}")
    generation = Generation.current(store)
    rows = _draw(generation, max_clips, seed)
    if not len(rows):
        raise SoundalikeError(f"{store.path} has no windows to ask with")
    label_of = {recording: one.label for one, recording in find_labelled(store, labels)}
    counts = Counter(label_of.values())
    asked: list[Asked] = []
    num_clips, num_absent, failures = 0, 0, []
    for number, clip in enumerate(_clips(store, generation, rows), start=1):
        if isinstance(clip, _Clip):
            num_clips += 1
            may_be_found = counts[label_of.get(clip.recording, "")] > 1
            asked += _ask(ask, clip, [seed, number], label_of if may_be_found else {})
        elif clip:
            failures.append(clip)
        else:
            num_absent += 1
        listen(Step("asking", number, len(rows), "clip"))
    if not num_clips:
        raise _nothing_to_ask_with(store, len(rows), failures)
    return RobustReport(
        changes=tuple(_counted(asked, change, num_resamples, seed) for change in CHANGES),
        asked=tuple(asked),
        num_recordings=len(np.unique(generation.recordings.ids)),
        num_clips=num_clips,
        num_absent=num_absent,
        failures=tuple(failures),
        num_resamples=num_resamples,
        checkpoint=store.checkpoint,
        training_note=training_note(store),
        computed=how_computed(store),
        padding=store.identity.padding,
        level=store.identity.level,
    )


def _draw(generation: Generation, max_clips: int, seed: int) -> Integers:
    """Draw live rows, one of each recording, of as many recordings as are wanted."""
    rows = np.random.default_rng(seed).permutation(generation.live_rows())
    _, first = np.unique(generation.recording_ids(rows), return_index=True)
    # Recordings as they are drawn one after the other would be drawn for their length.
    return np.random.default_rng(seed).permutation(rows[first])[:max_clips]


def _clips(store: Store, generation: Generation, rows: Integers) -> Iterator[_Clip | str]:
    """Yield the audio of windows; why there is none, or an empty text where no file is there."""
    table = generation.windows(rows)
    files = RecordedFiles(store, np.unique(table.recording_id))
    for at in range(len(rows)):
        recording, window = id_bytes(table.recording_id[at]), table.window(at)
        found = files.holding(recording)
        if found.path is None:
            yield ""
            continue
        try:
            cut, _ = decode_window(found.path, window, store.identity, found.first_sample)
        except AudioError as error:
            yield f"{found.path}: {error}"
            continue
        samples = np.asarray(cut.waveform[: window.num_samples], np.float32)
        start_s = window.start_sample / SAMPLE_RATE_HZ
        yield _Clip(found.path, recording, start_s, samples)


def _nothing_to_ask_with(store: Store, number: int, failures: Sequence[str]) -> SoundalikeError:
    if failures:
        return SoundalikeError(
            f"none of {count(number, 'clip')} of {store.path} can be read: {failures[0]}"
        )
    roots = ", ".join(str(root) for root in store.libraries().values())
    return SoundalikeError(
        f"the audio of {store.path} is not there: of {count(number, 'clip')} none is where it was, "
        f"in {roots}, or as it was; index it where it is now, and ask again"
    )


def _ask(
    ask: Ask, clip: _Clip, seed: Sequence[int], label_of: Mapping[bytes, str]
) -> Iterator[Asked]:
    """Ask with all copies of a clip.

    Args:
        ask: Asks the store.
        clip: The clip.
        seed: Of the noise.
        label_of: Recording → its label; nothing if no other has the clip's.
    """
    copies = changed_copies(clip.samples, np.random.default_rng(seed))
    made = [(name, copy) for name, copy in copies if copy]
    with TemporaryDirectory(prefix="soundalike-") as folder:
        files = [copy.write(Path(folder, str(number))) for number, (_, copy) in enumerate(made)]
        answers = ask(files)
    for (name, _), found in zip(made, answers, strict=True):
        found = list(found)[:NUM_HITS]
        rank = found.index(clip.recording) + 1 if clip.recording in found else None
        others = [label_of[one] for one in found if one != clip.recording and one in label_of]
        is_same = others[0] == label_of[clip.recording] if others else None
        yield Asked(str(clip.path), clip.start_s, name, rank, is_same)


def _counted(asked: Sequence[Asked], change: str, num_resamples: int, seed: int) -> Robustness:
    some = [one for one in asked if one.change == change]
    same = [one.has_same_label for one in some if one.has_same_label is not None]
    first, among, label = (
        _share(values, num_resamples, seed)
        for values in (
            [one.rank == 1 for one in some],
            [one.rank is not None for one in some],
            same,
        )
    )
    return Robustness(change, len(some), first, among, len(same), label)


def _share(values: Sequence[bool], num_resamples: int, seed: int) -> Estimate | None:
    if not values:
        return None
    column = np.array(values, np.float64)[:, None]
    return estimates(column, np.arange(len(values)), num_resamples, seed)[0]
