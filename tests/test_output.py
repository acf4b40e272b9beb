"""What is written for people: whole or absent, never in place of something else, in no store."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import Run
from faults import fault
from synthetic import Synthetic, make_store, write_tone

import search.output
from indexer.errors import OutputError
from search.asking.answers import Hit
from search.asking.collect import copy_spans
from search.asking.opened import OpenedStore
from search.export.windows import export_windows
from search.filters.metadata import Metadata
from search.output import make_folder, require_free, writing, writing_text
from search.upkeep.build import build
from soundalike.__main__ import main

CLIPS = [f"{number:011}" for number in range(4)]
#: Each way to write files from a store: what comes before --output, its name, and what follows.
OUTPUTS: dict[str, tuple[list[str], str, list[str]]] = {
    "csv": (["export", "csv", "STORE"], "x.csv", ["--threshold", "0"]),
    "jsonl": (["export", "jsonl", "STORE"], "x.jsonl", []),
    "npy": (["export", "npy", "STORE"], "x.npy", []),
    "embedding-reader": (["export", "embedding-reader", "STORE"], "x", []),
    "labels": (["export", "labels", "STORE"], "x", ["--threshold", "0", "--tag", "Music"]),
    "batch parquet": (["batch", "STORE", "STORE"], "x.parquet", ["-k", "99"]),
    "batch jsonl": (["batch", "STORE", "STORE"], "x.jsonl", ["-k", "99"]),
    **{
        form: (["export", "audiocaps", "STORE", "train.csv"], "x", ["--as", form])
        for form in ("parquet", "npz", "hdf5-conette", "hdf5-dcase2023", "webdataset")
    },
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """A store with an index, and beside it a table of captions of its sounds."""
    made = make_store(tmp_path_factory.mktemp("output") / "store")
    made.add(dict.fromkeys(CLIPS, 2))
    build(made.store)
    rows = [f"{number},{clip},30,A tone." for number, clip in enumerate(CLIPS)]
    table = made.store.path.parent / "train.csv"
    table.write_text("\n".join(["audiocap_id,youtube_id,start_time,caption", *rows]))
    return made


def words_of(kind: str, store: Synthetic, output: Path) -> list[str]:
    """The command that writes some kind of output."""
    before, _, after = OUTPUTS[kind]
    folder = store.store.path.parent
    paths = {"STORE": str(store.store.path), "train.csv": str(folder / "train.csv")}
    return [*(paths.get(word, word) for word in before), "--output", str(output), *after]


@pytest.fixture
def written(stored: Synthetic, tmp_path: Path, run: Run, kind: str) -> list[str]:
    """The command that has written some kind of output into the test's folder."""
    words = words_of(kind, stored, tmp_path / OUTPUTS[kind][1])
    run(*words)
    return words


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Ended(NamedTuple):
    """How a child ended: its exit code, or the signal that killed it as a negative number."""

    code: int
    printed: str


def in_child(work: Callable[[], object]) -> Ended:
    """Do some work in a fork of this process, with what it prints in a pipe."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.close(ours)
            os.dup2(theirs, 1)
            os.dup2(theirs, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            work()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        except BaseException:  # noqa: BLE001 - the parent must not go on in two processes
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        printed = pipe.read()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed)


def on_full_disk(num_bytes: int, *words: str) -> Ended:
    """Run a command that can write files of so many bytes: the system refuses the next one."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
        sys.argv = ["soundalike", *words]
        main()

    return in_child(work)


# --- a full disk, a kill, an interrupt -----------------------------------------------------------


