"""Faults of a store: links, pipes, locks of strangers, leftovers, readers that last."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from faults import fault
from sketched import scenes_of, sketching
from synthetic import Synthetic, make_store

from indexer.store.disk import TEMPORARY_PREFIX, read_sealed, seal
from indexer.store.part import MANIFEST_FILE
from indexer.store.reader import Store
from indexer.store.schema import MOST_TEXT_BYTES
from search.upkeep.build import build
from search.upkeep.compact import compact

#: What a command may be asked of a store that needs no network.
ASKED = [("info",), ("search", "--tag", "Dog"), ("verify",), ("build",), ("compact",)]


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two parts and an index with sketches; to be copied."""
    made = make_store(tmp_path_factory.mktemp("faults") / "store", frames="none")
    made.add({"a": 300})
    made.add({"b": 2})
    with sketching():
        build(made.store)
    return made.store.path


@pytest.fixture
def store(whole_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_store, tmp_path / "s"))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder with things of the user's, under names that ours might have, too."""
    folder = tmp_path / "victim"
    for name in ("photos/a.jpg", f"{7:032x}/thesis.tex", "00000001-0000abcd/x", "plain.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    files = (one for one in folder.rglob("*") if one.is_file())
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}


@pytest.fixture
def _impatient() -> Iterator[None]:
    """End a test that waits for a pipe."""

    def end(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# --- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ASKED, ids=lambda words: words[0])
@pytest.mark.parametrize("folder", ["index", "index/segments", "parts"])
def test_folder_that_is_a_link_is_refused_and_what_it_leads_to_is_untouched(
    folder: str, words: tuple[str, ...], store: Path, victim: Path, run: Run
) -> None:
    before = tree(victim)
    shutil.rmtree(store / folder)
    (store / folder).symlink_to(victim)
    told = run(words[0], store, *words[1:], code=None)
    if words[0] == "verify":
        assert told.code == 1
        assert "is a symbolic link" in told.out + told.err
    elif words[0] != "info" or folder in ("parts", "index"):  # it looks at no segments
        fault("A1").require(told.code, told.err)
    assert tree(victim) == before


def test_folder_of_former_lists_that_is_a_link_is_left_alone(
    store: Path, victim: Path, run: Run
) -> None:
    """What older versions kept there is deleted, and nothing that a link leads to."""
    before = tree(victim)
    (store / "index" / "trained").symlink_to(victim)
    run("build", store)
    assert tree(victim) == before


@pytest.mark.parametrize("lock", [".writer.lock", ".readers.lock", "index/.lock"])
def test_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_untouched(
    lock: str, store: Path, tmp_path: Path, run: Run
) -> None:
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("300 pages")
    (store / lock).unlink(missing_ok=True)
    (store / lock).symlink_to(thesis)
    opened = Store.open(store)
    Synthetic(opened, next(iter(opened.libraries()))).add({"c": 1})  # something to do
    told = run("compact", store, code=None)
    fault("A2").require(told.code, told.err)
    assert thesis.read_text() == "300 pages"


def test_lock_with_the_words_of_somebody_else_keeps_them(store: Path, run: Run) -> None:
    (store / ".writer.lock").unlink(missing_ok=True)
    (store / ".writer.lock").write_text("my thesis, 300 pages")
    told = run("compact", store, code=None)
    fault("A2b").require(told.code, told.err)
    assert (store / ".writer.lock").read_text() == "my thesis, 300 pages"


def test_leftovers_of_a_killed_build_are_removed_and_nothing_else(store: Path, run: Run) -> None:
    half = store / "index" / f"{TEMPORARY_PREFIX}CURRENT-{5:032x}"
    half.write_text("00000001")
    mine = store / "index" / ".tmp-mine"
    mine.write_text("precious")
    fault("A5").require(run("build", store, code=None).code, "")
    assert not half.exists()
    assert mine.read_text() == "precious"


# --- files that are none -------------------------------------------------------------------------


def files_of(store: Path) -> list[str]:
    found = (one for one in store.rglob("*") if one.is_file() and not one.name.startswith("."))
    return sorted(str(one.relative_to(store)) for one in found)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_file_of_a_store_that_is_no_file_neither_waits_nor_fills_the_memory(
    kind: str, whole_store: Path, tmp_path: Path, run: Run
) -> None:
    """Each file of the store in turn; those that a command reads are refused in one line."""
    num_refused = 0
    for number, name in enumerate(files_of(whole_store)):
        store = Path(shutil.copytree(whole_store, tmp_path / str(number)))
        (store / name).unlink()
        if kind == "pipe":
            os.mkfifo(store / name)
        else:
            (store / name).symlink_to("/dev/zero")
        for words in (("info",), ("search", "--tag", "Dog"), ("verify",)):
            told = run(words[0], store, *words[1:], code=None)
            if told.code:
                is_mended = name.startswith("index/") and "building" in told.out + told.err
                of_pipe = fault("E2a") if is_mended else fault("E2")
                row = of_pipe if kind == "pipe" else fault("E2b")
                row.require(told.code, told.out + told.err)
                num_refused += 1
            assert told.code or words[0] != "verify", name
        shutil.rmtree(store)
    assert num_refused > 2 * number


def test_ledger_that_unpacks_to_far_more_than_its_rows_need_is_refused(
    tmp_path: Path, run: Run
) -> None:
    made = make_store(tmp_path / "s", frames="none")
    row = made.row("a.wav", None, "failed")
    made.add_rows([replace(row, path="x" * (200 << 20))])
    told = run("info", made.store.path, code=None)
    fault("E2c").require(told.code, told.err)


def test_ledger_with_a_long_text_that_many_rows_name_is_refused(tmp_path: Path, run: Run) -> None:
    made = make_store(tmp_path / "s", frames="none")
    long = "x" * (MOST_TEXT_BYTES + 1)
    made.add_rows([made.row(long, None, "failed") for _ in range(3000)])
    told = run("build", made.store.path, code=None)
    fault("E2d").require(told.code, told.err)


def test_ledger_with_texts_as_long_as_may_be_is_read(tmp_path: Path, run: Run) -> None:
    made = make_store(tmp_path / "s", frames="none")
    row = made.row("x" * MOST_TEXT_BYTES, None, "failed")
    made.add_rows([replace(row, reason="y" * 10_000)])
    run("info", made.store.path)
    (found,) = made.store.files_at(np.array([row.path_id]))
    assert (len(found.path), found.reason) == (MOST_TEXT_BYTES, "y" * 4096)


# --- readers that last ---------------------------------------------------------------------------


def content(store: Store) -> tuple[list[int], bytes]:
    """All windows of a store, in the order of their ids."""
    snapshot = store.snapshot()
    order = np.argsort(snapshot.windows.window_id)
    return snapshot.windows.window_id[order].tolist(), snapshot.scene(order).tobytes()


def test_snapshot_is_read_to_its_end_while_others_compact_and_build(store: Path) -> None:
    opened = Store.open(store)
    expected = content(opened)
    snapshot = opened.snapshot()
    blocks = snapshot.blocks(100)
    first = next(blocks)
    assert compact(store).num_parts_after == 1
    build(opened)
    compact(store)
    rest = [first, *blocks]
    ids = np.concatenate([block.windows.window_id for block in rest])
    scene = np.concatenate([block.scene for block in rest])
    order = np.argsort(ids)
    assert (ids[order].tolist(), scene[order].tobytes()) == expected
    assert len(opened.part_names()) > 1
    del snapshot, blocks
    build(opened)
    assert len(opened.part_names()) == 1
    assert content(opened) == expected


@pytest.mark.whole
def test_snapshot_of_another_process_keeps_its_parts_until_that_ends(
    store: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path; from indexer.store.reader import Store\n"
        f"snapshot = Store.open(Path({str(store)!r})).snapshot()\n"
        "print('open', flush=True); sys.stdin.readline()\n"
        "print(sum(len(block.scene) for block in snapshot.blocks()), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin
        assert reader.stdout
        assert reader.stdout.readline() == "open\n"
        compact(store)
        assert reader.communicate("go on\n")[0] == "302\n"
    assert reader.returncode == 0
    build(Store.open(store))
    assert len(Store.open(store).part_names()) == 1


def test_export_that_lasts_goes_on_while_the_store_is_compacted(
    store: Path, tmp_path: Path, run: Run
) -> None:
    opened = Store.open(store)
    snapshot = opened.snapshot()
    compact(store)
    told = run("export", "csv", store, "--output", tmp_path / "a.csv", code=None)
    fault("B4").require(told.code, told.err)
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + len(snapshot)


@pytest.mark.whole
@pytest.mark.parametrize("how", [nullcontext, sketching], ids=["exact", "sketched"])
def test_forty_segments_are_searched_with_few_descriptors(
    how: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> None:
    made = make_store(tmp_path / "s", frames="none")
    made.add({"a": 40 * 64}, scene=scenes_of(40 * 64))
    with how():
        generation = build(made.store, max_segment_rows=64)
    assert len(generation.segments) == 40
    assert generation.manifest.is_sketched == (how is sketching)
    code = (
        "import os, resource, sys\n"
        "from soundalike.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))\n"
        f"sys.argv = ['soundalike', 'search', {str(made.store.path)!r}, "
        f"'{int(generation.segments[0].arrays['window_id'][0])}', '-k', '3', '--include-self']\n"
        "main()\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    fault("B5").require(told.returncode, told.stdout + told.stderr)


def test_part_whose_manifest_names_other_files_is_refused(store: Path, run: Run) -> None:
    part = sorted((store / "parts").iterdir())[0]
    document = read_sealed(part / MANIFEST_FILE)
    document["files"]["../../../thesis.tex"] = [1, "0" * 64]
    (part / MANIFEST_FILE).write_bytes(seal(document))
    told = run("info", store, code=None)
    fault("E8").require(told.code, told.err)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("hop_samples", one) for one in (0, -5, "x", True, 10**12)),
        *(("window_samples", one) for one in (0, 2 * 10**8, 1e5, None)),
        *(("channel", one) for one in ("x", 0, 129)),
        *(("weights", 5), ("frames", "half"), ("native", 1), ("resampler", None)),
        ("padding", "noise"),
    ],
)
def test_identity_of_a_stranger_is_refused_in_one_line(
    name: str, value: object, store: Path, run: Run
) -> None:
    document = read_sealed(store / "store.json")
    document["identity"][name] = value
    (store / "store.json").write_bytes(seal(document))
    for words in (("info",), ("search", "--tag", "Dog"), ("verify",)):
        told = run(words[0], store, *words[1:], code=None)
        fault("E8b").require(told.code, told.err)


def test_notes_of_somebody_in_a_part_stay(store: Path, run: Run) -> None:
    notes = sorted((store / "parts").iterdir())[0] / "notes.txt"
    notes.write_text("mine")
    assert compact(store).num_parts_after == 1
    run("build", store)
    assert notes.read_text() == "mine"
    assert run("verify", store).code == 0
