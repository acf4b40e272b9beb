"""Packs in whole runs: embedded once, taken up again, asked with, copied from, and measured."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import REPOSITORY, SHARED_AUDIO, Run
from dying import dies_at
from faults import fault
from pack_files import names_of, targets_of, tones, wave, write_table, write_waveforms
from sklearn.metrics import average_precision_score, roc_auc_score
from test_extract import Counting, by_window, counting, new_store, reasons, run, statuses

from indexer.arrays import id_bytes
from indexer.audio.content import recording_digest
from indexer.embedding.extractor import Extractor
from indexer.errors import LibraryError
from indexer.run.extract import ExtractConfig, extract
from indexer.store.reader import Store
from search.evaluation.audioset import evaluate_audioset, read_segments
from search.upkeep.files import list_files

pytestmark = pytest.mark.whole

__all__ = ["counting"]  # a fixture

READERS = ExtractConfig(num_workers=2)


@pytest.fixture
def command(run: Run) -> Run:
    return run


def both_packs(root: Path, num_clips: int = 6) -> Path:
    """A folder with a pack of either kind, of other clips."""
    write_waveforms(root / "eval.h5", tones(num_clips))
    clips = tones(num_clips, 0.7, seed=1)
    rows = [(wave(clip, kind="FLAC"), f"{row}.flac") for row, clip in enumerate(clips)]
    write_table(root / "clips.parquet", rows, row_group_size=4)
    return root


@pytest.mark.parametrize("num_workers", [0, 2])
def test_members_are_embedded_as_files_and_then_unchanged(
    tmp_path: Path, counting: Counting, num_workers: int
) -> None:
    root = both_packs(tmp_path / "packs")
    store = new_store(tmp_path / "store", counting)
    config = ExtractConfig(num_workers=num_workers)
    report = run(root, store, counting, config)
    assert (report.num_embedded, report.num_windows, report.failures) == (12, 12, [])
    assert set(statuses(store).values()) == {"ok"}
    assert run(root, store, counting, config).num_unchanged == 12
    assert counting.num_windows == 12
    # The same by other means: each member as a file of its own.
    alone = tmp_path / "alone"
    alone.mkdir()
    for row, samples in enumerate(tones(6)):
        soundfile.write(alone / f"{row}.wav", samples / 32767, 32_000, subtype="FLOAT")
    other = new_store(tmp_path / "other", counting)
    run(alone, other, counting, config)
    names = {path: row for row, path in enumerate(f"eval.h5!/{n.decode()}" for n in names_of(6))}
    found, expected = scenes(store), scenes(other)
    for path, row in names.items():
        np.testing.assert_allclose(found[path], expected[f"{row}.wav"], atol=1e-5)


def scenes(store: Store) -> dict[str, np.ndarray]:
    """Path → scene embedding of its only window."""
    snapshot = store.snapshot()
    ids = [id_bytes(one) for one in snapshot.windows.recording_id]  # which may end in zeros
    return {path: snapshot.scene(np.array([ids.index(key)]))[0] for path, key in store.live_files()}


def test_row_that_is_a_file_elsewhere_is_embedded_once(tmp_path: Path, counting: Counting) -> None:
    content = wave(tones(1)[0])
    write_table(tmp_path / "packs" / "clips.parquet", [(content, "a.wav"), (content, "b.wav")])
    (tmp_path / "packs" / "c.wav").write_bytes(content)
    store = new_store(tmp_path / "store", counting)
    report = run(tmp_path / "packs", store, counting)
    assert (report.num_embedded, report.num_known, counting.num_windows) == (1, 2, 1)


@pytest.mark.parametrize("step", [9, 52])
def test_run_over_packs_that_is_killed_goes_on(
    tmp_path: Path, tiny_extractor: Extractor, counting: Counting, step: int
) -> None:
    root = both_packs(tmp_path / "packs")
    store = new_store(tmp_path / "store", counting)
    config = ExtractConfig(num_workers=0, part_windows=3, batch_size=1)
    assert dies_at(step, lambda: extract(root, store, tiny_extractor, config))
    done = len(store.snapshot())
    assert done < 12
    run(root, store, counting, config)
    assert counting.num_windows == 12 - done
    assert run(root, store, counting, config).num_unchanged == 12
    assert (counting.num_windows, len(by_window(store))) == (12 - done, 12)


def test_pack_that_is_a_library_may_be_renamed_and_rewritten(
    tmp_path: Path, counting: Counting
) -> None:
    pack = write_waveforms(tmp_path / "eval.h5", tones(6))
    store = new_store(tmp_path / "store", counting)
    run(pack, store, counting)
    assert list(store.libraries().values()) == [tmp_path / "eval.h5!"]
    # Renamed: the library has moved, and nothing is read.
    pack = pack.rename(tmp_path / "test.h5")
    report = run(pack, store, counting)
    assert (report.num_unchanged, report.num_gone) == (6, 0)
    assert list(store.libraries().values()) == [tmp_path / "test.h5!"]
    # Two members fewer, and one that is new.
    waveforms, names = tones(7), names_of(7)
    write_waveforms(pack, waveforms[2:], names[2:])
    report = run(pack, store, counting)
    assert (report.num_embedded, report.num_known, report.num_gone) == (1, 4, 2)
    assert counting.num_windows == 7
    gone = {path for path, status in statuses(store).items() if status == "gone"}
    assert gone == {name.decode() for name in names[:2]}
    # Most of it: that is asked for.
    write_waveforms(pack, waveforms[6:], names[6:])
    with pytest.raises(LibraryError, match=r"4 of 5 files of this library are no longer in"):
        run(pack, store, counting)
    run(pack, store, counting, ExtractConfig(num_workers=0, allow_gone=True))
    assert list(statuses(store).values()).count("ok") == 1
    pack.unlink()
    with pytest.raises(LibraryError, match="no such pack"):
        run(pack, store, counting)


def test_pack_in_a_folder_may_be_renamed_and_vanish(tmp_path: Path, counting: Counting) -> None:
    root = both_packs(tmp_path / "packs", 3)
    for number in range(4):
        (root / f"{number}.wav").write_bytes(wave(tones(1, seed=9 + number)[0]))
    store = new_store(tmp_path / "store", counting)
    run(root, store, counting)
    (root / "eval.h5").rename(root / "test.h5")
    report = run(root, store, counting)
    assert (report.num_known, report.num_moved, report.num_gone) == (3, 3, 0)
    (root / "test.h5").rename(tmp_path / "away.h5")
    assert run(root, store, counting).num_gone == 3
    (tmp_path / "away.h5").rename(root / "test.h5")
    report = run(root, store, counting)
    assert (report.num_known, counting.num_windows) == (3, 10)
    # Of what is no pack any more nobody knows what was in it, nor of what is damaged.
    content = (root / "test.h5").read_bytes()
    (root / "test.h5").write_text("notes")
    report = run(root, store, counting)
    assert (report.num_gone, [one[:2] for one in report.failures]) == (0, [("test.h5", "walk")])
    assert {statuses(store)[f"test.h5!/{name.decode()}"] for name in names_of(3)} == {"ok"}
    (root / "test.h5").write_bytes(content)
    assert run(root, store, counting).failures == []
    (root / "test.h5").unlink()
    assert run(root, store, counting).num_gone == 3
    content = (root / "clips.parquet").read_bytes()
    (root / "clips.parquet").write_bytes(content[:-100])
    report = run(root, store, counting)
    assert (report.num_gone, [one[:2] for one in report.failures]) == (
        0,
        [("clips.parquet", "walk")],
    )
    (root / "clips.parquet").write_bytes(content)
    assert run(root, store, counting).failures == []
    assert statuses(store)["clips.parquet"] == "gone"
    assert counting.num_windows == 10


def test_files_say_what_is_in_packs_and_what_was_never_looked_at(
    tmp_path: Path, counting: Counting
) -> None:
    root = both_packs(tmp_path / "packs", 2)
    store = new_store(tmp_path / "store", counting)
    run(root, store, counting, ExtractConfig(num_workers=0, include=("eval.h5!/*",)))
    pq.write_table(pa.table({"path": ["x"]}), root / "labels.parquet")
    (root / "cut.h5").write_bytes((root / "eval.h5").read_bytes()[:-100])
    write_waveforms(root / ".more.h5", tones(1), [b"a.wav"])
    rows = {row.path: row for row in list_files(store.path)}
    assert {path: row.status for path, row in rows.items()} == {
        **{f"eval.h5!/{name.decode()}": "ok" for name in names_of(2)},
        **dict.fromkeys(("clips.parquet!/0.flac", "clips.parquet!/1.flac"), "skipped"),
        **dict.fromkeys(("labels.parquet", "cut.h5", ".more.h5!/a.wav"), "skipped"),
    }
    assert "hidden: a name in its path" in str(rows[".more.h5!/a.wav"].reason)
    assert rows["labels.parquet"].reason == "no ending of audio"
    assert "left out by a pattern or a list" in str(rows["clips.parquet!/0.flac"].reason)
    assert rows["cut.h5"].stage == "walk"
    assert "the pack cannot be listed: " in str(rows["cut.h5"].reason)


def test_narrower_patterns_leave_members_in_the_store(tmp_path: Path, counting: Counting) -> None:
    root = both_packs(tmp_path / "packs", 3)
    store = new_store(tmp_path / "store", counting)
    run(root, store, counting)
    config = ExtractConfig(num_workers=0, include=("*.flac",))
    assert run(root, store, counting, config).num_gone == 0
    assert set(statuses(store).values()) == {"ok"}


def test_damaged_row_costs_its_own_entry(
    tmp_path: Path, counting: Counting, tiny_file: Path, command: Run
) -> None:
    pack = write_waveforms(
        tmp_path / "eval.h5", tones(5), chunks=(1, 32_000), compression="gzip", fletcher32=True
    )
    with h5py.File(pack) as file:
        at = file["waveform"].id.get_chunk_info(2).byte_offset
    content = bytearray(pack.read_bytes())
    content[at + 40 : at + 80] = bytes(40)
    pack.write_bytes(content)
    store = new_store(tmp_path / "store", counting)
    report = run(pack, store, counting, READERS)
    assert (report.num_embedded, len(report.failures)) == (4, 1)
    ((path, (stage, reason)),) = reasons(store).items()
    assert (path, stage) == (names_of(3)[2].decode(), "decode")
    assert "the row is damaged" in reason
    assert run(pack, store, counting, READERS).num_failed_before == 1
    told = command("index", pack, "--store", tmp_path / "s", "--checkpoint", tiny_file, code=None)
    fault("R20d").require(told.code, told.out + told.err)


def test_store_of_a_pack_is_asked_copied_checked_and_forgotten(
    tmp_path: Path, tiny_file: Path, command: Run
) -> None:
    pack = write_waveforms(tmp_path / "eval.h5", tones(5))
    store, names = tmp_path / "store", [name.decode() for name in names_of(5)]
    member = f"{pack}!/{names[3]}"
    told = command("index", pack, "--store", store, "--checkpoint", tiny_file, "--workers", 0)
    assert "5 windows" in told.out
    rows = command("files", store, "--format", "json").data
    assert [f"{row['library']}/{row['path']}" for row in rows] == [f"{pack}!/{n}" for n in names]
    assert f"{pack}!" in command("info", store).out
    found = command("search", store, member, "--format", "json").hits
    expected = [f"{pack}!/{name}" for name in names if name != names[3]]
    assert sorted(hit["paths"][0] for hit in found) == sorted(expected)
    assert all(hit["is_there"] for hit in found)
    assert "not where the library was last seen" not in command("search", store, member).err
    copies = tmp_path / "copies"
    command("search", store, f"{member}@0-0.5", "--no-locate", "--copy-to", copies, "-k", 2)
    assert len(list(copies.glob("*.wav"))) == 2
    for copy in copies.glob("*.wav"):
        row = names.index(f"{copy.name.split('_')[1]}.wav")
        samples, rate = soundfile.read(copy, dtype="float32")
        assert rate == 32_000
        np.testing.assert_allclose(samples, tones(5)[row] / 32767, atol=2**-23)
    deep = command("verify", store, "--deep", "--format", "json").data
    assert deep == {"problems": [], "recomputed": 5, "absent": 0, "changed": 0}
    command("batch", store, pack, "--output", tmp_path / "many.jsonl", "-k", 1)
    assert len((tmp_path / "many.jsonl").read_text().splitlines()) == 5
    pack.rename(tmp_path / "away.h5")
    told = command("search", store, "--tag", "Animal", "--threshold", 0.001).err
    assert "files are not where the library was last seen" in told
    command("forget", store, f"{pack}!", "--yes")
    assert command("info", store, "--format", "json").data["num_windows"] == 0


def test_process_that_holds_packs_ends_as_it_should(tmp_path: Path, tiny_file: Path) -> None:
    """HDF5 calls back into Python for what it reads: not when Python has ended."""
    words = ("extract", both_packs(tmp_path / "packs", 2), tmp_path / "store")
    how = ("--checkpoint", tiny_file, "--workers", 1)
    command = [sys.executable, "-m", "soundalike", *map(str, (*words, *how))]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "embedded 4 files" in done.stdout


def test_process_that_could_not_open_a_pack_ends_as_it_should(tmp_path: Path) -> None:
    """HDF5 would call back into what was tried, if an error that is kept held it until the end."""
    pack = write_waveforms(tmp_path / "eval.h5", tones(2, 1.0), names_of(2))
    os.truncate(pack, pack.stat().st_size // 2)
    code = (
        "import sys\nfrom pathlib import Path\nfrom indexer.audio.packs.held import held\n"
        "try: held(Path(sys.argv[1]))\nexcept Exception as error: sys.kept = error; print(error)"
    )
    command = [sys.executable, "-c", code, str(pack)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "truncated file" in done.stdout


def test_figures_of_a_pack_are_those_of_its_audio_and_of_scikit_learn(
    tmp_path: Path, tiny_extractor: Extractor
) -> None:
    """Twenty-seven clips, of recordings where they are there; labels are made up."""
    waveforms = tones(27, 10.0)
    files = sorted((SHARED_AUDIO / "esc10_heldout").rglob("*.wav"))[::6]
    for row, file in enumerate(files[:27]):
        samples, rate = soundfile.read(file, dtype="float64")
        position = np.arange(320_000) * rate / 32_000  # any other sound would do as well
        waveforms[row] = np.round(
            np.interp(position, np.arange(len(samples)), samples, 0, 0) * 32767
        )
    names = names_of(27)
    pack = write_waveforms(tmp_path / "eval.h5", waveforms, names)
    (tmp_path / "audio").mkdir()
    for name, samples in zip(names, waveforms, strict=True):
        soundfile.write(tmp_path / "audio" / name.decode(), samples, 32_000)
    figures, scores = [], np.zeros((27, 527))
    for library in (pack, tmp_path / "audio"):
        store = new_store(tmp_path / f"{library.stem}.store", tiny_extractor)
        run(library, store, tiny_extractor)
        report = evaluate_audioset(store, read_segments(pack))
        assert (report.num_segments, report.num_missing, report.num_extra) == (27, 0, 0)
        tagging = report.tagging
        figures.append((tagging.mean_ap, tagging.mean_auc, tagging.mean_d_prime))
        if library == pack:
            found = scenes(store)
            each = np.array([found[name.decode()] for name in names])
            scores = tiny_extractor.head().tags(each)
    # The audio is quieter by a 32,768th.
    np.testing.assert_allclose(*figures, atol=2e-3)
    targets = targets_of(27)
    held = targets.any(0)
    for ours, figure in zip(figures[0], (average_precision_score, roc_auc_score), strict=False):
        expected = figure(targets[:, held], scores[:, held], average="macro")
        assert ours == pytest.approx(expected, abs=1e-9)
    holes = write_waveforms(tmp_path / "holes.h5", waveforms[:3], [*names[:2], b""])
    report = evaluate_audioset(store, read_segments(holes))
    assert (report.num_segments, report.num_missing, report.num_extra) == (3, 1, 25)


def test_copy_of_a_pack_is_known(tmp_path: Path, counting: Counting) -> None:
    pack = write_waveforms(tmp_path / "a" / "eval.h5", tones(3))
    (tmp_path / "b").mkdir()
    shutil.copyfile(pack, tmp_path / "b" / "copy.hdf5")
    store = new_store(tmp_path / "store", counting)
    for folder in "ab":
        run(tmp_path / folder, store, counting)
    assert counting.num_windows == 3
    digest = recording_digest(pack.with_name("eval.h5!") / names_of(1)[0].decode())
    paths = [path for path, key in store.live_files() if key == digest]
    assert sorted(paths) == [
        f"copy.hdf5!/{names_of(1)[0].decode()}",
        f"eval.h5!/{names_of(1)[0].decode()}",
    ]
