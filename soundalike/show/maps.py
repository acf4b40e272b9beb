"""A map of windows: as text for people, data for programs, and a picture."""

from __future__ import annotations

import colorsys
import io
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from indexer.arrays import Float32, Integers
from search.map.clusters import Cluster
from search.map.drawing import Map
from soundalike.show.words import count

#: Of a picture, in pixels, and what stays free around the map.
SIZE, _MARGIN = 1400, 60
#: It is drawn so many times as large, and made smaller: so edges are smooth.
_FINER = 2
#: Radius of a point, in pixels of the picture: of few windows, and of 10,000 and more.
_LARGE, _SMALL = 5.0, 1.5
_LETTERS = 19
#: Of the circle of hues, from one region to the next: neighbours in number differ most.
_GOLDEN = 0.618033988749895
_PAPER, _INK = (255, 255, 255), (20, 20, 24)


def map_lines(found: Map, store: Path, output: Path | None = None) -> Iterator[str]:
    """Say what is on a map.

    Args:
        found: The map.
        store: The store, or the first of several.
        output: What was written of it, if anything.
    """
    where = f", written to {output}" if output else ""
    yield f"{count(len(found), 'window')} in {count(len(found.clusters), 'region')}{where}"
    for cluster in sorted(found.clusters, key=lambda one: -one.num_windows):
        x, y = cluster.centre
        yield f"{cluster.num_windows:>9,}  {x:.2f} {y:.2f}  {cluster.name}"
    if found.num_damaged:
        damaged = count(found.num_damaged, "damaged window")
        yield f"{damaged} left out; 'soundalike verify' says which files they are in"
    if found.is_outgrown:
        name = shlex.quote(str(store))
        yield (
            f"the library has outgrown its map: {found.num_drawn:,} windows when it was drawn, and "
            f"{found.num_far:,} now are like no landmark; 'soundalike map {name} --anew' draws "
            f"another, on which everything lies elsewhere"
        )


def map_data(found: Map) -> dict[str, Any]:
    """Return what is on a map as plain data."""
    return {
        "windows": len(found),
        "added": found.num_added,
        "damaged": found.num_damaged,
        "drawn_of": found.num_drawn,
        "far": found.num_far,
        "is_outgrown": found.is_outgrown,
        "clusters": [
            {
                "tags": [tag.name for tag in one.tags],
                "x": one.centre[0],
                "y": one.centre[1],
                "windows": one.num_windows,
            }
            for one in found.clusters
        ],
    }


def map_png(found: Map) -> bytes:
    """Return a picture of a map as PNG: a dot for each window, by region, and their names."""
    size = SIZE * _FINER
    at = _pixels(found.xy, size)
    free = _MARGIN * _FINER
    top, bottom = int(at[:, 1].min()) - free, int(at[:, 1].max()) + free  # a wide one is no square
    at[:, 1] -= top
    pixels = np.full((bottom - top, size, 3), 255, np.uint8)
    colours = np.array([_colour(number) for number in range(len(found.clusters))], np.uint8)
    radius = _FINER * float(np.interp(np.log10(len(found) + 1), [2, 4], [_LARGE, _SMALL]))
    for x, y in _disc(radius):
        pixels[at[:, 1] + y, at[:, 0] + x] = colours[found.cluster]
    height = (bottom - top) // _FINER
    picture = Image.fromarray(pixels).resize((SIZE, height), Image.Resampling.BOX)
    _write_names(picture, found.clusters, top // _FINER)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _pixels(xy: Float32, size: int) -> Integers:
    """Return (n, 2) column and line of coordinates; y goes upwards."""
    free = _MARGIN * size // SIZE
    upright = np.stack([xy[:, 0], 1 - xy[:, 1]], axis=1)
    return np.asarray(np.rint(free + upright * (size - 1 - 2 * free)), np.int64)


def _disc(radius: float) -> list[tuple[int, int]]:
    reach = range(-int(radius), int(radius) + 1)
    return [(x, y) for x in reach for y in reach if x * x + y * y <= radius * radius]


def _colour(number: int) -> tuple[int, int, int]:
    """Return the colour of a region: a hue of its own, light and dark by turns."""
    value = (0.88, 0.68, 0.5)[number % 3]
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.72, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _write_names(picture: Image.Image, clusters: tuple[Cluster, ...], top: int) -> None:
    """Write the name of each region at its centre, or as near above or below as there is room."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(_LETTERS)
    taken: list[tuple[float, float, float, float]] = []
    for cluster in sorted(clusters, key=lambda one: -one.num_windows):
        if not cluster.tags or not cluster.num_windows:
            continue
        x, y = _pixels(np.array([cluster.centre], np.float32), SIZE)[0].tolist()
        name = cluster.tags[0].name.partition(",")[0]
        box = draw.textbbox((x, y - top), name, font, anchor="mm")
        box = _free_box(box, taken, picture.height)
        taken.append(box)
        place = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        draw.text(place, name, _INK, font, "mm", stroke_width=3, stroke_fill=_PAPER)


def _free_box(
    box: tuple[float, float, float, float],
    taken: list[tuple[float, float, float, float]],
    height: int,
) -> tuple[float, float, float, float]:
    """Return where a text lies in the picture, moved up or down until it covers no other."""
    left, top, right, bottom = box
    aside = max(0.0, 4 - left) - max(0.0, right - SIZE + 4)
    for step in range(2 * SIZE // _LETTERS):
        down = (step + 1) // 2 * (_LETTERS / 2) * (1 if step % 2 else -1)
        moved = left + aside, top + down, right + aside, bottom + down
        is_inside = moved[1] >= 0 and moved[3] <= height
        if is_inside and not any(_overlap(moved, other) for other in taken):
            return moved
    return left + aside, top, right + aside, bottom


def _overlap(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
