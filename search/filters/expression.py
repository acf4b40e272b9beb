"""Filter expressions: their grammar, and what they say.

`Dog > 0.4 and not (Speech or Music) and duration >= 2 and path like 'field/%'`
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import NoReturn

from lark import Lark, Token, Tree, UnexpectedInput

from indexer.errors import UnknownTagError
from indexer.tags import DEFAULT_THRESHOLD, TagVocabulary, Threshold
from search.filters.columns import BUILT_IN, Column, Kind, find_column, proposal
from search.filters.nodes import Compared, Either, Every, Heard, Negation, Node, Operand
from search.filters.pointing import pointing_at, shortened, syntax_error
from search.filters.tags import (
    LEARNED_PREFIX,
    LEARNED_THRESHOLD,
    Learned,
    Probable,
    float16_above,
    float16_at_least,
    learned_term,
    require_probability,
    tag_term,
    threshold_of_tag,
)

_GRAMMAR = r"""
start: either
?either: every (_OR every)*
?every: negated (_AND negated)*
?negated: NOT negated -> negation
        | "(" either ")"
        | comparison
comparison: _name
          | _name COMPARISON _value
          | _name NOT? LIKE TEXT
          | _name NOT? IN "(" _value ("," _value)* ")"
          | _name NOT? BETWEEN _value _AND _value
          | _name IS NOT? NULL
_name: WORD | LEARNED | QUOTED | BRACKETED
_value: NUMBER | TEXT | TRUTH

