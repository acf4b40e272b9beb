"""Listeners for tests: one that keeps all that it hears, and one that acts on steps."""

from __future__ import annotations

from collections.abc import Callable

from indexer.progress import Listen, News, Step


class Listener:
    """Keeps the news of long work.

    Attributes:
        steps: How far it was, each time.
        sentences: What it said.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.sentences: list[str] = []

    def __call__(self, news: News) -> None:
        if isinstance(news, Step):
            self.steps.append(news)
        else:
            self.sentences.append(news)

    @property
    def counts(self) -> list[tuple[int, int | None]]:
        """(done, total) of every step."""
        return [(step.done, step.total) for step in self.steps]

    @property
    def done(self) -> list[int]:
        return [step.done for step in self.steps]


def on_step(act: Callable[[Step], object]) -> Listen:
    """Return a listener that acts on every step and on nothing else."""

    def listen(news: News) -> None:
        if isinstance(news, Step):
            act(news)

    return listen
