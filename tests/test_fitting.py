"""What is printed fits the terminal, whatever names are made of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Run
from faults import fault
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import make_store, write_tone

from indexer.paths import num_columns, printable
from indexer.tags import HeardTag, TagVocabulary
from search.asking.answers import Hit
from search.asking.duplicates import Member
from search.upkeep.build import build
from search.upkeep.files import FileRow
from soundalike.show.files import files_lines
from soundalike.show.fitting import fit_path, start_of, wrapped
from soundalike.show.groups import groups_table
from soundalike.show.hits import hits_table

NAMES = st.text("ab é犬声e\u0301한🐄ー.-_/", min_size=1, max_size=120)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("dog.wav", 7),
        ("犬の声.wav", 10),
        ("e\u0301te\u0301", 3),
        ("🐄.ogg", 6),
        ("한국어", 6),
        ("\u1112\u1161\u11ab", 2),
        ("ﾃｽﾄ", 3),
        ("\uff21\uff22", 4),
    ],
)
def test_num_columns_is_what_a_terminal_takes(text: str, columns: int) -> None:
    assert num_columns(text) == columns


@settings(max_examples=200, deadline=None)
@given(NAMES, st.integers(8, 100))
def test_path_that_is_shortened_fits_and_keeps_its_name(path: str, columns: int) -> None:
    fitted = fit_path(path, columns)
    assert num_columns(fitted) <= columns
    assert num_columns(start_of(path, columns)) <= columns
    if num_columns(path) <= columns:
        assert fitted == path
        return
    assert fitted.count("…") == 1
    start, end = fitted.split("…")
    assert path.startswith(start) or path.rpartition("/")[2].startswith(start)
    assert path.endswith(end)
    name = path.rpartition("/")[2]
    if "/" in path and num_columns(name) + 2 <= columns:
        assert end == f"/{name}"


def test_path_is_shortened_in_its_middle() -> None:
    assert fit_path("field/2024/long folder/dog.wav", 20) == "field/2024/…/dog.wav"
    assert fit_path("a name that is far too long.wav", 15) == "a name …ong.wav"


def hits_of(names: list[str]) -> list[Hit]:
    tags = TagVocabulary.audioset().tags
    longest = sorted((tag for tag in tags if tag.index is not None), key=lambda tag: -len(tag.name))
    heard = tuple(HeardTag(tag, 0.5) for tag in longest[:3])
    return [
        Hit(0.9, number, bytes(16), (Path("/library", name), Path("/copy")), 3600.0, 3610.0, heard)
        for number, name in enumerate(names)
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=5), st.integers(50, 200))
def test_table_fits_and_its_columns_stand_below_each_other(names: list[str], width: int) -> None:
    lines = hits_table(hits_of(names), width).split("\n")
    assert max(map(num_columns, lines)) <= width
    at = {num_columns(line[: line.index("1:00:00.0-")]) for line in lines if "1:00:00.0-" in line}
    assert at == {num_columns(lines[0][: lines[0].index("time")])}
    for name, line in zip(names, lines[1::2], strict=True):
        last = printable(str(Path("/library", name))).rpartition("/")[2]
        assert last in line or "…" in line
    whole = hits_table(hits_of(names))
    assert "…" not in whole


@settings(max_examples=50, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=5), st.integers(32, 49))
def test_narrow_table_says_what_belongs_to_a_hit_below_it(names: list[str], width: int) -> None:
    lines = hits_table(hits_of(names), width).split("\n")
    assert max(map(num_columns, lines)) <= width
    assert [line.split()[0] for line in lines[::4]] == [f"{at}" for at in range(1, len(names) + 1)]
    assert [line.split() for line in lines[1::4]] == [["0.900", "1:00:00.0-1:00:10.0"]] * len(names)


@settings(max_examples=100, deadline=None)
@given(NAMES, st.text("ab 犬", max_size=200), st.integers(32, 200), st.booleans())
def test_lines_of_files_fit_and_lose_nothing_of_a_reason(
    name: str, reason: str, width: int, is_span: bool
) -> None:
    span = (3600.0, 7200.0) if is_span else (None, None)
    row = FileRow("failed", "/library", "id", name, *span, None, "open", f"why {reason}")
    head, *lines = files_lines([row], width)
    assert head == "status      length  file"
    assert max(map(num_columns, lines)) <= width
    said = "".join("".join(lines).split())
    assert said.startswith("failed")
    assert said.endswith("".join(f": open: why {reason}".split()))
    assert len(list(files_lines([row]))) == 2


@settings(max_examples=50, deadline=None)
@given(st.lists(NAMES, min_size=2, max_size=5), st.integers(32, 200), st.integers(1, 20))
def test_groups_fit_and_lose_no_span(names: list[str], width: int, num_spans: int) -> None:
    spans = tuple((20.0 * number, 20.0 * number + 10) for number in range(num_spans))
    members = tuple(Member(bytes(16), (Path("/l", name),), 1.0, spans) for name in names)
    table = groups_table([members], width)
    assert max(map(num_columns, table.split("\n"))) <= width
    assert len(re.findall(r"\d+:\d\d\.\d-", table)) == num_spans * len(names)


@pytest.mark.whole
def test_what_is_heard_fits_the_terminal(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_tone(tmp_path / ("犬" * 60) / f"{'a' * 60}.wav", 1.0)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("tag", clip, "--checkpoint", "demo").out.splitlines()
    assert max(map(num_columns, lines)) <= 80
    assert lines[1].endswith(f"…/{'a' * 60}.wav")


def test_long_line_goes_on_below_its_last_column() -> None:
    line = "library     /a/b (id)  and so on and on and on"
    assert wrapped(line, None) == [line]
    assert wrapped("  failed    3 x open: no decoder takes it", 30) == [
        "  failed    3 x open: no",
        "            decoder takes it",
    ]
    assert wrapped("one sentence of several words", 16) == ["one sentence of", "  several words"]
    assert wrapped("a bcdefgh", 6, breaks_words=True) == ["a bcde", "  fgh"]
    long = "x" * 100
    assert wrapped(f"library     {long} (id)", 80) == [f"library     {long}", "            (id)"]


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_commands_fit_the_terminal(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    made = make_store(tmp_path / "store", frames="none", root=tmp_path / "犬" / ("x" * 90))
    made.add({"犬" * 60: 1, "a" * 120: 1, "b": 1})
    build(made.store)
    words = ("search", made.store.path, "--tag", "Dog", "--threshold", "0")
    assert max(map(len, run(*words).out.splitlines())) > 200  # not a terminal: whole paths
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    outcome = run(*words)
    assert max(map(num_columns, outcome.out.splitlines())) <= width
    if width == 80:
        fault("F13a").require(outcome.code, outcome.out)
    for others in (
        ["tags"],
        ["tags", made.store.path],
        ["checkpoints"],
        ["duplicates", made.store.path, "--min-score", "0.001"],
        ["files", made.store.path],
    ):
        printed = run(*others, code=None).out.splitlines()  # the library is not there
        assert max(map(num_columns, printed)) <= width
    info = run("info", made.store.path).out
    words_of = [word for line in info.splitlines() for word in line.split()]
    assert str(tmp_path / "犬" / ("x" * 90)) in words_of