_AND.1: /and\b/i
_OR.1: /or\b/i
NOT.1: /not\b/i
IN.1: /in\b/i
IS.1: /is\b/i
NULL.1: /null\b/i
BETWEEN.1: /between\b/i
LIKE.1: /i?like\b/i
TRUTH.1: /(true|false)\b/i
COMPARISON: /<=|>=|<>|!=|==|[=<>]/
NUMBER: /[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?(?![\w.])/i
TEXT: /'([^']|'')*'/
QUOTED: /"([^"]|"")*"/
BRACKETED: /\[([^\]]|\]\])*\]/
LEARNED.1: /my\.[a-z][a-z0-9_]*/
WORD: /[^\W\d]\w*/
%ignore /\s+/
"""

_NONE: Learned = {}
#: Deeper nesting is no question that a person asks, and would exhaust the stack.
_MAX_DEPTH = 50
#: Each is made with every file: of a million of them, as many take a minute and 2 GB.
_MAX_COMPARISONS = 2000
_VALUES = frozenset({"NUMBER", "TEXT", "TRUTH"})
_SAME_OPERATOR = {"==": "=", "<>": "!="}
_ORDERING = {"<", "<=", ">", ">=", "between", "not between"}
_OF_TEXT = {"like", "not like", "ilike", "not ilike"}
#: For each kind of column: what it holds, what it is compared with, and how that is written.
_LITERALS: dict[Kind, tuple[str, str, str]] = {
    "number": ("numbers", "NUMBER", "a number"),
    "text": ("text", "TEXT", "a text in single quotes"),
    "truth": ("true and false", "TRUTH", "true or false"),
    "time": ("times", "TEXT", "a date such as '2024-05-31' or '2024-05-31 14:00'"),
}


def parse(
    text: str,
    metadata: Sequence[Column] = (),
    *,
    threshold: Threshold = DEFAULT_THRESHOLD,
    descendants: bool = True,
    learned: Learned = _NONE,
) -> Node:
    """Read a filter expression.

    Args:
        text: The expression.
        metadata: Columns that it may name beside those built in.
        threshold: Probability from which on a tag without a comparison counts as heard; one for
            all, or (527,).
        descendants: Whether a tag stands for those below it in the ontology too.
        learned: Tags that were learned, by their names with the prefix.

    Raises:
        ExpressionError: If it cannot be understood; the message points at the spot.
        QueryError: If the threshold is not a probability.
    """
    require_probability(threshold)
    tree = _parsed(text)
    _require_shallow(tree, text)
    columns = (*BUILT_IN, *metadata)
    node = _Reading(text, columns, threshold, descendants, learned).node(tree)
    if (number := _count(node)) > _MAX_COMPARISONS:
        problem = f"this makes {number:,} comparisons, and {_MAX_COMPARISONS:,} are the most"
        raise pointing_at(text, 0, f"{problem}; 'in (…)' takes any number of values as one")
    return node


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="basic")


def _parsed(text: str) -> Tree[Token]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise pointing_at(text, error.start, "this is not valid UTF-8") from error
    parser = _parser().parse_interactive(text)
    try:
        for _ in parser.iter_parse():
            pass
        tree: Tree[Token] = parser.feed_eof()  # type: ignore[no-untyped-call]
    except UnexpectedInput as error:
        accepted: set[str] = parser.accepts()  # type: ignore[no-untyped-call]
        raise syntax_error(text, error, accepted) from error
    return tree


def _require_shallow(tree: Tree[Token], text: str) -> None:
    waiting: list[tuple[Tree[Token], int]] = [(tree, 0)]
    while waiting:
        branch, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            first = next(iter(branch.scan_values(lambda token: True)))
            raise pointing_at(text, _start(first), f"this is nested more than {_MAX_DEPTH} deep")
        waiting += [(part, depth + 1) for part in branch.children if isinstance(part, Tree)]


@dataclass(frozen=True, slots=True)
class _Reading:
    """Turns what was parsed into what it means: names are looked up, and kinds must agree."""

    text: str
    columns: tuple[Column, ...]
    threshold: Threshold
    descendants: bool
    learned: Learned

    def node(self, tree: Tree[Token]) -> Node:
        if tree.data == "comparison":
            return self._comparison([part for part in tree.children if isinstance(part, Token)])
        parts = tuple(self.node(part) for part in tree.children if isinstance(part, Tree))
        if tree.data == "negation":
            return Negation(parts[0])
        if tree.data == "start":
            return parts[0]
        return Every(parts) if tree.data == "every" else _either(parts)

    def _comparison(self, tokens: list[Token]) -> Node:
        name, *rest = tokens
        values = [token for token in rest if token.type in _VALUES]
        words = [token for token in rest if token.type not in _VALUES]
        operator = " ".join(word.lower() for word in words)
        operator = _SAME_OPERATOR.get(operator, operator)
        meant = self._meant(name)
        if isinstance(meant, Column):
            return self._compared(meant, operator, name, words, values)
        return self._heard(meant, operator, name, words, values)

    def _meant(self, name: Token) -> Column | Probable:
        """Look a name up: "…" is a tag, […] a column, and a word the one of them that there is."""
        spelt = _unquoted(name)
        column = find_column(self.columns, spelt) if name.type != "QUOTED" else None
        if name.type == "BRACKETED":
            if column is None:
                unknown = f"unknown column [{shortened(spelt)}]"
                self._fail(name, f"{unknown}. {proposal(self.columns, spelt)}")
            return column
        is_tag = TagVocabulary.audioset().find(spelt) is not None or spelt in self.learned
        if column is not None and is_tag:
            spellings = f'"{spelt}" for the tag, [{column.name}] for the column'
            self._fail(name, f"{spelt} is both a tag and a column: write {spellings}")
        if column is not None:
            return column
        try:
            if _is_learned(name):
                return learned_term(spelt, self.learned)
            return tag_term(spelt, descendants=self.descendants)
        except UnknownTagError as error:
            is_unknown = name.type == "WORD" and not is_tag
            columns = f" {proposal(self.columns, spelt)}" if is_unknown else ""
            problem = str(error).replace(repr(spelt)[1:-1], shortened(spelt))
            raise pointing_at(self.text, _start(name), f"{problem}{columns}") from error

    def _heard(
        self, term: Probable, operator: str, name: Token, words: list[Token], values: list[Token]
    ) -> Node:
        if not operator:
            if _is_learned(name):
                return _bounded(term, ">=", LEARNED_THRESHOLD)
            return _bounded(term, ">=", threshold_of_tag(self.threshold, _unquoted(name)))
        if operator not in _ORDERING:
            self._fail(words[0], "a tag has a probability: compare it with <, <=, > or >=")
        bounds = [self._probability(value) for value in values]
        if operator == "between":
            least, most = bounds
            return Every((_bounded(term, ">=", least), _bounded(term, "<=", most)))
        if operator == "not between":
            least, most = bounds
            return Either((_bounded(term, "<", least), _bounded(term, ">", most)))
        return _bounded(term, operator, bounds[0])

    def _probability(self, value: Token) -> float:
        if value.type != "NUMBER" or not 0 <= float(value) <= 1:
            shown = shortened(value)
            self._fail(value, f"a tag's probability is a number from 0 to 1, not {shown}")
        return float(value)

    def _compared(
        self, column: Column, operator: str, name: Token, words: list[Token], values: list[Token]
    ) -> Node:
        if column.kind == "empty":
            return Compared(column, operator or "=")
        holds, _, literal = _LITERALS[column.kind]
        if not operator:
            if column.kind == "truth":
                return Compared(column, "=", (True,))
            self._fail(name, f"{column.name} holds {holds}: compare it with {literal}")
        if operator in _OF_TEXT and column.kind != "text":
            self._fail(words[0], f"'{operator}' is for text, and {column.name} holds {holds}")
        if operator in _ORDERING and column.kind == "truth":
            self._fail(words[0], f"{column.name} holds {holds}: compare it with = or !=")
        operands = tuple(self._operand(column, value) for value in values)
        if operator in _OF_TEXT and re.search(r"(?<!\\)(\\\\)*\\([^%_\\]|$)", str(operands[0])):
            self._fail(values[0], r"a \ in a pattern stands before %, _ or \; write \\ for one")
        return Compared(column, operator, operands)

    def _operand(self, column: Column, value: Token) -> Operand:
        assert column.kind != "empty"
        holds, token_type, literal = _LITERALS[column.kind]
        problem = f"{column.name} holds {holds}: compare it with {literal}, not {shortened(value)}"
        if value.type != token_type:
            self._fail(value, problem)
        if value.type == "NUMBER":
            return _number(value)
        if value.type == "TRUTH":
            return value.lower() == "true"
        if column.kind == "text":
            return _unquoted(value)
        try:
            return _time(_unquoted(value))
        except (ValueError, OverflowError):
            self._fail(value, problem)

    def _fail(self, at: Token, problem: str) -> NoReturn:
        raise pointing_at(self.text, _start(at), problem)


def _either(parts: tuple[Node, ...]) -> Node:
    """Return what holds if one of some parts does; values of one column are looked up at once."""
    values: dict[Column, list[Operand]] = {}
    kept: dict[Column | int, Node] = {}  # in the order of the parts
    for at, part in enumerate(parts):
        if isinstance(part, Compared) and part.operator in {"=", "in"}:
            values.setdefault(part.column, []).extend(part.operands)
            kept[part.column] = part
        else:
            kept[at] = part
    for column, operands in values.items():
        if len(operands) > 1:
            kept[column] = Compared(column, "in", tuple(operands))
    joined = tuple(kept.values())
    return Either(joined) if len(joined) > 1 else joined[0]


def _count(node: Node) -> int:
    """Return how many comparisons a node makes."""
    if isinstance(node, Negation):
        return _count(node.part)
    return sum(map(_count, node.parts)) if isinstance(node, (Every, Either)) else 1


def _bounded(term: Probable, operator: str, probability: float) -> Heard:
    bound = (float16_at_least if operator in {">=", "<"} else float16_above)(probability)
    return Heard(term, bound, operator in {">", ">="})


def _is_learned(name: Token) -> bool:
    """Whether a name is that of a tag that was learned."""
    return name.type != "BRACKETED" and _unquoted(name).startswith(LEARNED_PREFIX)


def _start(token: Token) -> int:
    return token.start_pos or 0


def _unquoted(token: Token) -> str:
    if token.type in {"WORD", "LEARNED"}:
        return str(token)
    closing = token[-1]
    return token[1:-1].replace(closing * 2, closing)


def _number(text: str) -> int | float:
    """Return a number: whole ones that fit an int64 as such, to be compared as they are."""
    whole = re.fullmatch("([+-]?)0*([0-9]{1,19})", text)
    number = int(whole[1] + whole[2]) if whole else None
    return number if number is not None and -(2**63) <= number < 2**63 else float(text)


def _time(text: str) -> datetime:
    """Return a time in UTC; one that names no zone is taken for UTC."""
    moment = datetime.fromisoformat(text)
    return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None)
