"""Names of clips, in every convention; and the windows of each in a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import write_tone
from test_extract import new_store, run

from indexer.embedding.extractor import Extractor
from search.datasets.clips import Clip, StoredClips, clip_of, youtube_id_of
from search.evaluation.audioset import read_segments

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
YOUTUBE_IDS = st.text(ALPHABET, min_size=11, max_size=11)


@settings(deadline=None)
@given(
    youtube_id=YOUTUBE_IDS, start_s=st.integers(0, 9999), suffix=st.sampled_from(["wav", "flac"])
)
def test_clip_of_every_convention_is_read_whatever_the_id(
    youtube_id: str, start_s: int, suffix: str
) -> None:
    """Ids that begin with -, hold _, or look as if they ended in a start."""
    placed, unplaced = Clip(youtube_id, 1000 * start_s), Clip(youtube_id, None)
    end_s = start_s + 10
    for name, expected in (
        (f"{youtube_id}", unplaced),
        (f"Y{youtube_id}", unplaced),
        (f"{youtube_id}_{start_s}", placed),
        (f"Y{youtube_id}_{start_s}", placed),
        (f"{youtube_id}_{1000 * start_s}_{1000 * end_s}", placed),
        (f"{youtube_id}_{start_s}_{end_s}", placed),
        (f"Y{youtube_id}_{start_s}_{end_s}", placed),
        (f"{youtube_id}_{start_s}.0", placed),
        (f"{youtube_id}_{start_s}.000_{end_s}.000", placed),
        (f"{youtube_id}_{start_s}-{end_s}", placed),
    ):
        assert clip_of(f"some folder/{name}.{suffix}") == expected


@pytest.mark.parametrize(
    ("times", "start_ms"),
    [
        ("30_40", 30_000),
        ("30_33", 30_000),
        ("30_345", 30_000),  # 315 s, or 0.3 s: both unlikely, and seconds a little less so
        ("30_346", 30),
        ("30000_40000", 30_000),
        ("30000_31000", 30_000),
        ("0_10000", 0),
        ("0_10", 0),
        ("30.5_40.5", 30_500),
        ("30.000_400.000", 30_000),  # a decimal point is of seconds
        ("30000", 30_000_000),  # a start alone as well
        ("30.25", 30_250),
    ],
)
def test_clip_seconds_are_told_from_milliseconds_by_how_long_it_would_be(
    times: str, start_ms: int
) -> None:
    assert clip_of(f"abcdefghijk_{times}.flac") == Clip("abcdefghijk", start_ms)


@pytest.mark.parametrize("youtube_id", ["abcdefghijk", "Ybcdefghijk", "-_3456789AB"])
def test_youtube_id_of_a_table_is_that_with_or_without_a_y(youtube_id: str) -> None:
    assert youtube_id_of(youtube_id) == youtube_id_of(f"Y{youtube_id}") == youtube_id
    assert youtube_id_of(f"YY{youtube_id}") == f"YY{youtube_id}"


def test_segments_of_audioset_may_have_a_y_before_their_ids(tmp_path: Path) -> None:
    table = tmp_path / "eval_segments.csv"
    table.write_text('Y-_3456789AB, 30.000, 40.000, "/m/09x0r"\nYbcdefghijk, 0, 10, "/m/09x0r"\n')
    ids = [segment.youtube_id for segment in read_segments(table)]
    assert ids == ["-_3456789AB", "Ybcdefghijk"]


@pytest.mark.parametrize("times", ["40_30", "30_30", "30_40_50", "1e1", "30_", "_30", "9" * 400])
def test_clip_of_times_that_are_none_is_none(times: str) -> None:
    assert clip_of(f"abcdefghijk_{times}.wav") is None


@pytest.mark.parametrize(
    "name", ["dog.wav", "abcdefghijk_x.wav", "abcdefghij.wav", "abcdefghijkl.wav", "ü" * 11, ""]
)
def test_clip_of_any_other_name_is_none(name: str) -> None:
    assert clip_of(name) is None


@pytest.mark.whole
def test_stored_clips_have_the_rows_of_their_windows(
    tmp_path: Path, tiny_extractor: Extractor
) -> None:
    library = tmp_path / "library"
    names = {"-_3456789AB_30": 12.0, "Y0123456789b": 2.0, "0123456789a_1000_11000": 25.0}
    for number, (name, duration_s) in enumerate(names.items()):
        write_tone(library / f"{name}.wav", duration_s, 200 + 50 * number)
    write_tone(library / "no clip.wav", 1.0, 900)
    write_tone(library / "sub" / "-_3456789AB_30.flac", 1.0, 950)  # again: the first name counts
    store = new_store(tmp_path / "store", tiny_extractor)
    run(library, store, tiny_extractor)
    snapshot = store.snapshot()
    clips = StoredClips(store, snapshot)
    assert (len(clips), clips.num_unnamed) == (3, 1)
    found = {}
    for youtube_id, start_s in (("-_3456789AB", 30.0), ("0123456789a", 1.0)):
        clip = clips.find(youtube_id, start_s)
        assert clip is not None
        found[clip] = clips.rows(clip)
    lengths = [snapshot.windows.num_samples[rows].tolist() for rows in found.values()]
    assert lengths == [[320_000, 64_000], [320_000, 320_000, 160_000]]
    for rows in found.values():
        assert (np.diff(snapshot.windows.start_sample[rows]) == 320_000).all()
        assert len(set(snapshot.windows.recording_id[rows].tolist())) == 1
    assert clips.find("0123456789b", 7.0) == Clip("0123456789b", None)  # wherever it begins
    assert clips.find("0123456789a", 7.0) is None
    assert clips.find("0123456789a", None) == Clip("0123456789a", 1000)
    assert clips.find("nothing----", None) is None
    assert clips.find("-_3456789AB", 31.0) is None
