"""What a filter expression says of the rows of a generation."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import Float32, Integers, Mask
from indexer.tags import DEFAULT_THRESHOLD, Threshold
from indexer.windows import SAMPLE_RATE_HZ
from search.filters.metadata import Metadata
from search.filters.nodes import Compared, Either, Every, Heard, Negation, Node, Operand
from search.filters.tags import (
    Condition,
    Learned,
    Probability,
    at_least,
    at_most,
    exactly,
)
from search.generation.recordings import Places
from search.generation.segments import Segment

_NONE: Learned = {}
#: The first whole number that a column of them cannot hold.
_INT64_END = 2**63
#: Of the operators without "not" in front.
_TESTS: dict[str, Callable[[pa.Array, Sequence[Operand]], pa.Array]] = {
    "=": lambda values, to: pc.equal(*_alike(values, to[0])),
    "!=": lambda values, to: pc.not_equal(*_alike(values, to[0])),
    "<": lambda values, to: pc.less(*_alike(values, to[0])),
    "<=": lambda values, to: pc.less_equal(*_alike(values, to[0])),
    ">": lambda values, to: pc.greater(*_alike(values, to[0])),
    ">=": lambda values, to: pc.greater_equal(*_alike(values, to[0])),
    "between": lambda values, to: pc.and_(
        pc.greater_equal(*_alike(values, to[0])), pc.less_equal(*_alike(values, to[1]))
    ),
    "in": lambda values, to: pc.is_in(values, _set_for(values.type, to)),
    "like": lambda values, to: pc.match_substring_regex(values, _regex(str(to[0]))),
    "ilike": lambda values, to: pc.match_substring_regex(
        values, _regex(str(to[0])), ignore_case=True
    ),
}


class Together(NamedTuple):
    """Conditions that must all hold.

    Attributes:
        parts: The conditions, at least one.
    """

    parts: tuple[Condition, ...]

    def matches(self, segment: Segment) -> Mask:
        """Return (num_rows,) which rows of a segment match; dead rows never do."""
        return reduce(np.logical_and, [part.matches(segment) for part in self.parts])

    def relevance(self, segment: Segment, rows: Integers) -> Float32:
        """Return (n,) how well rows fit the condition that they fit least."""
        return reduce(np.minimum, [part.relevance(segment, rows) for part in self.parts])

    def relevance_bounds(self, segment: Segment, rows: Integers) -> tuple[Float32, Float32]:
        """Return the least and the greatest relevance that rows may have, going by their codes."""
        bounds = [part.relevance_bounds(segment, rows) for part in self.parts]
        least, greatest = zip(*bounds, strict=True)
        return reduce(np.minimum, least), reduce(np.minimum, greatest)


@dataclass(frozen=True, slots=True)
class Where:
    """A filter expression.

    Attributes:
        node: What it says.
        metadata: What is known of the recordings beside the store; None if nothing is.
    """

    node: Node
    metadata: Metadata | None = None

    @classmethod
    def parse(
        cls,
        text: str,
        metadata: Metadata | None = None,
        *,
        threshold: Threshold = DEFAULT_THRESHOLD,
        descendants: bool = True,
        learned: Learned = _NONE,
    ) -> Self:
        """Read a filter expression.

        Args:
            text: The expression: docs/filters.md explains.
            metadata: Gives more columns that it may name.
            threshold: Probability from which on a tag without a comparison counts as heard; one
                for all, or (527,).
            descendants: Whether a tag stands for those below it in the ontology too.
            learned: Tags that were learned, which it may name.

        Raises:
            ExpressionError: If it cannot be understood; the message points at the spot.
            QueryError: If the threshold is not a probability.
        """
        from search.filters.expression import parse  # noqa: PLC0415 - lark is only for those who ask so

        columns = metadata.columns if metadata else ()
        node = parse(text, columns, threshold=threshold, descendants=descendants, learned=learned)
        return cls(node, metadata)

    def on(self, places: Places) -> ResolvedWhere:
        """Compare what belongs to recordings, once for all of their windows.

        Args:
            places: Where the recordings of what is asked are.
        """
        columns = places.columns
        rows = self.metadata.rows(places) if self.metadata else np.full(len(columns), -1)
        # A copy without a row does not count where another copy has one.
        counts = (rows >= 0) | ~columns.anywhere(rows >= 0)
        facts: dict[Compared, Mask] = {}
        for one in _comparisons(self.node):
            if one.column.level == "place":
                values = {"path": columns.paths, "library": columns.libraries}[one.column.name]
                facts[one] = np.append(columns.anywhere(holds(values, one)), False)
            elif one.column.level == "metadata":
                assert self.metadata is not None  # the expression names a column of it
                values = self.metadata.values(one.column.name, rows)
                facts[one] = np.append(columns.anywhere(holds(values, one) & counts), False)
        return ResolvedWhere(self.node, facts)


class ResolvedWhere(NamedTuple):
    """A filter expression in terms of a generation.

    Attributes:
        node: What it says.
        facts: For each comparison with what belongs to recordings, (num_places + 1,) whether it
            holds for the recording that has its first place there.
    """

    node: Node
    facts: Mapping[Compared, Mask]

    def __hash__(self) -> int:
        if self.facts:
            raise TypeError("it depends on recordings, and on what a file says of them")
        return hash(self.node)

    def matches(self, segment: Segment) -> Mask:
        """Return (num_rows,) which rows of a segment match; dead rows never do."""
        return self._holds(self.node, segment) & segment.alive

    def relevance(self, segment: Segment, rows: Integers) -> Float32:
        """Return (n,) how well rows of a segment fit, from 0 to 1.

        A tag gives its probability, or one minus it where it has to be low; any other comparison 1
        or 0; "and" the least of its parts, "or" the greatest, "not" one minus its part.
        """
        return self._fit(self.node, segment, rows, exactly, exactly)

    def relevance_bounds(self, segment: Segment, rows: Integers) -> tuple[Float32, Float32]:
        """Return the least and the greatest relevance that rows may have, going by their codes."""
        return (
            self._fit(self.node, segment, rows, at_least, at_most),
            self._fit(self.node, segment, rows, at_most, at_least),
        )

    def _holds(self, node: Node, segment: Segment) -> Mask:
        match node:
            case Heard(term, bound, is_wanted):
                reaches = term.reaches(segment, bound)
                return reaches if is_wanted else ~reaches
            case Compared():
                return self._compared(node, segment, slice(None))
            case Negation(part):
                return ~self._holds(part, segment)
            case Every(parts):
                return reduce(np.logical_and, [self._holds(part, segment) for part in parts])
            case Either(parts):
                return reduce(np.logical_or, [self._holds(part, segment) for part in parts])

    def _fit(
        self,
        node: Node,
        segment: Segment,
        rows: Integers,
        wanted: Probability,
        unwanted: Probability,
    ) -> Float32:
        match node:
            case Heard(term, _, is_wanted):
                return (
                    wanted(term, segment, rows) if is_wanted else 1 - unwanted(term, segment, rows)
                )
            case Compared():
                return self._compared(node, segment, rows).astype(np.float32)
            case Negation(part):
                return 1 - self._fit(part, segment, rows, unwanted, wanted)
            case Every(parts) | Either(parts):
                fits = [self._fit(part, segment, rows, wanted, unwanted) for part in parts]
                return reduce(np.minimum if isinstance(node, Every) else np.maximum, fits)

    def _compared(self, node: Compared, segment: Segment, rows: Integers | slice) -> Mask:
        if node.column.level == "window":
            return holds(pa.array(_of_windows(node.column.name, segment, rows)), node)
        # Dead rows may point anywhere; the place that is too many is there if there are no others.
        return self.facts[node].take(segment.recordings[rows], mode="clip")


def holds(values: pa.Array, comparison: Compared) -> Mask:
    """Return (n,) for which values a comparison holds; for missing ones, only "is null" does.

    Args:
        values: As `Metadata.table` holds them: int64, float64, string, bool or timestamp in
            microseconds.
        comparison: With an operand of the same kind.
    """
    operator = comparison.operator
    if operator in {"is null", "is not null"}:
        result = pc.is_null(values) if operator == "is null" else pc.is_valid(values)
    elif comparison.column.kind == "empty":
        return np.zeros(len(values), bool)
    else:
        result = _TESTS[operator.removeprefix("not ")](values, comparison.operands)
        if operator.startswith("not "):
            result = pc.invert(result)
        result = pc.and_(pc.fill_null(result, fill_value=False), pc.is_valid(values))
    return np.asarray(result.to_numpy(zero_copy_only=False))


def _alike(values: pa.Array, operand: Operand) -> tuple[pa.Array, pa.Scalar]:
    """Return both in one type, so that comparing them is exact.

    As floats, whole numbers from 2^53 on would be rounded. Floats that are no whole numbers are all
    smaller than that, and what is rounded stays on the same side of them.
    """
    if pa.types.is_integer(values.type):
        if isinstance(operand, float) and operand.is_integer():
            operand = int(operand)
        if isinstance(operand, int) and not -_INT64_END <= operand < _INT64_END:
            operand = math.copysign(math.inf, operand)  # no value reaches it
        if isinstance(operand, float):
            values = values.cast(pa.float64(), safe=False)
    if pa.types.is_floating(values.type):
        operand = float(operand)  # type: ignore[arg-type]
    return values, pa.scalar(operand, values.type)


def _set_for(kind: pa.DataType, operands: Sequence[Operand]) -> pa.Array:
    """Return the operands that values of a type may be equal to, as `_alike` compares them."""
    if pa.types.is_integer(kind):
        whole = [int(one) for one in operands if float(one).is_integer()]  # type: ignore[arg-type]
        return pa.array([one for one in whole if -_INT64_END <= one < _INT64_END], kind)
    if pa.types.is_floating(kind):
        numbers = [float(one) for one in operands]  # type: ignore[arg-type]
        return pa.array([*numbers, *([0.0, -0.0] if 0 in numbers else [])], kind)
    return pa.array(operands, kind)


def _regex(pattern: str) -> str:
    r"""Return what a pattern of `like` is as a regular expression: %, _, and \ before one of them.

    `pyarrow.compute.match_like` takes \\ for two backslashes where the rest of a pattern is plain.
    """
    wild = {"%": ".*", "_": "."}
    parts = re.findall(r"\\?.", pattern, re.DOTALL)
    return rf"(?s)\A{''.join(wild.get(part) or re.escape(part[-1]) for part in parts)}\z"


def _of_windows(name: str, segment: Segment, rows: Integers | slice) -> npt.NDArray[Any]:
    """Return (n,) float64 seconds: a built-in column of windows, for some rows."""
    start, length = (segment.arrays[one][rows] for one in ("start_sample", "num_samples"))
    samples = {"start": start, "duration": length, "end": start + length}[name]
    return np.asarray(samples / SAMPLE_RATE_HZ)


def _comparisons(node: Node) -> Iterator[Compared]:
    match node:
        case Compared():
            yield node
        case Negation(part):
            yield from _comparisons(part)
        case Every(parts) | Either(parts):
            for part in parts:
                yield from _comparisons(part)
