"""Routes for the map: where each window lies, in which colour, and which are within a polygon."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from search.asking.shades import By
from soundalike.web.bodies import MapKey, Name, Selecting
from soundalike.web.mapped import Selection
from soundalike.web.parameters import AtDesk
from soundalike.web.replies import Json

router = APIRouter(default_response_class=Json, prefix="/map")

SelectionPath = Annotated[str, Path(pattern=r"^selected\.[\w-]{1,64}$")]


@router.get("")
def show(desk: AtDesk) -> Response:
    """Say which regions the map has. It is drawn if there is none yet, which may take a minute.

    Its key is for the other routes: it changes with the windows.
    """
    key, found = desk.maps.draw()
    return Json(
        {
            "key": key,
            "num_windows": len(found),
            "num_damaged": found.num_damaged,
            "is_outgrown": found.is_outgrown,
            "regions": [
                {
                    "name": one.name,
                    "tags": [tag.name for tag in one.tags],
                    "x": round(one.centre[0], 5),
                    "y": round(one.centre[1], 5),
                    "num_windows": one.num_windows,
                }
                for one in found.clusters
            ],
        }
    )


@router.get("/points")
def points(desk: AtDesk, key: MapKey) -> Response:
    """Return all points, window by window: ids, x, y and regions, one column after the other.

    Little-endian: n ids of 8 bytes, ascending; n times x and n times y in 2 bytes, of which 65,535
    is 1; n numbers of regions in a byte.
    """
    headers = {"Cache-Control": "no-store"}
    return Response(desk.maps.points(key), media_type="application/octet-stream", headers=headers)


@router.get("/colours")
def colours(
    desk: AtDesk,
    key: MapKey,
    by: By,
    tag: Annotated[Name | None, Query()] = None,
) -> Response:
    """Return a byte for each point, in base64: how probable a tag is, which folder, or when."""
    found = desk.maps.shades(key, by, tag)
    values = base64.b64encode(found.values.tobytes()).decode()
    return Json({"kind": found.kind, "names": found.names, "values": values})


@router.post("/selections", status_code=201)
def select(desk: AtDesk, asked: Selecting) -> Response:
    """Keep what lies within a polygon, or in a region, for an hour: filters name it as a tag."""
    return Json(_told(desk.maps.select(asked)), 201)


@router.get("/selections/{name}")
def selection(desk: AtDesk, name: SelectionPath) -> Response:
    """Say how many windows are in a part of the map that is kept."""
    return Json(_told(desk.maps.selection(name)))


def _told(selection: Selection) -> dict[str, str | int]:
    return selection._asdict()
