"""A stand-in AudioCaps of 60 clips under every naming convention, and what is known of each."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from synthetic import make_store, recording_id

from indexer.store.reader import Store

SPLITS = {"train": (30, 1), "val": (14, 5), "test": (16, 5)}
#: How a clip's file is named, by YouTube id, start in seconds and audiocap_id.
NAMES: tuple[Callable[[str, int, int], str], ...] = (
    lambda youtube_id, start_s, number: f"{youtube_id}_{start_s}",
    lambda youtube_id, start_s, number: f"Y{youtube_id}",
    lambda youtube_id, start_s, number: f"{youtube_id}",
    lambda youtube_id, start_s, number: f"Y{youtube_id}_{start_s}",
    lambda youtube_id, start_s, number: f"{youtube_id}_{1000 * start_s}_{1000 * (start_s + 10)}",
    lambda youtube_id, start_s, number: f"{youtube_id}_{start_s}_{start_s + 10}",
    lambda youtube_id, start_s, number: f"{youtube_id}_{start_s}.0",
    lambda youtube_id, start_s, number: f"Y{youtube_id}_{start_s}.000_{start_s + 10}.000",
    lambda youtube_id, start_s, number: f"{youtube_id}_{start_s}-{start_s + 10}",
    lambda youtube_id, start_s, number: f"{number}",
    lambda youtube_id, start_s, number: f"called by hand {number}",
)
#: Which of them are found by `--match` alone.
BY_HAND = len(NAMES) - 1
#: Frames of a window, by which part of the store it is in.
LENGTHS = (31, 7, 12)


class Clip(NamedTuple):
    """One of them: what must come out."""

    file_id: str
    youtube_id: str
    start_s: int
    caption_ids: tuple[str, ...]
    captions: tuple[str, ...]
    name: str  # of its file, below the library, without .wav


class StandIn(NamedTuple):
    """A store of most of them, the tables of all, and which file is which."""

    store: Store
    tables: list[Path]
    match: Path
    present: dict[str, list[Clip]]
    missing: dict[str, list[Clip]]
    scenes: dict[str, np.ndarray[Any, Any]]  # by file_id
    frames: dict[str, np.ndarray[Any, Any]]  # (T, 768) float16


def clips_of(split: str, first: int) -> list[Clip]:
    """All clips of a split; clips are numbered through."""
    num_clips, num_captions = SPLITS[split]
    found = []
    for number in range(first, first + num_clips):
        youtube_id = ("-", "_", "a")[number % 3] + f"{number:03}" + ("_30", "xyz")[number % 2]
        youtube_id, start_s = f"{youtube_id}b-_9", 10 * (number % 7)
        ids = tuple(str(1000 * number + one + 17) for one in range(num_captions))
        captions = tuple(f'Somebody says "{number}", ä {one}.' for one in range(num_captions))
        name = NAMES[number % len(NAMES)](youtube_id, start_s, int(ids[-1]))
        found.append(
            Clip(f"{youtube_id}_{start_s}", youtube_id, start_s, ids, captions, f"{split}/{name}")
        )
    return found


def write_table(path: Path, clips: list[Clip]) -> Path:
    """Write a table as AudioCaps has it; some as pandas or PANNs would write it."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["audiocap_id", "youtube_id", "start_time", "caption"])
        for number, clip in enumerate(clips):
            youtube_id = f"Y{clip.youtube_id}" if number % 4 == 1 else clip.youtube_id
            start = f"{clip.start_s}.0" if number % 5 == 2 else str(clip.start_s)
            for caption_id, caption in zip(clip.caption_ids, clip.captions, strict=True):
                writer.writerow([caption_id, youtube_id, start, caption])
    return path


def make_stand_in(folder: Path) -> StandIn:
    """Write the store and the tables."""
    made = make_store(folder / "store")
    tables, present, missing, first = [], {}, {}, 0
    for split in SPLITS:
        clips = clips_of(split, first)
        first += len(clips)
        missing[split] = clips[9::10]
        present[split] = [clip for clip in clips if clip not in missing[split]]
        tables.append(write_table(folder / f"{split}.csv", clips))
    kept = [clip for clips in present.values() for clip in clips]
    for part, num_frames in enumerate(LENGTHS):
        names = {clip.name: 1 for clip in kept[part :: len(LENGTHS)]}
        made.add(names, seed=part, num_frames=num_frames)
    # Neither is a clip of the table: a number in the folder of another split, and another start.
    number = next(clip.name for clip in kept if clip.name.startswith("train/") and is_number(clip))
    made.add({f"val/{Path(number).name}": 1, "test/abcdefghijk_70": 1}, seed=9)
    match = folder / "match.csv"
    by_hand = [clip for clip in kept if "by hand" in clip.name]
    rows = [f"{clip.name}.wav,{clip.file_id}" for clip in by_hand[1:]]
    rows.append(f"{by_hand[0].name}.wav,{by_hand[0].caption_ids[0]}")
    match.write_text("\n".join(["path,id", *rows]))
    rows_of = {window.recording_id: row for row, window in enumerate(made.windows)}
    at = {clip.file_id: rows_of[recording_id(clip.name)] for clip in kept}
    return StandIn(
        made.store,
        tables,
        match,
        present,
        missing,
        {file_id: made.scene[row] for file_id, row in at.items()},
        {file_id: made.frames[row] for file_id, row in at.items()},
    )


def is_number(clip: Clip) -> bool:
    return Path(clip.name).name.isdecimal()
