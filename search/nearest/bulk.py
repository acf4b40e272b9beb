"""Rows on a GPU: what is near to many vectors, by products of matrices in PyTorch.

It only proposes. Whatever the device, scores come from `score_pairs`, and a bound on the rounding
says whether a row that was not proposed might have a better one. On a CPU this took 1.05 to 1.3
times as long as NumPy (`exact`): there it is for tests.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.arrays import Float32, Integers, Mask
from indexer.embedding.devices import choose_device
from indexer.errors import SoundalikeWarning
from indexer.store.schema import EMBEDDING_DIM
from search.generation.segments import Generation, Segment
from search.nearest.exact import ROUNDING

#: Rows fetched beyond k, so that the boundary can be seen. Here more cost nothing.
_MARGIN = 54
#: Rows that are multiplied at a time, at most: 135 MB of scenes and tags and, for 1024 vectors, as
#: much of products. All of it takes below 1 GB.
BLOCK_ROWS = 1 << 15
#: A device that has no memory for the products of so many is left alone.
LEAST_ROWS = 1 << 11
#: Of the memory of a GPU, this share stays free of rows that are kept on it.
_SPARE = 0.5
#: One at a time: memory is bounded, and the precision of products is a setting of the process.
_lock = Lock()


class DeviceRows:
    """The rows of a generation, as a device multiplies them.

    Segments stay on the device once they were asked, 4.1 KB a row, as long as half of its memory is
    free. Others are copied anew for each call, by way of two page-locked blocks of 100 MB.
    """

    def __init__(self, generation: Generation, device: torch.device) -> None:
        self._device = device
        self._generation = generation
        self._block_rows = BLOCK_ROWS
        self._kept: dict[tuple[int, str], Tensor] = {}
        self._stage: _Stage | None = None

    def find_near_each(
        self, vectors: Float32, k: int, masks: Sequence[Mask]
    ) -> tuple[Integers, Mask] | None:
        """Find rows that may be among the k nearest to each vector, by the products of all rows.

        Args:
            vectors: (n, 768) float32 of length 1, or (n, 1295) of `blended`.
            k: How many rows are wanted, at least 1.
            masks: A (num_rows,) mask for each segment: which rows may be found.

        Returns:
            (n, m) rows, -1 where there is none; and (n,) for which vectors others may be as near.
            None, after a warning, if the device cannot.
        """
        with _lock, _true_float32():
            while self._block_rows >= LEAST_ROWS:
                try:
                    return self._find(vectors, k, masks)
                except torch.OutOfMemoryError:
                    reason = "its memory is full"
                except RuntimeError as error:  # of CUDA, which may be unwell for good
                    reason = str(error).strip().partition("\n")[0]
                    self._block_rows = 0
                self._block_rows //= 2
                self._release()
        told = f"the GPU does not look for what is near: {reason}. The CPU does so instead"
        warnings.warn(SoundalikeWarning(told), stacklevel=2)
        return None

    @torch.inference_mode()
    def _find(self, vectors: Float32, k: int, masks: Sequence[Mask]) -> tuple[Integers, Mask]:
        asked = torch.tensor(vectors, device=self._device)
        wide = k + _MARGIN
        best = torch.full((len(vectors), wide), -torch.inf, device=self._device)
        rows = torch.full((len(vectors), wide), -1, dtype=torch.int64, device=self._device)
        for start, segment, at in self._blocks(masks):
            near = self._multiply(asked, start, segment, at)
            near, column = near.topk(min(wide, len(at)), sorted=False)
            names = torch.from_numpy(start + at).to(self._device)
            near = torch.cat([best, near], 1)
            best, column_of_both = near.topk(wide)
            rows = torch.cat([rows, names[column]], 1).gather(1, column_of_both)
        near_of, rows_of = best.cpu().numpy(), rows.cpu().numpy()
        # Each number of a scene may cost a rounding of 2^-24; of the roots each costs one, and as
        # many again have what they are divided by here and in NumPy: 768 or 1061, which is less.
        bound = near_of[:, k - 1 : k] - 2 * ROUNDING
        is_near = (near_of >= bound) & (near_of > -np.inf)
        most = int(is_near.sum(1).max(initial=0))
        return np.where(is_near, rows_of, -1)[:, :most], is_near[:, -1]

    def _blocks(self, masks: Sequence[Mask]) -> Iterator[tuple[int, Segment, Integers]]:
        """Yield (first row, segment, some of its rows that may be found)."""
        rows = self._generation
        for start, segment, mask in zip(rows.starts.tolist(), rows.segments, masks, strict=False):
            at = np.flatnonzero(mask)
            for first in range(0, len(at), self._block_rows):
                yield start, segment, at[first : first + self._block_rows]

    def _multiply(self, asked: Tensor, start: int, segment: Segment, at: Integers) -> Tensor:
        """Return (q, n) float32 products of vectors with some rows; -inf for what is no number."""
        scenes = self._take(start, "vectors", segment.vectors, at)
        num_columns = scenes.shape[1]
        near = asked[:, :num_columns] @ scenes.T
        if asked.shape[1] > num_columns:
            roots = self._take(start, "tags", segment.tags, at).float().sqrt_()
            lengths = roots.square().sum(1, keepdim=True).sqrt_()
            roots /= torch.where(lengths > 0, lengths, 1)
            near += asked[:, num_columns:] @ roots.T
        return near.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)

    def _take(self, start: int, name: str, column: npt.NDArray[Any], at: Integers) -> Tensor:
        """Return some rows of a segment's column on the device: where they are, or copied."""
        self._stage = self._stage or _Stage(self._device, self._block_rows)
        kept = self._kept.get((start, name))
        if kept is None and column.nbytes <= room_bytes(self._device):
            kept = self._kept[start, name] = self._stage.copy(column, np.arange(len(column)))
        here = torch.from_numpy(at).to(self._device)
        return self._stage.copy(column, at) if kept is None else kept[here]

    def _release(self) -> None:
        """Give back what the device and the host hold."""
        self._kept.clear()
        self._stage = None
        with suppress(RuntimeError):  # as whatever is asked of a GPU that is unwell
            torch.cuda.empty_cache()


