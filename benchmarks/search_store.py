"""Questions to a store of real windows, with filters by its own tags, and the exact answers.

What asks is a window of the store, with its tags; its recording is left out, as nobody looks for
what they have. Filters keep shares of the windows: of each, by the tag that is heard best in them.
Then, without a filter, 2,000 windows ask alone, and with others: the best score over them counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
from search_data import Array, K, recall

from indexer.tags import TagVocabulary
from search.asking.answers import Found
from search.asking.find import Question, find
from search.asking.left_out import LeftOut
from search.asking.opened import OpenedStore
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms

SHARES = {"50 %": 0.5, "20 %": 0.2, "10 %": 0.1, "1 %": 0.01, "0.1 %": 0.001}
#: Windows of which quantiles of the tags are taken, at most.
_SAMPLE_ROWS = 20_000
_SEED = 20_260_101
#: Questions without a filter, if the store has so many windows; of how many vectors; hits of each.
_NUM_ASKING = 2_000
_NUM_VECTORS = (1, 2, 5)
_DEPTH = 100
#: Scores that are as near are taken for equal: another order of additions changes them as much.
_SAME_SCORE = 1e-6


class RealFilter(NamedTuple):
    """A filter by tags of a store, and the live rows that match."""

    name: str
    terms: Terms
    rows: Array


def choose_filters(index: SoundIndex) -> list[RealFilter]:
    """Return filters that keep about the shares, and some of two terms; those that keep any."""
    rows = index.live_rows()
    sample = np.random.default_rng(_SEED).choice(rows, min(len(rows), _SAMPLE_ROWS), replace=False)
    tags = index.tags(np.sort(sample)).astype(np.float32)
    names, heard = TagVocabulary.audioset().names, {}
    for name, share in SHARES.items():
        from_on = np.quantile(tags, 1 - share, axis=0, method="higher")
        tag = int(from_on.argmax())
        heard[name] = f'"{names[tag]}" >= {from_on[tag]}'
        tags[:, tag] = -1  # each share has a tag of its own
    expressions = {"all": None, **heard}
    expressions["50 % and 20 %"] = f"{heard['50 %']} and {heard['20 %']}"
    expressions["10 % and not 50 %"] = f"{heard['10 %']} and not {heard['50 %']}"
    filters = []
    for name, where in expressions.items():
        terms = Terms(k=K, where=where, descendants=False)
        (one,) = index.opened
        (condition,) = Scope.of(terms, [one]).conditions
        allowed = np.concatenate(one.allowed(condition).masks)
        filters.append(RealFilter(name, terms, rows[allowed[rows]]))
    return [one for one in filters if len(one.rows)]


def choose_questions(index: SoundIndex, rows: Array, num_queries: int, seed: int) -> list[Question]:
    """Return windows of the store that ask: every second one is of some rows."""
    rng = np.random.default_rng([_SEED, seed])
    asking = rng.choice(index.live_rows(), num_queries)
    asking[::2] = rng.choice(rows, len(asking[::2]))
    return questions_of(index, asking[:, None])


def questions_of(index: SoundIndex, asking: Array) -> list[Question]:
    """Return a question for each line of (n, q) rows; their recordings are left out."""
    questions = []
    for rows in asking:
        table = index.windows(rows)
        own = frozenset(LeftOut(table.window(at).recording_id) for at in range(len(rows)))
        questions.append(Question(index.vectors(rows), own, index.tags(rows)))
    return questions


def ask(index: SoundIndex, question: Question, terms: Terms) -> Found:
    return find(index, [question], Scope.of(terms, index.opened))


def measure_filter(index: SoundIndex, questions: list[Question], terms: Terms) -> dict[str, Any]:
    """Ask the questions of a filter one by one, for the second time; then exactly."""
    for question in questions:
        ask(index, question, terms)
    times_ms, cpu_ms, answers = [], [], []
    for question in questions:
        began, cpu_began = perf_counter(), process_time()
        answers.append(ask(index, question, terms))
        cpu_ms.append((process_time() - cpu_began) * 1e3)
        times_ms.append((perf_counter() - began) * 1e3)
    exact = [ask(index, one, replace(terms, exact=True)).window_ids for one in questions]
    true = np.full((len(exact), K), -1)
    for row, window_ids in zip(true, exact, strict=True):
        row[: len(window_ids)] = window_ids
    plans = Counter(answer.steps[0].plan.name for answer in answers)
    return {
        "recall": recall([answer.window_ids for answer in answers], true),
        "median_ms": float(np.median(times_ms)),
        "p95_ms": float(np.percentile(times_ms, 95)),
        "cpu_median_ms": float(np.median(cpu_ms)),
        "cpu_p95_ms": float(np.percentile(cpu_ms, 95)),
        "plan": ", ".join(f"{plan} {count}" for plan, count in plans.most_common()),
        "num_queries": len(questions),
    }


def measure_several(index: SoundIndex) -> dict[str, Any]:
    """Compare what questions of one and of several vectors find with what they find exactly."""
    live = index.live_rows()
    num_questions = min(_NUM_ASKING, len(live))
    rng = np.random.default_rng([_SEED, _NUM_ASKING])
    first = rng.choice(live, num_questions, replace=False)
    found = {}
    for count in _NUM_VECTORS:
        others = rng.choice(live, (num_questions, count - 1))
        questions = questions_of(index, np.column_stack([first, others]))
        found[str(count)] = compare_with_exact(index, questions)
        print(f"  {count} vectors: {found[str(count)]}", flush=True)
    return {"questions": num_questions, "vectors": found}


def compare_with_exact(index: SoundIndex, questions: list[Question]) -> dict[str, float]:
    """Return the share of questions with all of the true ten, and recall at 10 and at 100."""
    terms = Terms(k=_DEPTH)
    found_10, found_100, wanted_10, wanted_100, num_complete = 0, 0, 0, 0, 0
    for question in questions:
        true = ask(index, question, replace(terms, exact=True))
        in_ten = ask(index, question, replace(terms, k=K)).window_ids
        in_hundred = ask(index, question, terms).window_ids
        num_true = min(K, len(true.window_ids))
        hits = int(np.isin(in_ten, first_with_ties(true, K)).sum())
        num_complete += hits == num_true
        found_10, wanted_10 = found_10 + hits, wanted_10 + num_true
        found_100 += int(np.isin(in_hundred, true.window_ids).sum())
        wanted_100 += len(true.window_ids)
    return {
        "all_ten": num_complete / len(questions),
        "recall_10": found_10 / max(1, wanted_10),
        "recall_100": found_100 / max(1, wanted_100),
    }


def first_with_ties(true: Found, k: int) -> Array:
    """Return the first k of an exact answer, and those that score as high as the last of them."""
    least = true.scores[:k].min(initial=np.inf) - _SAME_SCORE
    return np.asarray(true.window_ids[true.scores >= least])


def measure_store(path: Path, num_queries: int) -> dict[str, Any]:
    """Return what was measured of a store, for `search_table.report_store`."""
    index = SoundIndex([OpenedStore.at(path)])
    filters = {}
    for number, (name, terms, rows) in enumerate(choose_filters(index)):
        questions = choose_questions(index, rows, num_queries, number)
        trial = measure_filter(index, questions, terms)
        filters[name] = {"where": terms.where, "num_matching": len(rows), **trial}
        print(f"  {name}: {filters[name]}", flush=True)
    return {
        "windows": len(index.live_rows()),
        "queries": num_queries,
        "filters": filters,
        "several": measure_several(index),
    }
