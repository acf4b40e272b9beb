"""Archives in whole runs: the same as the folder that was packed, and asked as it would be."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset
from conftest import Run
from faults import fault
from pack_files import tones, wave, write_tar, write_zip
from test_extract import Counting, by_window, counting, new_store, reasons, run, statuses

from indexer.audio.packs import tar, zipped
from indexer.run.extract import ExtractConfig

pytestmark = pytest.mark.whole

__all__ = ["counting"]  # a fixture

CLIPS = [wave(clip, kind="FLAC") for clip in tones(9, 1.0)]


@pytest.fixture
def command(run: Run) -> Run:
    return run


def four_ways(root: Path) -> dict[str, Path]:
    """A folder of clips; the same as tar, as zip, and as shards of webdataset."""
    for row, clip in enumerate(CLIPS):
        path = root / "folder" / str(row // 4) / f"{row}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip)
    subprocess.run(["tar", "-C", root / "folder", "-cf", root / "as.tar", "."], check=True)
    shutil.make_archive(str(root / "as"), "zip", root / "folder")
    (root / "shards").mkdir()
    pattern = str(root / "shards" / "%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=4, verbose=0) as writer:
        for row, clip in enumerate(CLIPS):
            writer.write({"__key__": f"{row:04}", "flac": clip, "json": {"row": row}})
    return {name: root / name for name in ("folder", "as.tar", "as.zip", "shards")}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_folder_and_what_it_is_packed_into_are_the_same_windows_and_scenes(
    tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    config = ExtractConfig(num_workers=num_workers)
    found = {}
    ways = four_ways(tmp_path)
    for name, library in ways.items():
        store = new_store(tmp_path / f"{name}.store", counting)
        report = run(library, store, counting, config)
        assert (report.num_embedded, report.failures) == (9, [])
        found[name] = by_window(store)
        # A second run reads nothing of what is in them.
        with monkeypatch.context() as patched:
            for module in (tar, zipped):
                patched.setattr(module, "blocks", None)
            report = run(library, store, counting, config)
        assert (report.num_unchanged, report.num_embedded) == (9, 0)
    assert counting.num_windows == 4 * 9
    for windows in found.values():
        assert windows.keys() == found["folder"].keys()
        for key, (scene, *_) in windows.items():
            np.testing.assert_allclose(scene, found["folder"][key][0], atol=1e-6)
    # Added to the store of the folder they are all known.
    store = new_store(tmp_path / "all.store", counting)
    for library in ways.values():
        run(library, store, counting, config)
    assert counting.num_windows == 5 * 9


def test_tar_that_is_cut_off_keeps_what_it_had(tmp_path: Path, counting: Counting) -> None:
    root = tmp_path / "library"
    files = [(f"{row}.flac", clip) for row, clip in enumerate(CLIPS)]
    path = write_tar(root / "x.tar", files)
    store = new_store(tmp_path / "store", counting)
    run(root, store, counting)
    content = path.read_bytes()
    os.truncate(path, len(content) // 3)
    report = run(root, store, counting)
    assert report.num_gone == 0
    ((name, stage, reason),) = report.failures
    assert (name, stage) == ("x.tar", "walk")
    assert reason.startswith("the pack is cut off, behind ")
    # It is only told, and not written again, until it is whole.
    assert [one[:2] for one in run(root, store, counting).failures] == [("x.tar", "walk")]
    path.write_bytes(content)
    assert run(root, store, counting).failures == []
    assert statuses(store) == {f"x.tar!/{name}": "ok" for name, _ in files} | {"x.tar": "gone"}
    write_tar(path, files[:7])
    assert run(root, store, counting).num_gone == 2
    # As a library of its own it is told likewise.
    os.truncate(path, len(content) // 3)
    report = run(path, new_store(tmp_path / "other", counting), counting)
    assert [one[:2] for one in report.failures] == [(".", "walk")]
    assert report.num_embedded > 0


def test_zip_that_is_cut_off_keeps_what_it_had(tmp_path: Path, counting: Counting) -> None:
    root = tmp_path / "library"
    path = write_zip(root / "x.zip", [(f"{row}.flac", clip) for row, clip in enumerate(CLIPS)])
    store = new_store(tmp_path / "store", counting)
    run(root, store, counting)
    content = path.read_bytes()
    os.truncate(path, len(content) // 2)
    report = run(root, store, counting)
    assert report.num_gone == 0
    ((name, stage, reason),) = report.failures
    assert (name, stage) == ("x.zip", "walk")
    assert reason.startswith("the pack cannot be listed: damaged, or cut off: ")
    path.write_bytes(content)
    report = run(root, store, counting)
    assert (report.num_unchanged, report.num_gone, report.failures) == (9, 0, [])


def test_zip_is_indexed_asked_copied_checked_and_tagged(
    tmp_path: Path, tiny_file: Path, command: Run
) -> None:
    path = write_zip(tmp_path / "s.zip", [(f"in/{row}.flac", one) for row, one in enumerate(CLIPS)])
    store, member = tmp_path / "store", f"{path}!/in/3.flac"
    command("index", path, "--store", store, "--checkpoint", tiny_file, "--workers", 0)
    found = command("search", store, member, "--format", "json").hits
    assert sorted(hit["paths"][0] for hit in found) == [
        f"{path}!/in/{row}.flac" for row in range(9) if row != 3
    ]
    assert all(hit["is_there"] for hit in found)
    copies, report = tmp_path / "copies", tmp_path / "report.html"
    where = ("--no-locate", "--copy-to", copies, "--report", report, "-k", 2)
    command("search", store, f"{member}@0-0.5", *where)
    assert "in/" in report.read_text()
    assert len(list(copies.glob("*.wav"))) == 2
    for copy in copies.glob("*.wav"):
        samples, _ = soundfile.read(copy, dtype="float32")
        row = int(copy.name.split("_")[1])
        np.testing.assert_allclose(samples, tones(9, 1.0)[row] / 32768, atol=2**-23)
    deep = command("verify", store, "--deep", "--format", "json").data
    assert deep == {"problems": [], "recomputed": 9, "absent": 0, "changed": 0}
    assert "3.flac" in command("tag", member, "--checkpoint", tiny_file).out
    command("batch", store, path, "--output", tmp_path / "many.jsonl", "-k", 1)
    assert len((tmp_path / "many.jsonl").read_text().splitlines()) == 9


def test_what_is_wrong_with_archives_is_a_row_or_a_line_each(
    tmp_path: Path, tiny_file: Path, command: Run
) -> None:
    """A tar that is cut off, an encrypted member, a bomb, a name that leads out."""
    root = tmp_path / "library"
    files = [("../x.flac", CLIPS[0]), ("y.flac", CLIPS[1]), ("z.flac", CLIPS[2])]
    os.truncate(write_tar(root / "cut.tar", files), 120_000)
    content = write_zip(root / "x.zip", files).read_bytes()
    row = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
    (root / "x.zip").write_bytes(content[: row + 8] + b"\1" + content[row + 9 :])
    bomb = write_zip(root / "bomb.zip", [("a.flac", bytes(10**6))]).read_bytes()
    row = bomb.index(b"PK\1\2")
    (root / "bomb.zip").write_bytes(bomb[: row + 24] + b"\1" + bomb[row + 25 :])
    (root / "old.tar.gz").write_bytes(b"any")
    (root / "cut.zip").write_bytes(content[: len(content) // 2])
    (root / "page.zip").write_text("<html>")
    words = ("index", root, "--store", tmp_path / "s", "--checkpoint", tiny_file, "--workers", 0)
    told = command(*words, code=3)
    rows = (fault("R24a"), fault("R24b"), fault("R24c"), fault("R24d"), fault("R24e"))
    for said in (*rows, fault("R24f"), fault("R24g")):
        said.require(told.code, told.out + told.err)


def test_damaged_member_fails_by_itself(tmp_path: Path, counting: Counting) -> None:
    path = write_zip(tmp_path / "x.zip", [("a.flac", CLIPS[0]), ("b.flac", CLIPS[1])])
    content = bytearray(path.read_bytes())
    content[5000:5040] = bytes(40)
    path.write_bytes(content)
    store = new_store(tmp_path / "store", counting)
    report = run(path, store, counting)
    assert (report.num_embedded, len(report.failures)) == (1, 1)
    ((name, (stage, reason)),) = reasons(store).items()
    assert (name, stage) == ("a.flac", "decode")
    assert reason.startswith("the member is damaged: ")
