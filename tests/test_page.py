"""The page in a browser, on a real server: what people do there, against what `Sounds` answers."""

from __future__ import annotations

import csv
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest
import soundfile
from browsing import (
    PAGE,
    barriers,
    browsing,
    drag,
    drop,
    hear,
    region_in,
    row_of,
    see_hits,
    see_text,
    tab_to,
    until,
    watching,
    windows_in,
)
from conftest import REPOSITORY
from known_structure import make_captioned
from synthetic import Synthetic, make_store, write_tone
from web_server import Running, serving

import soundalike

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Download, FileChooser, Page

pytestmark = pytest.mark.whole

SAMPLES = REPOSITORY / "data/samples"
DOG = SAMPLES / "animals/dog.ogg"
LOOKS = ("light", "dark")

Visit = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def library(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples, copied, so that a test may move them; none without a browser."""
    folder = tmp_path_factory.mktemp("page") / "library"
    shutil.copytree(SAMPLES, folder)
    return folder


@pytest.fixture(scope="module")
def store(library: Path) -> Path:
    path = library.with_name("store")
    soundalike.open(path, checkpoint="demo", device="cpu").index(library, num_workers=0, hop_s=5.0)
    return path


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Running]:
    with serving(store, "--device", "cpu", "-q") as running:
        yield running


@pytest.fixture(scope="module")
def sounds(store: Path) -> soundalike.Sounds:
    return soundalike.open(store, device="cpu")


@pytest.fixture
def visit(browser: Browser, server: Running) -> Iterator[Visit]:
    """Open the page at a question, in a browser without memory, until the end of the test."""
    with ExitStack() as stack:

        def open_page(
            question: str = "", *, of: Running = server, provoked: str = "", **options: Any
        ) -> Page:
            address = of.address + (f"#{question}" if question else "")
            return stack.enter_context(watching(browser, address, provoked, **options))

        yield open_page


def saved(page: Page, press: Callable[[], None]) -> list[dict[str, str]]:
    """Return the rows of a table that is exported."""
    with page.expect_download() as awaited:
        press()
    download: Download = awaited.value
    with Path(download.path()).open(newline="") as file:
        return list(csv.DictReader(file))


def see_rows(rows: list[dict[str, str]], hits: list[soundalike.Hit]) -> None:
    assert [
        (row["window_id"], row["path"], row["start_s"], row["end_s"], float(row["score"]))
        for row in rows
    ] == [
        (
            *(str(hit.window_id), str(hit.path), f"{hit.start_s:.3f}", f"{hit.end_s:.3f}"),
            pytest.approx(hit.score, abs=2e-6),
        )
        for hit in hits
    ]


# --- walks ---------------------------------------------------------------------------------------


def test_a_walk_with_the_mouse(visit: Visit, sounds: soundalike.Sounds) -> None:
    page = visit()
    drop(page, DOG)
    see_hits(page, sounds.search(DOG, k=PAGE))

    drag(page, 0.2, 0.7)
    region = region_in(page)
    length = soundfile.info(DOG).duration
    assert region["start"] == pytest.approx(0.2 * length, abs=0.01 * length)
    assert region["duration"] == pytest.approx(0.5 * length, abs=0.01 * length)
    found = sounds.search(DOG, **region, k=PAGE)
    see_hits(page, found)

    play = row_of(page, found[0]).locator("[data-do=play]")
    play.click()
    assert hear(page) == f"hit:{found[0].window_id}"
    assert row_of(page, found[0]).locator(".cursor").is_visible()
    play.click()
    assert not row_of(page, found[0]).locator(".cursor").is_visible()

    page.click('#facets [data-not="Speech"]')
    found = sounds.search(DOG, **region, not_tags="Speech", k=PAGE)
    see_hits(page, found)

    liked = found[1]
    row_of(page, liked).locator("[data-do=alike]").click()
    found = before = sounds.search(liked.window_id, not_tags="Speech", k=PAGE)
    see_hits(page, found)

    unwanted = found[2]
    row_of(page, unwanted).locator("[data-do=minus]").click()
    found = sounds.search(liked.window_id, unlike=[unwanted.window_id], not_tags="Speech", k=PAGE)
    assert [hit.window_id for hit in found] != [hit.window_id for hit in before]
    see_hits(page, found)

    page.reload()
    see_hits(page, found)
    page.go_back()
    see_hits(page, before)
    page.go_forward()
    see_hits(page, found)

    page.click("#open-export")
    see_rows(saved(page, lambda: page.click("[data-format=csv]")), list(found))


def test_a_walk_with_the_keyboard(visit: Visit, sounds: soundalike.Sounds) -> None:
    page = visit()
    press = page.keyboard.press
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    tab_to(page, "#choose")
    press("Enter")
    until(page, lambda: choosers)
    choosers[0].set_files(DOG)
    see_hits(page, sounds.search(DOG, k=PAGE))

    tab_to(page, ".last")
    for _ in range(6):
        press("ArrowLeft")
    region = region_in(page)
    assert region["start"] == 0
    assert region["duration"] == pytest.approx(soundfile.info(DOG).duration - 0.6, abs=0.01)
    found = sounds.search(DOG, **region, k=PAGE)
    see_hits(page, found)

    for key in "jjk":
        press(key)
    assert row_of(page, found[0]).get_attribute("aria-current") == "true"
    assert hear(page) == f"hit:{found[0].window_id}"
    press("Space")
    assert not row_of(page, found[0]).locator(".cursor").is_visible()

    press("/")
    page.keyboard.type("duration > 0.5")
    press("Enter")
    press("Escape")
    press("f")
    page.keyboard.type("speech")
    tab_to(page, '[data-not="Speech"]')
    press("Enter")
    terms: dict[str, Any] = {"where": "duration > 0.5", "not_tags": "Speech", "k": PAGE}
    found = sounds.search(DOG, **region, **terms)
    see_hits(page, found)

    press("j")
    press("l")
    liked = found[0]
    found = before = sounds.search(liked.window_id, **terms)
    see_hits(page, found)
    until(page, lambda: row_of(page, found[0]).get_attribute("aria-current") == "true")
    press("m")
    found = sounds.search(liked.window_id, unlike=[found[0].window_id], **terms)
    see_hits(page, found)

    press("?")
    see_text(page, "#keys-dialog", "next and previous hit")
    press("Escape")
    assert not page.locator("#keys-dialog").is_visible()
    page.reload()
    see_hits(page, found)
    page.go_back()
    see_hits(page, before)
    page.go_forward()
    see_hits(page, found)

    press("j")
    press("x")
    tab_to(page, "#open-export", "Shift+Tab")
    press("Enter")
    tab_to(page, "[data-format=csv]")
    rows = saved(page, lambda: press("Enter"))
    see_rows(rows, [found[0]])


def test_a_recording_asks(
    visit: Visit, server: Running, sounds: soundalike.Sounds, tmp_path: Path
) -> None:
    page = visit()
    page.click("#record")
    see_text(page, "#record-time", "0:02")
    page.click("#record-stop")
    see_text(page, "#example-name", "recording")
    clip = page.url.rpartition("c:")[2]
    answer = server.client.get(f"/api/v1/clips/{clip}/audio")
    file = tmp_path / "recording.wav"
    file.write_bytes(answer.content)
    assert soundfile.info(file).duration > 1
    assert abs(soundfile.read(file)[0]).max() > 0.01
    see_hits(page, sounds.search(file, k=PAGE))


def test_words_and_sounds_ask_in_place_of_each_other(visit: Visit, tmp_path: Path) -> None:
    """Both have no common score, so neither leads to a refusal."""
    make_captioned(tmp_path, {"train": 24, "val": 6})
    sounds = soundalike.open(tmp_path / "store")
    sounds.train_projection(tmp_path / "train.csv", tmp_path / "val.csv", epochs=1, dim=8)
    sounds.build()
    words = "train-1 said in way 0"
    with serving(tmp_path / "store", "-q") as running:
        page = visit(of=running)
        page.fill("#words", words)
        page.press("#words", "Enter")
        see_hits(page, found := sounds.search(text=words, k=PAGE))
        minus = row_of(page, found[0]).locator("[data-do=minus]")
        assert minus.is_disabled()
        assert minus.get_attribute("title") == "Words have no minus yet"
        for key in ("Escape", "j", "m"):
            page.keyboard.press(key)
        see_text(page, "#mention", "Words have no minus yet")
        see_hits(page, found)

        row_of(page, found[3]).locator("[data-do=plus]").click()
        see_text(page, "#mention", "in place of", words)
        see_hits(page, liked := sounds.search(found[3].window_id, k=PAGE))
        assert page.input_value("#words") == ""
        assert row_of(page, liked[0]).locator("[data-do=minus]").is_enabled()

        page.fill("#words", words)
        page.press("#words", "Enter")
        see_hits(page, found)
        assert not page.locator(".chip").count()


def test_with_nothing_that_hits_are_like_the_hits_stay(
    visit: Visit, sounds: soundalike.Sounds
) -> None:
    page = visit("tag=Dog")
    see_hits(page, found := sounds.search(tags="Dog", k=PAGE))
    row_of(page, found[0]).locator("[data-do=minus]").click()
    see_text(page, "#like-first", "Say first what hits are like")
    assert f"unlike=w:{found[0].window_id}" in page.url
    see_hits(page, found)
    unwanted = [found[0].window_id]
    row_of(page, found[1]).locator("[data-do=plus]").click()
    see_hits(page, sounds.search(found[1].window_id, unlike=unwanted, tags="Dog", k=PAGE))
    assert not page.locator("#like-first").is_visible()

    page.go_back()
    drop(page, DOG)
    see_hits(page, both := sounds.search(DOG, unlike=unwanted, tags="Dog", k=PAGE))
    page.locator(".chip:not(.minus) [data-do=swap]").click()
    see_text(page, "#like-first", "Say first what hits are like")
    see_hits(page, both)


# --- states --------------------------------------------------------------------------------------


def test_where_nothing_is_found_each_filter_says_what_it_leaves_out(
    visit: Visit, sounds: soundalike.Sounds
) -> None:
    page = visit("tag=Steam+whistle&not=Dog&where=duration+>+1")
    see_text(page, "#state", "No window fits all of the filter")
    tag, without, where = "Steam whistle", "Dog", "duration > 1"
    left = {
        f"tags: {tag}": sounds.count(not_tags=without, where=where),
        f"not_tags: {without}": sounds.count(tags=tag, where=where),
        f"where: {where}": sounds.count(tags=tag, not_tags=without),
    }
    assert left[f"tags: {tag}"] > 1
    for term, number in left.items():
        told = page.locator(f'#state li:has([data-removed="{term}"])').inner_text()
        assert told.endswith(f"leaves {number} window{'' if number == 1 else 's'}")
    almost = sounds.search(tags=tag, not_tags=without, where=where).almost
    assert windows_in(page) == [str(hit.window_id) for hit in almost]
    page.click(f'[data-removed="tags: {tag}"]')
    see_hits(page, sounds.search(not_tags=without, where=where, k=PAGE))
    assert not page.locator("#state").is_visible()


def test_a_file_that_has_moved_is_told_in_its_row(
    visit: Visit, library: Path, sounds: soundalike.Sounds
) -> None:
    (cow,) = sounds.search(where="path like '%cow.ogg'", k=1)
    page = visit("where=path+like+'%25animals/c%25'", provoked="status of 404")
    row = row_of(page, cow)
    row.wait_for()
    file = library / "animals/cow.ogg"
    moved = file.rename(library / "cow elsewhere.ogg")
    try:
        row.locator("[data-do=play]").click()
        see_text(page, ".lost-says", "file not there")
        page.reload()
        see_text(page, ".lost-says", "file not there")
        row.locator("[data-do=alike]").click()  # what was heard in it is known all the same
        see_hits(page, sounds.search(cow.window_id, where="path like '%animals/c%'", k=PAGE))
    finally:
        moved.rename(file)


def test_what_is_no_sound_is_told(visit: Visit, tmp_path: Path) -> None:
    page = visit(provoked="status of 415")
    (tmp_path / "text.wav").write_text("no sound")
    drop(page, tmp_path / "text.wav", "letter <b>.wav")
    see_text(page, "#ask-state", "letter <b>.wav: not audio")
    assert page.url.endswith("/")


def test_a_filter_that_cannot_be_read_is_pointed_at(
    visit: Visit, sounds: soundalike.Sounds
) -> None:
    page = visit("tag=Animal", provoked="status of 400")
    see_hits(page, found := sounds.search(tags="Animal", k=PAGE))
    page.fill("#where", "Dog > and")
    page.press("#where", "Enter")
    see_text(page, "#where-error", "annot read the filter")
    assert page.locator("#where-error mark").inner_text() == "and"
    see_hits(page, found)  # those from before

    # Where there is little room the filters are folded, until there is something to say of them.
    page.set_viewport_size({"width": 360, "height": 800})
    until(page, lambda: not page.locator("#where").is_visible())
    page.reload()
    see_text(page, "#where-error", "annot read the filter")


def test_what_is_no_window_is_not_asked_with(visit: Visit) -> None:
    page = visit("like=w:bark&like=w:" + "9" * 20, provoked="status of 404")
    see_text(page, "#state", "Nothing is asked yet")
    page.fill("#window-id", "bark")
    page.press("#window-id", "Enter")
    told = page.evaluate("document.getElementById('window-id').validationMessage")
    assert told == "A window id is a number of up to 19 digits"
    page.fill("#window-id", "9" * 19)  # more than there may be
    page.press("#window-id", "Enter")
    see_text(page, "#state", "No window " + "9" * 19)
    assert page.url.endswith("#like=w:" + "9" * 19)


def test_a_store_without_an_index_is_told(visit: Visit, tmp_path: Path) -> None:
    made = make_store(tmp_path / "store")
    made.add({"a": 2})
    with serving(made.store.path, "-q") as running:
        page = visit(of=running, provoked="status of 409")
        see_text(page, "[data-banner=index]", "no index yet", "soundalike build")
        page.fill("#window-id", str(made.windows[0].window_id))
        page.press("#window-id", "Enter")
        see_text(page, "#state", "no index")


def test_many_windows_of_stores_without_their_files(visit: Visit, tmp_path: Path) -> None:
    """And what was added since the index was built."""
    made = [make_store(tmp_path / name, frames="none") for name in ("north", "south")]
    for number, one in enumerate(made):
        one.add({f"{number} {at}": 60 for at in range(100)}, seed=number)
    paths = [one.store.path for one in made]
    for path in paths:
        soundalike.open(path).build()
    with serving(*paths, "-q") as running:
        window = made[0].windows[100].window_id
        page = visit(f"like=w:{window}", of=running)
        found = soundalike.open(*paths).search(window, k=PAGE)
        see_hits(page, found)
        see_text(page, "#stores", "12,000 windows of north, south")
        see_text(page, "#count", f"{PAGE} hits of 12,000 windows")
        assert page.locator(".hit .lost-says").all_text_contents() == ["file not there"] * PAGE
        assert not page.locator("[data-banner]").count()

        page.click("#load-more")
        more = soundalike.open(*paths).search(window, k=2 * PAGE)
        see_hits(page, more)

        add_to(made[1])
        page.reload()
        see_text(page, "[data-banner=new]", "1 new part", "not searched yet", "soundalike build")


def add_to(made: Synthetic) -> None:
    made.add({"new": 3}, seed=9)


def test_a_server_that_is_gone_and_comes_back(
    visit: Visit, store: Path, sounds: soundalike.Sounds
) -> None:
    """Without a token, which would be another one; what was sent is lost."""
    with serving(store, "--device", "cpu", "-q", token=False) as running:
        page = visit(of=running, provoked="ERR_CONNECTION|ERR_SOCKET|status of 404")
        drop(page, DOG)
        see_hits(page, sounds.search(DOG, k=PAGE))
        page.locator("#facets [data-tag=Animal]").wait_for()
    page.click("#facets [data-tag=Animal]")
    see_text(page, "[data-banner=gone]", "does not answer", "soundalike serve", "in ")
    page.click("[data-banner=gone] button")
    see_text(page, "[data-banner=gone]", "tried again by itself")
    port = int(running.root.rpartition(":")[2])
    with serving(store, "--device", "cpu", "-q", token=False, port=port):
        see_text(page, "#state", "no longer kept; drop it again")
        assert not page.locator("[data-banner=gone]").count()
        page.click("#drop-lost")
        see_hits(page, sounds.search(tags="Animal", k=PAGE))


def test_who_has_no_token_is_told(visit: Visit, server: Running, browser: Browser) -> None:
    page = visit(provoked="status of 401")
    page.locator("#facets [data-tag=Animal]").wait_for()
    page.context.clear_cookies()
    page.click("#facets [data-tag=Animal]")
    see_text(page, "[data-banner=token]", "not let in", "with its token")
    with watching(browser, f"{server.root}/", "status of 401") as stranger:
        assert "open the address that 'soundalike serve' printed" in stranger.inner_text("body")


@contextmanager
def keeping_busy(server: Running, file: Path) -> Iterator[None]:
    """Have more asked than the server lets wait, until the end of the block."""
    clip, done = server.send(file)["id"], threading.Event()

    def ask(number: int) -> None:
        with httpx.Client(base_url=server.root, headers=server.client.headers, timeout=60) as own:
            at = float(number)
            while not done.is_set():
                asking = {"clip": clip, "start_s": at, "end_s": at + 5}
                own.post("/api/v1/search", json={"like": [asking]})
                at += 0.001  # what was asked before would be remembered
                time.sleep(0.01)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        done.set()
        for one in threads:
            one.join()


def test_a_busy_server_is_asked_again(
    visit: Visit, server: Running, sounds: soundalike.Sounds, tmp_path: Path
) -> None:
    page = visit(provoked="status of 503")
    drop(page, DOG)
    see_hits(page, sounds.search(DOG, k=PAGE))
    banner = page.locator("[data-banner=busy]")
    with keeping_busy(server, write_tone(tmp_path / "long.wav", 20.0)):
        for number in range(5):  # a question may find the one place that is free
            drag(page, 0.1, 0.6 + number / 20)
            page.wait_for_timeout(1500)
            if banner.is_visible():
                break
        see_text(page, "[data-banner=busy]", "hands full", "asked again by itself", "in ")
    see_hits(page, sounds.search(DOG, **region_in(page), k=PAGE))
    assert not banner.count()


# --- what is told -------------------------------------------------------------------------------


def test_what_asks_is_left_out_until_it_is_wanted(visit: Visit, sounds: soundalike.Sounds) -> None:
    asks = sounds.search(tags="Dog", k=1)[0].window_id
    page = visit(f"like=w:{asks}")
    see_hits(page, found := sounds.search(asks, k=PAGE))
    number = found.num_left_out
    assert number > 0
    see_text(page, "#notes", f"{number} window{'' if number == 1 else 's'} of what asks")
    page.click("#show-self")
    see_hits(page, sounds.search(asks, include_self=True, k=PAGE))
    see_text(page, "#notes", "What asks is among the hits")
    page.reload()
    see_hits(page, sounds.search(asks, include_self=True, k=PAGE))
    page.click("#show-self")
    see_hits(page, found)


def test_an_export_of_sounds_names_those_that_are_not_there(
    visit: Visit, library: Path, sounds: soundalike.Sounds
) -> None:
    file = library / "animals/cow.ogg"
    moved = file.rename(library / "cow elsewhere.ogg")
    try:
        page = visit("where=path+like+'%25animals/c%25'")
        hits = sounds.search(where="path like '%animals/c%'", k=PAGE)
        see_hits(page, hits)
        lost = sum(not hit.is_there for hit in hits)
        page.click("#open-export")
        with page.expect_download() as awaited:
            page.click("[data-format=zip]")
        see_text(page, "#export-state", f"Saved; {lost} {'is' if lost == 1 else 'are'} not there")
        with zipfile.ZipFile(awaited.value.path()) as packed:
            told = packed.read("not_read.txt").decode()
        assert len(told.splitlines()) == lost > 0
    finally:
        moved.rename(file)


def test_tags_beside_the_waveform_are_of_what_is_told(visit: Visit) -> None:
    page = visit()
    drop(page, DOG)
    see_text(page, "#example-tags", "in all of it")
    drag(page, 0.2, 0.7)
    region_in(page)
    assert not page.locator("#example-tags").is_visible()
    page.click("#example-whole")
    see_text(page, "#example-tags", "in all of it")


def test_no_more_asks_than_may(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    drop(page, write_tone(tmp_path / "long.wav", 150.0))
    see_text(page, "#example-region", "10.0 s of 2:30")
    drag(page, 0.1, 0.99)
    see_text(page, "#example-region", "At most 2 minutes ask at once", "120.0 s of 2:30")
    assert region_in(page)["duration"] == pytest.approx(120, abs=0.01)


def test_minus_and_the_place_leave_each_other_alone(
    visit: Visit, sounds: soundalike.Sounds
) -> None:
    one, other = (hit.window_id for hit in sounds.search(tags="Animal", k=2))
    page = visit(f"like=w:{one}@0-1&place=1")
    page.locator(".hit").first.wait_for()
    minus = page.locator(".hit [data-do=minus]").first
    assert minus.is_disabled()
    assert "no minus" in (minus.get_attribute("title") or "")
    page.click("#place")
    until(page, minus.is_enabled)
    assert minus.is_enabled()
    page.goto(page.url.partition("#")[0] + f"#like=w:{one}&unlike=w:{other}&place=1")
    see_hits(page, sounds.search(one, unlike=[other], k=PAGE))
    assert page.locator("#place").is_disabled()


def test_names_of_files_are_seen_as_they_are(visit: Visit, sounds: soundalike.Sounds) -> None:
    page = visit("where=path+like+'%25/cow.ogg'")
    see_hits(page, sounds.search(where="path like '%/cow.ogg'", k=PAGE))
    assert page.locator(".hit .name").first.text_content() == "animals/cow.ogg"
    drop(page, DOG, "dog\u202egnp.ogg")
    see_text(page, "#example-name", "dog\\u202egnp.ogg")


# --- what it looks like --------------------------------------------------------------------------


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_keeps_people_out(
    visit: Visit, server: Running, sounds: soundalike.Sounds, look: str
) -> None:
    page = visit(color_scheme=look)
    see_text(page, "#state", "Nothing is asked yet")
    page.locator("#facets .facet").first.wait_for()
    assert barriers(page) == []
    drop(page, DOG)
    see_hits(page, sounds.search(DOG, k=PAGE))
    page.keyboard.press("j")
    page.click("#tree-fold summary")
    assert barriers(page) == []
    for opens in ("#show-keys", "#where-help", "#open-export"):
        page.click(opens)
        assert page.locator("dialog[open]").is_visible()
        assert barriers(page) == []
        page.keyboard.press("Escape")
    page.goto(f"{server.root}/#tag=Steam+whistle&tag=Dog")
    see_text(page, "#state", "No window fits all of the filter")
    assert barriers(page) == []
    page.goto(f"{server.root}/api/docs")
    for route in ("get /api/v1/tags", "post /api/v1/search"):  # all of them take seconds
        page.click(f'[data-route="{route}"] summary >> nth=0')
    assert barriers(page) == []


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("width", [360, 1280, 1920])
def test_it_fits_into_windows_of_every_width(
    visit: Visit,
    server: Running,
    sounds: soundalike.Sounds,
    tmp_path: Path,
    width: int,
    look: str,
) -> None:
    page = visit(color_scheme=look, viewport={"width": width, "height": 800})
    see_text(page, "#state", "Nothing is asked yet")
    for name in ("#choose", "#record", "#window-id", "#filters-title", "#look", "#show-keys"):
        assert page.locator(name).is_visible(), name
    see_no_scrolling(page)
    page.screenshot(path=tmp_path / "empty.png")

    drop(page, SAMPLES / "animals/barking_dogs_in_a_yard.wav")
    see_hits(page, sounds.search(SAMPLES / "animals/barking_dogs_in_a_yard.wav", k=PAGE))
    page.locator(".hit").first.scroll_into_view_if_needed()
    page.locator(".thumb img.here").first.wait_for()
    for name in ("#choose", ".stage", "#example-play", "#sort", "#group", "#open-export"):
        assert page.locator(name).is_visible(), name
    for part in ("play", "alike", "plus", "minus", "copy"):
        assert page.locator(".hit").first.locator(f"[data-do={part}]").is_visible(), part
    see_no_scrolling(page)
    page.screenshot(path=tmp_path / "hits.png")

    page.click("#open-export")
    see_no_scrolling(page)
    page.screenshot(path=tmp_path / "dialog.png")

    page.goto(f"{server.root}/api/docs")
    page.locator("[data-route]").first.wait_for()
    see_no_scrolling(page)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    see_no_scrolling(page)
    page.screenshot(path=tmp_path / "docs.png")


def see_no_scrolling(page: Page) -> None:
    """Nothing is wider than the window."""
    wide, shown = page.evaluate(
        "[document.scrollingElement.scrollWidth, document.scrollingElement.clientWidth]"
    )
    assert wide <= shown


def test_the_page_of_the_routes_has_all_of_them(visit: Visit, server: Running) -> None:
    page = visit()
    page.click("text=API")
    page.locator("[data-route]").first.wait_for()
    routes = server.client.get("/api/openapi.json").json()["paths"]
    expected = [f"{method} {path}" for path, methods in routes.items() for method in methods]
    assert len(expected) > 10
    shown = page.eval_on_selector_all("[data-route]", "all => all.map(one => one.dataset.route)")
    assert shown == expected
    page.click('[data-route="get /api/v1/stores"]')
    page.click('[data-route="get /api/v1/stores"] .try button')
    see_text(page, '[data-route="get /api/v1/stores"] .outcome', "200", '"has_index": true')


def test_it_is_painted_within_a_second(visit: Visit) -> None:
    page = visit()
    painted = "performance.getEntriesByName('first-contentful-paint').map(one => one.startTime)"
    until(page, lambda: page.evaluate(painted))
    (milliseconds,) = page.evaluate(painted)
    assert milliseconds <= 1000