class _Stage:
    """Two blocks of the host by turns: while one goes to the device, the other is filled."""

    def __init__(self, device: torch.device, num_rows: int) -> None:
        self._device, self._num_rows = device, num_rows
        size = 4 * EMBEDDING_DIM * num_rows
        self._blocks = [torch.empty(size, dtype=torch.uint8) for _ in range(2)]
        if device.type == "cuda":
            with suppress(RuntimeError):  # where the system does not allow it, it takes longer
                self._blocks = [block.pin_memory() for block in self._blocks]
        self._copied: list[Any] = [None, None]

    def copy(self, column: npt.NDArray[Any], at: Integers) -> Tensor:
        """Return some rows of a column on the device."""
        dtype = torch.float16 if column.dtype == np.float16 else torch.float32
        target = torch.empty((len(at), column.shape[1]), dtype=dtype, device=self._device)
        for first in range(0, len(at), self._num_rows):
            some = at[first : first + self._num_rows]
            part = target[first : first + self._num_rows]
            staged = self._next(part)
            column.take(some, axis=0, out=staged.numpy(), mode="clip")  # "raise" copies once more
            part.copy_(staged, non_blocking=True)
            if self._device.type == "cuda":
                self._copied[0] = torch.cuda.current_stream(self._device).record_event()
        return target

    def _next(self, like: Tensor) -> Tensor:
        """Return the other block, in the form of some rows, once it has been copied."""
        self._blocks.reverse()
        self._copied.reverse()
        if self._copied[0]:
            self._copied[0].synchronize()
        return self._blocks[0][: like.nbytes].view(like.dtype).view(like.shape)


def open_rows(generation: Generation) -> DeviceRows | None:
    """Return the rows as the first GPU has them; None, after a warning, if it cannot be used."""
    device = choose_device("auto")
    return None if device.type == "cpu" else DeviceRows(generation, device)


def room_bytes(device: torch.device) -> int:
    """Return how much may still be kept on a device."""
    if device.type == "cpu":
        return 0
    free, whole = torch.cuda.mem_get_info(device)
    return int(free - _SPARE * whole)


@contextmanager
def _true_float32() -> Iterator[None]:
    """Keep a GPU from rounding float32 to TF32 in products, whatever the program has set."""
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before