@pytest.mark.whole
@pytest.mark.parametrize("kind", OUTPUTS)
def test_full_disk_is_one_line_and_leaves_what_was_there(
    written: list[str], tmp_path: Path, kind: str
) -> None:
    before = files_below(tmp_path)
    assert max(map(len, before.values())) > 2000
    ended = on_full_disk(2000, *written, "--force")
    fault("A4").require(*ended)
    assert ended.printed.count("\n") == 1
    assert ended.printed.endswith(": File too large\n")
    left = files_below(tmp_path)
    assert set(left) == set(before)  # and no half file, and no temporary one
    # Of several files, those for which there was room were replaced, by the same.
    assert left == before or OUTPUTS[kind][1] == "x"
    assert {name for name, content in before.items() if len(content) > 2000} <= {
        name for name in left if left[name] == before[name]
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hdf5-conette", "hdf5-dcase2023"])
def test_full_disk_at_any_byte_does_not_crash_hdf5(
    stored: Synthetic, tmp_path: Path, kind: str
) -> None:
    words = words_of(kind, stored, tmp_path / "x")
    for num_bytes in (*range(0, 20_000, 1777), *range(20_000, 2_000_000, 97_003)):
        ended = on_full_disk(num_bytes, *words, "--force")
        if ended.code == 0:
            break
        fault("A4").require(*ended)
    assert ended.code == 0


@pytest.mark.whole
def test_full_disk_while_audio_is_copied_is_one_line(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "a.wav", 2.0)
    hits = [Hit(1.0, 1, b"x" * 16, (source,), 0.0, 1.0, ())]

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(OutputError) as failed:
            copy_spans(hits, tmp_path / "out")
        print(failed.value)  # noqa: T201

    assert in_child(work).printed == (
        f"cannot write {tmp_path}/out/001_a_0.0s.wav: File too large\n"
    )
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 kB, as a machine has it that is really full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.whole
@pytest.mark.parametrize("kind", ["npy", "labels", "batch parquet", "hdf5-conette"])
def test_disk_that_is_really_full(stored: Synthetic, tiny_disk: Path, kind: str) -> None:
    def work() -> None:
        sys.argv = ["soundalike", *words_of(kind, stored, tiny_disk / OUTPUTS[kind][1])]
        main()

    (tiny_disk / "former").write_bytes(b"x" * 4096)
    ended = in_child(work)
    assert ended.code == 1
    assert "cannot" in ended.printed
    assert "No space left on device" in ended.printed
    assert len(ended.printed.splitlines()) == 1
    assert (tiny_disk / "former").read_bytes() == b"x" * 4096
    assert [path for path in files_below(tiny_disk) if ".tmp-" in path] == []


@pytest.mark.whole
def test_what_a_killed_writer_left_is_removed_by_the_next_to_the_same_place(
    tmp_path: Path, stored: Synthetic, run: Run
) -> None:
    target, other = tmp_path / "x.csv", tmp_path / ".tmp-0123456789abcdef0123456789abcdef"
    target.write_text("former")
    other.write_text("somebody else's")

    def die() -> None:
        with writing(target, force=True) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die).code == -signal.SIGKILL
    assert target.read_text() == "former"
    assert len(list(tmp_path.glob(".tmp-*"))) == 2
    ended = run("export", "csv", stored.store.path, "--output", target, "--force", "-q")
    fault("A5b").require(ended.code, ended.out + ended.err)
    assert target.read_text().startswith("window_id,")
    assert set(tmp_path.iterdir()) == {target, other, tmp_path / "x.csv.card.md"}
    assert other.read_text() == "somebody else's"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_interrupts_leaves_what_was_there(tmp_path: Path, kind: type[BaseException]) -> None:
    (tmp_path / "x").write_text("former")

    def write() -> None:
        with writing_text(tmp_path / "x", force=True) as text:
            text.write("half")
            raise kind

    with pytest.raises(kind):
        write()
    assert files_below(tmp_path) == {"x": b"former"}


def test_two_that_write_the_same_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    with writing(tmp_path / "x") as first:
        first.write(b"first")
        with (
            pytest.raises(OutputError, match=r"another process is writing it, as \.tmp-"),
            writing(tmp_path / "x"),
        ):
            pass
    assert files_below(tmp_path) == {"x": b"first"}


def test_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def write() -> None:
        with writing(tmp_path / "x") as file:
            file.write(b"ours")
            (tmp_path / "x").write_text("theirs")

    with pytest.raises(OutputError, match="x is there already") as refused:
        write()
    assert refused.value.about == "force"
    assert files_below(tmp_path) == {"x": b"theirs"}


