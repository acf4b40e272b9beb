"""Files of a user that are not what they should be: one line each, in bounded memory."""

from __future__ import annotations

import os
import re
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Run
from faults import fault
from synthetic import Synthetic, make_store

from indexer.errors import SoundalikeError
from indexer.library.lists import read_names
from indexer.library.tables import read_rows
from search.datasets import embedded
from search.datasets.captions import read_audiocaps
from search.datasets.embedded import read_embedded
from search.evaluation.audioset import read_segments
from search.evaluation.labels import evaluate_labels, read_labels
from search.export.captioned import export_captioned
from search.filters.metadata import Metadata
from search.upkeep.build import build

CLIP = b"Y0123456789a.wav"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    made = make_store(tmp_path_factory.mktemp("tables") / "store", frames="none")
    made.add({"a": 1, "b": 1})
    build(made.store)
    return made


@pytest.fixture
def bounded() -> Iterator[None]:
    """Let nothing take more than 3 GB more than there is: a claim of terabytes is an error."""
    with open("/proc/self/statm") as file:  # noqa: PTH123 - not a path of ours
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 3 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


# --- HDF5 ----------------------------------------------------------------------------------------


def names_of(file: Any, count: int = 2) -> None:
    file["audio_name"] = np.array([CLIP] * count)


def circle(file: Any) -> None:
    names_of(file)
    file["target"] = h5py.SoftLink("/other")
    file["other"] = h5py.SoftLink("/target")


def other_file(file: Any) -> None:
    names_of(file)
    file["target"] = h5py.ExternalLink("/etc/passwd", "/target")


def scalars(file: Any) -> None:
    file["audio_name"], file["target"] = CLIP, 1.0


def groups(file: Any) -> None:
    file.create_group("audio_name").create_group("target")
    file.create_group("target")


def claimed_rows(file: Any) -> None:
    file.create_dataset("audio_name", (2**40,), "S20", chunks=(1000,))
    file.create_dataset("target", (2**40, 527), "f4", chunks=(10, 527))


def many_claimed_rows(file: Any) -> None:
    """As many as there may be, and no name in them."""
    file.create_dataset("audio_name", (3_000_000,), "S20", chunks=(1000,))
    file.create_dataset("target", (3_000_000, 527), "f8", chunks=(10, 527))


def packed_block(file: Any) -> None:
    names_of(file)
    shape = (2_000_000, 527)
    file.create_dataset("target", (2, 527), "f8", chunks=shape, maxshape=shape, compression="gzip")


def texts(file: Any) -> None:
    names_of(file)
    file["target"] = np.full((2, 527), b"x")


def records(file: Any) -> None:
    names_of(file)
    file["target"] = np.zeros((2, 527), [("a", "f4")])


def wide_names(file: Any) -> None:
    file.create_dataset("audio_name", (2,), f"S{2**30}", chunks=(1,))
    file["target"] = np.zeros((2, 527))


def long_names(file: Any) -> None:
    file.create_dataset("audio_name", (2,), h5py.string_dtype())[:] = "x" * 1000
    file["target"] = np.zeros((2, 527))


def numbers_for_names(file: Any) -> None:
    file["audio_name"], file["target"] = np.zeros(2), np.zeros((2, 527))


