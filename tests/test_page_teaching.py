"""Teaching on the page, in a browser: what people label there, against what the stores have."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import (
    PAGE,
    barriers,
    browsing,
    hear,
    row_of,
    see_hits,
    see_text,
    tab_to,
    until,
    watching,
    windows_in,
)
from conftest import REPOSITORY
from web_server import Running, serving

import soundalike
from soundalike.sounds import Sounds

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.whole

#: What is taught: files of which there are some among the samples.
IS_ONE = ("dog", "duck", "turkey", "fox", "cow", "caribou")
_NUMBERS = itertools.count()
Visit = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def store(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples; none without a browser."""
    path = tmp_path_factory.mktemp("taught") / "store"
    sounds = soundalike.open(path, checkpoint="demo", device="cpu")
    sounds.index(REPOSITORY / "data/samples", num_workers=0, hop_s=5.0)
    return path


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Running]:
    with serving(store, "--device", "cpu", "-q") as running:
        yield running


@pytest.fixture(scope="module")
def sounds(store: Path) -> Sounds:
    return soundalike.open(store, device="cpu")


@pytest.fixture
def name() -> str:
    """Of a tag that no other test has said anything of."""
    return f"beast_{next(_NUMBERS)}"


@pytest.fixture
def visit(browser: Browser, server: Running) -> Iterator[Visit]:
    with ExitStack() as stack:

        def open_page(question: str = "", provoked: str = "", **options: object) -> Page:
            address = server.address + (f"#{question}" if question else "")
            return stack.enter_context(watching(browser, address, provoked, **options))

        yield open_page


def is_one(hit: soundalike.Hit) -> bool:
    assert hit.path
    return any(one in hit.path.name for one in IS_ONE)


def said(sounds: Sounds, name: str) -> dict[int, str]:
    return {one.window_id: one.says for one in sounds.labels(name)}


def says_in(page: Page, hit: soundalike.Hit) -> list[str]:
    """What is pressed in the row of a hit."""
    return row_of(page, hit).locator(".verdict [aria-pressed=true]").all_inner_texts()


def taught(sounds: Sounds, name: str) -> list[soundalike.Hit]:
    """Label and learn it without the page; return what was labelled."""
    hits = list(sounds.search(tags="Animal", k=PAGE))
    sounds.label(
        name, yes=[one for one in hits if is_one(one)], no=[one for one in hits if not is_one(one)]
    )
    sounds.learn(name)
    return hits


def seen_window(page: Page) -> int:
    """The window that is reviewed."""
    card = page.locator("#review-card")
    until(page, lambda: card.get_attribute("data-window"))
    return int(card.get_attribute("data-window") or 0)


def test_a_walk_from_labels_to_a_filter_to_a_review(
    visit: Visit, sounds: Sounds, name: str
) -> None:
    page = visit("tag=Animal")
    hits = sounds.search(tags="Animal", k=PAGE)
    see_hits(page, hits)
    assert not page.locator(".verdict").count()
    page.click("#open-teach")
    page.fill("#teach-name", f"My.{name} ")
    page.press("#teach-name", "Enter")
    see_text(page, "#teach-title", f"my.{name}")
    assert f"teach={name}" in page.url

    first, second = hits[0], hits[1]
    for hit in hits:  # with the mouse
        row_of(page, hit).locator(f"[data-says={'yes' if is_one(hit) else 'no'}]").click()
    expected = {one.window_id: "yes" if is_one(one) else "no" for one in hits}
    until(page, lambda: said(sounds, name) == expected)
    assert said(sounds, name) == expected
    counts = list(expected.values())
    see_text(page, "#teach-count", f"{counts.count('yes')} yes, {counts.count('no')} no")
    until(page, lambda: sounds.learned_names())
    see_text(page, "#teach-lesson", f"Learned from {counts.count('yes')} yes")

    row_of(page, first).click()  # with keys
    page.keyboard.press("u")
    until(page, lambda: says_in(page, first) == ["unsure"])
    page.keyboard.press("j")
    page.keyboard.press("y")
    says = {**expected, first.window_id: "unsure", second.window_id: "yes"}
    until(page, lambda: said(sounds, name) == says)
    assert said(sounds, name) == says
    for _ in range(2):
        page.keyboard.press("Control+z")
    until(page, lambda: said(sounds, name) == expected)
    assert said(sounds, name) == expected
    until(page, lambda: says_in(page, first) == [expected[first.window_id]])
    assert says_in(page, first) == [expected[first.window_id]]

    page.click("#teach-learn")
    label = sounds.learned(name).told
    until(page, lambda: sounds.learned(name).told["yes"] == counts.count("yes"))
    see_text(page, "#teach-learn", "Learn")
    page.click("#teach-find")
    assert f"tag=my.{name}" in page.url
    found = sounds.search(tags=f"my.{name}", k=PAGE)
    assert len(found) > 3, label
    see_hits(page, found)
    see_text(page, f'[data-tag="my.{name}"]', str(sounds.count(tags=f"my.{name}")))
    names = page.locator("#facets .label").all_inner_texts()
    assert names.index(f"my.{name}") < min(names.index(one) for one in names if one[:3] != "my.")


