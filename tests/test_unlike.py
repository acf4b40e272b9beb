"""Hits that are like some sounds and unlike others; tags counted; windows by their ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from oracle import unit
from synthetic import Synthetic, make_store, write_tone

import soundalike
from indexer.errors import QueryError
from indexer.tags import TagVocabulary
from search.asking.terms import Terms
from search.upkeep.build import build

WEIGHT = 0.35  # of tags, unless told otherwise
UNLIKE = 0.25


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    store = make_store(tmp_path_factory.mktemp("unlike") / "store")
    rng = np.random.default_rng(7)
    middle = rng.normal(0, 1, 768)  # scenes of real sounds share a direction
    for part in range(3):
        names = {f"{part}-{number}": 3 for number in range(30)}
        scene = (middle + rng.normal(0, 1, (90, 768))).astype(np.float32)
        store.add(names, seed=part, scene=scene)
    build(store.store)
    return store


def scored(made: Synthetic, like: list[int], unlike: list[int], weight: float) -> dict[int, float]:
    """The oracle: window id → score, by the formula, in float64."""
    scenes = unit(np.array(made.scene, np.float64))
    roots = unit(np.sqrt(np.array(made.tags, np.float64)))

    def best(rows: np.ndarray) -> np.ndarray:
        away = rows[unlike].mean(0)
        return rows @ unit(rows[like] - UNLIKE * away).T

    both = (1 - weight) * best(scenes) + weight * best(roots)
    ids = [one.window_id for one in made.windows]
    return dict(zip(ids, both.max(1).tolist(), strict=True))


@pytest.mark.parametrize("weight", [0.0, WEIGHT, 0.9])
@pytest.mark.parametrize(("like", "unlike"), [([0], [40]), ([0, 100], [40, 41, 200]), ([5], [5])])
def test_scores_are_those_of_the_question_turned_away(
    made: Synthetic, like: list[int], unlike: list[int], weight: float
) -> None:
    expected = scored(made, like, unlike, weight)
    ids = [one.window_id for one in made.windows]
    own = {ids[at] for at in (*like, *unlike)}
    sounds = soundalike.open(made.store.path)
    hits = sounds.search(
        *(ids[at] for at in like), unlike=[ids[at] for at in unlike], k=1000, tag_weight=weight
    )
    assert {hit.window_id for hit in hits} == set(ids) - own  # neither is a hit
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.window_id], abs=2e-6)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    few = sounds.search(
        *(ids[at] for at in like), unlike=[ids[at] for at in unlike], k=7, tag_weight=weight
    )
    assert few.hits == hits.hits[:7]


def test_what_is_unlike_goes_down_and_nothing_else_is_turned(made: Synthetic) -> None:
    ids = [one.window_id for one in made.windows]
    sounds = soundalike.open(made.store.path)
    plain = sounds.search(ids[0], k=1000)
    near = plain[4].window_id
    turned = sounds.search(ids[0], unlike=[near], k=1000)
    assert near not in {hit.window_id for hit in turned}
    scenes = unit(np.array(made.scene))[:, :]
    likeness = dict(zip(ids, (scenes @ scenes[ids.index(near)]).tolist(), strict=True))

    def told(answer: soundalike.Answer) -> float:
        return float(np.mean([likeness[hit.window_id] for hit in answer[:20]]))

    assert told(turned) < told(plain)


def test_vectors_without_tags_are_turned_by_scenes_alone(made: Synthetic) -> None:
    sounds, ids = soundalike.open(made.store.path), [one.window_id for one in made.windows]
    vector = made.scene[3]
    by_vector = sounds.search(vector, unlike=[made.scene[50]], k=20)
    expected = scored(made, [3], [50], 0.0)
    for hit in by_vector:
        assert hit.score == pytest.approx(expected[hit.window_id], abs=2e-6)
    mixed = sounds.search(ids[3], unlike=[made.scene[50]], include_self=True, k=20)
    assert [hit.window_id for hit in mixed] == [hit.window_id for hit in by_vector]


def test_many_questions_are_turned_as_one_is(made: Synthetic, tmp_path: Path) -> None:
    sounds, ids = soundalike.open(made.store.path), [one.window_id for one in made.windows]
    each = [sounds.search(one, unlike=[ids[40]], k=5) for one in ids[:4]]
    many = sounds.search_many(ids[:4], unlike=[ids[40]], k=5)
    assert [answer.hits for answer in many] == [answer.hits for answer in each]
    output = tmp_path / "hits.jsonl"
    sounds.search_many([made.store.path], output, unlike=[ids[40]], k=5, all_windows=False)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len({row["query_window_id"] for row in rows}) == len(ids)
    assert ids[40] not in {row["window_id"] for row in rows}
    for one in made.windows[:4]:
        found = [row["window_id"] for row in rows if row["query_window_id"] == one.window_id]
        hits = sounds.search(one.window_id, unlike=[ids[40]], k=50)
        # A store that asks leaves out the whole recording.
        others = [hit.window_id for hit in hits if hit.recording_id != one.recording_id]
        assert found == others[:5]


@pytest.mark.parametrize(
    ("queries", "how", "said"),
    [
        ((), {"tags": "Dog"}, "nothing says what they are like"),
        ((1,), {"by": "place"}, "rank them by scene"),
        ((1,), {"unlike": "one"}, "unlike is a list"),
        ((1,), {"unlike": [12]}, "no window 12"),
        ((1,), {"unlike": ["no such file.wav"]}, "no such file: no such file.wav"),
        ((1,), {"unlike": [np.zeros(3)]}, "shape"),
        ((1,), {"unlike": [True]}, "a query is an audio file"),
    ],
)
def test_what_cannot_be_unlike_is_said(
    made: Synthetic, queries: tuple[int, ...], how: dict[str, object], said: str
) -> None:
    id_ = made.windows[0].window_id
    asked = {"unlike": [made.windows[1].window_id], **how}
    with pytest.raises(QueryError, match=said):
        soundalike.open(made.store.path).search(*(id_ for _ in queries), **asked)


def test_words_are_not_turned(made: Synthetic) -> None:
    with pytest.raises(QueryError, match="no common score"):
        soundalike.open(made.store.path).search(text="rain", unlike=[made.windows[0].window_id])


def test_command_takes_like_and_unlike(made: Synthetic, run: Run) -> None:
    first, second = (str(made.windows[at].window_id) for at in (0, 40))
    sounds = soundalike.open(made.store.path)
    expected = sounds.search(int(first), unlike=[int(second)], k=5)
    words = (made.store.path, "--unlike", second, "-k", 5, "--format", "json")
    for question in ((first,), ("--like", first)):
        hits = json.loads(run("search", *words[:1], *question, *words[1:]).out)["hits"]
        assert [hit["window_id"] for hit in hits] == [hit.window_id for hit in expected]
    assert "goes with a QUERY" in run("search", made.store.path, "--unlike", second, code=2).err


@pytest.mark.whole
def test_a_clip_that_was_listened_to_asks_as_its_file_does(tmp_path: Path) -> None:
    write_tone(tmp_path / "library/a.wav", 3.0, 440)
    write_tone(tmp_path / "library/b.wav", 3.0, 900)
    sounds = soundalike.open(tmp_path / "store", checkpoint="demo", device="cpu")
    sounds.index(tmp_path / "library", num_workers=0)
    quiet, loud = write_tone(tmp_path / "q.wav", 3.0, 500, peak=0.05), tmp_path / "library/b.wav"
    for level in (True, False):
        asked = {"level": level, "unlike": [loud], "include_self": True}
        heard = {**asked, "unlike": [sounds.embed(loud, level=True)]}
        expected = sounds.search(quiet, **asked)
        clip = sounds.embed(quiet, level=True)
        assert clip.louder is not None
        for found in (sounds.search(clip, **heard), sounds.search_many([clip], **heard)[0]):
            # What is stored whole asks as it is stored, with probabilities of 16 bits.
            scores = [hit.score for hit in expected]
            assert [hit.score for hit in found] == pytest.approx(scores, abs=1e-4)
            assert found.notes == expected.notes


# --- tags counted --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"threshold": 0.6},
        {"tags": "Animal", "threshold": 0.55},
        {"where": "path like '0-%'", "not_tags": "Dog", "threshold": 0.5},
        {"descendants": False, "threshold": 0.5},
        {"where": "path = 'nothing'"},
    ],
)
def test_facets_count_the_hits_that_one_more_tag_would_leave(
    made: Synthetic, terms: dict[str, object]
) -> None:
    sounds = soundalike.open(made.store.path)
    facets = sounds.facets(**terms)
    asked = Terms(**terms)  # type: ignore[arg-type]
    assert len(facets) == (527 if terms.get("descendants") is False else len(facets))
    assert len({one.tag for one in facets}) == len(facets) >= 527
    for one in facets[::25]:
        more = (*asked.tags, one.tag.mid)
        left = sounds.search(terms=asked, tags=more, k=1000, all_windows=True)
        assert one.num_windows == len(left) == sounds.count(terms=asked, tags=more), one.tag.name
    everything = TagVocabulary.audioset()
    outputs = {node.mid for node in everything.tags}
    assert outputs <= {one.tag.mid for one in facets}


def test_windows_by_id_and_around(made: Synthetic) -> None:
    sounds, windows = soundalike.open(made.store.path), made.windows
    some = [windows[at].window_id for at in (200, 3, 3)]
    hits = sounds.windows(*some)
    assert [hit.window_id for hit in hits] == some
    assert [hit.start_s for hit in hits] == [windows[at].start_s for at in (200, 3, 3)]
    assert sounds.windows() == []
    for number, expected in ((0, [4]), (1, [3, 4, 5]), (9, [3, 4, 5])):
        around = sounds.around(windows[4].window_id, number)
        assert [hit.window_id for hit in around] == [windows[at].window_id for at in expected]
        assert {hit.paths for hit in around} == {hits[1].paths}
    with pytest.raises(QueryError, match="no window 12 in"):
        sounds.around(12)


def test_windows_of_several_stores(made: Synthetic, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other")
    other.add({"x": 2, "y": 2}, seed=9)
    build(other.store)
    both = soundalike.open(made.store.path, other.store.path)
    mine = other.windows[2].window_id
    assert [hit.window_id for hit in both.around(mine)] == [
        one.window_id for one in other.windows[2:4]
    ]
    assert both.count() == len(made.windows) + len(other.windows)
    assert both.about().num_windows == (len(made.windows), len(other.windows))


# --- playing -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("whole")
def test_play_gives_each_span_to_the_player(
    made: Synthetic, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library"
    write_tone(library / "a.wav", 12.0, 440)
    store = tmp_path / "store"
    run("index", library, "--store", store, "--checkpoint", "demo", "-q")
    programs = tmp_path / "bin"
    programs.mkdir()
    player = programs / "ffplay"
    player.write_text(f'#!/bin/sh\nfor last; do :; done\n/bin/cat "$last" >> "{tmp_path}/played"\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    found = run("search", store, "--where", "duration > 1", "--play")
    assert "playing 1 of 2: a.wav" in found.err
    assert (tmp_path / "played").stat().st_size > 12 * 32_000 * 2
    (library / "a.wav").unlink()
    assert (
        "not played: a.wav" in run("search", store, "--where", "duration > 1", "--play", code=3).err
    )
    player.unlink()
    said = run("search", store, "--where", "duration > 1", "--play", code=1).err
    assert "nothing here plays sound: install one of ffplay" in said
