"""Threads that embed side by side: the same embeddings, in any order of ending."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import torch

from indexer.embedding.cores import default_num_lanes, default_num_workers, num_cores
from indexer.embedding.extractor import Extractor, Timed
from indexer.embedding.lanes import Lanes
from indexer.model.checkpoint import Checkpoint


def waveforms(number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(2, 16_000 + 320 * number, generator=generator)


def test_lanes_give_what_the_extractor_gives(tiny_extractor: Extractor) -> None:
    with Lanes(tiny_extractor) as lanes:
        futures = [lanes.submit(waveforms(number)) for number in range(12)]
        found = [future.result() for future in futures]
    for number, timed in enumerate(found):
        expected = tiny_extractor(waveforms(number))
        for one, other in zip(timed.embeddings, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        assert timed.network_s > 0


class Meeting(Extractor):
    """An extractor whose every call waits until so many are under way."""

    def __init__(self, checkpoint: Checkpoint, num_calls: int) -> None:
        super().__init__(checkpoint, device="cpu")
        self.barrier = threading.Barrier(num_calls)
        self.num_threads: list[int] = []

    def embed_and_time(self, waveforms: torch.Tensor) -> Timed:
        self.barrier.wait(timeout=60)
        self.num_threads.append(torch.get_num_threads())
        return super().embed_and_time(waveforms)


@pytest.mark.usefixtures("three_threads")
def test_lanes_run_at_the_same_time_with_one_thread_each(tiny_checkpoint: Checkpoint) -> None:
    count = default_num_lanes("cpu")
    meeting = Meeting(tiny_checkpoint, count)
    with Lanes(meeting) as lanes:
        assert (lanes.count, lanes.depth) == (count, count + 1)
        futures = [lanes.submit(waveforms(0)) for _ in range(2 * count)]
        assert all(future.result().embeddings.scene.shape == (2, 768) for future in futures)
    assert meeting.num_threads == [1] * (2 * count)
    assert torch.get_num_threads() == 3


class Blocked(Extractor):
    """An extractor that waits for permission, and counts its calls."""

    num_calls = 0

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint, device="cpu")
        self.may_go_on = threading.Event()

    def embed_and_time(self, waveforms: torch.Tensor) -> Timed:
        self.num_calls += 1
        self.may_go_on.wait(60)
        return super().embed_and_time(waveforms)


def test_lanes_left_by_an_error_drop_what_waits(tiny_checkpoint: Checkpoint) -> None:
    blocked = Blocked(tiny_checkpoint)
    futures = []

    def fill_and_fail() -> None:
        with Lanes(blocked) as lanes:
            futures.extend(lanes.submit(waveforms(0)) for _ in range(10 * lanes.count))
            threading.Timer(0.2, blocked.may_go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_and_fail()
    assert blocked.num_calls <= num_cores()
    assert futures[-1].cancelled()


def test_lanes_pass_errors_on(tiny_extractor: Extractor) -> None:
    with (
        Lanes(tiny_extractor) as lanes,
        pytest.raises(ValueError, match=r"expected \(B, num_samples\) float32"),
    ):
        lanes.submit(torch.zeros(3)).result()


def test_cores_are_shared_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    assert (default_num_workers("cpu"), default_num_lanes("cpu")) == (4, 16)
    assert (default_num_workers("cuda"), default_num_lanes("cuda")) == (16, 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2), raising=False)
    assert (default_num_workers("cpu"), default_num_lanes("cpu")) == (1, 2)


class OnTwo(Extractor):
    """An extractor that has a twin, as if there were two GPUs; lists which of them is used."""

    def __init__(
        self, checkpoint: Checkpoint, barrier: threading.Barrier, users: list[Extractor]
    ) -> None:
        super().__init__(checkpoint, device="cpu", precision="fp32")
        self.barrier, self.users = barrier, users

    def on_all_gpus(self) -> list[Extractor]:
        self.twin = OnTwo(self.checkpoint, self.barrier, self.users)
        return [self, self.twin]

    def embed_and_time(self, waveforms: torch.Tensor) -> Timed:
        self.barrier.wait(timeout=60)  # so that every lane is given one
        self.users.append(self)
        return super().embed_and_time(waveforms)


def test_lanes_share_all_devices(tiny_checkpoint: Checkpoint) -> None:
    num_lanes, users = default_num_lanes("cpu"), list[Extractor]()
    first = OnTwo(tiny_checkpoint, threading.Barrier(2 * num_lanes), users)
    with Lanes(first) as lanes:
        assert (lanes.num_devices, lanes.count) == (2, 2 * num_lanes)
        futures = [lanes.submit(waveforms(number)) for number in range(lanes.count)]
        found = [future.result().embeddings.scene for future in futures]
        assert users.count(first) == users.count(first.twin) == num_lanes
        first.twin.most_windows = 3
        assert lanes.most_windows == 3
    plain = Extractor(tiny_checkpoint, device="cpu", precision="fp32")
    for number, scene in enumerate(found):
        np.testing.assert_allclose(scene, plain(waveforms(number)).scene, atol=1e-5)
