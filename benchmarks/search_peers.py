"""What else answers "nearest, and with these tags", each used as its documentation says: libraries.

`search_databases.py` has those that keep the tags themselves.

All know the same: the vectors, and the probabilities of the tags. What a library does not filter by
itself, its user computes: a mask of the rows, as the first step of each query. It is made of a byte
for each tag and row, which NumPy compares quickest.
"""

from __future__ import annotations

import importlib
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from search_data import DIMENSION, FILTERS, THRESHOLD, Array, Data

DEGREE = 16
#: Steps of a probability in a byte. The threshold is one of them, so that nothing is rounded.
_CODE_STEPS = 256
_HEARD_CODE = np.uint8(THRESHOLD * _CODE_STEPS)


def build_cost(act: Callable[[], object]) -> dict[str, float]:
    """Return seconds of the clock, and of the processor with those of child processes."""
    began, cpu_began = perf_counter(), sum(os.times()[:4])
    act()
    return {"build_s": perf_counter() - began, "build_cpu_s": sum(os.times()[:4]) - cpu_began}


def ladder(first: int, last: int) -> list[int]:
    """Return efforts from first to last, each about 1.4 times the one before."""
    steps = math.ceil(2 * math.log2(max(1, last / first)))
    return sorted({min(last, round(first * 2 ** (step / 2))) for step in range(steps + 1)})


class Peer:
    """What they share. `effort` is whatever a peer's knob is; `note` says how it filters."""

    module = ""
    note = ""
    knob = ""

    def __init__(self, folder: Path, data: Data) -> None:
        self._file = folder / "index"
        self._data = data
        self._k = data.k

    def prepare(self) -> None:
        """Load what is not the engine's own, before its memory is measured."""
        self._module = importlib.import_module(self.module)

    def write(self) -> None:
        """Write what the index is built from: nothing, as that is the data itself."""

    def build(self) -> dict[str, float]:
        self.prepare()
        return build_cost(self._build)

    def _build(self) -> None:
        raise NotImplementedError

    def forget(self) -> None:
        """Delete the index."""
        if self._file.is_dir():
            shutil.rmtree(self._file)
        else:
            self._file.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        return [self._file, self._data.folder / "probabilities.npy"]

    def _load_columns(self) -> None:
        codes = self._data.probabilities.astype(np.float32) * _CODE_STEPS
        self._columns = np.minimum(codes, _CODE_STEPS - 1).astype(np.uint8)

    def _mask(self, number: int) -> Array | None:
        return FILTERS[number].mask(self._columns, _HEARD_CODE) if FILTERS[number].terms else None

    def rows(self, answer: Array) -> Array:
        return answer

    def plan(self, answer: Any, effort: Any) -> str:
        return f"{self.knob} {effort}"


class Faiss(Peer):
    """Bare FAISS, with a bitmap of the rows that may be found."""

    module = "faiss"
    note = "selector: a bitmap made from the columns"

    def open(self) -> None:
        self._index = self._module.read_index(str(self._file))
        self._load_columns()

    def _selector(self, number: int) -> Any:
        mask = self._mask(number)
        if mask is None:
            return None
        return self._module.IDSelectorBitmap(np.packbits(mask, bitorder="little"))

    def query(self, vector: Array, number: int, effort: int) -> Array:
        how = self._parameters(effort, self._selector(number))
        return self._index.search(vector[None], self._k, params=how)[1][0]

    def batch(self, vectors: Array, effort: int) -> None:
        self._index.search(vectors, self._k, params=self._parameters(effort, None))

    def _parameters(self, effort: int, selector: Any) -> Any:
        raise NotImplementedError

    def _fill(self, index: Any) -> None:
        for _, vectors, _ in self._data.blocks():
            index.add(vectors)
        self._module.write_index(index, str(self._file))

    def _sample(self, num_rows: int) -> Array:
        total = self._data.num_windows
        chosen = np.random.default_rng(0).choice(total, min(num_rows, total), replace=False)
        return self._data.vectors[np.sort(chosen)]


class FaissHnsw(Faiss):
    knob = "efSearch"

    def _build(self) -> None:
        quantiser, metric = self._module.ScalarQuantizer.QT_8bit, self._module.METRIC_INNER_PRODUCT
        index = self._module.IndexHNSWSQ(DIMENSION, quantiser, DEGREE, metric)
        index.hnsw.efConstruction = 64
        index.train(self._sample(100_000))
        self._fill(index)

    def efforts(self, share: float) -> Sequence[int]:
        return ladder(16, min(1 << 15, self._data.num_windows))

    def _parameters(self, effort: int, selector: Any) -> Any:
        return self._module.SearchParametersHNSW(efSearch=effort, sel=selector)


