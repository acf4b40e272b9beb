"""Maps of what stores hold, for stores that are open."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from indexer.errors import OutputError
from indexer.paths import as_path
from indexer.windows import SAMPLE_RATE_HZ
from search.asking.sound_index import SoundIndex
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
            pa.csv.write_csv(_table(found, index), file)
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
