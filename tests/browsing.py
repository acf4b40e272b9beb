"""A browser of the tests, in which the page is used as people use it.

Playwright drives it, which `make browser` installs. Where it or the browser is missing the tests
are skipped; the environment variable SOUNDALIKE_BROWSER, a path or 1, makes that a failure.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import soundalike

try:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright
except ModuleNotFoundError as error:
    _missing: str | None = str(error)
else:
    _missing = None

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

#: What browsers are called that Playwright drives as Chromium.
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: Root has no sandbox; the microphone of a test beeps each second, and is allowed.
_ARGUMENTS = (
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)
#: Hits that the page asks for at once.
PAGE = 30
#: How long the page may take for anything, in seconds: machines that run tests are busy.
_PATIENCE_S = 20.0


@contextmanager
def browsing() -> Iterator[Browser]:
    """Run the browser of this machine; skip the tests where there is none."""
    if _missing:
        _lack(_missing)
    wanted = os.environ.get("SOUNDALIKE_BROWSER", "")
    given = wanted if wanted not in ("", "1") else None
    path = given or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None or not Path(path).exists():
        _lack(f"no browser at {path}" if path else f"none of {', '.join(_BROWSERS)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


def _lack(what: str) -> NoReturn:
    (pytest.fail if os.environ.get("SOUNDALIKE_BROWSER") else pytest.skip)(
        f"{what}: `make browser` installs what is needed"
    )


@contextmanager
def watching(browser: Browser, address: str, provoked: str, **options: Any) -> Iterator[Page]:
    """Show an address, and see that nothing goes wrong there until the end of the block.

    Args:
        browser: The browser.
        address: The address, of a server or of a file.
        provoked: What the console may say of requests that are to fail, as an expression.
        options: Those of `Browser.new_context`.
    """
    wrong: list[str] = []
    root = re.match(r"https?://[^/]+/|file:///", address)
    assert root
    own = (root[0], "data:", "blob:")

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not (provoked and re.search(provoked, message.text)):
            wrong.append(f"{message.text} ({message.location['url']})")

    context = browser.new_context(**options)
    try:
        context.on("console", hear)
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        context.on("request", lambda one: one.url.startswith(own) or wrong.append(one.url))
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_S * 1e3)
        page.goto(address)
        yield page
    finally:
        context.close()
    assert wrong == []


def until(page: Page, holds: Callable[[], object]) -> None:
    """Wait until something holds; whoever asks asserts it, and sees what there is in its place."""
    end = time.monotonic() + _PATIENCE_S
    while not holds() and time.monotonic() < end:
        page.wait_for_timeout(30)


def see_text(page: Page, selector: str, *expected: str) -> None:
    """Wait for texts in what is shown somewhere."""
    place = page.locator(selector)
    until(page, lambda: place.is_visible() and all(one in place.inner_text() for one in expected))
    for one in expected:
        assert one in place.inner_text()


# --- hits ----------------------------------------------------------------------------------------


def windows_in(page: Page) -> list[str]:
    """Return the windows of the rows, in their order."""
    return page.eval_on_selector_all(".hit", "rows => rows.map(row => row.dataset.window)")


def see_hits(page: Page, expected: soundalike.Answer) -> None:
    """Wait until the rows are the hits of an answer, in its order and with its scores."""
    wanted = [str(hit.window_id) for hit in expected]
    assert wanted
    until(page, lambda: windows_in(page) == wanted)
    assert windows_in(page) == wanted
    titles = page.eval_on_selector_all(".hit .score", "scores => scores.map(one => one.title)")
    scores = [float(title.removeprefix("score ")) for title in titles]
    assert scores == pytest.approx([hit.score for hit in expected], abs=1e-4)


def row_of(page: Page, hit: soundalike.Hit) -> Locator:
    return page.locator(f'.hit[data-window="{hit.window_id}"]')


def hear(page: Page) -> str:
    """Wait until something is heard for a while, and return what: "hit:ID" or "example:…"."""
    asked = "import('/page/sound.js').then(({ player }) => [player.key, player.audio.currentTime])"
    until(page, lambda: page.evaluate(asked)[1] > 0.1)
    key, seconds = page.evaluate(asked)
    assert seconds > 0.1
    return str(key)


# --- hands ---------------------------------------------------------------------------------------


def drop(page: Page, file: Path, name: str | None = None) -> None:
    """Drop a file on the page, as from a folder's window."""
    content = base64.b64encode(file.read_bytes()).decode()
    carried = page.evaluate_handle(
        """([content, name]) => {
            const carried = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            carried.items.add(new File([bytes], name));
            return carried;
        }""",
        [content, name or file.name],
    )
    for event in ("dragenter", "dragover"):
        page.dispatch_event("#drop", event, {"dataTransfer": carried})
    assert page.locator("#overlay").is_visible()
    page.dispatch_event("#drop", "drop", {"dataTransfer": carried})
    assert not page.locator("#overlay").is_visible()


def drag(page: Page, first: float, last: float) -> None:
    """Draw a region with the mouse, between two shares of what is shown."""
    page.locator(".stage").scroll_into_view_if_needed()
    box = page.locator(".stage").bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + first * box["width"], y)
    page.mouse.down()
    for share in (first + (last - first) / 2, last):
        page.mouse.move(box["x"] + share * box["width"], y)
    page.mouse.up()


def region_in(page: Page) -> dict[str, float]:
    """Wait for a region in the address, and return it as `Sounds.search` takes it."""
    until(page, lambda: "@" in page.url)
    found = re.search(r"#like=c:[\w-]+@([\d.]+)-([\d.]+)", page.url)
    assert found, page.url
    start, end = map(float, found.groups())
    return {"start": start, "duration": end - start}


def tab_to(page: Page, selector: str, key: str = "Tab") -> None:
    """Go with the keyboard until a control has the focus."""
    for _ in range(200):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press(key)
    pytest.fail(f"{key} does not lead to {selector}")


# --- eyes ----------------------------------------------------------------------------------------


def barriers(page: Page) -> list[str]:
    """Return what keeps people out, as axe finds it: what is serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html']}: {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
