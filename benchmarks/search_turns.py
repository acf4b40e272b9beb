"""Engines that are open in one process, tuned, and then asked the same questions turn by turn.

What else a machine does then falls on all of them alike, so that their times can be compared.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from time import perf_counter, process_time, sleep
from typing import Any, NamedTuple

import numpy as np
from search_data import BATCH_QUERIES, FILTERS, Array, Data, Library, recall

TARGET_RECALL = 0.99
#: Questions that find out which effort is enough; and seconds that one filter may take for that.
SWEEP_QUERIES = 50
SWEEP_S = 60.0
#: An engine is asked the questions of a filter as long as this, though never fewer than so many.
TIMED_S = 10.0
MIN_QUERIES = 20
#: Seconds for which questions are asked before they are timed, so that what is mapped is read.
WARM_UP_S = 2.0
_BATCH_TURNS = 2
_IDLE_S = 1.0


class Turn(NamedTuple):
    """An answer, and the seconds that it took: of the clock, and of all threads of the process."""

    answer: Any
    wall_s: float
    cpu_s: float


class Turns:
    """Engines, opened, and the questions for them.

    Attributes:
        num_matching: How many windows match each filter.
    """

    def __init__(self, engines: dict[str, Any], data: Data) -> None:
        self._engines = engines
        self._data = data
        self._questions, self._true_rows, self.num_matching = data.questions()

    def measure(self, number: int) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Return the trial of each engine for a filter, and its effort."""
        efforts = {name: self._tune(engine, number) for name, engine in self._engines.items()}
        for name, engine in self._engines.items():
            warm_up(engine, self._questions[number], number, efforts[name])
        turns = self._take_turns(number, efforts)
        trials = {
            name: self._trial(engine, number, efforts[name], turns[name])
            for name, engine in self._engines.items()
        }
        return trials, efforts

    def _tune(self, engine: Any, number: int) -> Any:
        """Return the first effort, from quick to slow, that finds enough; or the best there is.

        Some of the questions find out which it is, and all of them whether that is so.
        """
        share = float(self.num_matching[number] / self._data.num_windows)
        began, best, most = perf_counter(), None, -1.0
        for effort in engine.efforts(share):
            for count in (SWEEP_QUERIES, None):
                turns = list(ask(engine, self._questions[number][:count], number, effort))
                found = self._recall(engine, number, turns)
                if found < TARGET_RECALL:
                    break
            if found > most:
                best, most = effort, found
            if most >= TARGET_RECALL or perf_counter() - began > SWEEP_S:
                break
        return best

    def _take_turns(self, number: int, efforts: dict[str, Any]) -> dict[str, list[Turn]]:
        """Ask each question of all engines before the next; another engine begins each time."""
        names = list(self._engines)
        turns: dict[str, list[Turn]] = {name: [] for name in names}
        asking = {
            name: ask(engine, self._questions[number], number, efforts[name])
            for name, engine in self._engines.items()
        }
        for at in range(self._data.num_queries):
            first = at % len(names)
            for name in names[first:] + names[:first]:
                turns[name] += [turn for turn in [next(asking[name], None)] if turn]
        return turns

    def _trial(self, engine: Any, number: int, effort: Any, turns: list[Turn]) -> dict[str, Any]:
        wall_ms, cpu_ms = (
            1e3 * np.array([getattr(turn, which) for turn in turns]) for which in Turn._fields[1:]
        )
        plans = Counter(engine.plan(turn.answer, effort) for turn in turns)
        return {
            "recall": self._recall(engine, number, turns),
            "median_ms": float(np.median(wall_ms)),
            "p95_ms": float(np.percentile(wall_ms, 95)),
            "cpu_median_ms": float(np.median(cpu_ms)),
            "cpu_p95_ms": float(np.percentile(cpu_ms, 95)),
            "plan": ", ".join(plan for plan, _ in plans.most_common(2)),
            "num_queries": len(turns),
        }

    def _recall(self, engine: Any, number: int, turns: list[Turn]) -> float:
        return recall([engine.rows(turn.answer) for turn in turns], self._true_rows[number])

    def measure_batch(self, efforts: dict[str, Any]) -> dict[str, float]:
        """Return questions without a filter that each engine answers in a second of one core."""
        batch = Library(self._data.num_windows).batch()
        least_s = dict.fromkeys(self._engines, np.inf)
        for _ in range(_BATCH_TURNS):
            for name, engine in self._engines.items():
                began = process_time()
                engine.batch(batch, efforts[name])
                least_s[name] = min(least_s[name], process_time() - began)
        return {name: BATCH_QUERIES / took_s for name, took_s in least_s.items()}


def ask(engine: Any, questions: Array, number: int, effort: Any) -> Iterator[Turn]:
    """Ask the questions of a filter one by one; a slow engine is not asked all of them."""
    spent_s = 0.0
    for at, vector in enumerate(questions):
        if spent_s > TIMED_S and at >= MIN_QUERIES:
            return
        began, cpu_began = perf_counter(), process_time()
        answer = engine.query(vector, number, effort)
        cpu_s, wall_s = process_time() - cpu_began, perf_counter() - began
        spent_s += wall_s
        yield Turn(answer, wall_s, cpu_s)


def warm_up(engine: Any, questions: Array, number: int, effort: Any) -> None:
    """Ask everything once, or as much of it as time allows."""
    began = perf_counter()
    for vector in questions:
        engine.query(vector, number, effort)
        if perf_counter() - began > WARM_UP_S:
            break


def measure_in_turns(engines: dict[str, Any], data: Data) -> tuple[dict[str, Any], dict[str, Any]]:
    """Open engines, and ask them all.

    Returns:
        The results: of each engine, and of the process; and the efforts of each engine, by filter.
    """
    for engine in engines.values():
        engine.prepare()
        engine.open()
    turns = Turns(engines, data)
    gc.collect()
    gc.freeze()  # what one engine holds is not looked through while another is asked
    measured: dict[str, Any] = {name: {"filters": {}} for name in engines}
    efforts: dict[str, dict[int, Any]] = {name: {} for name in engines}
    for number, condition in enumerate(FILTERS):
        if not turns.num_matching[number]:
            continue
        trials, chosen = turns.measure(number)
        for name, trial in trials.items():
            measured[name]["filters"][condition.name] = trial
            efforts[name][number] = chosen[name]
            print(f"  {condition.name}, {name}: {trial}", flush=True)
    unfiltered = {name: chosen[0] for name, chosen in efforts.items()}
    for name, per_s in turns.measure_batch(unfiltered).items():
        measured[name]["batch_per_cpu_s"] = per_s
    return {"idle_cpu": _idle_cpu(), "engines": measured}, efforts


def _idle_cpu() -> float:
    """Return what share of a core threads take that no question waits for: it should be none."""
    began = process_time()
    sleep(_IDLE_S)
    return (process_time() - began) / _IDLE_S
