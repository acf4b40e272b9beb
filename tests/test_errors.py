"""Errors travel between processes as they are."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.errors import (
    AudioError,
    DamagedStoreError,
    ExpressionError,
    IdentityError,
    SoundalikeError,
)
from search.generation.manifest import OutdatedIndexError

SPECIAL = {
    AudioError: AudioError("decode", "bad bytes"),
    DamagedStoreError: DamagedStoreError(
        Path("part"), "it is missing", "bring it back", about="store", value=Path("x")
    ),
    ExpressionError: ExpressionError("what is wrong", "the line", "  ^", at=2),
    IdentityError: IdentityError("two ways", {"hop": (1, 2)}, "hop: 1, 2", "Use another", "store"),
    OutdatedIndexError: OutdatedIndexError(Path("store/index/00000001-59f16334")),
}


def kinds(kind: type[SoundalikeError] = SoundalikeError) -> Iterator[type[SoundalikeError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from kinds(one)


@pytest.mark.parametrize("kind", sorted(set(kinds()), key=str))
def test_every_error_is_the_same_after_a_trip_between_processes(
    kind: type[SoundalikeError],
) -> None:
    error = SPECIAL.get(kind) or kind("a text", about="strict", value=3)
    error.add_note("a note")
    error.report = {"some": "report"}
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is kind
    assert (str(again), again.args) == (str(error), error.args)
    assert vars(again) == vars(error)
