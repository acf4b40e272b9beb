"""What else answers "nearest, and with these tags", each used as its documentation says.

All know the same: the vectors, and the probabilities of the tags. What a library does not filter by
itself, its user computes: a mask of the rows from float32 columns held in memory, as the first step
of each query. A library is imported when it is used, so that each process holds one.
"""

from __future__ import annotations

import importlib
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from search_data import DIMENSION, FILTERS, TAGS, THRESHOLD, Array, Data, K

_DEGREE = 16


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

    def prepare(self) -> None:
        """Load what is not the engine's own, before its memory is measured."""
        self._module = importlib.import_module(self.module)

    def build(self) -> dict[str, float]:
        self.prepare()
        began = perf_counter()
        self._build()
        return {"build_s": perf_counter() - began}

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
        self._columns = self._data.probabilities.astype(np.float32)

    def _mask(self, number: int) -> Array | None:
        return FILTERS[number].mask(self._columns) if FILTERS[number].terms else None

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
        return self._index.search(vector[None], K, params=how)[1][0]

    def batch(self, vectors: Array, effort: int) -> None:
        self._index.search(vectors, K, params=self._parameters(effort, None))

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
        index = self._module.IndexHNSWSQ(DIMENSION, quantiser, _DEGREE, metric)
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


class Hnswlib(Peer):
    """Its filter is a Python function that is called for each row that a search comes across."""

    module = "hnswlib"
    note = "filter: a function called for each row on the way; the mask's own lookup is given"
    knob = "ef"

    def _build(self) -> None:
        index = self._module.Index("ip", DIMENSION)
        index.init_index(self._data.num_windows, ef_construction=100, M=_DEGREE)
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
            return self._index.knn_query(vector, K, num_threads=1)[0][0]
        is_allowed = mask.tobytes().__getitem__  # the quickest function that there is
        num_wanted = min(K, int(np.count_nonzero(mask)))
        try:
            return self._index.knn_query(vector, num_wanted, num_threads=1, filter=is_allowed)[0][0]
        except RuntimeError:  # what it says if it comes across too few
            return np.empty(0, np.int64)

    def batch(self, vectors: Array, effort: int) -> None:
        self._index.set_ef(effort)
        self._index.knn_query(vectors, K)


class Usearch(Peer):
    """Its Python interface has no filter: more are fetched, until enough of them match."""

    module = "usearch.index"
    note = "no filter in Python: fetches 1.5 k / share, then 4 times as many until k match"
    knob = "expansion"

    def _build(self) -> None:
        index = self._module.Index(
            ndim=DIMENSION, metric="ip", dtype="f16", connectivity=_DEGREE, expansion_add=100
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
            return self._index.search(vector, K).keys.astype(np.int64)
        num_matching, num_rows = int(np.count_nonzero(mask)), len(mask)
        count = min(num_rows, math.ceil(1.5 * K * num_rows / max(1, num_matching)))
        while True:
            found = self._index.search(vector, count).keys.astype(np.int64)
            matching = found[mask[found]][:K]
            if len(matching) >= min(K, num_matching) or count == num_rows:
                return matching
            count = min(num_rows, 4 * count)

    def batch(self, vectors: Array, effort: int) -> None:
        self._index.expansion_search = effort
        self._index.search(vectors, K)


class LanceDb(Peer):
    """A database of vectors in files; the tags are columns of its table."""

    module = "lancedb"
    note = "prefilter on float32 columns; indexes of these did not make it quicker"
    knob = "ef"

    def prepare(self) -> None:
        os.environ.setdefault("RUST_LOG", "error")  # it warns of the same thing at every query
        warnings.simplefilter("ignore")
        super().prepare()

    def files(self) -> list[Path]:
        return [self._file]

    def _build(self) -> None:
        self.forget()
        database = self._module.connect(str(self._file))
        arrow = importlib.import_module("pyarrow")
        fields = [
            ("row", arrow.int64()),
            *((_column(tag), arrow.float32()) for tag in range(len(TAGS))),
        ]
        fields.append(("vector", arrow.list_(arrow.float32(), DIMENSION)))
        schema = arrow.schema(fields)
        table = database.create_table("windows", self._batches(arrow, schema), schema=schema)
        table.create_index(
            metric="cosine",
            index_type="IVF_HNSW_SQ",
            num_partitions=1,  # quicker with a filter than many, and than IVF_SQ
            m=_DEGREE,
            ef_construction=100,
            vector_column_name="vector",
        )

    def _batches(self, arrow: Any, schema: Any) -> Iterator[Any]:
        for first, vectors, probabilities in self._data.blocks():
            rows = arrow.array(np.arange(first, first + len(vectors)))
            columns = [arrow.array(column.astype(np.float32)) for column in probabilities]
            flat = arrow.array(vectors.ravel())
            lists = arrow.FixedSizeListArray.from_arrays(flat, DIMENSION)
            yield arrow.RecordBatch.from_arrays([rows, *columns, lists], schema=schema)

    def open(self) -> None:
        self._table = self._module.connect(str(self._file)).open_table("windows")

    def efforts(self, share: float) -> Sequence[int]:
        return ladder(16, min(1 << 13, self._data.num_windows))

    def _search(self, vectors: Array, effort: int) -> Any:
        asked = self._table.search(vectors).limit(K).select(["row", "_distance"])
        return asked.nprobes(1).ef(effort)

    def query(self, vector: Array, number: int, effort: int) -> Array:
        asked = self._search(vector, effort)
        condition = _condition(number)
        if condition:
            asked = asked.where(condition, prefilter=True)
        return asked.to_arrow()["row"].to_numpy()

    def batch(self, vectors: Array, effort: int) -> None:
        self._search(vectors, effort).to_arrow()


def _column(tag: int) -> str:
    return f"tag{tag}"


def _condition(number: int) -> str:
    """Return a filter in SQL."""
    condition = FILTERS[number]
    parts = [f"{_column(tag)} >= {THRESHOLD}" for tag in condition.all_of]
    if condition.any_of:
        choices = " OR ".join(f"{_column(tag)} >= {THRESHOLD}" for tag in condition.any_of)
        parts.append(f"({choices})")
    parts += [f"{_column(tag)} < {THRESHOLD}" for tag in condition.none_of]
    return " AND ".join(parts)