def test_file_system_without_hard_links_or_locks_has_the_file_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(search.output, "lock_descriptor", refuse)
    with writing(tmp_path / "x") as file:
        file.write(b"new")
    assert files_below(tmp_path) == {"x": b"new"}

    def write_where_somebody_does() -> None:
        with writing(tmp_path / "z") as file:
            file.write(b"ours")
            (tmp_path / "z").write_text("theirs")

    with pytest.raises(OutputError, match="z is there already"):
        write_where_somebody_does()
    assert (tmp_path / "z").read_text() == "theirs"
    with writing(tmp_path / "y"):  # nobody can tell whether its process lives
        (temporary,) = tmp_path.glob(".tmp-*")
        with (
            pytest.raises(OutputError, match="another process is writing"),
            writing(tmp_path / "y"),
        ):
            pass
        assert temporary.exists()


# --- what is there already -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_is_there_is_refused_before_anything_is_written(
    written: list[str], tmp_path: Path, run: Run
) -> None:
    *others, one = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    for path in others:
        path.unlink()
    one.write_text("mine")
    refused = run(*written, code=1)
    fault("A3" if not others else "A3b").require(refused.code, refused.err)
    assert str(one) in refused.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [one]
    assert one.read_text() == "mine"
    run(*written, "--force")
    assert b"mine" not in files_below(tmp_path).values()
    assert len(files_below(tmp_path)) == len(others) + 1


def test_labels_beside_the_recordings_leave_the_notes_of_a_user(
    stored: Synthetic, tmp_path: Path, run: Run
) -> None:
    notes = tmp_path / f"{CLIPS[0]}.wav.txt"
    notes.write_text("notes made by hand")
    words = words_of("labels", stored, tmp_path)
    refused = run(*words, code=1)
    fault("A3b").require(refused.code, refused.err)
    assert files_below(tmp_path) == {notes.name: b"notes made by hand"}


def test_copies_of_audio_replace_nothing(tmp_path: Path) -> None:
    hits = [
        Hit(1.0, 1, b"x" * 16, (write_tone(tmp_path / name, 1.0),), 0.0, 1.0, ())
        for name in ("a.wav", "b.wav")
    ]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "002_b_0.0s.wav").write_text("mine")
    with pytest.raises(OutputError, match=r"1 of the 2 files .* are there already, .*002_b_0\.0s"):
        copy_spans(hits, tmp_path / "out")
    assert files_below(tmp_path / "out") == {"002_b_0.0s.wav": b"mine"}
    written, _ = copy_spans(hits, tmp_path / "out", force=True)
    assert [path.stat().st_size for path in written] == [96_044, 96_044]


def test_force_without_anything_to_write_is_refused(stored: Synthetic, run: Run) -> None:
    for words in (("search",), ("eval", "audioset", "--segments", "x.csv")):
        command = [*words[:2], stored.store.path, *words[2:], "--force"]
        assert "--force goes with --c" in run(*command, code=2).err


def test_table_of_classes_is_refused_before_anything_is_compared(
    stored: Synthetic, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "x.csv").write_text("mine")
    words = ("eval", "audioset", stored.store.path, "--segments", tmp_path / "none.csv")
    refused = run(*words, "--classes", tmp_path / "x.csv", code=1)
    fault("A3").require(refused.code, refused.err)
    refused = run(*words, "--classes", tmp_path / "x.parquet", code=1)
    fault("A3d").require(refused.code, refused.err)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_nothing_is_written_into_a_store(
    stored: Synthetic, tmp_path: Path, run: Run, kind: str
) -> None:
    store, name = stored.store.path, OUTPUTS[kind][1]
    stored.store.hold()  # makes the lock that whoever reads a store takes part in
    before = files_below(store)
    (tmp_path / "link").symlink_to(store)
    (tmp_path / "parts").symlink_to(store / "parts")
    for folder in (store / "index", tmp_path / "link", tmp_path / "parts"):
        refused = run(*words_of(kind, stored, folder / name), "--force", code=1)
        fault("A3c").require(refused.code, refused.err)
    assert files_below(store) == before


def test_the_manifest_of_a_store_is_not_replaced(
    stored: Synthetic, tmp_path: Path, run: Run
) -> None:
    manifest = stored.store.path / "store.json"
    before = manifest.read_bytes()
    (tmp_path / "link.csv").symlink_to(manifest)
    for target in (manifest, tmp_path / "link.csv"):
        words = ("export", "csv", stored.store.path, "--output", target, "--force")
        assert "cannot write" in run(*words, code=1).err if target != manifest else True
        with pytest.raises(OutputError, match="is in the store"):
            require_free(target, force=True)
    assert manifest.read_bytes() == before
    with pytest.raises(OutputError, match="is in the store"):
        make_folder(stored.store.path / "copies")