class FaissIvf(Faiss):
    knob = "nprobe"

    @property
    def _num_lists(self) -> int:
        return round(4 * math.sqrt(self._data.num_windows))

    def _build(self) -> None:
        quantiser, metric = self._module.ScalarQuantizer.QT_8bit, self._module.METRIC_INNER_PRODUCT
        centres = self._module.IndexFlatIP(DIMENSION)
        index = self._module.IndexIVFScalarQuantizer(
            centres, DIMENSION, self._num_lists, quantiser, metric
        )
        per_list = 64  # enough for a centre, and a quarter of the time of the default
        index.cp.max_points_per_centroid = per_list
        index.train(self._sample(per_list * self._num_lists))
        self._fill(index)

    def efforts(self, share: float) -> Sequence[int]:
        return ladder(1, self._num_lists)

    def _parameters(self, effort: int, selector: Any) -> Any:
        return self._module.SearchParametersIVF(nprobe=effort, sel=selector)


class FaissIvfExact(FaissIvf):
    """Bytes rank nearly right, so that more than ten are taken, and scored again exactly."""

    note = "selector: a bitmap made from the columns; candidates scored again from float32 vectors"
    knob = "nprobe, candidates"

    def open(self) -> None:
        super().open()
        self._vectors = np.asarray(self._data.vectors)  # still of the file, without `memmap`'s cost

    def files(self) -> list[Path]:
        return [*super().files(), self._data.folder / "vectors.npy"]

    def efforts(self, share: float) -> Sequence[tuple[int, int]]:
        counts = (2 * self._k, 5 * self._k, 10 * self._k)
        return [(nprobe, count) for nprobe in ladder(1, self._num_lists) for count in counts]

    def query(self, vector: Array, number: int, effort: tuple[int, int]) -> Array:
        nprobe, num_candidates = effort
        how = self._parameters(nprobe, self._selector(number))
        rows = self._index.search(vector[None], num_candidates, params=how)[1][0]
        rows = rows[rows >= 0]
        return rows[np.argsort(-(self._vectors[rows] @ vector))[: self._k]]

    def batch(self, vectors: Array, effort: tuple[int, int]) -> None:
        nprobe, num_candidates = effort
        how = self._parameters(nprobe, None)
        found = self._index.search(vectors, num_candidates, params=how)[1]
        for vector, rows in zip(vectors, found, strict=True):
            np.argsort(-(self._vectors[rows] @ vector))[: self._k]


class Hnswlib(Peer):
    """Its filter is a Python function that is called for each row that a search comes across."""

    module = "hnswlib"
    note = "filter: a function called for each row on the way; the mask's own lookup is given"
    knob = "ef"

    def _build(self) -> None:
        index = self._module.Index("ip", DIMENSION)
        index.init_index(self._data.num_windows, ef_construction=100, M=DEGREE)
        for first, vectors, _ in self._data.blocks():
            index.add_items(vectors, np.arange(first, first + len(vectors)))
        index.save_index(str(self._file))

    def open(self) -> None:
        self._index = self._module.Index("ip", DIMENSION)
        self._index.load_index(str(self._file))
        self._load_columns()

    def efforts(self, share: float) -> Sequence[int]:
        return ladder(16, min(1 << 13, self._data.num_windows))

    def query(self, vector: Array, number: int, effort: int) -> Array:
        self._index.set_ef(effort)
        mask = self._mask(number)
        if mask is None:
            return self._index.knn_query(vector, self._k, num_threads=1)[0][0]
        is_allowed = mask.tobytes().__getitem__  # the quickest function that there is
        num_wanted = min(self._k, int(np.count_nonzero(mask)))
        try:
            return self._index.knn_query(vector, num_wanted, num_threads=1, filter=is_allowed)[0][0]
        except RuntimeError:  # what it says if it comes across too few
            return np.empty(0, np.int64)

    def batch(self, vectors: Array, effort: int) -> None:
        self._index.set_ef(effort)
        self._index.knn_query(vectors, self._k)


class Usearch(Peer):
    """Its Python interface has no filter: more are fetched, until enough of them match."""

    module = "usearch.index"
    note = "no filter in Python: fetches 1.5 k / share, then 4 times as many until k match"
    knob = "expansion"

    def _build(self) -> None:
        index = self._module.Index(
            ndim=DIMENSION, metric="ip", dtype="f16", connectivity=DEGREE, expansion_add=100
        )
        for first, vectors, _ in self._data.blocks():
            index.add(np.arange(first, first + len(vectors)), vectors)
        index.save(str(self._file))

    def open(self) -> None:
        self._index = self._module.Index.restore(str(self._file))
        self._load_columns()

    def efforts(self, share: float) -> Sequence[int]:
        return ladder(16, min(1 << 13, self._data.num_windows))

    def query(self, vector: Array, number: int, effort: int) -> Array:
        self._index.expansion_search = effort
        mask = self._mask(number)
        if mask is None:
            return self._index.search(vector, self._k).keys.astype(np.int64)
        num_matching, num_rows = int(np.count_nonzero(mask)), len(mask)
        count = min(num_rows, math.ceil(1.5 * self._k * num_rows / max(1, num_matching)))
        while True:
            found = self._index.search(vector, count).keys.astype(np.int64)
            matching = found[mask[found]][: self._k]
            if len(matching) >= min(self._k, num_matching) or count == num_rows:
                return matching
            count = min(num_rows, 4 * count)

    def batch(self, vectors: Array, effort: int) -> None:
        self._index.expansion_search = effort
        self._index.search(vectors, self._k)
