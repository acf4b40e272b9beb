"""What a run did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from indexer.windows import Level, Padding

_STAGES = ("decode", "to_device", "network", "to_host", "write", "publish", "embed", "total")
#: What of a report is the sum of those of several workers.
_SUMMED = ("num_windows", "audio_s", "bytes_written", "num_embedded", "num_known", "num_warnings")


class FailedFile(NamedTuple):
    """One failure of a run: path as stored, stage and reason in words."""

    path: str
    stage: str
    reason: str


@dataclass(slots=True)
class ExtractReport:
    """What a run did.

    Attributes:
        num_windows: Embedded.
        audio_s: Seconds of audio in them; what several share counts once.
        bytes_written: Size of their embeddings.
        num_embedded: Files that were embedded.
        num_known: Files whose content was in the store already (copies, renames, moves).
        num_unchanged: Files that were not read, because nothing about them changed.
        num_failed_before: Files that failed in an earlier run and have not changed since.
        num_skipped: Files without an audio extension.
        num_excluded: Files that `include` or `exclude` left out.
        num_hidden: Audio files left out because a name in their path begins with a dot, without
            those that the store has as they are.
        num_moved: Paths whose content is now at another path.
        num_gone: Paths that were deleted.
        failures: What failed in this run.
        num_warnings: Files that were embedded but have something a listener should know.
        device: Where the network ran; None if nothing had to be read.
        precision: At which precision; None likewise.
        padding: What follows audio that is shorter than a window.
        level: What was done to the loudness of windows.
        num_workers: Processes that read; 0 if it was done by the run itself.
        num_lanes: Threads that embedded side by side.
        num_devices: GPUs that they shared, or 1.
        batch_size: Windows read at once, at most.
        most_windows: Windows embedded at once, at most: less than a batch if memory was short.
        num_cores: Cores that they shared.
        num_remote: Workers of a cluster that embedded side by side; 0 if the run did it itself.
        seconds: Where the time went. "decode" is the work of all readers, "to_device", "network"
            and "to_host" that of all lanes, "write" that of the run itself, or of all workers of a
            cluster, "publish" what the run then did with what these wrote; these went on at the
            same time. "embed" is how long it took from the first file read to the last window
            written; "total" also has the walk.
    """

    num_windows: int = 0
    audio_s: float = 0.0
    bytes_written: int = 0
    num_embedded: int = 0
    num_known: int = 0
    num_unchanged: int = 0
    num_failed_before: int = 0
    num_skipped: int = 0
    num_excluded: int = 0
    num_hidden: int = 0
    num_moved: int = 0
    num_gone: int = 0
    failures: list[FailedFile] = field(default_factory=list)
    num_warnings: int = 0
    device: str | None = "cpu"
    precision: str | None = "fp32"
    padding: Padding = "zero"
    level: Level = "off"
    num_workers: int = 0
    num_lanes: int = 1
    num_devices: int = 1
    batch_size: int = 1
    most_windows: int = 1
    num_cores: int = 1
    num_remote: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))

    def add(self, shard: ExtractReport) -> None:
        """Count what a worker of a cluster did for this run, and how long its steps took."""
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(shard, name))
        self.failures += shard.failures
        for step in _STAGES[:-3]:  # the others are the clock's
            self.seconds[step] += shard.seconds[step]

    def count_together(self, workers: Sequence[ExtractReport]) -> None:
        """Note what the workers of a cluster have together that work at the same time.

        Args:
            workers: What each of them said last; fewer than before change nothing.
        """
        if len(workers) < self.num_remote:
            return
        self.num_remote = len(workers)
        self.device = " and ".join(sorted({str(one.device) for one in workers}))
        self.precision = " and ".join(sorted({str(one.precision) for one in workers}))
        for name in ("num_workers", "num_lanes", "num_devices", "num_cores"):
            setattr(self, name, sum(getattr(one, name) for one in workers))
        self.batch_size = max(one.batch_size for one in workers)
        self.most_windows = min(one.most_windows for one in workers)

    def busy(self) -> dict[str, float]:
        """Return for how many seconds each part of the work kept those that do it busy."""
        seconds = self.seconds
        copying = seconds["to_device"] + seconds["to_host"]
        return {
            "decoding": seconds["decode"] / max(self.num_workers, 1),
            "the model": (seconds["network"] + copying) / self.num_lanes,
            "writing": seconds["write"] / max(self.num_remote, 1),
            "publishing": seconds["publish"],
        }
