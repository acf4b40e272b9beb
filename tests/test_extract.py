"""The run: what is embedded, what is not, and what the ledger says afterwards."""

from __future__ import annotations

import os
import shutil
import threading
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import needs_root, run_as_nobody
from listener import Listener, on_step
from recipe import GOLDEN, SEED, clip, fill
from synthetic import write_tone

from indexer.embedding.cores import num_cores
from indexer.embedding.extractor import Extractor, Timed
from indexer.errors import IdentityError, LibraryError, SoundalikeError
from indexer.model.checkpoint import Checkpoint, state_digest
from indexer.model.convnext import ConvNeXt
from indexer.progress import Step
from indexer.run.extract import ExtractConfig, extract
from indexer.run.report import ExtractReport
from indexer.store.creation import create_store
from indexer.store.reader import Store
from indexer.windows import SAMPLE_RATE_HZ, WINDOW_SAMPLES, Geometry

pytestmark = pytest.mark.whole  # Each test is a run.

IN_PROCESS = ExtractConfig(num_workers=0)

#: Several threads embed.
TURN = threading.Lock()


class Counting(Extractor):
    """A real extractor that counts the windows it is given."""

    num_windows = 0

    def embed_and_time(self, waveforms: torch.Tensor) -> Timed:
        with TURN:
            self.num_windows += len(waveforms)
        return super().embed_and_time(waveforms)


@pytest.fixture
def counting(tiny_checkpoint: Checkpoint) -> Counting:
    return Counting(tiny_checkpoint, device="cpu")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Three files: 2, 1 and 1 windows."""
    root = tmp_path / "library"
    write_tone(root / "long.wav", 14.0, 300)
    write_tone(root / "sub" / "short.wav", 3.0, 500)
    write_tone(root / "sub" / "stereo.flac", 2.0, 700, rate=44_100)
    return root


def new_store(path: Path, extractor: Extractor, geometry: Geometry | None = None) -> Store:
    identity = extractor.identity(geometry or Geometry())
    return create_store(path, identity, extractor.head(), checkpoint="tiny", written_by="tests")


def run(
    library: Path, store: Store, extractor: Extractor, config: ExtractConfig = IN_PROCESS
) -> ExtractReport:
    return extract(library, store, extractor, config)


def statuses(store: Store) -> dict[str, str]:
    rows = store.latest_files(("path", "status")).to_pylist()
    return {row["path"]: row["status"] for row in rows}


def reasons(store: Store) -> dict[str, tuple[str, str]]:
    rows = store.latest_files(("path", "status", "stage", "reason")).to_pylist()
    return {row["path"]: (row["stage"], row["reason"]) for row in rows if row["status"] == "failed"}


def many_files(root: Path, count: int = 40) -> Path:
    """Files of one window each."""
    for number in range(count):
        write_tone(root / f"{number}.wav", 1.0, 200 + number)
    return root


def by_window(store: Store) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Window id → scene, tags, frames."""
    snapshot = store.snapshot()
    rows = np.arange(len(snapshot))
    values = zip(snapshot.scene(rows), snapshot.tags(rows), snapshot.frames(rows), strict=True)
    return dict(zip(snapshot.windows.window_id.tolist(), values, strict=True))


