"""The picture of the map in docs/page.md: a real page of a real store.

    soundalike index data/samples --checkpoint demo --hop 2
    python docs/images/draw_page_map.py samples.soundalike CLIP page-map.png

The clip is data/samples/animals/barking_dog.wav.

It takes what `make browser` installs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from PIL import Image
from playwright.sync_api import sync_playwright

#: Drawn around, in shares of the stage.
_CORNERS = ((0.30, 0.30), (0.44, 0.20), (0.60, 0.30), (0.62, 0.62), (0.48, 0.74), (0.32, 0.62))


def draw(store: str, clip: str, output: str) -> None:
    """Serve a store, ask with a clip, colour the map by a tag, draw around a part of it."""
    command = [sys.executable, "-m", "soundalike", "serve", store, "--port", "0", "-q"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    address = server.stdout.readline().strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1180, "height": 1130}, device_scale_factor=1.5)
        page.goto(address)
        page.set_input_files("#file", clip)
        page.wait_for_selector("li.hit")
        page.click("#open-map")
        page.wait_for_selector("#map-stage[data-drawn]")
        page.select_option("#map-colours", "tag:Animal")
        page.locator("#map-stage").scroll_into_view_if_needed()
        box = page.locator("#map-stage").bounding_box()
        assert box
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in _CORNERS]
        page.keyboard.down("Shift")
        page.mouse.move(*places[0])
        page.mouse.down()
        for x, y in [*places[1:], places[0]]:
            page.mouse.move(x, y, steps=8)
        page.mouse.up()
        page.keyboard.up("Shift")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1500)
        page.mouse.move(5, 5)
        page.evaluate("document.activeElement.blur()")
        page.evaluate("document.getElementById('map').scrollIntoView({ block: 'start' })")
        page.wait_for_timeout(1500)
        page.screenshot(path=output)
        browser.close()
    server.terminate()
    server.wait()
    with Image.open(output) as picture:
        picture.convert("RGB").quantize(256).save(output, optimize=True)


if __name__ == "__main__":
    draw(*sys.argv[1:])
