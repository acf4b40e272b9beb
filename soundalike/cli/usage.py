"""Options that mean nothing without another: they are refused, not ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import typer


def require_use(context: typer.Context, names: Iterable[str], needs: str, *, is_met: bool) -> None:
    """Refuse options that were given where nothing would come of them.

    Args:
        context: Of the command.
        names: Parameters of the command.
        needs: What each goes with, for the error.
        is_met: Whether that is there.

    Raises:
        BadParameter: If it is not, and one of them was given.
    """
    if is_met:
        return
    for one in context.command.params:
        source = context.get_parameter_source(one.name or "")
        if one.name in names and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{one.opts[0]} goes with {needs}")


def require_terms(context: typer.Context, terms: Mapping[str, Any]) -> None:
    """Refuse what is about tags where no tag is asked for, and about copies where they stay."""
    require_use(context, ("unique_at",), "--unique", is_met=terms["unique"])
    is_met = any(terms[name] for name in ("tags", "any_tags", "not_tags", "where"))
    needs = "--tag, --any-tag, --not-tag or --where"
    require_use(context, ("threshold", "descendants"), needs, is_met=is_met)
