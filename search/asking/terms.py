"""What counts as a hit, and how many: the terms of every question, whoever asks it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from indexer.errors import QueryError
from indexer.run.config import check_fields
from indexer.tags import DEFAULT_THRESHOLD
from search.nearest.limits import DEFAULT_TAG_WEIGHT

# Nothing here takes long to import: the help of the command is made from these fields.

#: More hits than this, or matches, nobody asks for.
MAX_NUMBER = 1_000_000_000
#: What a diversity that is merely wanted means: chosen on esc10_seen, see docs/decisions/0028.
DEFAULT_DIVERSITY = 0.5
#: From which cosine similarity on hits are near-copies: see docs/decisions/0028.
DEFAULT_UNIQUE_AT = 0.95
#: Hits of a diverse or unique answer, at most: its cost grows with the square of them.
MAX_DIVERSE = 1000
#: A diverse answer of k hits is chosen from this many times k of the best hits …
_CANDIDATES_PER_HIT = 10
#: … or this many, if that is more.
_MIN_CANDIDATES = 100
#: Windows that are looked into if hits are ranked by the place in them, with windows that do not
#: overlap: see docs/decisions/0033.
LOOKED_INTO = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What counts as a hit, and how many are wanted.

    One tag may be given where several are meant; paths may be text.

    What the metadata of a field says of it in a sentence, its unit, the least and most it may be,
    and for what holds unless told otherwise its opposite, is what the command and the pages are
    made from: a new field appears in all of them.

    Attributes:
        k: How many hits, at most.
        tags: Tags that must all be heard: names, mids or indices, as text: see
            `TagVocabulary.resolve`.
        any_tags: Tags of which one must be heard; no condition if empty.
        not_tags: Tags that must not be heard.
        threshold: Probability from which on a tag is heard; "auto" is what was measured for each
            and is kept with the store, and for others the usual.
        descendants: Whether a tag stands for those below it in the ontology too.
        where: A filter expression that must hold as well: docs/filters.md explains.
        metadata: File whose columns `where` may name, and hits have; see `Metadata.read`.
        group_by: "file" gives the best window of each recording only.
        include_self: Whether what asks may be a hit, and what overlaps it: a file asks with all of
            its recording, a part of one or a window with that.
        tag_weight: How much of a score is how alike the tags are, see `search.nearest.blend`; at 0
            scenes alone count. Questions of vectors and in words have no tags.
        level: Whether an audio file whose peak is below -6 dBFS asks at full scale as well.
        min_score: Hits below it are left out; the cosine of scenes is held against it.
        all_windows: Whether several windows of one place may be hits, see `best_of_places`. None is
            False, but True for tables of many questions.
        unique: Whether hits that are nearly the same as better ones are collapsed into these.
        unique_at: From which cosine similarity of their scene embeddings on they are.
        diverse: How much hits that are like earlier ones are put back, from 0 to 1, see
            `choose_diverse`; True is 0.5.
        exact: Whether only an exact answer will do, however long it takes.
        by: What hits are ranked by: how like what asks the whole window is, its "scene"; or the
            "place" in it that is most like it, see `search.asking.by_place`.
        locate: Whether it is found out where in each hit what asks is, see `search.asking.locate`.
            None is True, but False for tables of many questions.
    """

    k: int = field(
        default=10,
        metadata={
            "help": "Hits for a question, at most.",
            "unit": "N",
            "least": 1,
            "most": MAX_NUMBER,
        },
    )
    tags: tuple[str, ...] = field(
        default=(), metadata={"help": "Must be heard. May be repeated.", "unit": "T"}
    )
    any_tags: tuple[str, ...] = field(
        default=(), metadata={"help": "One of these must be heard.", "unit": "T"}
    )
    not_tags: tuple[str, ...] = field(
        default=(), metadata={"help": "Must not be heard.", "unit": "T"}
    )
    threshold: float | Literal["auto"] = field(
        default=DEFAULT_THRESHOLD,
        metadata={
            "help": "Probability that counts as heard; auto: for each tag what 'thresholds' "
            "measured, or else 0.25.",
            "unit": "P",
            "least": 0,
            "most": 1,
        },
    )
    descendants: bool = field(
        default=True,
        metadata={"help": "Count Dog as an Animal.", "opposite": "Do not count Dog as an Animal."},
    )
    where: str | None = field(
        default=None,
        metadata={
            "help": "Must hold: tags, duration, path and other columns, with and, or, not. "
            "docs/filters.md explains.",
            "unit": "EXPR",
        },
    )
    metadata: Path | None = field(
        default=None,
        metadata={
            "help": "CSV or Parquet with more columns for the expression, and for hits as JSON or "
            "CSV; its column 'path' says which file a row is about.",
            "unit": "FILE",
        },
    )
    group_by: Literal["file"] | None = field(
        default=None, metadata={"help": "file: the best window of each recording."}
    )
    include_self: bool = field(
        default=False, metadata={"help": "Let what asks, and what overlaps it, be hits as well."}
    )
    tag_weight: float = field(
        default=DEFAULT_TAG_WEIGHT,
        metadata={
            "help": "Share of the score that is how alike the tags are; 0 for scenes alone.",
            "unit": "W",
            "least": 0,
            "most": 0.9,
        },
    )
    level: bool = field(
        default=True,
        metadata={
            "help": "Ask with a quiet clip at full scale, too; the better counts.",
            "opposite": "Ask with a quiet clip as it is, and no louder.",
        },
    )
    min_score: float | None = field(
        default=None,
        metadata={
            "help": "Leave out hits whose scenes are less alike than this.",
            "unit": "S",
            "least": -1,
            "most": 1,
        },
    )
    all_windows: bool | None = field(
        default=None,
        metadata={
            "help": "Let windows that overlap by half or more be hits side by side; or only the "
            "best of each place, which is usual but for tables of many questions.",
            "otherwise": "places",
        },
    )
    unique: bool = field(
        default=False,
        metadata={"help": "Show near-copies once, as the best of them, and say how many."},
    )
    unique_at: float = field(
        default=DEFAULT_UNIQUE_AT,
        metadata={
            "help": "From which cosine similarity on unique hits are near-copies.",
            "unit": "S",
            "least": 0,
            "most": 1,
        },
    )
    diverse: bool | float = field(
        default=False, metadata={"help": "Put hits back that are like those before them."}
    )
    exact: bool = field(
        default=False, metadata={"help": "Overlook nothing, however long it takes."}
    )
    by: Literal["scene", "place"] = field(
        default="scene",
        metadata={
            "help": "place: look into 200 windows, or more, and rank them by the place in each "
            "that is most like a shorter clip; an exact answer looks into all."
        },
    )
    locate: bool | None = field(
        default=None,
        metadata={
            "help": "Find out where in a hit a shorter clip is; or do not, which is usual for "
            "tables of many questions.",
            "otherwise": "no-locate",
        },
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.by == "place" and self.locate is False:
            raise QueryError(
                "hits ranked by place have to be located, and locate is False; let it be True",
                about="locate",
            )
        if not 0 <= self.diverse <= 1:
            raise QueryError(f"diversity is a number from 0 to 1, got {self.diverse}")
        if self.diversity and self.k > MAX_DIVERSE:
            raise QueryError(f"a diverse answer has at most {MAX_DIVERSE:,} hits, got k = {self.k}")
        if self.unique and self.k > MAX_DIVERSE:
            raise QueryError(f"there are at most {MAX_DIVERSE:,} unique hits, got k = {self.k}")
        if self.all_windows and self.group_by:
            raise QueryError(
                "grouped by file, a recording has one hit: all of its windows cannot be hits"
            )

    @property
    def diversity(self) -> float:
        """From 0 to 1: at 0 only the score counts."""
        return DEFAULT_DIVERSITY if self.diverse is True else float(self.diverse)

    def names(self, tag: str) -> bool:
        """Whether a tag is named, as it is spelt, in the filters or the expression."""
        of_it = re.compile(rf"(?<![\w.]){re.escape(tag)}(?![\w.])")
        named = (*self.tags, *self.any_tags, *self.not_tags, self.where or "")
        return any(map(of_it.search, named))

    @property
    def locates(self) -> bool:
        """Whether it is found out where in hits what asks is."""
        return self.by == "place" or bool(self.locate)

    @property
    def one_per_place(self) -> bool:
        """Whether the best window of a place stands for all of them."""
        return not self.all_windows and not self.group_by

    @property
    def num_wanted(self) -> int:
        """How many hits are looked for: of unique ones another, up to which copies are counted."""
        return self.num_candidates + self.unique

    @property
    def num_candidates(self) -> int:
        """How many of the best hits it takes to choose k."""
        if not self.diversity:
            return self.k
        return max(_CANDIDATES_PER_HIT * self.k, _MIN_CANDIDATES)


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateTerms:
    """From when on two recordings are taken for the same sound: see docs/batch.md.

    Attributes:
        min_score: Two windows match if their cosine similarity is at least this, above 0.
        max_matches: A window that matches more others links nothing: hum, as a rule.
        exact: Whether each window is compared with all others, however long it takes.
    """

    min_score: float = field(
        default=0.98,
        metadata={
            "help": "Windows match from this score on, above 0.",
            "unit": "S",
            "least": 0,
            "most": 1,
        },
    )
    max_matches: int = field(
        default=50,
        metadata={
            "help": "Windows that match more others link nothing.",
            "unit": "N",
            "least": 1,
            "most": MAX_NUMBER,
        },
    )
    exact: bool = field(
        default=False, metadata={"help": "Compare all windows, however long it takes."}
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.min_score:
            raise QueryError("the least score is above 0 and at most 1, got 0")
