r"""The picture of a report in docs/search.md: a real one, as it opens from disk.

    soundalike index data/samples --checkpoint demo
    soundalike search samples.soundalike data/samples/animals/barking_dog.wav@0-1.5 -k 20 \
        --report barks.html
    python docs/images/draw_report.py barks.html report.png

It takes what `make browser` installs.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


def draw(report: str, output: str) -> None:
    """Open a report in a browser, and take a picture of its beginning."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1080, "height": 920}, device_scale_factor=1.5)
        page.goto(Path(report).resolve().as_uri())
        page.wait_for_load_state("networkidle")
        page.screenshot(path=output)
        browser.close()
    Image.open(output).convert("RGB").quantize(256).save(output, optimize=True)


if __name__ == "__main__":
    draw(*sys.argv[1:])