def test_a_review_with_keys_alone(visit: Visit, sounds: Sounds, name: str) -> None:
    taught(sounds, name)
    before = said(sounds, name)
    page = visit(f"tag=my.{name}")
    tab_to(page, "#open-teach")
    page.keyboard.press("Enter")
    until(page, lambda: page.evaluate("document.activeElement.id") == "teach-name")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    see_text(page, "#curve-caption", "From 0.5 on")
    tab_to(page, "#teach-review")
    page.keyboard.press("Enter")
    first = seen_window(page)
    assert first == sounds.review(name, "margin", 1)[0].window_id
    assert "review=margin" in page.url
    page.keyboard.press("Space")
    assert hear(page) == f"review:{first}"
    page.keyboard.press("y")
    until(page, lambda: first in said(sounds, name))
    assert said(sounds, name) == {**before, first: "yes"}
    second = seen_window(page)
    assert second != first
    assert hear(page) == f"review:{second}"  # by itself
    page.keyboard.press("s")
    until(page, lambda: seen_window(page) != second)
    third = seen_window(page)
    page.keyboard.press("n")
    until(page, lambda: third in said(sounds, name))
    assert said(sounds, name) == {**before, first: "yes", third: "no"}
    assert {one.via for one in sounds.labels(name)[-2:]} == {"margin"}
    page.keyboard.press("Control+z")
    until(page, lambda: seen_window(page) == third)
    assert seen_window(page) == third
    assert said(sounds, name) == {**before, first: "yes"}
    page.reload()  # the address has it
    until(page, lambda: page.locator("#review-card [data-says=yes]").is_visible())
    assert seen_window(page) == sounds.review(name, "margin", 1)[0].window_id


def test_the_curve_tells_what_chance_has_told(visit: Visit, sounds: Sounds, name: str) -> None:
    taught(sounds, name)
    page = visit(f"tag=my.{name}&teach={name}")
    number = sounds.estimates(name)[4].num_windows
    see_text(page, "#curve-caption", f"From 0.5 on {number} windows have it", "drawn at random")
    page.click("#curve-draw")
    assert "review=random" in page.url
    drawn = sounds.review(name, "random", 20)
    for hit in drawn:
        until(page, lambda hit=hit: seen_window(page) == hit.window_id)  # type: ignore[misc]
        page.keyboard.press("y" if is_one(hit) else "n")
    until(page, lambda: len([one for one in sounds.labels(name) if one.via == "random"]) == 20)
    page.click("#teach-learn")  # where lessons take long, as on a busy machine, one asks for them
    page.click("#curve summary")

    def shown() -> list[list[str]]:
        rows = page.locator(".curve-table tbody tr")
        return [rows.nth(at).locator("td").all_inner_texts() for at in range(rows.count())]

    def wanted() -> list[list[str]]:
        return [
            [
                f"{one.threshold:g}",
                f"{one.num_windows}",
                f"{one.num_right} of {one.num_judged}, {one.low:.0%} to {one.high:.0%}".replace(
                    "%", " %"
                )
                if one.num_judged
                else "not known",
            ]
            for one in sounds.estimates(name)
        ]

    until(page, lambda: shown() == wanted())
    assert shown() == wanted()
    assert any("of" in row[2] for row in shown())


