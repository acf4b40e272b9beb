"""How a run behaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from indexer.reading.readers import READ_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractConfig:
    """How a run behaves; what shapes the numbers is in the store's identity instead.

    Attributes:
        include: Patterns of relative paths; if given, only these.
        exclude: Patterns of relative paths to leave out.
        files_from: A list of files (or a .csv of path, start, end) instead of a walk.
        num_workers: Processes that decode; None chooses by device.
        batch_size: Windows per forward pass; None chooses by device.
        strict: Stop at the first file that fails.
        retry_failed: Try files again that failed before and have not changed.
        allow_gone: Accept that more than half of a library has disappeared.
        max_hours: A file that decodes to more than this is a failure.
        timeout_s: A file on which reading makes no progress for this long is a failure.
        part_windows: Commit after this many windows …
        part_seconds: … or this many seconds, whichever comes first.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    files_from: Path | None = None
    num_workers: int | None = None
    batch_size: int | None = None
    strict: bool = False
    retry_failed: bool = False
    allow_gone: bool = False
    max_hours: float = 24.0
    timeout_s: float = READ_TIMEOUT_S
    part_windows: int = 4096
    part_seconds: float = 300.0