def test_extract_library_embeds_every_window_and_records_every_file(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    report = run(library, store, counting)
    assert (report.num_embedded, report.num_windows, report.failures) == (3, 4, [])
    assert report.audio_s == pytest.approx(19.0)
    windows = store.snapshot().windows
    planned = Geometry().plan(14 * SAMPLE_RATE_HZ)
    assert sorted(zip(windows.start_sample, windows.num_samples, strict=True))[-1] == planned[-1]
    rows = {row["path"]: row for row in store.latest_files().to_pylist()}
    assert rows["sub/stereo.flac"]["sample_rate"] == 44_100
    assert rows["sub/stereo.flac"]["num_samples"] == 64_000
    assert rows["sub/stereo.flac"]["codec"] == "flac"
    assert rows["long.wav"]["num_samples"] == 14 * SAMPLE_RATE_HZ


def test_extract_embeddings_are_those_of_the_model_on_the_padded_window(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting, ExtractConfig(num_workers=0, include=("long.wav",)))
    samples, _ = soundfile.read(library / "long.wav", dtype="float32")
    second = np.zeros(WINDOW_SAMPLES, np.float32)
    second[: 4 * SAMPLE_RATE_HZ] = samples[WINDOW_SAMPLES:]
    snapshot = store.snapshot()
    row = np.flatnonzero(snapshot.windows.start_sample == WINDOW_SAMPLES)
    with torch.inference_mode():
        output = counting.checkpoint.model(torch.from_numpy(second)[None])
    np.testing.assert_allclose(snapshot.scene(row)[0], output.scene[0], atol=1e-5)
    np.testing.assert_allclose(snapshot.tags(row)[0], output.tags[0], atol=2**-11)
    pooled = output.frames[0].mean(2).T  # (T, 768)
    np.testing.assert_allclose(snapshot.frames(row)[0], pooled, atol=1e-3, rtol=1e-3)


def test_extract_stored_head_gives_the_stored_tags(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    snapshot = store.snapshot()
    rows = np.arange(len(snapshot))
    expected = store.head().tags(snapshot.scene(rows))
    np.testing.assert_allclose(snapshot.tags(rows), expected, atol=2**-11)


@pytest.mark.parametrize(
    "config",
    [ExtractConfig(num_workers=2, batch_size=1), ExtractConfig(num_workers=1, batch_size=7)],
)
def test_extract_result_does_not_depend_on_workers_and_batches(
    library: Path, tmp_path: Path, tiny_extractor: Extractor, config: ExtractConfig
) -> None:
    reference = new_store(tmp_path / "one", tiny_extractor)
    run(library, reference, tiny_extractor, ExtractConfig(num_workers=0, batch_size=2))
    other = new_store(tmp_path / "two", tiny_extractor)
    run(library, other, tiny_extractor, config)
    expected, found = by_window(reference), by_window(other)
    assert expected.keys() == found.keys()
    for key, (scene, tags, frames) in expected.items():
        np.testing.assert_allclose(found[key][0], scene, atol=1e-5)
        np.testing.assert_allclose(found[key][1].astype("f4"), tags.astype("f4"), atol=2**-11)
        np.testing.assert_allclose(
            found[key][2].astype("f4"), frames.astype("f4"), atol=2**-9, rtol=2**-10
        )


def test_extract_second_run_reads_and_writes_nothing(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    before = store.part_names()
    counting.num_windows = 0
    report = run(library, store, counting)
    assert (report.num_unchanged, report.num_windows, counting.num_windows) == (3, 0, 0)
    assert store.part_names() == before


def test_extract_new_file_embeds_only_that(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    write_tone(library / "new.wav", 1.0, 900)
    counting.num_windows = 0
    run(library, store, counting)
    assert counting.num_windows == 1
    assert len(store.snapshot()) == 5


def test_extract_renamed_file_makes_no_forward_pass_and_is_recorded_as_moved(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    (library / "long.wav").rename(library / "sub" / "renamed.wav")
    counting.num_windows = 0
    report = run(library, store, counting)
    assert counting.num_windows == 0
    assert (report.num_known, report.num_moved, report.num_gone) == (1, 1, 0)
    assert statuses(store)["long.wav"] == "moved"
    assert statuses(store)["sub/renamed.wav"] == "ok"
    assert len(store.snapshot()) == 4


def test_extract_moved_library_is_recognised_without_reading_it(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    library.rename(tmp_path / "elsewhere")
    report = run(tmp_path / "elsewhere", store, counting)
    assert (report.num_unchanged, report.num_known, report.num_windows) == (3, 0, 0)
    assert list(store.libraries().values()) == [tmp_path / "elsewhere"]


def test_extract_second_library_is_a_library_of_its_own(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    write_tone(tmp_path / "other" / "long.wav", 1.0, 111)
    run(tmp_path / "other", store, counting)
    assert set(store.libraries().values()) == {library, tmp_path / "other"}
    assert len(store.snapshot()) == 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_extract_copies_of_one_file_are_embedded_once_and_all_recorded(
    library: Path, tmp_path: Path, counting: Counting, num_workers: int
) -> None:
    for number in range(4):
        shutil.copyfile(library / "long.wav", library / f"copy{number}.wav")
    store = new_store(tmp_path / "store", counting)
    report = run(library, store, counting, ExtractConfig(num_workers=num_workers))
    assert counting.num_windows == 4
    assert (report.num_embedded, report.num_known) == (3, 4)
    assert list(statuses(store).values()) == ["ok"] * 7
    assert len(store.snapshot()) == 4


def test_extract_edited_file_is_embedded_anew_and_the_old_rows_are_dead(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    write_tone(library / "sub" / "short.wav", 2.5, 1234)
    counting.num_windows = 0
    run(library, store, counting)
    assert counting.num_windows == 1
    snapshot = store.snapshot()
    assert len(snapshot) == 4
    assert 80_000 in snapshot.windows.num_samples
    assert 96_000 not in snapshot.windows.num_samples


def test_extract_deleted_file_is_gone_and_comes_back_without_a_forward_pass(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    (library / "long.wav").rename(tmp_path / "kept.wav")
    report = run(library, store, counting)
    assert (report.num_gone, statuses(store)["long.wav"]) == (1, "gone")
    assert len(store.snapshot()) == 2
    (tmp_path / "kept.wav").rename(library / "long.wav")
    counting.num_windows = 0
    run(library, store, counting)
    assert (counting.num_windows, len(store.snapshot())) == (0, 4)


def test_extract_narrower_patterns_delete_nothing(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    before = store.part_names()
    report = run(library, store, counting, ExtractConfig(num_workers=0, include=("long.wav",)))
    assert (report.num_gone, report.num_excluded) == (0, 2)
    assert store.part_names() == before


def test_extract_library_that_vanished_is_an_error_and_deletes_nothing(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    shutil.rmtree(library / "sub")
    (library / "long.wav").unlink()
    with pytest.raises(LibraryError, match="are no longer in"):
        run(library, store, counting)
    write_tone(library / "new.wav", 1.0, 900)
    with pytest.raises(LibraryError, match=r"3 of 3 files .* or allow them to be gone") as caught:
        run(library, store, counting)
    assert caught.value.about == "allow_gone"
    assert len(store.snapshot()) == 5  # the new file was embedded all the same
    run(library, store, counting, ExtractConfig(num_workers=0, allow_gone=True))
    assert len(store.snapshot()) == 1


def test_extract_folder_of_bad_files_records_each_reason_and_goes_on(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    (library / "text.wav").write_text("this is not audio\n" * 20)
    (library / "empty.wav").touch()
    (library / "list.wav").write_text("ffconcat version 1.0\nfile long.wav\n")
    os.mkfifo(library / "pipe.wav")
    (library / "link.wav").symlink_to(library / "nothing.wav")
    write_tone(library / "folder.wav" / "inside.wav", 1.0, 333)
    odd = Path(os.fsdecode(os.fsencode(library) + b"/caf\xe9.wav"))
    shutil.copyfile(library / "sub" / "short.wav", odd)
    nan = np.full(SAMPLE_RATE_HZ, np.nan, np.float32)
    soundfile.write(library / "nan.wav", nan, SAMPLE_RATE_HZ, subtype="FLOAT")
    store = new_store(tmp_path / "store", counting)
    report = run(library, store, counting)
    failed = reasons(store)
    assert set(failed) == {
        "text.wav", "empty.wav", "list.wav", "pipe.wav", "link.wav", "nan.wav",
    }  # fmt: skip
    assert {failure.path for failure in report.failures} == set(failed)
    assert failed["pipe.wav"] == ("open", "not a regular file (FIFO)")
    assert failed["empty.wav"] == ("open", "empty file (0 bytes)")
    assert failed["nan.wav"][0] == "samples"
    assert all(reason for _, reason in failed.values())
    assert statuses(store)["folder.wav/inside.wav"] == "ok"
    row = next(r for r in store.latest_files().to_pylist() if r["path_bytes"])
    assert (row["path"], row["path_bytes"], row["status"]) == (r"caf\xe9.wav", b"caf\xe9.wav", "ok")
    assert len(store.snapshot()) == 5


@needs_root
def test_extract_unreadable_file_as_another_user_is_recorded(
    public_folder: Path, counting: Counting
) -> None:
    write_tone(public_folder / "library" / "a.wav", 1.0)
    write_tone(public_folder / "library" / "locked.wav", 1.0, 500)
    (public_folder / "library" / "locked.wav").chmod(0)
    (public_folder / "stores").mkdir()
    (public_folder / "stores").chmod(0o777)
    run(public_folder / "library", new_store(public_folder / "first", counting), counting)

    def work() -> object:
        store = new_store(public_folder / "stores" / "one", counting)
        run(public_folder / "library", store, counting)
        return reasons(store), len(store.snapshot())

    assert run_as_nobody(work) == ({"locked.wav": ("access", "permission denied")}, 1)


def test_extract_failed_file_is_tried_again_only_if_asked_or_changed(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    (library / "bad.wav").write_text("not audio")
    store = new_store(tmp_path / "store", counting)
    assert len(run(library, store, counting).failures) == 1
    again = run(library, store, counting)
    assert (again.failures, again.num_failed_before) == ([], 1)
    retried = run(library, store, counting, ExtractConfig(num_workers=0, retry_failed=True))
    assert len(retried.failures) == 1
    write_tone(library / "bad.wav", 1.0, 901)
    assert run(library, store, counting).num_embedded == 1
    assert statuses(store)["bad.wav"] == "ok"


def test_extract_strict_stops_at_the_first_failure_and_keeps_what_was_done(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    (library / "zzz.wav").write_text("not audio")
    store = new_store(tmp_path / "store", counting)
    with pytest.raises(SoundalikeError, match=r"stopped at zzz\.wav \(open\): not audio"):
        run(library, store, counting, ExtractConfig(num_workers=0, strict=True, batch_size=1))
    assert len(store.snapshot()) == 4


def test_extract_interrupted_in_the_middle_of_a_file_continues_there(
    tmp_path: Path, counting: Counting
) -> None:
    library = tmp_path / "library"
    write_tone(library / "long.wav", 100.0)
    store = new_store(tmp_path / "store", counting)

    def interrupt(step: Step) -> None:
        if step.audio_s >= 60:
            raise KeyboardInterrupt

    config = ExtractConfig(num_workers=0, batch_size=2, part_windows=2)
    with pytest.raises(KeyboardInterrupt):
        extract(library, store, counting, config, on_step(interrupt))
    assert len(store.part_names()) >= 3
    assert len(store.snapshot()) == 0  # not live before the file is complete
    counting.num_windows = 0
    run(library, store, counting)
    assert counting.num_windows == 4
    starts = sorted(store.snapshot().windows.start_sample)
    assert starts == [number * WINDOW_SAMPLES for number in range(10)]


def test_extract_interrupted_with_readers_leaves_none_and_keeps_what_was_done(
    tmp_path: Path, counting: Counting
) -> None:
    library = many_files(tmp_path / "library")
    store = new_store(tmp_path / "store", counting)

    def stop(step: Step) -> None:
        if step.done >= 4:
            raise KeyboardInterrupt

    config = ExtractConfig(num_workers=2, batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        extract(library, store, counting, config, on_step(stop))
    assert active_children() == []
    assert not list((store.path / "parts").glob(".tmp*"))
    assert 4 <= len(store.snapshot()) < 40
    report = run(library, store, counting)
    assert report.num_unchanged >= 4
    assert len(store.snapshot()) == 40


def test_extract_span_that_begins_after_the_end_is_a_failure(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    (tmp_path / "spans.csv").write_text("path,start,end\nlong.wav,13,99\nlong.wav,99,100\n")
    config = ExtractConfig(num_workers=0, files_from=tmp_path / "spans.csv")
    report = run(library, store, counting, config)
    (failure,) = report.failures
    assert failure == (
        "long.wav",
        "samples",
        "there is no audio in the span that is asked for: it ends at 14.00 s",
    )
    assert report.num_embedded == 1
    assert store.snapshot().windows.num_samples.tolist() == [SAMPLE_RATE_HZ]


def test_extract_parts_are_committed_as_the_run_goes(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting, ExtractConfig(num_workers=0, batch_size=1, part_windows=1))
    assert len(store.part_names()) == 4
    assert len(store.snapshot()) == 4


def test_extract_file_longer_than_allowed_is_a_failure(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    report = run(library, store, counting, ExtractConfig(num_workers=0, max_hours=12 / 3600))
    assert [failure.path for failure in report.failures] == ["long.wav"]
    assert len(store.snapshot()) == 2


def test_extract_samples_too_large_are_a_failure_not_a_nan_row(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    huge = np.full(3 * SAMPLE_RATE_HZ, 3e38, np.float32)
    huge[::2] *= -1
    soundfile.write(library / "huge.wav", huge, SAMPLE_RATE_HZ, subtype="FLOAT")
    store = new_store(tmp_path / "store", counting)
    report = run(library, store, counting)
    assert [failure.path for failure in report.failures] == ["huge.wav"]
    snapshot = store.snapshot()
    assert np.isfinite(snapshot.scene(np.arange(len(snapshot)))).all()


def test_extract_list_of_spans_embeds_those_and_matches_the_whole(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    names = tmp_path / "spans.csv"
    names.write_text("path,start,end\nlong.wav,0,10\nlong.wav,2,5\n")
    store = new_store(tmp_path / "store", counting)
    report = run(library, store, counting, ExtractConfig(num_workers=0, files_from=names))
    assert (report.num_embedded, report.num_windows) == (2, 2)
    windows = store.snapshot().windows
    spans = sorted(zip(windows.start_sample.tolist(), windows.num_samples.tolist(), strict=True))
    assert spans == [(0, 320_000), (64_000, 96_000)]
    again = run(library, store, counting, ExtractConfig(num_workers=0, files_from=names))
    assert (again.num_unchanged, again.num_windows) == (2, 0)
    whole = new_store(tmp_path / "whole", counting)
    run(library, whole, counting)
    shared = by_window(whole).keys() & by_window(store).keys()
    assert len(shared) == 1  # 0 s to 10 s is the same window, whatever asked for it


def test_extract_native_windows_have_the_length_of_the_recording(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting, Geometry(native=True))
    report = run(library, store, counting)
    assert report.num_windows == 3
    lengths = sorted(store.snapshot().windows.num_samples.tolist())
    assert lengths == [64_000, 96_000, 448_000]
    frames = store.snapshot().frames(np.arange(3))
    assert sorted(len(one) for one in frames) == [6, 9, 44]


def test_extract_native_clips_up_to_the_limit_are_what_the_network_makes_of_the_whole(
    tmp_path: Path, tiny_extractor: Extractor
) -> None:
    """Beyond it they are in windows, and the ledger says so of each."""
    random = np.random.default_rng(0)
    lengths = [960_000 - 32_000, 960_000, 960_002, 37 * 32_000, 60 * 32_000, 61 * 32_000]
    clips = [random.uniform(-0.5, 0.5, length).astype(np.float32) for length in lengths]
    folder = tmp_path / "library"
    folder.mkdir()
    for number, one in enumerate(clips):
        soundfile.write(folder / f"{number}.wav", one, SAMPLE_RATE_HZ, "FLOAT")
    store = new_store(tmp_path / "store", tiny_extractor, Geometry(native=True))
    report = run(folder, store, tiny_extractor, ExtractConfig(num_workers=0, batch_size=2))
    assert (report.num_windows, report.num_warnings) == (5 + 7, 1)
    rows = {row["path"]: row for row in store.latest_files().to_pylist()}
    told = [row["warnings"] for row in rows.values() if row["warnings"]]
    assert told == ["longer than 60 s: in windows of 10 s, not one of its length"]
    assert rows["5.wav"]["warnings"]
    snapshot = store.snapshot()
    for number, one in enumerate(clips[:5]):
        of_file = snapshot.windows.recording_id == rows[f"{number}.wav"]["recording_id"]
        [place] = np.flatnonzero(of_file)
        whole = tiny_extractor(torch.from_numpy(one)[None])
        np.testing.assert_allclose(snapshot.scene(np.array([place]))[0], whole.scene[0], atol=1e-5)
        [frames] = snapshot.frames(np.array([place]))
        assert whole.frames is not None
        np.testing.assert_allclose(frames, whole.frames[0], atol=1e-2, rtol=1e-2)


def test_extract_native_short_clip_has_the_published_features(tmp_path: Path) -> None:
    """From a file of 5 s to the store, with the full network: what the published code computes."""
    model = fill(ConvNeXt(), SEED)
    checkpoint = Checkpoint("golden", Path("golden"), state_digest(model), model)
    extractor = Extractor(checkpoint, device="cpu", precision="fp32", frames="pooled")
    path = tmp_path / "library" / "noise.wav"
    path.parent.mkdir()
    soundfile.write(path, clip("noise_5_2")[0].numpy(), SAMPLE_RATE_HZ, "FLOAT")
    store = new_store(tmp_path / "store", extractor, Geometry(native=True))
    run(path.parent, store, extractor)
    snapshot = store.snapshot()
    assert snapshot.windows.num_samples.tolist() == [5 * SAMPLE_RATE_HZ]
    with np.load(GOLDEN) as golden:
        scene, probabilities, frames = (
            golden[f"noise_5_2/{name}"] for name in ("scene", "probs", "frames_mean_over_freq")
        )
    np.testing.assert_allclose(snapshot.scene(np.array([0]))[0], scene, atol=1e-4)
    # Stored as float16, which keeps 11 bits.
    np.testing.assert_allclose(snapshot.tags(np.array([0]))[0], probabilities, atol=5e-4)
    (stored,) = snapshot.frames(np.array([0]), published_layout=True)
    np.testing.assert_allclose(stored, frames, atol=1e-4, rtol=1e-3)


def test_extract_full_frames_average_to_the_pooled_ones(
    library: Path, tmp_path: Path, tiny_checkpoint: Checkpoint
) -> None:
    found = {}
    for mode in ("pooled", "full"):
        extractor = Extractor(tiny_checkpoint, device="cpu", frames=mode)  # type: ignore[arg-type]
        store = new_store(tmp_path / mode, extractor)
        run(library, store, extractor)
        found[mode] = by_window(store)
    for key, (_, _, pooled) in found["pooled"].items():
        full = found["full"][key][2]
        assert full.shape == (31, 7, 768)
        np.testing.assert_allclose(full.astype("f4").mean(1), pooled, atol=5e-3, rtol=5e-3)


def test_extract_hop_of_five_seconds_overlaps(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting, Geometry(hop_samples=160_000))
    run(library, store, counting, ExtractConfig(num_workers=0, include=("long.wav",)))
    assert store.snapshot().windows.start_sample.tolist() == [0, 160_000]


def test_extract_with_another_checkpoint_is_refused_by_name(
    library: Path, tmp_path: Path, counting: Counting, demo_extractor: Extractor
) -> None:
    store = new_store(tmp_path / "store", counting)
    with pytest.raises(IdentityError, match="weights is"):
        run(library, store, demo_extractor)


def test_extract_progress_counts_files_and_audio(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    (library / "bad.wav").write_text("not audio")
    heard = Listener()
    store = new_store(tmp_path / "store", counting)
    extract(library, store, counting, IN_PROCESS, heard)
    walking, *embedding = heard.steps
    assert walking == Step("walking", 0, None, "file")
    assert embedding[-1][:6] == ("embedding", 4, 4, "file", pytest.approx(19.0), 1)
    assert embedding[-1].total_audio_s == pytest.approx(19.0)
    assert [step.done for step in embedding] == sorted(step.done for step in embedding)


def test_extract_file_that_is_replaced_while_it_waits_is_read_as_it_is_now(
    library: Path, tmp_path: Path, counting: Counting
) -> None:
    write_tone(library / "long.wav", 10.0 * (num_cores() + 4), 300)  # more than is read ahead
    store = new_store(tmp_path / "store", counting)
    config = ExtractConfig(num_workers=0, batch_size=1)

    def replace_next(step: Step) -> None:
        if step.done == 0:
            write_tone(library / "sub" / "short.wav", 2.0, 4321)

    report = extract(library, store, counting, config, on_step(replace_next))
    assert [failure.path for failure in report.failures] == ["sub/short.wav"]
    assert run(library, store, counting).num_embedded == 1  # it changed since it failed


class Cramped(Counting):
    """An extractor on a device with memory for two windows."""

    def _embed(self, waveforms: torch.Tensor) -> Timed:
        if len(waveforms) > 2:
            raise torch.OutOfMemoryError("no more")
        return super()._embed(waveforms)


def test_extract_out_of_memory_embeds_all_and_says_so(
    library: Path, tmp_path: Path, counting: Counting, tiny_checkpoint: Checkpoint
) -> None:
    whole, pieces = (new_store(tmp_path / name, counting) for name in ("whole", "pieces"))
    config = ExtractConfig(num_workers=0, batch_size=4)
    extract(library, whole, counting, config)
    report = extract(library, pieces, Cramped(tiny_checkpoint, device="cpu"), config)
    assert (report.num_windows, report.batch_size, report.most_windows) == (4, 4, 2)
    expected, found = by_window(whole), by_window(pieces)
    assert found.keys() == expected.keys()
    for key, arrays in expected.items():
        for one, other in zip(arrays, found[key], strict=True):
            np.testing.assert_allclose(one, other, atol=2e-3)  # a step of float16