def test_two_pages_label_at_once_and_undo_their_own(
    visit: Visit, sounds: Sounds, name: str
) -> None:
    hits = sounds.search(tags="Animal", k=PAGE)
    one, other = visit(f"tag=Animal&teach={name}"), visit(f"tag=Animal&teach={name}")
    for page in (one, other):
        see_hits(page, hits)
        row_of(page, hits[0]).locator(".verdict").wait_for()
    for at in range(6):
        for page, hit in ((one, hits[at]), (other, hits[6 + at])):
            row_of(page, hit).locator("[data-says=yes]").click()
    until(one, lambda: len(said(sounds, name)) == 12)
    assert set(said(sounds, name)) == {hit.window_id for hit in hits[:12]}
    until(one, lambda: one.locator("#teach-undo").is_enabled())
    one.click("#teach-undo")  # the other's word is the last
    until(one, lambda: len(said(sounds, name)) == 11)
    assert hits[5].window_id not in said(sounds, name)
    row_of(other, hits[6]).locator("[data-says=yes]").click()  # once more: taken back
    until(other, lambda: len(said(sounds, name)) == 10)
    assert hits[6].window_id not in said(sounds, name)
    one.evaluate("window.dispatchEvent(new Event('focus'))")  # as on coming back to it
    until(one, lambda: says_in(one, hits[7]) == ["yes"])
    assert says_in(one, hits[7]) == ["yes"]
    see_text(one, "#teach-count", "10 yes, 0 no")


def test_a_new_name_has_its_labels_while_words_of_the_last_are_on_their_way(
    visit: Visit, sounds: Sounds, name: str
) -> None:
    hits = sounds.search(tags="Animal", k=PAGE)
    sounds.label(f"{name}_b", yes=hits[:2], no=hits[2:3])
    page = visit(f"tag=Animal&teach={name}")
    see_hits(page, hits)
    held: list[Route] = []
    page.route(
        f"**/taught/{name}/labels",
        lambda route: held.append(route) if route.request.method == "POST" else route.continue_(),
    )
    row_of(page, hits[0]).locator("[data-says=yes]").click()
    until(page, lambda: held)
    page.evaluate(f"location.hash = 'tag=Animal&teach={name}_b'")
    see_text(page, "#teach-title", f"my.{name}_b")
    held[0].continue_()
    see_text(page, "#teach-count", "2 yes, 1 no")
    assert says_in(page, hits[0]) == ["yes"]
    assert said(sounds, name) == {hits[0].window_id: "yes"}


def test_labels_are_taken_away_and_a_wrong_name_is_told(
    visit: Visit, sounds: Sounds, name: str
) -> None:
    taught(sounds, name)
    page = visit(f"tag=Animal&teach={name}")
    see_text(page, "#teach-count", "yes")
    with page.expect_download() as awaited:
        page.click("#teach-table")
    assert awaited.value.suggested_filename == f"{name}.labels.csv"
    with Path(awaited.value.path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["window_id"]): row["says"] for row in rows} == said(sounds, name)
    page.click("#teach-change")
    assert "teach" not in page.url
    for wrong in ("123", "сова", "Käuzchen", "Rattle snake"):  # none is made of them
        page.fill("#teach-name", wrong)
        page.press("#teach-name", "Enter")
        see_text(page, "#teach-says", "is called by a small letter", f"got “{wrong}”")
        assert "teach" not in page.url
    page.fill("#teach-name", "my.")
    page.press("#teach-name", "Enter")
    see_text(page, "#teach-says", "is called by a small letter", "got “”")
    page.click("#teach-close")
    assert not page.locator("#teach").is_visible()
    assert not page.locator(".verdict").count()
    assert windows_in(page)


