"""Hits and overviews as text: nothing in a file's name may act, and programs read it back."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from conftest import Run
from faults import fault
from pack_files import tones, wave, write_tar
from synthetic import identity, make_store

from indexer.tags import HeardTag, TagVocabulary
from search.asking.answers import Hit
from search.learned.taught import Taught
from search.upkeep.build import build
from search.upkeep.overview import Overview
from soundalike.show.answers import answer_json
from soundalike.show.hits import hits_csv, hits_m3u, hits_table, packed_lines
from soundalike.show.stores import overview_data, overview_lines
from soundalike.show.words import shown_path

DOG, RAIN = (TagVocabulary.audioset().resolve(name) for name in ("Dog", "Rain"))
#: Names that would break a line, colour a terminal, turn text around, or are no text at all.
ODD_NAMES = [
    b"new\nline.wav",
    b"carriage\rreturn.wav",
    b"esc\x1b[31mred\x1b[0m.wav",
    "rtl\u202egnp.wav".encode(),
    "mark\u200f.wav".encode(),
    "c1\u009b31m.wav".encode(),
    "separator\u2028.wav".encode(),
    b"latin \xe9\xff.wav",
    b'quote",comma;%20#?.wav',
    "schön 雨.wav".encode(),
    b"=1+1|tab\t.wav",
]
#: How two of them are shown.
SHOWN = {0: r"new\x0aline.wav", 7: r"latin \xe9\xff.wav", 9: "schön 雨.wav"}


def hit(*names: bytes, rank: int = 1, tags: tuple[HeardTag, ...] = ()) -> Hit:
    return Hit(
        score=1 - rank / 100,
        window_id=1000 + rank,
        recording_id=bytes([rank]) * 16,
        paths=tuple(Path("/music") / os.fsdecode(name) for name in names),
        start_s=10.0 * rank,
        end_s=10.0 * rank + 10,
        tags=tags,
    )


@pytest.fixture
def odd_hits() -> list[Hit]:
    tags = (HeardTag(DOG, 0.9), HeardTag(RAIN, 0.25))
    return [hit(name, rank=rank, tags=tags) for rank, name in enumerate(ODD_NAMES)]


def assert_plain(text: str) -> None:
    """Lines of text that a terminal only shows."""
    for char in text.replace("\n", ""):
        assert unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}, ascii(char)
    text.encode("utf-8")


# --- table ---------------------------------------------------------------------------------------


def test_table_of_odd_names_is_one_plain_line_each(odd_hits: list[Hit]) -> None:
    text = hits_table(odd_hits)
    assert_plain(text)
    lines = text.split("\n")
    assert len(lines) == 1 + len(ODD_NAMES)
    for at, name in SHOWN.items():
        assert f" /music/{name} " in lines[1 + at]


def test_table_says_rank_score_file_time_and_tags() -> None:
    tags = (HeardTag(DOG, 0.914), HeardTag(RAIN, 0.25))
    lines = hits_table([hit(b"a.wav", rank=7, tags=tags), hit(b"long name.wav", rank=1)]).split(
        "\n"
    )
    assert lines[0].split() == ["rank", "score", "file", "time", "heard"]
    assert " ".join(lines[1].split()) == "1 0.930 /music/a.wav 1:10.0-1:20.0 Dog 0.91, Rain 0.25"
    assert " ".join(lines[2].split()) == "2 0.990 /music/long name.wav 0:10.0-0:20.0"
    for column in ("file", "time"):  # aligned
        assert {line[lines[0].index(column) - 1] for line in lines} == {" "}
    assert lines[1].index("/music") == lines[2].index("/music") == lines[0].index("file")


def test_table_lists_copies_below_and_a_hit_without_path() -> None:
    lines = hits_table([hit(b"a.wav", b"b\n.wav"), hit(rank=2)]).split("\n")
    assert lines[2].strip() == r"= /music/b\x0a.wav"
    assert "(no path)" in lines[3]


def test_table_of_nothing_is_its_header() -> None:
    assert hits_table([]).split() == ["rank", "score", "file", "time", "heard"]


def test_shown_path_below_the_current_folder_is_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "sub" / "a.wav") == "sub/a.wav"
    assert shown_path(tmp_path.parent / "a.wav") == str(tmp_path.parent / "a.wav")


def matched(one: Hit, start_s: float, end_s: float, score: float | None = 0.875) -> Hit:
    """The same hit, now that it is known where in it what asked is."""
    return replace(one, match_start_s=start_s, match_end_s=end_s, match_score=score)


def test_span_is_the_match_or_all_of_the_window() -> None:
    one = hit(b"a.wav", rank=3)
    assert (one.span, one.has_match) == ((30.0, 40.0), False)
    assert (matched(one, 31.5, 32.25).span, matched(one, 31.5, 32.25).has_match) == (
        (31.5, 32.25),
        True,
    )


@pytest.mark.parametrize("width", [None, 80, 32])
def test_table_says_the_window_and_below_it_what_matched(width: int | None) -> None:
    lines = hits_table([matched(hit(b"a.wav", b"b.wav", rank=7), 71.25, 72), hit(rank=2)], width)
    words = lines.split()
    at = words.index("match")
    beside = {words[at - 1], words[at + 1]}
    assert "0.875" in beside
    assert words.index("1:10.0-1:20.0") < words.index("=") < words.index("1:11.2-1:12.0")
    assert words.count("match") == 1  # the other has none


def test_table_says_no_match_that_is_all_of_the_window() -> None:
    assert "match" not in hits_table([matched(hit(b"a.wav", rank=7), 70.01, 80)])


def test_table_columns_stand_below_each_other_with_a_match() -> None:
    lines = hits_table([matched(hit(b"a.wav", rank=7), 71.25, 72)], 80).split("\n")
    assert lines[1].index("1:10.0") == lines[2].index("1:11.2") == lines[0].index("time")
    assert lines[1].index("0.930") == lines[2].index("0.875") == lines[0].index("score")


# --- csv -----------------------------------------------------------------------------------------


def test_csv_of_odd_names_is_plain_and_reads_back(odd_hits: list[Hit]) -> None:
    text = hits_csv(odd_hits)
    assert_plain(text)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(ODD_NAMES) == len(text.split("\n")) - 1
    for rank, (row, one) in enumerate(zip(rows, odd_hits, strict=True), start=1):
        assert int(row["rank"]) == rank
        assert float(row["score"]) == pytest.approx(one.score, abs=1e-6)
        assert (float(row["start_s"]), float(row["end_s"])) == (one.start_s, one.end_s)
        assert int(row["window_id"]) == one.window_id
        assert row["tags"] == "Dog 0.900; Rain 0.250"
    for at, name in SHOWN.items():
        assert rows[at]["path"] == f"/music/{name}"


def test_csv_has_no_path_that_is_a_formula() -> None:
    """Relative ones, where nobody knows where the library is."""
    one = replace(hit(), paths=(Path("=1+1.wav"),))
    [row] = csv.DictReader(io.StringIO(hits_csv([one])))
    assert row["path"] == "./=1+1.wav"


def test_csv_of_a_hit_without_path_or_tags_has_empty_fields() -> None:
    [row] = csv.DictReader(io.StringIO(hits_csv([hit()])))
    assert row["path"] == row["tags"] == ""


def test_csv_and_json_have_the_match_or_nothing() -> None:
    some = [matched(hit(b"a.wav", rank=3), 31.23456, 32.5), hit(b"b.wav")]
    first, second = csv.DictReader(io.StringIO(hits_csv(some)))
    names = ("match_start_s", "match_end_s", "match_score")
    assert [first[name] for name in names] == ["31.235", "32.500", "0.875000"]
    assert [second[name] for name in names] == ["", "", ""]
    assert (first["start_s"], first["end_s"]) == ("30.000", "40.000")
    rows = json.loads(answer_json(some))["hits"]
    assert [rows[0][name] for name in names] == [31.23456, 32.5, 0.875]
    assert [rows[1][name] for name in names] == [None] * 3


# --- json ----------------------------------------------------------------------------------------


def test_json_of_odd_names_gives_the_very_paths(odd_hits: list[Hit]) -> None:
    text = answer_json(odd_hits)
    assert text.isascii()
    for row, one, name in zip(json.loads(text)["hits"], odd_hits, ODD_NAMES, strict=True):
        assert [os.fsencode(path) for path in row["paths"]] == [b"/music/" + name]
        assert row["window_id"] == one.window_id
        assert bytes.fromhex(row["recording_id"]) == one.recording_id
        assert row["score"] == pytest.approx(one.score, abs=1e-6)
        assert (row["start_s"], row["end_s"]) == (one.start_s, one.end_s)
        assert row["tags"][0] == {
            "index": DOG.index,
            "mid": DOG.mid,
            "name": "Dog",
            "probability": 0.9,
        }


def test_json_keeps_all_paths_of_a_hit_and_all_digits_of_its_id() -> None:
    one = Hit(0.5, 2**63 - 1, b"\0" * 16, (Path("/a"), Path("/b")), 0, 10, ())
    [row] = json.loads(answer_json([one]))["hits"]
    assert row["paths"] == ["/a", "/b"]
    assert row["window_id"] == 2**63 - 1
    assert json.loads(answer_json([])) == {"hits": [], "background": None, "almost": None}


def test_json_has_no_number_that_json_does_not_know() -> None:
    some = replace(hit(b"a.wav"), metadata={"gain": float("-inf"), "depth": 1.5})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    [row] = json.loads(answer_json([some]), parse_constant=refuse)["hits"]
    assert row["metadata"] == {"gain": "-inf", "depth": 1.5}
    [told] = csv.DictReader(io.StringIO(hits_csv([some])))
    assert (told["gain"], told["depth"]) == ("-inf", "1.5")


# --- m3u -----------------------------------------------------------------------------------------


def test_m3u_has_an_address_per_hit_that_decodes_to_its_path(odd_hits: list[Hit]) -> None:
    text = hits_m3u(odd_hits)
    assert_plain(text)
    lines = text.split("\n")
    assert lines[0] == "#EXTM3U"
    addresses = [line for line in lines if not line.startswith("#")]
    assert len(addresses) == len(ODD_NAMES)
    for address, name in zip(addresses, ODD_NAMES, strict=True):
        parts = urlsplit(address)
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("file", "", "", "")
        assert unquote_to_bytes(parts.path) == b"/music/" + name


def test_m3u_says_where_the_window_begins_and_how_long_it_is() -> None:
    lines = hits_m3u([hit(b"a.wav", b"copy.wav", rank=3)]).split("\n")
    assert lines[1:] == [
        "#EXTINF:10,0.970 a.wav",
        "#EXTVLCOPT:start-time=30.0",
        "#EXTVLCOPT:stop-time=40.0",
        "file:///music/a.wav",
    ]


def test_m3u_plays_the_window_and_stops(run: Run, tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({"a": 2})
    build(made.store)
    told = run("search", made.store.path, "--tag", "Dog", "--threshold", 0, "--format", "m3u")
    fault("F10").require(told.code, told.out)
    times = [line.split("=")[1] for line in told.out.splitlines() if "-time=" in line]
    assert sorted(times) == ["0.0", "10.0", "10.0", "20.0"]


def test_hits_in_packs_are_told_since_no_player_opens_them(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.wav", wave(tones(1, 0.2)[0]))])
    packed = [Hit(0.5, 1, b"x" * 16, (path.with_name("x.tar!") / "a.wav",), 0, 1, ())]
    plain = [Hit(0.5, 1, b"x" * 16, (tmp_path / "a.wav",), 0, 1, ())]
    assert packed_lines(plain) == []
    [told] = packed_lines(plain + packed)
    assert told.startswith("1 hit lies in packs or buckets, into which no player looks; --copy-to")
    assert packed_lines(packed * 2)[0].startswith("2 hits lie in packs")


def test_m3u_times_are_exact_to_a_millisecond() -> None:
    one = Hit(0.5, 1, b"x" * 16, (Path("/a.wav"),), 1.96812, 2.00063, ())
    assert hits_m3u([one]).split("\n")[2:4] == [
        "#EXTVLCOPT:start-time=1.968",
        "#EXTVLCOPT:stop-time=2.001",
    ]


def test_m3u_plays_what_matched_and_stops() -> None:
    lines = hits_m3u([matched(hit(b"a.wav", rank=3), 31.5, 34.25)]).split("\n")
    assert lines[1:4] == [
        "#EXTINF:3,0.970 a.wav",
        "#EXTVLCOPT:start-time=31.5",
        "#EXTVLCOPT:stop-time=34.25",
    ]
    short = hits_m3u([matched(hit(b"a.wav", rank=3), 31.5, 31.8)])
    assert "#EXTINF:1," in short  # 0 would be a stream without an end


def test_m3u_leaves_out_what_has_no_address() -> None:
    unknown = Hit(0.5, 1, b"x" * 16, (Path("(library 1)/a.wav"),), 0, 10, ())
    moved = Hit(0.5, 1, b"x" * 16, (Path("(library 1)/a.wav"), Path("/b.wav")), 0, 10, ())
    addresses = [line for line in hits_m3u([unknown, hit(), moved]).split("\n") if line[0] != "#"]
    assert addresses == ["file:///b.wav"]


# --- overview ------------------------------------------------------------------------------------


def overview_of(**fields: Any) -> Overview:
    values: dict[str, Any] = {
        "path": Path("/stores/s"),
        "checkpoint": "demo\x1b[31m",
        "known": None,
        "identity": identity(),
        "num_windows": 1234,
        "num_recordings": 1,
        "audio_s": 12_340.0,
        "size_bytes": 5_600_000,
        "num_parts": 2,
        "num_compact_parts": 1,
        "num_dead_windows": 3,
        "num_unfinished_windows": 2,
        "num_indexed": 1234,
        "is_outdated": False,
        "is_sketched": True,
        "num_new_parts": 1,
        "num_missing_parts": 0,
        "statuses": {"ok": 2000, "failed": 2},
        "failures": {("open", "not audio\n"): 2},
        "warnings": {"anti-phase": 7},
        "libraries": {"0123456789abcdef": Path("/mu\nsic")},
        "origins": {("cpu", "fp32"): 2},
        "own": (),
        "projections": ("text",),
        "taught": (Taught("hiss", {"yes": 2, "no": 1, "unsure": 0}, is_learned=True),),
    }
    return Overview(**{**values, **fields})


def test_overview_says_which_published_checkpoint_a_file_is() -> None:
    name = "convnext-tiny-471"
    (line,) = (one for one in overview_lines(overview_of(known=name)) if "weights" in one)
    assert f"x1b[31m, which is {name} (weights" in line
    (line,) = (
        one for one in overview_lines(overview_of(checkpoint=name, known=name)) if name in one
    )
    assert line.startswith(f"checkpoint  {name} (weights")


def test_overview_lines_are_plain_and_say_all_counts() -> None:
    lines = list(overview_lines(overview_of()))
    text = "\n".join(lines)
    assert_plain(text)
    assert all("\n" not in line for line in lines)
    for said in (
        "1,234 windows of 1 recording, 3.4 h",
        "10 s, hop 10 s, padding zero, frames pooled",
        "5.6 MB in 2 parts, 3 dead windows, 2 unfinished windows",
        "1,234 windows, searched by sketches; 1 new part: run 'soundalike build'",
        "on cpu at fp32 (2 parts)",
        r"/mu\x0asic (01234567)",
        "2,000 ok, 2 failed",
        r"2 x open: not audio\x0a",
        "7 x anti-phase",
        "my.hiss: 2 yes, 1 no and 0 unsure; learned",
        r"demo\x1b[31m (weights aaaaaaaaaaaa)",
    ):
        assert said in text


def test_overview_says_where_answers_are_exact() -> None:
    text = "\n".join(overview_lines(overview_of(is_sketched=False)))
    assert "1,234 windows, searched exactly; 1 new part" in text


def test_overview_lines_without_index_or_files_say_so() -> None:
    lines = overview_of(num_indexed=None, statuses={}, failures={}, warnings={}, num_dead_windows=0)
    text = "\n".join(overview_lines(lines))
    assert "'soundalike build' makes one" in text
    assert "files       none" in text
    outdated = "\n".join(overview_lines(overview_of(num_indexed=None, is_outdated=True)))
    assert (
        "index       of another version of soundalike; 'soundalike build' replaces it" in outdated
    )
    assert "dead" not in text


def test_overview_says_that_another_version_built_the_index() -> None:
    lines = list(overview_lines(overview_of(num_indexed=None, is_outdated=True)))
    said = "of another version of soundalike; 'soundalike build' replaces it"
    assert f"index       {said}" in lines


def test_overview_data_is_json_with_every_field() -> None:
    data = json.loads(json.dumps(overview_data(overview_of())))
    assert set(data) == set(Overview.__dataclass_fields__)
    assert data["failures"] == [{"stage": "open", "reason": "not audio\n", "files": 2}]
    assert data["origins"] == [{"device": "cpu", "precision": "fp32", "parts": 2}]
    assert data["identity"]["weights"] == "a" * 64
    assert data["libraries"] == {"0123456789abcdef": "/mu\nsic"}
    assert data["path"] == "/stores/s"
