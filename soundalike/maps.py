"""Maps of what stores hold, for stores that are open."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from indexer.errors import OutputError, QueryError
from indexer.paths import as_path
from indexer.windows import SAMPLE_RATE_HZ
from search.asking.shades import By, Shades, shade_by_folder, shade_by_tag, shade_by_time
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.export.cells import path_cells
from search.filters.computed import ComputedTerm
from search.filters.selected import Selected
from search.filters.tags import LEARNED_PREFIX, SELECTED_PREFIX, Learned, TagFilter
from search.map.drawing import Map, draw_map
from search.output import require_file, writing
from soundalike.filling import StorePath
from soundalike.stores import Stores

_ENDINGS = (".png", ".csv", ".parquet")


class Maps(Stores):
    """Stores of whose sounds a map can be drawn."""

    def map(
        self, *, anew: bool = False, output: StorePath | None = None, force: bool = False
    ) -> Map:
        """Return a map of all windows: like by like, in regions that have names.

        It is drawn once and kept with the first store; new windows are then placed on it, and what
        is on it stays where it is. See `search.map.drawing.draw_map`.

        Args:
            anew: Whether it is drawn anew, so that everything lies elsewhere.
            output: A picture, .png; or a table, .csv or .parquet, with a row for each window:
                window_id, path, start_s, x, y, cluster (its region's number) and tags (the region's
                name). None for neither.
            force: Whether a file that is there is replaced.

        Raises:
            QueryError: If there are too few windows for a map.
            OutputError: If the file is there already, or cannot be written, or its name says no
                format.
            StoreError: If a store is not there or has no index yet, or the map cannot be read or
                written.
            IdentityError: If the map is of another checkpoint's windows.
        """
        path = None if output is None else as_path("the output", output)
        if path:
            _require_output(path, force=force)
        with self._kept.holding() as index:
            listen, first = self._kept.listen, self.paths[0]
            found = draw_map(index, index.identity, self.own, first, listen, anew=anew)
            if path:
                _write(path, found, index, force=force)
        return found

    def shades(self, found: Map, by: By, tag: str | None = None) -> Shades:
        """Return what the points of a map are coloured by, see `search.asking.shades`.

        Args:
            found: The map.
            by: What.
            tag: Which tag: one of AudioSet's, which stands for those below it, or a learned one.

        Raises:
            QueryError: If a tag is wanted, and none given.
            UnknownTagError: If there is no such tag.
            StoreError: If a store is not there, or has no index yet.
        """
        term = None
        if by == "tag":
            if not tag:
                raise QueryError("to colour by a tag, say which")
            learned = self._kept.learned(self.own) if tag.startswith(LEARNED_PREFIX) else {}
            ((term, _),) = TagFilter((tag,), learned=learned).resolve().all_of
        with self._kept.holding() as index:
            if term:
                return shade_by_tag(index, found.window_ids, term)
            shade = shade_by_folder if by == "folder" else shade_by_time
            return shade(index, found.window_ids)

    def select(self, window_ids: Iterable[int]) -> str:
        """Give some windows a name that terms take as a tag, until `unselect` or the process ends.

        Args:
            window_ids: Of the stores; others select nothing.

        Returns:
            The name: with `tags=[name]` only these windows may be hits, with `not_tags` no others
            than the rest.
        """
        ids = np.unique(np.fromiter(window_ids, np.int64))
        name = f"{SELECTED_PREFIX}{secrets.token_urlsafe(9)}"
        self._kept.selected[name] = ComputedTerm(Selected(name, ids))
        return name

    def unselect(self, name: str) -> None:
        """Forget a name that `select` has given; nothing if it is forgotten already."""
        self._kept.selected.pop(name, None)

    def _terms_of_selected(self, terms: Terms) -> Learned:
        """Return the selected windows that terms name, as filters take them."""
        all_named = (*terms.tags, *terms.any_tags, *terms.not_tags)
        named = [one for one in all_named if one.startswith(SELECTED_PREFIX)]
        found = {one: self._kept.selected.get(one) for one in named}
        for one, term in found.items():
            if term is None:
                raise QueryError(f"{one} is not selected any more, or never was: select it again")
        return {one: term for one, term in found.items() if term}


def _require_output(path: Path, *, force: bool) -> None:
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise OutputError(
            f"{path} says no format; call it something.png for a picture, or something.csv or "
            f"something.parquet for a table"
        )
    require_file(path, ending, force=force)


def _write(path: Path, found: Map, index: SoundIndex, *, force: bool) -> None:
    ending = path.suffix.lower()
    with writing(path, force=force) as file:
        if ending == ".png":
            from soundalike.show.maps import map_png  # noqa: PLC0415 - only for a picture

            file.write(map_png(found))
        elif ending == ".csv":
            table = _table(found, index)
            at = table.column_names.index("path")
            pa.csv.write_csv(table.set_column(at, "path", path_cells(table["path"])), file)
        else:
            pq.write_table(_table(found, index), file)


def _table(found: Map, index: SoundIndex) -> pa.Table:
    """Return a row for each window."""
    names = pa.array([one.name for one in found.clusters], pa.string())
    return pa.table(
        {
            "window_id": found.window_ids,
            "path": index.first_paths(found.rows),
            "start_s": index.column("start_sample", found.rows) / SAMPLE_RATE_HZ,
            "x": found.xy[:, 0],
            "y": found.xy[:, 1],
            "cluster": found.cluster,
            "tags": names.take(pa.array(found.cluster)),
        }
    )
