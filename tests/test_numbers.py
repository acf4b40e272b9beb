"""Numbers that are no numbers, or too large: every option that takes one says what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from conftest import Run
from faults import fault
from synthetic import make_store

from indexer.errors import QueryError
from indexer.run.config import ExtractConfig, Settings
from search.asking.terms import DuplicateTerms, Terms
from search.nearest.structure import IndexConfig
from search.upkeep.build import build
from soundalike.cli.app import app

NASTY = [
    *("nan", "inf", "-inf", "1e308", "-1e308", "1e309", "1e-320", str(10**20), "9" * 5000, "-1"),
    *("-9e99", "0", "", " ", "1e", "٣", "1_0", "0x10", "1,5", "\x1b[31m"),
]
#: What stands for the value of an option that takes a number or a time, in the help.
NUMBERS = {"N", "P", "S", "R", "H", "GB", "TIME"}


class Option(NamedTuple):
    """An option that takes a number, and the command that has it."""

    command: tuple[str, ...]
    flag: str


def numeric_options() -> Iterator[Option]:
    def below(command: Any, names: tuple[str, ...]) -> Iterator[Option]:
        for name, one in getattr(command, "commands", {}).items():
            yield from below(one, (*names, name))
        for one in command.params:
            if one.metavar in NUMBERS:
                yield Option(names, one.opts[0])

    return below(typer.main.get_command(app), ())


OPTIONS = sorted(numeric_options())
#: Arguments with which a command would do something, if the numbers were right.
ARGUMENTS = {
    "search": ["STORE", "CLIP", "--tag", "Dog"],
    "serve": ["no such store"],
    "batch": ["STORE", "STORE", "--tag", "Dog", "--output", "out.jsonl"],
    "duplicates": ["STORE"],
    "tag": ["CLIP", "--checkpoint", "demo"],
    "tags": ["STORE"],
    "thresholds": ["STORE", "--labels", "CLIP"],
    "eval labels": ["STORE"],
    "eval robust": ["STORE"],
    "index": ["EMPTY", "--checkpoint", "demo"],
    "extract": ["EMPTY", "STORE"],
    "build": ["STORE"],
    "verify": ["STORE", "--deep"],
    "eval retrieval": ["--audio", "CLIP", "--text", "CLIP"],
    "export labels": ["STORE", "--output", "labels"],
    "train projection": ["STORE", "CLIP"],
    "export csv": ["STORE", "--output", "out.csv"],
    "export jsonl": ["STORE", "--output", "out.jsonl"],
    "export npy": ["STORE", "--output", "out.npy"],
}


def test_all_numeric_options_are_found() -> None:
    found = {flag for _, flag in OPTIONS}
    wanted = {"-k", "--start", "--end", "--duration", "--threshold", "--min-score", "--top"}
    wanted |= {
        "--memory",
        "--port",
        "--ray-workers",
        "--recall",
        "--workers",
        "--batch-size",
        "--hop",
        "--unique-at",
        "--native-max",
        "--channel",
        "--timeout",
        "--dim",
        "--epochs",
        "--learning-rate",
        "--seed",
    }
    wanted |= {"--max-hours", "--max-matches", "--sample", "--resamples", "--max", "--precision"}
    assert found == wanted
    assert {" ".join(one.command) for one in OPTIONS} == set(ARGUMENTS)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A store with a window in it, a file that is no audio, and a folder without any."""
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 1})
    build(store.store)
    (tmp_path / "clip.wav").write_text("not audio")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return {"STORE": "store", "CLIP": "clip.wav", "EMPTY": "empty"}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda one: " ".join((*one.command, one.flag)))
def test_number_that_is_none_or_too_large_is_one_line(
    whole: None, run: Run, places: dict[str, str], option: Option
) -> None:
    arguments = [places.get(one, one) for one in ARGUMENTS[" ".join(option.command)]]
    command: Any = typer.main.get_command(app)
    for name in option.command:
        command = command.commands[name]
    refused = []
    for value in NASTY:
        try:
            command.make_context("x", [*arguments, option.flag, value])
        except typer.exceptions.TyperException as error:
            refused.append((value, error.exit_code, error.format_message()))
        else:  # then it is good for something, and the command has to do that
            outcome = run(*option.command, *arguments, option.flag, value, code=None)
            assert outcome.code in {0, 1, 2, 3}, value
            assert "Traceback" not in outcome.err
    assert set(NASTY) - {value for value, _, _ in refused} <= {"0", "-1", "1e-320"}
    for _, code, said in refused:
        assert code == 2
        assert said.startswith(f"Invalid value for '{option.flag}': ")
        assert " from " in said or "no recording has a time of" in said
        assert len(said) < 200


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (fault("E3a"), ["search", "STORE", "CLIP", "--start", "1e308"]),
        (fault("E3b"), ["index", "EMPTY", "--memory", "inf"]),
        (fault("E3c"), ["index", "EMPTY", "--workers", "100000"]),
        (fault("E3d"), ["search", "STORE", "--tag", "Dog", "--threshold", "nan"]),
        (fault("E3e"), ["index", "EMPTY", "--hop", "1e-300"]),
    ],
)
def test_error_names_the_option_the_value_and_what_is_allowed(
    run: Run, places: dict[str, str], row: Any, words: list[str]
) -> None:
    outcome = run(*(places.get(word, word) for word in words), code=None)
    row.require(outcome.code, outcome.err)


@pytest.mark.parametrize(
    ("make", "name", "good"),
    [
        (Terms, "k", 1),
        (Terms, "threshold", 0.5),
        (Terms, "min_score", -0.5),
        (Terms, "diverse", 0.5),
        (DuplicateTerms, "min_score", 0.5),
        (DuplicateTerms, "max_matches", 1),
        (Settings, "hop_s", 10.0),
        (Settings, "native_max_s", 60.0),
        (ExtractConfig, "num_workers", 0),
        (ExtractConfig, "batch_size", 1),
        (ExtractConfig, "max_hours", 1.0),
        (ExtractConfig, "timeout_s", 1.0),
        (IndexConfig, "recall", 0.9),
    ],
)
def test_the_same_numbers_are_refused_in_python(make: Any, name: str, good: float) -> None:
    make(**{name: good})
    for value in (float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 10**400):
        with pytest.raises(QueryError, match=name.split("_")[0].removesuffix("e")):
            make(**{name: value})
