"""Nothing that a store or a file says acts on a terminal, or cannot be printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY, Run
from faults import fault
from synthetic import Synthetic, make_store, put_file

from indexer.store.disk import read_sealed, seal
from search.upkeep.build import build

#: Sets the title of a window, clears the screen, breaks the line, turns the order round, ends it.
EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\u202e\x9b31m"
#: Control and format characters; a line break ends a line of ours.
ACTS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """A store with a file of each fate: ok, with a warning, failed, gone."""
    made = make_store(tmp_path_factory.mktemp("plain") / "store", frames="none")
    made.add({"a": 2, "b": 1, "c": 1})
    failed = made.row("bad.wav", None, "failed", stage="decode", reason="not audio")
    warned = made.row("b.wav", made.paths["b.wav"], warnings="it ends early")
    made.add_rows([failed, warned])
    build(made.store)
    return made


def forged(value: Any) -> Any:
    """Return a part of a document, in which every text does what it should not."""
    if isinstance(value, dict):
        return {key: forged(one) for key, one in value.items()}
    if isinstance(value, list):
        return [forged(one) for one in value]
    return value + EVIL if isinstance(value, str) else value


def documents(plain: Synthetic, folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield copies of the store, each with one of its documents."""
    names = ("store.json", "libraries.json", "manifest.json")
    files = sorted(one for name in names for one in plain.store.path.rglob(name))
    for number, file in enumerate(files):
        copied = folder / str(number)
        shutil.copytree(plain.store.path, copied)
        yield copied, copied / file.relative_to(plain.store.path)


COMMANDS = (
    ["info"],
    ["search", "--tag", "Dog", "--threshold", "0", "--explain"],
    ["verify"],
)


def require_plain(run: Run, store: Path) -> str:
    """Run commands, and return all that they printed."""
    printed = ""
    for command, *options in COMMANDS:
        outcome = run(command, store, *options, code=None)
        printed += outcome.out + outcome.err
    assert not ACTS.search(printed), printed
    assert "Traceback" not in printed
    return printed


def test_texts_of_documents_do_nothing_on_a_terminal(
    whole: None, run: Run, plain: Synthetic, tmp_path: Path
) -> None:
    printed = ""
    for store, file in documents(plain, tmp_path):
        document = read_sealed(file)
        for key, value in document.items():
            changed = {**document, key: forged(value)}
            if changed != document:
                file.write_bytes(seal(changed))
                printed += require_plain(run, store)
        file.write_bytes(seal(document))
    for name in ("checkpoint  test", "computed    on cpu", "at fp32", "library     "):
        assert rf"{name}" in printed
    assert printed.count(r"\x1b]0;owned\x07") > 10


def test_texts_of_the_ledger_do_nothing_on_a_terminal(
    whole: None, run: Run, plain: Synthetic, tmp_path: Path
) -> None:
    for name in ("path", "stage", "reason", "warnings", "library_id"):
        store = tmp_path / name
        shutil.copytree(plain.store.path, store)
        for file in store.rglob("files.parquet"):
            table = pq.read_table(file)
            evil = [None if one is None else one + EVIL for one in table[name].to_pylist()]
            at = table.column_names.index(name)
            changed = table.set_column(at, table.schema.field(name), pa.array(evil, pa.string()))
            put_file(file.parent, file.name, changed)
        printed = require_plain(run, store)
        if name in {"stage", "reason", "warnings"}:
            assert r"\x1b]0;owned\x07" in printed
    info = run("info", tmp_path / "reason")
    fault("E9a").require(info.code, info.out)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_are_printed_whatever_the_encoding(
    whole: None, tmp_path: Path, encoding: str
) -> None:
    """A process for each: the encoding is chosen as it begins."""
    made = make_store(tmp_path / "store", frames="none", root=tmp_path / "library")
    made.add({"犬の声": 1, "krava 🐄": 1})
    build(made.store)

    def printed(*words: str) -> tuple[int, bytes]:
        result = subprocess.run(
            [sys.executable, "-m", "soundalike", *words],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": encoding},
        )
        assert b"Traceback" not in result.stderr
        return result.returncode, result.stdout or result.stderr

    browsed = ("search", "store", "--tag", "Dog", "--threshold", "0", "--format")
    found = json.loads(printed(*browsed, "json")[1])["hits"]
    names = {Path(path).name for hit in found for path in hit["paths"]}
    assert names == {"犬の声.wav", "krava 🐄.wav"}
    for form in ("table", "csv", "m3u"):
        code, said = printed(*browsed, form)
        assert code == 0
        if encoding == "cp1252" and form == "table":
            fault("E7a").require(code, said.decode("cp1252"))
    code, said = printed("search", "store", "犬.wav")
    if encoding == "cp1252":
        fault("E7b").require(code, said.decode("cp1252"))
