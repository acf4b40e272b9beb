"""What is seen of long work: bars on a terminal, sentences everywhere, nothing if quiet."""

from __future__ import annotations

import time

import pytest
from conftest import on_screen

from indexer.progress import LOADING, Step
from soundalike.cli.bars import Bars, _audio, telling

NEWS = [
    Step("walking", 1000, None, "file"),
    "a sentence\x1b[31m",
    Step("downloading", 500_000, 1_000_000, "byte"),
    Step("downloading", 1_000_000, 1_000_000, "byte"),
    Step("indexing", 1, 2, "window"),
    Step("indexing", 2, 2, "window"),
]


def shown(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_terminal: bool = True,
    quiet: bool = False,
) -> str:
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    with Bars(quiet=quiet) as bars:
        for one in NEWS:
            bars(one)
    told = capfd.readouterr()
    assert told.out == ""
    return told.err


def test_bars_follow_the_steps_and_only_those_that_last_stay(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(capfd, monkeypatch)
    for begun in ("walking: ", "downloading: ", "indexing: "):
        assert begun in text
    sentence, download = on_screen(text)
    assert sentence == r"a sentence\x1b[31m"
    assert download.startswith("downloading: 100%")
    assert "1.00M/1.00M" in download


def test_bar_of_a_step_that_goes_on_begins_where_it_was(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Bars(quiet=False) as bars:
        bars(Step("sketching", 20, 20, "window"))
        bars(Step("indexing", 20, 20, "window"))
        text = capfd.readouterr().err  # what stands there while nothing else is heard
    assert "indexing: 100%" in text
    assert "  0%" not in text


def test_what_is_counted_is_shown_in_whole_numbers(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Bars(quiet=False) as bars:
        bars(Step("measuring", 0, 4, "filter"))
        time.sleep(0.2)  # a bar is drawn ten times a second at most
        bars(Step("measuring", 2, 4, "filter"))
        text = capfd.readouterr().err
    assert "| 2/4 [" in text
    assert "2.0/4" not in text


def test_without_a_terminal_only_sentences_are_seen(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(capfd, monkeypatch, is_terminal=False) == "a sentence\\x1b[31m\n"


def test_quiet_bars_show_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(capfd, monkeypatch, quiet=True) == ""


def test_what_nobody_can_count_is_told_and_wiped(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Bars(quiet=False) as bars:
        bars(LOADING)
    with telling("counting"):
        begun = capfd.readouterr().err
    assert "loading the model …" in begun
    assert "counting …" in begun
    assert "0it" not in begun
    assert on_screen(begun + capfd.readouterr().err) == []
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    with telling("counting"):
        pass
    assert capfd.readouterr().err == ""


def test_bar_of_a_cluster_says_what_bounds_it() -> None:
    step = Step("embedding", 1, 4, "file", 30.0, 2, 120.0, "a.wav", "decoding")
    assert _audio(step, 10.0) == "0.5 of 2.0 min, 3 x, 2 failed, bound by decoding"
    assert _audio(step._replace(bound="", num_failed=0), 10.0) == "0.5 of 2.0 min, 3 x"


def test_more_audio_than_was_thought_is_all_of_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Bars(quiet=False) as bars:
        bars(Step("embedding", 1, 2, "file", audio_s=100.0, total_audio_s=200.4))
        time.sleep(0.2)
        bars(Step("embedding", 2, 2, "file", audio_s=200.4, total_audio_s=200.4))
        text = capfd.readouterr().err
    assert "100%" in text
    assert "Warning" not in text
