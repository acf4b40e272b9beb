"""Filter expressions: what a text means, and where a message points if it means nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import datetime

import numpy as np
import pytest
from conftest import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import ExpressionError, QueryError
from search.filters.columns import BUILT_IN, Column
from search.filters.expression import parse
from search.filters.nodes import Compared, Either, Every, Heard, Negation, Node
from search.filters.tags import float16_above, float16_at_least, tag_term

METADATA = (
    Column("Rain", "truth", "metadata"),
    Column("site", "text", "metadata"),
    Column("day", "time", "metadata"),
    Column("recorded by", "text", "metadata"),
    Column("notes", "empty", "metadata"),
)
COLUMNS = {column.name: column for column in (*BUILT_IN, *METADATA)}


def tag(name: str, at_least: float = 0.25, *, descendants: bool = True) -> Heard:
    term = tag_term(name, descendants=descendants)
    return Heard(term, float16_at_least(at_least), is_wanted=True)


def under(name: str, probability: float) -> Heard:
    term = tag_term(name, descendants=True)
    return Heard(term, float16_at_least(probability), is_wanted=False)


def above(name: str, probability: float) -> Heard:
    return Heard(tag_term(name, descendants=True), float16_above(probability), is_wanted=True)


def at_most(name: str, probability: float) -> Heard:
    return Heard(tag_term(name, descendants=True), float16_above(probability), is_wanted=False)


def truth(value: bool) -> Compared:
    return compared("Rain", "=", value)


def compared(name: str, operator: str, *operands: object) -> Compared:
    return Compared(COLUMNS[name], operator, operands)  # type: ignore[arg-type]


# --- what a text means ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("Dog", tag("Dog")),
        ("dog", tag("Dog")),
        ('"Dog"', tag("Dog")),
        ('"/m/0bt9lr"', tag("Dog")),
        ('"Speech synthesizer"', tag("Speech synthesizer")),
        ('"Fire engine, fire truck (siren)"', tag("Fire engine, fire truck (siren)")),
        ("Dog >= .4", tag("Dog", 0.4)),
        ("Dog < 4e-1", under("Dog", 0.4)),
        ("Dog>0.4", above("Dog", 0.4)),
        ("Dog >= -0", tag("Dog", 0.0)),
        ("Dog <= 0.4", at_most("Dog", 0.4)),
        ("duration >= 2", compared("duration", ">=", 2)),
        ("DURATION == -2.5", compared("duration", "=", -2.5)),
        ("path <> 'it''s'", compared("path", "!=", "it's")),
        ("path like 'a\\%'", compared("path", "like", "a\\%")),
        ("path NOT ILIKE 'A'", compared("path", "not ilike", "A")),
        ("start in (1, 2.5)", compared("start", "in", 1, 2.5)),
        ("end not between 1 and 2", compared("end", "not between", 1, 2)),
        ("[recorded by] is not null", compared("recorded by", "is not null")),
        ("site is null", compared("site", "is null")),
        ("[Rain]", truth(value=True)),
        ("[rain] = FALSE", truth(value=False)),
        ('"Rain"', tag("Rain")),
        ("day > '2024-05-31'", compared("day", ">", datetime(2024, 5, 31))),
        ("day = '2024-05-31T14:00+02:00'", compared("day", "=", datetime(2024, 5, 31, 12))),
        ("notes > 3", compared("notes", ">")),
        ("((Dog))", tag("Dog")),
        ("not not Dog", Negation(Negation(tag("Dog")))),
    ],
)
def test_parse_condition_is_read_as_meant(text: str, node: Node) -> None:
    assert parse(text, METADATA) == node


def test_parse_not_binds_closer_than_and_and_closer_than_or() -> None:
    dog, cat, speech = tag("Dog"), tag("Cat"), tag("Speech")
    assert parse("not Dog and Cat or Speech") == Either((Every((Negation(dog), cat)), speech))
    assert parse("Dog or Cat and not Speech") == Either((dog, Every((cat, Negation(speech)))))
    assert parse("Dog and (Cat or Speech)") == Every((dog, Either((cat, speech))))


def test_parse_between_of_a_tag_has_both_ends() -> None:
    least, most = tag("Dog", 0.2), at_most("Dog", 0.4)
    assert parse("Dog between 0.2 and 0.4 and Cat") == Every((Every((least, most)), tag("Cat")))
    outside = Either((under("Dog", 0.2), above("Dog", 0.4)))
    assert parse("Dog not between 0.2 and 0.4") == outside


def test_parse_threshold_and_descendants_are_used_for_tags() -> None:
    node = parse("Animal", threshold=0.5, descendants=False)
    assert node == tag("Animal", 0.5, descendants=False)


def test_parse_keyword_that_begins_a_name_is_no_keyword() -> None:
    columns = (Column("order", "number", "metadata"), Column("not_in", "number", "metadata"))
    assert parse("order = 1 and not_in = 2", columns) == Every(
        (Compared(columns[0], "=", (1,)), Compared(columns[1], "=", (2,)))
    )


def test_parse_large_whole_number_stays_exact() -> None:
    columns = (Column("n", "number", "metadata"),)
    assert parse(f"n = {2**53 + 1}", columns) == Compared(columns[0], "=", (2**53 + 1,))
    assert parse(f"n = {2**63 - 1}", columns) == Compared(columns[0], "=", (2**63 - 1,))
    assert parse(f"n = -{'0' * 5000}{2**63}", columns) == Compared(columns[0], "=", (-(2**63),))
    (operand,) = parse(f"n = {2**63}", columns).operands  # type: ignore[union-attr]
    assert isinstance(operand, float)
    assert parse(f"n < {'9' * 5000}", columns) == Compared(columns[0], "<", (float("inf"),))


def test_parse_columns_that_differ_in_letter_case_need_the_exact_name() -> None:
    columns = (Column("Site", "text", "metadata"), Column("site", "text", "metadata"))
    assert parse("site is null", columns) == Compared(columns[1], "is null")
    with pytest.raises(ExpressionError, match=r"Did you mean \[site\]"):
        parse("[SITE] is null", columns)


def test_float16_above_is_the_least_that_is_above() -> None:
    every = np.arange(0x3C02, dtype=np.uint16).view(np.float16)
    for threshold in (0.0, 0.25, 0.4, 1.0, 0.99999, 2.0**-25, float(np.float16(0.3))):
        above = every[np.argmax(every.astype(np.float32) > np.float32(threshold))]
        assert float16_above(threshold) == above


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marked", "says"),
    [
        ("¦", "expected a tag or a column, 'not' or '(', but it ends here"),
        ("Dog and¦", "but it ends here"),
        ("Dog and¦   ", "but it ends here"),
        ("Dog > ¦abc", "expected a number"),
        ("Dog > ¦2", "0 to 1, not 2"),
        ("Dog > ¦'a'", "0 to 1, not 'a'"),
        ("Dog ¦= 0.4", "compare it with <, <=, > or >="),
        ("Dog ¦like 'a'", "a tag has a probability"),
        ("Dog ¦is null", "a tag has a probability"),
        ("(Dog¦", "expected ')', but it ends here"),
        ("Dog ¦)", "expected the end, found )"),
        ("Dog ¦@ 3", "found @"),
        ("Dog or ¦2a", "found 2a"),
        ("Dog > ¦0.4.5", "found 0"),
        ("¦0.4 < Dog", "expected a tag or a column"),
        ("Dog > .3 ¦> .2", "expected 'and', 'or' or the end"),
        ("Dog between .1 ¦or .2", "expected 'and', found or"),
        ("Speech ¦synthesizer", "a name of several words goes in double quotes"),
        ("¦'Dog'", "a tag goes in double quotes"),
        ('path like ¦"a"', "text goes in single quotes"),
        ("path = ¦abc", "text goes in single quotes"),
        ("path = ¦'abc", "this ' has no counterpart"),
        ('Dog or ¦"Cat', 'this " has no counterpart'),
        ("¦[site", "this [ has no counterpart"),
        ("path in (¦)", "expected a number"),
        ("Dog and ¦Dogg", "did you mean 'Dog'"),
        ("¦Sitee = 'x'", "Did you mean [site]?"),
        ("¦[sitee] = 'x'", "unknown column [sitee]. Did you mean [site]? The columns are duration"),
        ('¦"site"', "unknown tag 'site'"),
        ("¦Oboe", "no output"),
        ("Dog and ¦Rain", 'write "Rain" for the tag, [Rain] for the column'),
        ("duration > ¦'a'", "duration holds numbers: compare it with a number, not 'a'"),
        ("start in (1, ¦'b')", "compare it with a number, not 'b'"),
        ("path > ¦3", "compare it with a text in single quotes, not 3"),
        ("path = ¦true", "not true"),
        ("[Rain] = ¦1", "compare it with true or false, not 1"),
        ("[Rain] ¦> true", "compare it with = or !="),
        ("¦path", "path holds text: compare it"),
        ("duration ¦like 'a'", "'like' is for text, and duration holds numbers"),
        ("path like ¦'a\\b'", "stands before %, _ or \\"),
        ("path like ¦'a\\\\\\'", "stands before %, _ or \\"),
        ("day > ¦'soon'", "a date such as '2024-05-31'"),
        ("day > ¦'0001-01-01T00:00+10:00'", "a date such as"),
        ("path = '¦\udcff'", "not valid UTF-8"),
        (f"{'not ' * 60}¦Dog", "nested more than 50 deep"),
        (f"{'(Dog or (Cat and ' * 40}¦Dog{'))' * 40}", "nested more than 50 deep"),
    ],
)
def test_parse_error_points_at_the_spot(marked: str, says: str) -> None:
    at, text = marked.index("¦"), marked.replace("¦", "")
    with pytest.raises(ExpressionError) as caught:
        parse(text, METADATA)
    problem, line, caret = caught.value.lines
    assert says in problem
    if "deep" in says:  # somewhere in what is nested
        assert line[len(caret) - 1 :].startswith(("not", "Dog", "Cat"))
    else:
        assert caret == " " * (2 + at) + "^"
    if "\udcff" not in text and len(text) < 100:
        assert line == f"  {text}"
    assert str(caught.value) == f"{problem}\n{line}\n{caret}"


def test_parse_error_in_a_later_line_shows_that_line() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("Dog\n  and Dogg\n  or Cat")
    assert caught.value.lines[1:] == ("    and Dogg", "        ^")


def test_parse_error_after_wide_and_control_characters_keeps_the_caret_below() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("path = '犬\x1b[2J' or é\t> 'x'")
    _, line, caret = caught.value.lines
    assert line == "  path = '犬\\x1b[2J' or é\\x09> 'x'"
    assert len(caret) - 1 == len("  path = '__\\x1b[2J' or ")


@pytest.mark.parametrize(
    "marked",
    [
        f"{'Dog or ' * 500}¦Dogg{' or Cat' * 500}",
        f"path = 'a' and duration > ¦'{'x' * 5000}'",
        f"Dog > ¦{'9' * 5000}",
        f"¦[{'x' * 5000}] = 1",
        f'¦"{"x" * 5000}"',
        f"Dog ¦{'x' * 5000}",
    ],
)
def test_parse_error_of_a_long_text_is_short_and_points_at_the_spot(marked: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(marked.replace("¦", ""), METADATA)
    problem, line, caret = caught.value.lines
    assert len(problem) < 250
    assert len(line) <= 2 + 60 + 60
    assert line[len(caret) - 1 :].startswith(marked.partition("¦")[2][:4])
    assert line.endswith("…")
    assert line.startswith("  …") == (marked.index("¦") > 60)


@pytest.mark.whole
def test_import_query_loads_neither_torch_nor_lark() -> None:
    code = "import sys, soundalike.sounds; print({'torch', 'lark'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert found.stdout.strip() == "set()"


def test_parse_deep_parentheses_without_meaning_are_read() -> None:
    assert parse("(" * 5000 + "Dog" + ")" * 5000) == tag("Dog")


def test_parse_long_chain_is_one_node() -> None:
    node = parse(" and ".join(["Dog"] * 2000))
    assert isinstance(node, Every)
    assert len(node.parts) == 2000


def test_parse_values_of_one_column_in_a_chain_are_one_list() -> None:
    node = parse("path = 'a' or Dog or path in ('b', 'c') or start = 3 or path != 'd'")
    listed = compared("path", "in", "a", "b", "c")
    others = (tag("Dog"), compared("start", "=", 3), compared("path", "!=", "d"))
    assert node == Either((listed, *others))
    assert parse("path = 'a' or path = 'b'") == compared("path", "in", "a", "b")
    assert parse("path = 'a' or Dog") == Either((compared("path", "=", "a"), tag("Dog")))
    # Of several places of a recording, one may differ from 'a' and another from 'b'.
    assert isinstance(parse("path != 'a' and path != 'b'"), Every)


@pytest.mark.parametrize(
    "text",
    [
        "path in ({})",
        "path not in ({})",
        "not path in ({}) and Dog",
    ],
)
def test_parse_time_of_a_list_grows_with_its_length(text: str) -> None:
    def seconds(number: int) -> float:
        names = ",".join(f"'field/{at}.wav'" for at in range(number))
        began = time.perf_counter()
        parse(text.format(names))
        return time.perf_counter() - began

    seconds(100)
    assert seconds(8000) < 40 * seconds(1000)  # if it grew with the square, 64 times


def test_parse_too_many_comparisons_are_refused_and_lists_are_not() -> None:
    chain = [f"path != '{number}.wav'" for number in range(2001)]
    with pytest.raises(ExpressionError, match=r"2,001 comparisons, and 2,000 are the most; 'in"):
        parse(" and ".join(chain))
    assert parse(" or ".join(one.replace("!=", "=") for one in chain)) == compared(
        "path", "in", *(f"{number}.wav" for number in range(2001))
    )


def test_parse_threshold_that_is_no_probability_is_an_error() -> None:
    with pytest.raises(QueryError, match="threshold"):
        parse("Dog", threshold=1.5)


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text("Dog path()'\"[]<>=.0not and\n\\%", max_size=40))
def test_parse_any_text_is_read_or_refused_in_three_lines(text: str) -> None:
    lines: tuple[str, ...] = ("", "", "^")
    try:
        parse(text, METADATA)
    except ExpressionError as error:
        lines = error.lines
    assert len(lines) == 3
    assert lines[2].strip() == "^"
    assert not any(mark in line for line in lines for mark in "\n\r\x1b")