@pytest.mark.parametrize(
    ("form", "name", "helps"),
    [
        ("csv", "x.parquet", ""),
        ("csv", "x.jsonl", "or run: soundalike export jsonl"),
        ("jsonl", "x.csv", "or run: soundalike export csv"),
        ("npy", "x.CSV", "or run: soundalike export csv"),
        ("csv", "x.npy", "or run: soundalike export npy"),
    ],
)
def test_name_that_says_another_form_is_refused(
    stored: Synthetic, tmp_path: Path, run: Run, form: str, name: str, helps: str
) -> None:
    refused = run("export", form, stored.store.path, "--output", tmp_path / name, code=1)
    fault("A3d").require(refused.code, refused.err)
    assert helps in refused.err
    assert list(tmp_path.iterdir()) == []


def test_shards_of_a_longer_export_are_replaced_as_one(
    stored: Synthetic, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_of("webdataset", stored, tmp_path)
    monkeypatch.setattr("search.export.forms.webdataset.CLIPS_PER_SHARD", 1)
    run(*words)
    for path in tmp_path.glob("train-00000[01].tar"):
        path.unlink()
    monkeypatch.setattr("search.export.forms.webdataset.CLIPS_PER_SHARD", 3)
    assert "5 of the 7 files" in run(*words, code=1).err  # of which two are beyond the new ones
    theirs = ["train-000007.tar", "train-202311.tar", "train-extra-000009.tar"]
    for name in theirs:
        (tmp_path / name).write_text("somebody's")
    run(*words, "--force")
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == [
        *("train-000000.tar", "train-000001.tar", *theirs),
    ]


# --- what is no file -----------------------------------------------------------------------------


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    refused = {
        tmp_path / "folder": "a folder has that name",
        tmp_path / "link": "a link to nothing",
        Path("/dev/full"): "a device",
        Path(): "a folder has that name",
    }
    for path, reason in refused.items():
        with pytest.raises(OutputError, match=reason), writing(path, force=True):
            pass
    assert not (tmp_path / "nothing").exists()


def test_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("mine")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OutputError, match="is there already"), writing(tmp_path / "link"):
        pass
    with writing(tmp_path / "link", force=True) as file:
        file.write(b"new")
    assert files_below(tmp_path) == {"real": b"mine", "link": b"new"}


def test_file_that_replaces_a_private_one_is_private(tmp_path: Path) -> None:
    with writing_text(tmp_path / "x") as text:
        text.write("new")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~_umask()
    (tmp_path / "x").chmod(0o600)
    with writing_text(tmp_path / "x", force=True):
        pass
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_pipe_is_written_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with writing_text(tmp_path / "pipe") as text:
        text.write("ü" * 100_000)
    reader.join()
    assert read == ["ü".encode() * 100_000]
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]


def test_pipe_has_no_card_beside_it(stored: Synthetic, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    export_windows(stored.store, tmp_path / "pipe", "csv")
    reader.join()
    assert read[0].startswith("window_id,path,")
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]


@pytest.mark.whole
def test_what_is_printed_to_may_be_the_target(stored: Synthetic, tmp_path: Path, run: Run) -> None:
    run("export", "jsonl", stored.store.path, "--output", tmp_path / "x.jsonl")

    def work() -> None:
        sys.argv = ["soundalike", "export", "jsonl", str(stored.store.path)]
        sys.argv += ["--output", "/dev/stdout", "-q"]
        main()

    printed = in_child(work).printed
    assert [json.loads(line) for line in printed.splitlines()] == [
        json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()
    ]


def test_array_is_what_numpy_would_have_saved(stored: Synthetic, tmp_path: Path, run: Run) -> None:
    run("export", "npy", stored.store.path, "--output", tmp_path / "x.npy")
    snapshot = stored.store.snapshot()
    np.save(tmp_path / "y.npy", snapshot.scene(np.arange(len(snapshot))))
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()


