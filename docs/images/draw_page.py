"""The picture of the page in README and docs/page.md: a real page of a real answer.

    soundalike index data/samples --checkpoint demo
    python docs/images/draw_page.py samples.soundalike data/samples/animals/barking_dog.wav page.png

It takes what `make browser` installs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from playwright.sync_api import sync_playwright


def draw(store: str, clip: str, output: str) -> None:
    """Serve a store, ask with a part of a clip, leave out a tag, and take a picture of it."""
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
        box = page.locator(".stage").bounding_box()
        assert box
        y, left, width = box["y"] + box["height"] / 2, box["x"], box["width"]
        page.locator(".stage .last").hover()
        page.mouse.down()
        page.mouse.move(left + 0.63 * width, y, steps=8)
        page.mouse.up()
        page.wait_for_timeout(500)
        page.locator(".stage .first").hover()
        page.mouse.down()
        page.mouse.move(left + 0.36 * width, y, steps=8)
        page.mouse.up()
        page.locator("[data-not]").nth(6).click()
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(1500)
        page.mouse.move(5, 5)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=output)
        browser.close()
    server.terminate()
    server.wait()


if __name__ == "__main__":
    draw(*sys.argv[1:])
