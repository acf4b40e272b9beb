"""When a GPU answers many questions: as soon as the time it saves repays its start.

Callers ask in blocks, and nobody says how many are still to come. So what a GPU would have saved is
added up, question by question, until it is as much as the start takes; from then on it answers.
That takes at most twice the time of one who had known. Time is reckoned here, not measured, so that
the same questions in the same order are answered in the same way.

PyTorch is imported when the GPU is to answer, and not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from indexer.arrays import Float32, Integers, Mask
from indexer.embedding.cores import has_gpu, num_cores
from search.generation.segments import Generation
from search.nearest.exact import MARGIN
from search.nearest.plan import Plan
from search.nearest.scan import SCAN_NS

if TYPE_CHECKING:  # it imports PyTorch
    from search.nearest.bulk import DeviceRows

#: Seconds to import PyTorch and begin with CUDA. An estimate, as are the two below: no machine with
#: a GPU has measured them, `benchmarks/on_gpu.py --only many` will. The import took 4 s on a CPU.
START_S = 10.0
#: Rows that are copied to a GPU in a second: 4 GB. Estimated.
_COPIED_ROWS = 1e6
#: Multiplications and additions in a second, with the choice of the best: a small GPU. Estimated.
_GPU_FLOPS = 1e13
#: The same for a core, measured with AVX-512: 1024 vectors and 50,000 rows, 19 ns for each pair
#: by scenes, 32 by the blend.
_CORE_FLOPS = 8e10
#: Seconds to score a candidate again, measured by the blend; by scenes a third.
_SCORE_S = 7e-6
#: Seconds to ask the sketches, beside what they scan.
_ASK_S = 3e-4


class Gpu:
    """A GPU that may answer, if there is one.

    Attributes:
        saved_s: Seconds that it would have saved so far.
    """

    def __init__(
        self,
        generation: Generation,
        rows: DeviceRows | None = None,
        *,
        is_there: bool | None = None,
    ) -> None:
        """Begin with nothing.

        Args:
            generation: The rows.
            rows: As a device has them already.
            is_there: Whether there is one; None to look, once it would be quicker.
        """
        self._generation, self._rows, self._is_there = generation, rows, is_there
        self.saved_s = 0.0

    def takes(self, plan: Plan, shape: tuple[int, int], k: int, num_allowed: int) -> bool:
        """Whether it answers some questions.

        Args:
            plan: What the CPU would do.
            shape: (number of vectors, numbers of each).
            k: How many rows for each.
            num_allowed: Rows that may be found.
        """
        saved_s = _cpu_s(plan, shape, k, num_allowed) - _gpu_s(shape, k, num_allowed)
        if saved_s <= 0 or self._is_there is False:
            return False
        self.saved_s += saved_s
        if self._rows is None and self.saved_s > START_S + num_allowed / _COPIED_ROWS:
            self._begin()
        return self._rows is not None

    def find_near_each(
        self, vectors: Float32, k: int, masks: Sequence[Mask]
    ) -> tuple[Integers, Mask] | None:
        """As `DeviceRows.find_near_each`; None from then on when it has failed."""
        rows = self._rows
        found = rows.find_near_each(vectors, k, masks) if rows else None
        if found is None:
            self._is_there, self._rows = False, None
        return found

    def _begin(self) -> None:
        self._is_there = has_gpu()
        if self._is_there:
            from search.nearest.bulk import open_rows  # noqa: PLC0415 - PyTorch takes seconds

            self._rows = open_rows(self._generation)
            self._is_there = self._rows is not None


def _cpu_s(plan: Plan, shape: tuple[int, int], k: int, num_allowed: int) -> float:
    number, width = shape
    if plan.is_exact:
        return number * (
            2 * width * num_allowed / (_CORE_FLOPS * num_cores()) + (k + MARGIN) * _SCORE_S
        )
    scanned_s = (_ASK_S + plan.num_scanned * SCAN_NS * 1e-9) / num_cores()
    return number * (scanned_s + plan.num_scored * _SCORE_S)


def _gpu_s(shape: tuple[int, int], k: int, num_allowed: int) -> float:
    number, width = shape
    # It leaves out what cannot be among the k.
    return number * (2 * width * num_allowed / _GPU_FLOPS + k * _SCORE_S)
