"""Learning two networks that put a sound near its captions: the part with PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from indexer.arrays import Float32, Float64, Integers
from indexer.progress import Listen, Step
from search.projection.config import Training
from search.projection.pairs import Pairs
from search.projection.projecting import Tower

#: Between the two layers.
_HIDDEN = 512
_DROPOUT = 0.2
_WEIGHT_DECAY = 1e-2
#: Epochs without a lower loss on the validation split, after which training stops.
PATIENCE = 10
#: Captions of the validation split whose loss is computed at a time.
_VAL_CAPTIONS = 1024
#: Vectors that are widened at a time.
_BLOCK = 256


class Learnt(NamedTuple):
    """What came of training.

    Attributes:
        audio: For sounds.
        text: For captions.
        best_epoch: After which of the epochs they were as they are; 0 for the random start.
        num_epochs: How many there were.
        losses: On the validation split: before the first epoch, and after each.
    """

    audio: Tower
    text: Tower
    best_epoch: int
    num_epochs: int
    losses: tuple[float, ...]


class _Batches(NamedTuple):
    """Captions and sounds as tensors, and what tells which captions say the same."""

    audio: Tensor
    text: Tensor
    owners: Tensor
    sayings: Tensor

    @classmethod
    def of(cls, pairs: Pairs) -> _Batches:
        return cls(
            torch.from_numpy(pairs.audio),
            torch.from_numpy(np.ascontiguousarray(pairs.text)),
            torch.from_numpy(pairs.owners),
            torch.from_numpy(sayings(pairs.text)),
        )


def sayings(text: Float32) -> Integers:
    """Return (m,) the same number for captions with the same vector."""
    numbers: dict[bytes, int] = {}
    digests = (hashlib.sha256(np.ascontiguousarray(row).data).digest() for row in text)
    return np.array([numbers.setdefault(one, len(numbers)) for one in digests], np.int64)


def learn(train: Pairs, val: Pairs, how: Training, listen: Listen) -> Learnt:
    """Train both networks, and return those with the least loss on the validation split.

    On one core, so that the same seed gives the same numbers whatever else the machine does: the
    networks are so small that more of them wait for each other most of the time.

    Args:
        train: What is learnt.
        val: What says when to stop.
        how: All that shapes the numbers.
        listen: Hears of every epoch, as the step "training".
    """
    with torch.random.fork_rng(devices=[]), _one_core():
        torch.manual_seed(how.seed)
        audio, text = _network(train.audio, how.dim), _network(train.text, how.dim)
        optimiser = torch.optim.AdamW(
            [*audio.parameters(), *text.parameters()],
            lr=how.learning_rate,
            weight_decay=_WEIGHT_DECAY,
        )
        shown, held = _Batches.of(train), _Batches.of(val)
        losses = [_loss_on(held, audio, text, how)]
        best, best_epoch = _states(audio, text), 0
        for epoch in range(1, how.epochs + 1):
            audio.train(), text.train()
            for at in _shuffled(len(shown.owners), how.batch_size):
                optimiser.zero_grad()
                _loss(shown, at, audio, text, how.temperature).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            losses.append(_loss_on(held, audio, text, how))
            if losses[-1] < min(losses[:-1]):
                best, best_epoch = _states(audio, text), epoch
            listen(Step("training", epoch, how.epochs, "epoch"))
            if epoch - best_epoch >= PATIENCE:
                break
    return Learnt(_tower(best[0]), _tower(best[1]), best_epoch, len(losses) - 1, tuple(losses))


@contextmanager
def _one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Standardised(nn.Module):
    """Takes away the mean of what is trained on, and divides by its deviation."""

    mean: Tensor
    scale: Tensor

    def __init__(self, vectors: Float32) -> None:
        super().__init__()
        mean = _mean(vectors, lambda block: block)
        deviation = np.sqrt(_mean(vectors, lambda block: np.square(block - mean)))
        scale = np.where(deviation > 0, 1 / np.maximum(deviation, np.finfo(np.float32).tiny), 0)
        self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))

    def forward(self, vectors: Tensor) -> Tensor:
        return (vectors - self.mean) * self.scale


def _mean(vectors: Float32, of: Callable[[Float64], Float64]) -> Float64:
    """Return the mean of something over all vectors, which are widened block by block."""
    blocks = (vectors[at : at + _BLOCK] for at in range(0, len(vectors), _BLOCK))
    sums = (of(block.astype(np.float64)).sum(0) for block in blocks)
    total: Float64 = sum(sums, np.zeros(vectors.shape[1]))
    return total / len(vectors)


def _network(vectors: Float32, dim: int) -> nn.Sequential:
    return nn.Sequential(
        _Standardised(vectors),
        nn.Linear(vectors.shape[1], _HIDDEN),
        nn.ReLU(),
        nn.Dropout(_DROPOUT),
        nn.Linear(_HIDDEN, dim),
    )


def _shuffled(number: int, batch_size: int) -> Iterator[Tensor]:
    """Yield all captions once, in any order; one alone is told apart from nothing."""
    order = torch.randperm(number)
    yield from (at for at in torch.split(order, batch_size) if len(at) > 1)


def _loss_on(held: _Batches, audio: nn.Module, text: nn.Module, how: Training) -> float:
    """Return the mean loss over a split, in blocks that are the same every time."""
    audio.eval(), text.eval()
    order = torch.from_numpy(np.random.default_rng(how.seed).permutation(len(held.owners)))
    total = 0.0
    with torch.no_grad():
        for at in torch.split(order, _VAL_CAPTIONS):
            total += float(_loss(held, at, audio, text, how.temperature)) * len(at)
    return total / len(order)


def _loss(
    batch: _Batches, at: Tensor, audio: nn.Module, text: nn.Module, temperature: float
) -> Tensor:
    """Return NT-Xent of some captions and their sounds, in both directions.

    Other captions of the same sound, and the same words about another sound, are no negatives.
    """
    owners, said = batch.owners[at], batch.sayings[at]
    sounds = functional.normalize(audio(batch.audio[owners]), dim=1)
    texts = functional.normalize(text(batch.text[at]), dim=1)
    is_right = (owners[:, None] == owners) | (said[:, None] == said)
    is_right.fill_diagonal_(0)
    scores = (texts @ sounds.T / temperature).masked_fill(is_right, -torch.inf)
    own = torch.arange(len(at))
    both = functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)
    return both / 2


def _states(*networks: nn.Module) -> list[dict[str, Tensor]]:
    return [{name: tensor.clone() for name, tensor in one.state_dict().items()} for one in networks]


def _tower(state: dict[str, Tensor]) -> Tower:
    names = ("0.mean", "0.scale", "1.weight", "1.bias", "4.weight", "4.bias")
    return Tower(*(state[name].numpy() for name in names))
