"""How an answer was found, as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from search.asking.answers import Step
from search.filters.metadata import Coverage
from soundalike.show.words import count, shown_path


def steps_lines(steps: Sequence[Step]) -> Iterator[str]:
    """Say how an answer was found: matching rows, plan, effort, exactness, milliseconds."""
    for step in steps:
        plan = step.plan
        share = step.num_matching / max(1, step.num_windows)
        match = "matches" if step.num_windows == 1 else "match"
        windows = count(step.num_windows, "window")
        matching = f"{step.num_matching:,} of {windows} {match} ({share:.3%})"
        yield f"{shown_path(step.store)}: {matching}"
        if plan.is_exact:
            yield "  plan     exact: the score of every matching window was computed"
        else:
            where = f" in {plan.num_lists:,} of {step.num_lists:,} lists" if plan.num_lists else ""
            yield (
                f"  plan     sketches: {plan.num_scanned:,} scanned{where}, the best "
                f"{plan.num_scored:,} scored; recall {plan.recall:.3f} at 10 hits when the index "
                f"was built; --exact overlooks nothing"
            )
        yield (
            f"  time     {step.filter_ms:.1f} ms filter, {step.scan_ms:.1f} ms scan, "
            f"{step.rescore_ms:.1f} ms scores"
        )


def coverage_lines(coverage: Coverage) -> Iterator[str]:
    """Say what of a table of metadata was not used, and for what there was no row."""
    for name in coverage.hidden:
        yield f"column {name!r} is not for filters: a built-in one has the name"
    for name in coverage.unusable:
        yield (
            f"column {name!r} is not used: it holds neither numbers, text, times nor true and false"
        )
    if coverage.num_unused_rows:
        yield f"no recording for {count(coverage.num_unused_rows, 'row')}"
    if coverage.num_bare_recordings:
        yield f"no row for {count(coverage.num_bare_recordings, 'recording')}"
