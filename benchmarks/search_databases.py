"""What else answers "nearest, and with these tags": databases, which keep the tags themselves."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from search_data import DIMENSION, FILTERS, TAGS, THRESHOLD, Array
from search_peers import DEGREE, Peer, ladder

#: Points that are handed over at a time.
_UPSERT_ROWS = 1_000


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
            *((column_of(tag), arrow.float32()) for tag in range(len(TAGS))),
        ]
        fields.append(("vector", arrow.list_(arrow.float32(), DIMENSION)))
        schema = arrow.schema(fields)
        table = database.create_table("windows", self._batches(arrow, schema), schema=schema)
        table.create_index(
            metric="cosine",
            index_type="IVF_HNSW_SQ",
            num_partitions=1,  # quicker with a filter than many, and than IVF_SQ
            m=DEGREE,
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
        asked = self._table.search(vectors).limit(self._k).select(["row", "_distance"])
        return asked.nprobes(1).ef(effort)

    def query(self, vector: Array, number: int, effort: int) -> Array:
        asked = self._search(vector, effort)
        condition = _condition(number)
        if condition:
            asked = asked.where(condition, prefilter=True)
        return asked.to_arrow()["row"].to_numpy()

    def batch(self, vectors: Array, effort: int) -> None:
        self._search(vectors, effort).to_arrow()


class QdrantEdge(Peer):
    """A database in the process; the tags are fields of its points, each with an index."""

    module = "qdrant_edge"
    note = "prefilter on indexed fields; one thread for queries"
    knob = "ef"

    def files(self) -> list[Path]:
        return [self._file]

    def _build(self) -> None:
        self.forget()
        self._file.mkdir()
        qdrant = self._module
        shard = qdrant.EdgeShard.create(str(self._file), self._config())
        for tag in range(len(TAGS)):  # first: links that filters need are made for what is indexed
            field, kind = column_of(tag), qdrant.PayloadSchemaType.Float
            shard.update(qdrant.UpdateOperation.create_field_index(field, kind))
        for points in self._points():
            shard.update(qdrant.UpdateOperation.upsert_points(points))
        shard.optimize()
        shard.flush()
        shard.close()

    def _config(self) -> Any:
        qdrant = self._module
        return qdrant.EdgeConfig(
            vectors=qdrant.EdgeVectorParams(DIMENSION, qdrant.Distance.Dot),
            hnsw_config=qdrant.HnswIndexConfig(
                DEGREE,
                ef_construct=100,
                full_scan_threshold=10_000,  # its default, in kB
            ),
            optimizers=qdrant.EdgeOptimizersConfig(default_segment_number=1),
            max_search_threads=1,
        )

    def _points(self) -> Iterator[list[Any]]:
        names = [column_of(tag) for tag in range(len(TAGS))]
        for first, vectors, probabilities in self._data.blocks():
            rows = probabilities.T.astype(np.float32).tolist()
            fields = [dict(zip(names, row, strict=True)) for row in rows]
            for at in range(0, len(vectors), _UPSERT_ROWS):
                yield [
                    self._module.Point(first + row, vectors[row], fields[row])
                    for row in range(at, min(at + _UPSERT_ROWS, len(vectors)))
                ]

    def open(self) -> None:
        self._shard = self._module.EdgeShard.load(str(self._file), self._config())

    def efforts(self, share: float) -> Sequence[int]:
        return ladder(16, min(1 << 13, self._data.num_windows))

    def _filter(self, number: int) -> Any:
        condition, qdrant = FILTERS[number], self._module
        if not condition.terms:
            return None
        heard = qdrant.RangeFloat(gte=THRESHOLD)
        all_of, any_of, none_of = (
            [qdrant.FieldCondition(column_of(tag), range=heard) for tag in tags] or None
            for tags in condition[1:]
        )
        return qdrant.Filter(must=all_of, should=any_of, must_not=none_of)

    def _request(self, vector: Array, number: int, effort: int) -> Any:
        return self._module.QueryRequest(
            self._k,
            query=self._module.Query.Nearest(vector),
            filter=self._filter(number),
            params=self._module.SearchParams(hnsw_ef=effort),
        )

    def query(self, vector: Array, number: int, effort: int) -> Array:
        found = self._shard.query(self._request(vector, number, effort))
        return np.array([point.id for point in found], np.int64)

    def batch(self, vectors: Array, effort: int) -> None:
        requests = [self._request(vector, 0, effort) for vector in vectors]
        self._shard.query_batch(self._module.QueryBatchRequest(requests))


def column_of(tag: int) -> str:
    return f"tag{tag}"


def _condition(number: int) -> str:
    """Return a filter in SQL."""
    condition = FILTERS[number]
    parts = [f"{column_of(tag)} >= {THRESHOLD}" for tag in condition.all_of]
    if condition.any_of:
        choices = " OR ".join(f"{column_of(tag)} >= {THRESHOLD}" for tag in condition.any_of)
        parts.append(f"({choices})")
    parts += [f"{column_of(tag)} < {THRESHOLD}" for tag in condition.none_of]
    return " AND ".join(parts)
