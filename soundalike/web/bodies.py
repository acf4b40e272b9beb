"""What a page, or a program, asks the server for."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from search.asking.terms import MAX_DIVERSE, Terms
from search.learned.labels import Via

#: Ids have 63 bits, more than a number of JavaScript holds: they are text.
WindowId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,19}$")]
ClipId = Annotated[str, StringConstraints(pattern=r"^[\w-]{1,64}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Expression = Annotated[str, StringConstraints(max_length=10_000)]
#: Says of which map something is asked: another is drawn, or windows come and go.
MapKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
OnMap = Annotated[FiniteFloat, Field(ge=-10, le=10)]
Seconds = Annotated[FiniteFloat, Field(ge=0, le=1e7)]


def _explain(schema: dict[str, Any]) -> None:
    """Say of each field what it means, in the words of `Terms`."""
    for one in fields(Terms):
        if one.name in schema["properties"] and "help" in one.metadata:
            schema["properties"][one.name]["description"] = one.metadata["help"]


class Body(BaseModel):
    """What is sent; a field that nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_explain)


class Problem(BaseModel):
    """What is wrong with a request, what it is about, and where in an expression that is."""

    detail: str
    about: str | None
    at: tuple[int, int] | None


class Asking(Body):
    """A sound that asks: a window of the stores or a clip that was sent, or a part of it.

    Times are in seconds from its start.
    """

    window: WindowId | None = None
    clip: ClipId | None = None
    start_s: Seconds | None = None
    end_s: Seconds | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Asking:
        if (self.window is None) == (self.clip is None):
            raise ValueError("what asks is a window or a clip: one of them, and not both")
        if self.end_s is not None and self.end_s <= (self.start_s or 0.0):
            raise ValueError("a part ends after it begins")
        return self


class Filter(Body):
    """Which windows may be hits, see `soundalike.Terms`."""

    tags: list[Name] = Field(default=[], max_length=100)
    any_tags: list[Name] = Field(default=[], max_length=100)
    not_tags: list[Name] = Field(default=[], max_length=100)
    where: Expression | None = None
    threshold: Annotated[FiniteFloat, Field(ge=0, le=1)] | Literal["auto"] | None = None
    descendants: bool = True

    def fields(self) -> dict[str, Any]:
        """Return the fields of `Terms` that it sets."""
        names = ("tags", "any_tags", "not_tags", "descendants")
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.where is not None and self.where.strip():
            given["where"] = self.where
        if self.threshold is not None:
            given["threshold"] = self.threshold
        return given

    def terms(self) -> list[str]:
        """Return the fields that leave windows out, with the value of each: "tags: Dog"."""
        lists = ("tags", "any_tags", "not_tags")
        named = [f"{name}: {one}" for name in lists for one in getattr(self, name)]
        return [*named, *([f"where: {self.where}"] if "where" in self.fields() else [])]

    def without(self, term: str) -> Filter:
        """Return it without one of its `terms`."""
        name, value = term.split(": ", 1)
        if name == "where":
            return self.model_copy(update={"where": None})
        return self.model_copy(update={name: [one for one in getattr(self, name) if one != value]})


class Search(Filter):
    """A question: sounds or words that hits are like, sounds that they are unlike, and terms.

    A cursor asks for the hits after those of an earlier answer; a diverse answer has none.
    """

    like: list[Asking] = Field(default=[], max_length=100)
    unlike: list[Asking] = Field(default=[], max_length=100)
    text: list[Annotated[str, StringConstraints(min_length=1, max_length=1000)]] = Field(
        default=[], max_length=20
    )
    projection: Name | None = None
    k: Annotated[int, Field(ge=1, le=MAX_DIVERSE)] = 20
    cursor: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}$")] | None = None
    group_by: Literal["file"] | None = None
    all_windows: bool | None = None
    unique: bool = False
    unique_at: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    diverse: Annotated[FiniteFloat, Field(ge=0, le=1)] | bool = False
    by: Literal["scene", "place"] = "scene"
    min_score: Annotated[FiniteFloat, Field(ge=-1, le=1)] | None = None
    tag_weight: Annotated[FiniteFloat, Field(ge=0, le=0.9)] | None = None
    include_self: bool = False
    exact: bool = False

    @property
    def first(self) -> int:
        """How many hits of the answer were given before."""
        return int(self.cursor or 0)

    def fields(self) -> dict[str, Any]:
        """Return the fields of `Terms` that it sets, but for how many hits."""
        names = (
            *("group_by", "all_windows", "unique", "diverse", "by", "min_score"),
            *("include_self", "exact"),
        )
        given = {**super().fields(), **{name: getattr(self, name) for name in names}}
        usual = {"tag_weight": self.tag_weight, "unique_at": self.unique_at}
        return {**given, **{name: one for name, one in usual.items() if one is not None}}


class Selecting(Body):
    """A part of the map: a polygon drawn on it, or one of its regions.

    Its corners are x and y from 0 to 1, y upwards; the last is joined with the first.
    """

    key: MapKey
    polygon: list[tuple[OnMap, OnMap]] | None = Field(default=None, min_length=3, max_length=1000)
    region: Annotated[int, Field(ge=0, le=1000)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Selecting:
        if (self.polygon is None) == (self.region is None):
            raise ValueError("a part of the map is a polygon or a region: one of them")
        return self


class Export(Body):
    """Hits as a file: all of a question's, or only some windows of them."""

    format: Literal["csv", "json", "m3u", "audacity", "raven", "zip"]
    search: Search
    windows: list[WindowId] | None = Field(default=None, max_length=1000)


class Labelling(Body):
    """What is said of some windows: whether a sound is in them; and how they were found."""

    yes: list[WindowId] = Field(default=[], max_length=1000)
    no: list[WindowId] = Field(default=[], max_length=1000)
    unsure: list[WindowId] = Field(default=[], max_length=1000)
    via: Via = "found"
    by: Name | None = None


class Undoing(Body):
    """Which word is taken back: its id, or nothing for the last, whoever said it."""

    word: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}(-[0-9]{1,9})?$")] | None = None