def data_elsewhere(file: Any) -> None:
    names_of(file)
    external = [("/dev/zero", 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("target", (2, 527), "f4", external=external)


def virtual(file: Any) -> None:
    names_of(file)
    layout = h5py.VirtualLayout((2, 527), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (2, 527))
    file.create_virtual_dataset("target", layout)


def too_few(file: Any) -> None:
    names_of(file, 3)
    file["target"] = np.zeros((2, 527))


def not_utf8(file: Any) -> None:
    file["audio_name"], file["target"] = np.array([b"\xff\xfe"]), np.zeros((1, 527))


HOSTILE: list[Callable[[Any], None]] = [
    *(circle, other_file, scalars, groups, claimed_rows, many_claimed_rows, packed_block, texts),
    *(records, wide_names, long_names, numbers_for_names, data_elsewhere, virtual, too_few),
    not_utf8,
]


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda one: one.__name__)
def test_targets_that_are_none_are_one_line(
    stored: Synthetic, tmp_path: Path, run: Run, hostile: Callable[[Any], None]
) -> None:
    with h5py.File(tmp_path / "eval.h5", "w") as file:
        hostile(file)
    told = run("eval", "audioset", stored.store.path, "--segments", tmp_path / "eval.h5", code=1)
    assert "Traceback" not in told.err
    assert told.err.count("\n") == 1
    assert "eval.h5" in told.err
    if hostile not in (many_claimed_rows, too_few):
        fault("E4").require(told.code, told.err)


@pytest.mark.parametrize(
    ("kind", "is_text"), [("float32", False), ("bool", True), ("uint8", False)]
)
def test_targets_of_any_number_are_read(tmp_path: Path, kind: str, is_text: bool) -> None:
    target = np.zeros((1100, 527), kind)
    target[np.arange(1100), np.arange(1100) % 527] = 1
    names = [f"Y{number:011}.wav" for number in range(1100)]
    with h5py.File(tmp_path / "eval.h5", "w") as file:
        file["audio_name"] = names if is_text else np.array(names, "S")
        file["target"] = target
    found = read_segments(tmp_path / "eval.h5")
    assert [one.youtube_id for one in found] == [f"{number:011}" for number in range(1100)]
    assert [one.labels for one in found] == [(number % 527,) for number in range(1100)]


# --- embeddings ----------------------------------------------------------------------------------


def put_array(path: Path, **headers: tuple[str, tuple[int, ...]]) -> None:
    """Write an .npz whose arrays claim a type and a shape, and have eight bytes."""
    with zipfile.ZipFile(path, "w") as file:
        for name, (kind, shape) in headers.items():
            with file.open(f"{name}.npy", "w") as member:
                header = {"descr": kind, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                member.write(bytes(8))


def test_embeddings_of_as_many_bytes_as_may_be_are_read_and_not_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers count, and what is not asked for does not."""
    file = tmp_path / "x.npz"
    np.savez(file, ids=["a", "b"], embeddings=np.ones((2, 50)), others=np.ones(1000))
    with zipfile.ZipFile(file) as opened:
        size = sum(opened.getinfo(f"{name}.npy").file_size for name in ("ids", "embeddings"))
    monkeypatch.setattr(embedded, "MAX_BYTES", size)
    assert len(read_embedded(file).ids) == 2
    monkeypatch.setattr(embedded, "MAX_BYTES", size - 1)
    with pytest.raises(SoundalikeError, match=f"more than {size - 1:,} bytes unpacked"):
        read_embedded(file)


def test_embeddings_that_are_cut_off_are_told_by_bytes_not_by_numbers(tmp_path: Path) -> None:
    """As many numbers as there are bytes, of eight bytes each."""
    file = tmp_path / "x.npz"
    put_array(file, ids=("<i8", (1,)), embeddings=("<f8", (1, 100)))
    with pytest.raises(SoundalikeError, match=r"to be \(1, 100\) of float64, and is cut off"):
        read_embedded(file)


@pytest.mark.usefixtures("bounded")
def test_embeddings_that_claim_more_than_there_is_are_one_line(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "x.npz"
    put_array(file, ids=("<i8", (1,)), embeddings=("<f8", (10**13, 10)))
    told = run("eval", "retrieval", "--audio", file, "--text", file, code=1)
    fault("E4").require(told.code, told.err)
    assert "claims to be (10000000000000, 10) of float64, and is cut off" in told.err


@pytest.mark.usefixtures("bounded")
def test_embeddings_that_unpack_to_gigabytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", ids=["a"] * 99, embeddings=np.zeros((99, 10_000)))
    table = pa.table({"id": ["a"] * 9999, "embedding": [[0.0] * 99] * 9999})
    pq.write_table(table, tmp_path / "x.parquet", compression="zstd")
    monkeypatch.setattr("search.datasets.embedded.MAX_BYTES", 1_000_000)
    for name in ("x.npz", "x.parquet"):
        assert (tmp_path / name).stat().st_size < 200_000
        with pytest.raises(SoundalikeError, match="more than 1,000,000 bytes unpacked"):
            read_embedded(tmp_path / name)


def test_embeddings_of_other_shapes_are_refused(tmp_path: Path) -> None:
    shapes: list[dict[str, Any]] = [
        {"ids": np.array("a"), "embeddings": np.zeros((1, 2))},
        {"ids": np.array(["a"]), "embeddings": np.array(1.0)},
        {"ids": np.array([["a"]]), "embeddings": np.zeros((1, 2))},
        {"ids": np.array(["a"]), "embeddings": np.array([{}], object)},
    ]
    for arrays in shapes:
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(SoundalikeError, match=r"x\.npz"):
            read_embedded(tmp_path / "x.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(SoundalikeError, match=r"it is no \.npz"):
        read_embedded(tmp_path / "one.npz")


# --- tables of text ------------------------------------------------------------------------------

READERS: dict[str, Callable[[Path], object]] = {
    "labels": read_labels,
    "captions": read_audiocaps,
    "segments": read_segments,
    "embeddings": read_embedded,
    "targets": lambda path: read_segments(path.with_suffix(".h5")),
}


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.h5").mkdir()
    for name in ("pipe.csv", "pipe.h5"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    (tmp_path / "zero.h5").symlink_to("/dev/zero")
    for name, reason in {
        "folder": "not a file",
        "pipe": "not a file",
        "zero": "not a file",
        "none": "no such file",
    }.items():
        with pytest.raises(SoundalikeError, match=f"cannot read .*{name}.*: {reason}"):
            READERS[kind](tmp_path / f"{name}.csv")


@pytest.mark.parametrize("kind", ["labels", "captions", "segments", "metadata", "names"])
def test_broken_parquet_is_not_told_to_be_saved_as_text(tmp_path: Path, kind: str) -> None:
    pq.write_table(pa.table({"path": ["dog.wav"] * 500, "label": ["Dog"] * 500}), tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    readers: dict[str, Callable[[Path], object]] = {
        **READERS,
        "metadata": Metadata.read,
        "names": lambda path: list(read_names(path)),
    }
    for name, content in {
        "cut": whole[: len(whole) // 2],
        "begun": b"\xff\x80" + whole[2:],
        "zeros": bytes(500),
    }.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(content)
        with pytest.raises(SoundalikeError, match=r"cannot read .*\.parquet: ") as raised:
            readers[kind](path)
        told = str(raised.value).partition(".parquet: ")[2].partition("; it takes")[0]
        assert "UTF-8" not in told
        assert len(told) < 200
        assert ".;" not in str(raised.value)


@pytest.mark.parametrize("kind", ["labels", "captions"])
def test_line_that_is_not_utf_8_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "latin.csv"
    head = b"path,label" if kind == "labels" else b"audiocap_id,youtube_id,start_time,caption"
    path.write_bytes(head + b"\nx,1,2,3\n\xf6,1,2,3\n")
    with pytest.raises(SoundalikeError, match="line 3 is not UTF-8; save the file as UTF-8"):
        READERS[kind](path)


@pytest.mark.parametrize("kind", ["labels", "captions"])
def test_tables_that_cannot_be_read_say_why(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x.csv"
    head = {"labels": "path,label", "captions": "youtube_id,start_time,caption"}[kind]
    for content, reason in (
        (f"{head}\n\xff,1,1".encode("latin-1"), "line 2 is not UTF-8"),
        (f"{head}\n{'x' * 200_000},1,1".encode(), "after line 1: field larger than"),
        (b"\xff\xfea", "begins as UTF-16, and is not"),
        (b"", "it is empty"),
        (b"\xef\xbb\xbf \n\n", "it is empty"),
        (b"\0\0\0\n\0", "it is no text"),
    ):
        file.write_bytes(content)
        with pytest.raises(SoundalikeError, match=reason):
            READERS[kind](file)


def test_tables_of_labels_and_captions_are_read_as_metadata_is(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("Filename;Label\na.wav;é\n", "utf-16")
    ((path, label, fold),) = read_labels(tmp_path / "labels.csv")
    assert (path, label, fold) == ("a.wav", "é", None)
    text = "youtube_id\tstart_time\tcaption\n0123456789a\t30\tA tone; and, more.\n"
    (tmp_path / "train.csv").write_text(text, "utf-16")
    (one,) = read_audiocaps(tmp_path / "train.csv")
    assert one.captions == ("A tone; and, more.",)


def test_labels_and_captions_find_names_with_accents_in_either_form(tmp_path: Path) -> None:
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    made = make_store(tmp_path / "store", frames="none")
    made.add(dict.fromkeys((nfc, f"{nfd}2", "x", "y"), 1))
    rows = {f"{nfd}.wav": "a", f"{nfc}2.wav": "a", "x.wav": "b", "y.wav": "b"}
    table = "\n".join(["path,label", *(f"{name},{label}" for name, label in rows.items())])
    (tmp_path / "labels.csv").write_text(table)
    report = evaluate_labels(made.store, read_labels(tmp_path / "labels.csv"))
    assert (report.num_files, report.num_missing) == (4, 0)
    table = "\n".join(["file_name,caption_1", *(f"{name},A tone." for name in rows)])
    (tmp_path / "dev.csv").write_text(table)
    exported = export_captioned(
        made.store, "Clotho", [tmp_path / "dev.csv"], "npz", tmp_path / "out"
    )
    assert [one.file_id for one in exported.splits[0].present] == list(rows)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"path\nrain, heavy.ogg\n", "line 2 has more than 1 cell; put a cell that holds ','"),
        (b'path,label\n"a.ogg,dog\nb.ogg,cat\n', "unexpected end of data"),
        (b"path,path\na.ogg,b.ogg\n", "two columns 'path'"),
    ],
)
def test_table_that_would_lose_cells_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        list(read_rows(content))


def test_table_with_delimiters_at_the_end_of_its_lines_is_read() -> None:
    assert [row for _, row in read_rows(b"path,n\na.ogg,1,\n")] == [{"path": "a.ogg", "n": "1"}]
