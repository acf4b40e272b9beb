"""The option `--ray`, which stands alone or has an address behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

_FLAG = "--ray"
#: What it means alone, as `indexer.run.cluster` takes it.
_ALONE = "auto"
#: HOST:PORT, with Ray's scheme or without; nobody calls a store, or a clip, like that.
_ADDRESS = re.compile(r"auto|(ray://)?([\w.-]+|\[[0-9a-fA-F:]+\]):\d+")

RayOption = Annotated[
    str | None,
    typer.Option(
        _FLAG,
        metavar="[HOST:PORT]",
        help="Do the work on a Ray cluster, whose machines all see these paths: on the one at this "
        "address; or that of RAY_ADDRESS or of this machine, or else a new one here.",
    ),
]


class Command(TyperCommand):
    """A command, which may have that option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse words, with `auto` where there is no address."""
        if any(_FLAG in one.opts for one in self.params):
            args = list(spell_out(args))
        return super().parse_args(ctx, args)


def spell_out(words: Sequence[str]) -> Iterator[str]:
    """Yield words, with a value for the option where it stands alone.

    What is behind it is its value if it reads as an address. Words after "--" are no options.
    """
    are_options = True
    for word, behind in zip(words, [*words, ""][1:], strict=True):
        are_options &= word != "--"
        is_alone = are_options and word == _FLAG and not _ADDRESS.fullmatch(behind)
        yield f"{_FLAG}={_ALONE}" if is_alone else word
