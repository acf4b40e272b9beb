"""The map in a browser: it is drawn, coloured, drawn around, and marks what is found."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browsing import barriers, browsing, drop, hear, see_hits, see_text, until, watching, windows_in
from conftest import REPOSITORY
from PIL import Image
from synthetic import make_store
from web_server import Running, serving

import soundalike
from search.map.drawing import Map

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.whole

SAMPLES = REPOSITORY / "data/samples"
DOG = SAMPLES / "animals/dog.ogg"
#: As wide as the page of a phone.
PHONE = {"width": 360, "height": 740}
#: Share of the stage that the whole map takes.
FILLED = 0.92
#: How a browser without WebGL2 answers.
NO_WEBGL = """
const before = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind.startsWith("webgl") ? null : before.call(this, kind, ...rest);
};
"""

Visit = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def store(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    shutil.copytree(SAMPLES, folder / "library")
    sounds = soundalike.open(folder / "store", checkpoint="demo", device="cpu")
    sounds.index(folder / "library", num_workers=0, hop_s=2.0)
    return folder / "store"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Running]:
    with serving(store, "--device", "cpu", "-q") as running:
        yield running


@pytest.fixture(scope="module")
def sounds(store: Path) -> soundalike.Sounds:
    return soundalike.open(store, device="cpu")


@pytest.fixture(scope="module")
def found(sounds: soundalike.Sounds) -> Map:
    return sounds.map()


@pytest.fixture
def visit(browser: Browser, server: Running) -> Iterator[Visit]:
    """Open the page at a question, and the map on it."""
    with ExitStack() as stack:

        def open_page(question: str = "", *, opens: bool = True, **options: Any) -> Page:
            address = server.address + (f"#{question}" if question else "")
            page = stack.enter_context(watching(browser, address, "404", **options))
            page.wait_for_selector("#facets button", state="attached")
            if opens:
                page.click("#open-map")
                page.wait_for_selector("#map-stage[data-drawn]")
            return page

        yield open_page


def at_stage(page: Page, xy: Any) -> np.ndarray[Any, Any]:
    """Return where places of the whole map are on the page, in pixels."""
    page.locator("#map-stage").scroll_into_view_if_needed()
    box = page.locator("#map-stage").bounding_box()
    assert box
    unit = min(box["width"], box["height"]) * FILLED
    x, y = np.asarray(xy, float).reshape(-1, 2).T - 0.5
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return np.stack([middle[0] + x * unit, middle[1] - y * unit], 1)


def lasso(page: Page, corners: list[tuple[float, float]]) -> None:
    """Draw around a part with Shift and the mouse."""
    places = at_stage(page, corners).tolist()
    page.keyboard.down("Shift")
    page.mouse.move(*places[0])
    page.mouse.down()
    for x, y in [*places[1:], places[0]]:
        page.mouse.move(x, y, steps=8)
    page.mouse.up()
    page.keyboard.up("Shift")


def colour_at(page: Page, xy: Any) -> np.ndarray[Any, Any]:
    """Return (n, 3) the colours of the page at some places of the map."""
    places = at_stage(page, xy)
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), int)
    columns, rows = places.astype(int).T
    return np.asarray(picture[rows, columns])


def only_points(page: Page) -> None:
    """Hide what lies over the points."""
    over = ".map-names, .map-tools, .map-stage > canvas + canvas"
    page.eval_on_selector_all(over, "all => all.forEach((one) => { one.hidden = true; })")


def in_rectangle(found: Map, left: float, right: float) -> np.ndarray[Any, Any]:
    return np.asarray((found.xy[:, 0] > left) & (found.xy[:, 0] < right))


def free_line(found: Map, wanted: float) -> float:
    """Return an x near one that is wanted, as far as can be from all points."""
    x = np.sort(found.xy[:, 0])
    gaps = np.diff(x)
    near = np.flatnonzero(abs(x[:-1] - wanted) < 0.1)
    widest = near[gaps[near].argmax()]
    assert gaps[widest] > 0.01
    return float(x[widest] + gaps[widest] / 2)


def test_a_walk_over_the_map(visit: Visit, sounds: soundalike.Sounds, found: Map) -> None:
    page = visit()
    see_text(page, "#map-count", f"{len(found)} windows in {len(found.clusters)} regions")
    names = page.locator(".map-names span:visible").all_inner_texts()
    assert names
    assert set(names) <= {one.name for one in found.clusters}

    page.select_option("#map-colours", "tag:Speech")
    see_text(page, "#map-legend", "Speech: not heard", "surely heard")

    left, right = free_line(found, 0.3), free_line(found, 0.65)
    lasso(page, [(left, -0.02), (right, -0.02), (right, 1.02), (left, 1.02)])
    inside = set(found.window_ids[in_rectangle(found, left, right)].tolist())
    assert 10 < len(inside) < len(found) - 10
    see_text(page, "#map-count", f"{len(inside)} windows marked")
    see_text(page, "#count", f"of {len(inside)} windows that fit")
    until(page, lambda: windows_in(page))
    assert {int(one) for one in windows_in(page)} <= inside
    chip = page.locator("#active .filter-chip")
    assert chip.inner_text().strip().endswith("part of the map")
    assert "tag=selected." in page.url
    assert page.locator("#link-note").is_visible()

    drop(page, DOG)
    name = sounds.select(inside)
    see_hits(page, ranked := sounds.search(DOG, tags=name, k=30))
    until(page, lambda: page.locator("[data-marked]").get_attribute("data-marked") == "30")
    assert {hit.window_id for hit in ranked} <= inside
    page.click("#active .filter-chip [aria-label^=Drop]")
    see_hits(page, every := sounds.search(DOG, k=30))
    assert {hit.window_id for hit in every} - inside
    assert not page.locator("#active").is_visible()


def test_points_have_their_colours(visit: Visit, sounds: soundalike.Sounds, found: Map) -> None:
    """A region in one colour, and others in others; where no point is, there is the ground."""
    page = visit(viewport={"width": 1500, "height": 1200})
    only_points(page)
    away = np.linalg.norm(found.xy[:, None] - found.xy, axis=2) + 9 * np.eye(len(found))
    alone = away.min(1) > 0.02
    assert alone.sum() > 10
    seen = colour_at(page, found.xy[alone])
    ground = colour_at(page, [(0.001, 0.999)])
    assert (abs(seen - ground).sum(1) > 60).all()
    regions = found.cluster[alone]
    middles = {}
    for region in set(regions.tolist()):
        mine = seen[regions == region]
        assert (abs(mine - mine[0]) <= 12).all(), region
        middles[region] = tuple(mine[0].tolist())
    assert len(set(middles.values())) == len(middles)

    page.select_option("#map-colours", "tag:Animal")
    see_text(page, "#map-legend", "Animal")
    page.wait_for_timeout(300)
    shades = sounds.shades(found, "tag", "Animal").values[alone].astype(int)
    strength = abs(colour_at(page, found.xy[alone]) - ground).sum(1)
    assert strength[shades > 150].min() > strength[shades < 30].max()


def test_a_point_is_told_played_and_asked_with(
    visit: Visit, sounds: soundalike.Sounds, found: Map
) -> None:
    page = visit()
    at = int(np.argmax(found.xy[:, 0]))  # nothing lies to the right of it
    (hit,) = sounds.windows(int(found.window_ids[at]))
    page.mouse.move(*at_stage(page, found.xy[at])[0].tolist())
    see_text(page, "#map-card", hit.paths[0].name, hit.tags[0].tag.name)
    page.wait_for_timeout(700)
    playing = "import('/page/sound.js').then(({ player }) => player.key)"
    assert page.evaluate(playing) == ""  # nothing before the first click
    page.mouse.down()
    page.mouse.up()
    assert hear(page) == f"hit:{hit.window_id}"

    page.focus("#map-stage")
    page.keyboard.press("l")
    see_hits(page, sounds.search(hit.window_id, k=30))
    assert f"like=w:{hit.window_id}" in page.url


def test_the_keyboard_goes_from_point_to_point(
    visit: Visit, sounds: soundalike.Sounds, found: Map
) -> None:
    page = visit()
    page.focus("#map-stage")
    paths = []
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(400)
        paths.append(page.inner_text("#map-card"))
    assert len(set(paths)) > 1
    page.keyboard.press("Enter")
    number = int(hear(page).removeprefix("hit:"))
    (hit,) = sounds.windows(number)
    assert hit.paths[0].name in paths[-1]
    x = found.xy[found.window_ids == number][0, 0]
    assert x >= 0.5

    before = page.locator(".map-names span:visible").count()
    for _ in range(5):
        page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("0")
    page.wait_for_timeout(300)
    assert page.locator(".map-names span:visible").count() == before


def test_regions_are_a_list_and_filters(visit: Visit, found: Map) -> None:
    page = visit()
    page.click("#map-fold summary")
    rows = page.locator("#map-regions button")
    assert rows.count() == len(found.clusters)
    for number, cluster in enumerate(found.clusters):
        text = page.locator(f'[data-region="{number}"]').inner_text()
        assert (cluster.name in text, str(cluster.num_windows) in text) == (True, True)
    last = len(found.clusters) - 1
    page.focus(f'[data-region="{last}"]')
    page.keyboard.press("Enter")
    expected = set(found.window_ids[found.cluster == last].tolist())
    see_text(page, "#count", f"of {len(expected)} windows that fit")
    assert {int(one) for one in windows_in(page)} <= expected


def test_a_part_that_is_gone_is_dropped(visit: Visit, sounds: soundalike.Sounds) -> None:
    page = visit("tag=Dog&tag=selected.gone", opens=False)
    see_text(page, "#mention", "no longer kept")
    see_hits(page, sounds.search(tags="Dog", k=30))
    assert "selected" not in page.url


def test_without_webgl_a_sentence_and_the_regions(
    browser: Browser, server: Running, found: Map
) -> None:
    with watching(browser, server.address, "") as page:
        page.add_init_script(NO_WEBGL)
        page.reload()
        page.wait_for_selector("#facets button")
        page.click("#open-map")
        see_text(page, "#map-none", "no WebGL2")
        assert page.locator("#map-regions button").count() == len(found.clusters)
        assert page.locator("#map-regions").is_visible()
        assert not page.locator("#map-stage").count()
        page.click('[data-region="0"]')
        see_text(page, "#count", f"of {found.clusters[0].num_windows} windows that fit")
        assert barriers(page) == []


def test_a_library_too_small_for_a_map_says_so(browser: Browser, tmp_path: Path) -> None:
    few = make_store(tmp_path / "store")
    few.add({"one": 3})
    soundalike.open(few.store.path).build()
    with (
        serving(few.store.path, "-q") as running,
        watching(browser, running.address, "400") as page,
    ):
        page.wait_for_selector("#facets button")
        page.click("#open-map")
        see_text(page, ".map-says", "A map takes")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_nobody_is_kept_out(visit: Visit, look: str) -> None:
    page = visit("tag=Animal", color_scheme=look)
    page.click("#map-fold summary")
    until(page, lambda: windows_in(page))
    assert barriers(page) == []
    page.select_option("#map-colours", "folder")
    see_text(page, "#map-legend", "animals")
    assert barriers(page) == []


def test_it_fits_on_a_phone(visit: Visit, sounds: soundalike.Sounds, found: Map) -> None:
    page = visit(viewport=PHONE, has_touch=True)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["width"]
    box = page.locator("#map-stage").bounding_box()
    assert box
    assert box["width"] > 0.8 * PHONE["width"]
    at = int(np.argmax(found.xy[:, 1]))
    (hit,) = sounds.windows(int(found.window_ids[at]))
    x, y = at_stage(page, found.xy[at])[0]
    page.touchscreen.tap(x, y)
    see_text(page, "#map-card", hit.paths[0].name)
    assert hear(page) == f"hit:{hit.window_id}"


def test_the_map_is_loaded_when_it_is_opened(visit: Visit) -> None:
    page = visit(opens=False)
    loaded = "performance.getEntriesByType('resource').map((one) => one.name).join(' ')"
    assert "map" not in page.evaluate(loaded)
    page.click("#open-map")
    page.wait_for_selector("#map-stage[data-drawn]")
    assert all(name in page.evaluate(loaded) for name in ("map.js", "map_gl.js", "map.css"))
    page.click("#open-map")
    page.wait_for_selector("#map", state="hidden")
    assert page.get_attribute("#open-map", "aria-expanded") == "false"
