"""Contents that were embedded to their end, in a run of any length: held against a plain set."""

from __future__ import annotations

import numpy as np
import pytest

from indexer.arrays import Ids
from indexer.run import copies
from indexer.run.copies import Contents, Copies


@pytest.mark.parametrize("num_recent", [1, 2, 7])
def test_contents_are_those_of_a_set(monkeypatch: pytest.MonkeyPatch, num_recent: int) -> None:
    monkeypatch.setattr(copies, "_MAX_RECENT", num_recent)
    rng = np.random.default_rng(num_recent)
    held, plain = Contents(), set[bytes]()
    for _ in range(1_000):
        content = rng.integers(0, 3, 16, np.uint8).tobytes()  # some end with zeros
        assert (content in held) == (content in plain)
        if content not in plain:
            held.add(content)
            plain.add(content)
        other = rng.integers(0, 3, 16, np.uint8).tobytes()
        assert (other in held) == (other in plain)
    assert all(one in held for one in plain)


def test_contents_are_moved_as_often_as_their_number_doubles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Merging all of them each time would move half a million here."""
    monkeypatch.setattr(copies, "_MAX_RECENT", 4)
    moved = []
    concatenate = np.concatenate

    def counted(some: list[Ids]) -> Ids:
        moved.append(sum(map(len, some)))
        return concatenate(some)

    monkeypatch.setattr(copies.np, "concatenate", counted)
    held = Contents()
    for number in range(2_048):
        held.add(number.to_bytes(16, "big"))
    assert sum(moved) <= 2_048 * np.log2(2_048 / 4)
    assert all(number.to_bytes(16, "big") in held for number in range(2_048))


def test_owner_of_a_content_keeps_it_until_it_is_finished() -> None:
    held = Copies()
    assert held.takes(b"c" * 16, 0)
    assert held.takes(b"c" * 16, 0)
    assert not held.takes(b"c" * 16, 1)
    held.finish(0)
    assert not held.takes(b"c" * 16, 0)
    assert held.is_finished(b"c" * 16)