# --- names ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Recordings whose names are as long as names may be, that lie deep, or begin a formula."""
    made = make_store(tmp_path_factory.mktemp("names") / "store")
    long = [end.rjust(251, "x") for end in ("one", "two")]  # and ".wav"
    made.add(dict.fromkeys([*long, "é" * 124 + "f", "short", "=1+1", "-2", "@a", "+b", "\tc"], 1))
    made.add({"deep": 1}, path_prefix="folder/" * 585)
    return made


@pytest.mark.whole
@pytest.mark.parametrize("form", ["audacity", "raven"])
def test_labels_of_recordings_with_long_names_have_shorter_ones(
    oddly_named: Synthetic, tmp_path: Path, run: Run, form: str
) -> None:
    words = words_of("labels", oddly_named, tmp_path / "out")
    ended = run(*words, "--as", form, "--format", "json", code=3)
    fault("B2").require(ended.code, ended.err)
    assert ended.err.count("\n") == 1  # only what lies too deep
    assert len(ended.data["failures"]) == 1
    written = [Path(path) for path in ended.data["files"]]
    assert len(set(written)) == len(oddly_named.paths) - 1
    (card,) = (tmp_path / "out").glob("*.card.md")
    assert f"# Labels in {len(written)} files, of" in card.read_text()
    assert "; in 0 others nothing is heard, and 1 could not be written" in card.read_text()
    assert sorted(tmp_path.rglob("*.*")) == sorted([*written, card])
    shortened = [path.name for path in written if "~" in path.name]
    assert len(shortened) == 3
    assert all(len(os.fsencode(name)) <= 255 for name in shortened)
    assert {name[:100] for name in shortened} == {"x" * 100, "é" * 100}
    assert (tmp_path / "out" / {"audacity": "short.wav.txt"}.get(form, written[-1])).exists()


def test_labels_where_a_file_is_in_the_place_of_a_folder_cost_that_recording_alone(
    tmp_path: Path, run: Run
) -> None:
    made = make_store(tmp_path / "store")
    made.add({"a": 1})
    made.add({"b": 1}, path_prefix="folder/")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "folder").write_text("mine")
    ended = run(*words_of("labels", made, tmp_path / "out"), code=3)
    fault("B2").require(ended.code, ended.err)
    names = ["a.wav.txt", "folder", "store.audacity.card.md"]
    assert sorted(files_below(tmp_path / "out")) == names


@pytest.mark.whole
def test_cells_with_paths_are_no_formulas_and_lead_to_the_same_files(
    oddly_named: Synthetic, tmp_path: Path, run: Run
) -> None:
    run("export", "csv", oddly_named.store.path, "--output", tmp_path / "x.csv")
    ended = run("export", "npy", oddly_named.store.path, "--output", tmp_path / "x.npy")
    fault("E10").require(ended.code, ended.out)
    for name in ("x.csv", "x.npy.csv"):
        found = list(csv.DictReader((tmp_path / name).read_text().splitlines()))
        assert {os.path.normpath(row["path"]) for row in found} == set(oddly_named.paths)
        cells = [cell for row in found for cell in row.values()]
        assert [cell for cell in cells if cell[:1] in {"=", "+", "-", "@", "\t", "\r"}] == []
        assert {"./=1+1.wav", "./-2.wav", "./@a.wav", "./+b.wav", "./\tc.wav", "short.wav"} <= {
            row["path"] for row in found
        }
    run(*words_of("labels", oddly_named, tmp_path / "labels"), "--as", "csv", code=3)
    rows = list(csv.DictReader((tmp_path / "labels" / "=1+1.wav.csv").read_text().splitlines()))
    assert {row["path"] for row in rows} == {"./=1+1.wav"}


def test_paths_of_an_exported_table_are_keys_of_metadata(
    oddly_named: Synthetic, tmp_path: Path, run: Run
) -> None:
    run("export", "csv", oddly_named.store.path, "--output", tmp_path / "x.csv")
    build(oddly_named.store)
    metadata = Metadata.read(tmp_path / "x.csv")
    rows = metadata.rows(OpenedStore.at(oddly_named.store.path).places)
    assert sorted(rows.tolist()) == list(range(len(oddly_named.paths)))