def test_a_damaged_file_of_labels_hides_no_other(visit: Visit, sounds: Sounds, name: str) -> None:
    hits = sounds.search(tags="Animal", k=2)
    sounds.label(name, yes=hits)
    book = sounds.own.folder / "labels" / f"{name}_b.jsonl"
    book.write_text("garbage\n")
    page = visit("tag=Animal")
    page.click("#open-teach")
    see_text(page, "#teach-says", f"my.{name}_b: ", "line 1 is not what was written")
    assert page.locator(f'#teach-names [value="{name}"]').inner_text() == "2 yes, 0 no"
    page.fill("#teach-name", name)
    page.press("#teach-name", "Enter")
    see_text(page, "#teach-count", "2 yes, 0 no")
    book.unlink()


@pytest.mark.parametrize("status", [401, 500])
def test_words_wait_for_a_server_that_knows_the_page_again(
    visit: Visit, sounds: Sounds, name: str, status: int
) -> None:
    hits = sounds.search(tags="Animal", k=PAGE)
    page = visit(f"tag=Animal&teach={name}", provoked=str(status))
    see_hits(page, hits)
    row_of(page, hits[0]).locator(".verdict").wait_for()
    where = f"**/taught/{name}/labels"
    page.route(where, lambda route: route.fulfill(status=status, json={"detail": "open another"}))
    for number, hit in enumerate(hits[:2], start=1):
        row_of(page, hit).locator("[data-says=no]").click()
        see_text(page, "#teach-says", f"{number} word", "not kept yet", "Open another")
    see_text(page, "#teach-count", "0 yes, 2 no")
    assert said(sounds, name) == {}
    page.unroute(where)
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    until(page, lambda: len(said(sounds, name)) == 2)
    assert said(sounds, name) == {hit.window_id: "no" for hit in hits[:2]}
    see_text(page, "#teach-says", "What waited is kept")


def test_words_that_the_server_refuses_are_counted(visit: Visit, sounds: Sounds, name: str) -> None:
    hits = sounds.search(tags="Animal", k=PAGE)
    page = visit(f"tag=Animal&teach={name}", provoked="400")
    see_hits(page, hits)
    row_of(page, hits[0]).locator(".verdict").wait_for()
    page.route(
        f"**/taught/{name}/labels",
        lambda route: route.fulfill(status=400, json={"detail": "not this one"}),
    )
    row_of(page, hits[0]).locator("[data-says=no]").click()
    see_text(page, "#teach-says", "Not kept: Not this one")
    row_of(page, hits[1]).locator("[data-says=no]").click()
    see_text(page, "#teach-says", "2 words were not kept")
    see_text(page, "#teach-count", "0 yes, 0 no")


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_keeps_people_out(
    visit: Visit, sounds: Sounds, name: str, tmp_path: Path, width: int, look: str
) -> None:
    taught(sounds, name)
    page = visit(color_scheme=look, viewport={"width": width, "height": 900})
    page.click("#open-teach")
    page.locator("#teach-name").wait_for()
    assert not page.locator("#teach-undo").is_visible()
    assert barriers(page) == []
    page.fill("#teach-name", name)
    page.press("#teach-name", "Enter")
    see_text(page, "#curve-caption", "From 0.5 on")
    page.click("#teach-find")
    see_hits(page, sounds.search(tags=f"my.{name}", k=PAGE))
    page.click("#teach-review")
    seen_window(page)
    page.click("#curve summary")
    assert barriers(page) == []
    wide = page.evaluate("document.scrollingElement.scrollWidth")
    assert wide <= width
    for name in ("#teach-undo", "#teach-learn", "#teach-find", "#teach-review", "#review-by"):
        assert page.locator(name).is_visible(), name
    page.screenshot(path=tmp_path / "teach.png", full_page=True)
    page.keyboard.press("?")
    see_text(page, "#keys-dialog", "take your last word back")
