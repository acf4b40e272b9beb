"""What routes are given: the desk, and what stands in an address."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Path, Query, Request

from soundalike.web.desk import Desk


def _desk(request: Request) -> Desk:
    return cast(Desk, request.app.state.desk)


AtDesk = Annotated[Desk, Depends(_desk)]
WindowPath = Annotated[str, Path(pattern=r"^[0-9]{1,19}$")]
ClipPath = Annotated[str, Path(pattern=r"^[\w-]{1,64}$")]
#: Times in seconds, from the start of a clip or a window.
Start = Annotated[float, Query(ge=0, le=1e7, allow_inf_nan=False)]
End = Annotated[float | None, Query(ge=0, le=1e7, allow_inf_nan=False)]
#: How much before or after, in seconds.
Around = Annotated[float, Query(ge=0, le=300, allow_inf_nan=False)]
Width = Annotated[int, Query(ge=8, le=4000)]
Height = Annotated[int, Query(ge=8, le=512)]
