"""The whole way of a person who teaches: label, learn, filter, review, and draw on the map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import PAGE, row_of, see_hits, see_text, until, watching, windows_in
from conftest import REPOSITORY
from test_page_map import free_line, in_rectangle, lasso
from test_page_teaching import browser, is_one, said, seen_window, server
from web_server import Running

import soundalike
from soundalike.sounds import Sounds

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.whole

__all__ = ["browser", "server"]  # fixtures

NAME = "beast"


@pytest.fixture(scope="module")
def store(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples; none without a browser."""
    path = tmp_path_factory.mktemp("walk") / "store"
    sounds = soundalike.open(path, checkpoint="demo", device="cpu")
    sounds.index(REPOSITORY / "data/samples", num_workers=0, hop_s=2.5)
    return path


def test_from_the_first_label_to_a_part_of_the_map(
    browser: Browser, server: Running, store: Path
) -> None:
    sounds: Sounds = soundalike.open(store, device="cpu")
    with watching(browser, f"{server.address}#tag=Animal", "404") as page:
        hits = sounds.search(tags="Animal", k=PAGE)
        see_hits(page, hits)

        # Label: every hit, with the mouse.
        page.click("#open-teach")
        page.fill("#teach-name", NAME)
        page.press("#teach-name", "Enter")
        see_text(page, "#teach-title", f"my.{NAME}")
        for hit in hits:
            row_of(page, hit).locator(f"[data-says={'yes' if is_one(hit) else 'no'}]").click()
        expected = {one.window_id: "yes" if is_one(one) else "no" for one in hits}
        until(page, lambda: said(sounds, NAME) == expected)
        assert said(sounds, NAME) == expected

        # Learn, and filter by what was learned.
        num_yes = list(expected.values()).count("yes")
        until(page, lambda: sounds.learned_names())
        see_text(page, "#teach-lesson", f"Learned from {num_yes} yes")
        page.click("#teach-learn")
        until(page, lambda: sounds.learned(NAME).told["yes"] == num_yes)
        page.click("#teach-find")
        see_hits(page, sounds.search(tags=f"my.{NAME}", k=PAGE))

        # Review: what it is least sure of, with keys.
        page.click("#teach-review")
        seen: list[int] = []
        for key in "ynu":
            until(page, lambda: seen_window(page) not in seen)
            seen.append(seen_window(page))
            page.keyboard.press(key)
            until(page, lambda: said(sounds, NAME).get(seen[-1]))
        assert [said(sounds, NAME)[one] for one in seen] == ["yes", "no", "unsure"]
        assert not set(seen) & set(expected)
        page.click("#open-teach")

        # Map: coloured by what was learned; what is drawn around is a filter beside it.
        page.click("#open-map")
        page.wait_for_selector("#map-stage[data-drawn]")
        page.select_option("#map-colours", f"tag:my.{NAME}")
        see_text(page, "#map-legend", f"my.{NAME}: not heard")
        found = sounds.map()
        left, right = free_line(found, 0.3), free_line(found, 0.65)
        lasso(page, [(left, -0.02), (right, -0.02), (right, 1.02), (left, 1.02)])
        inside = set(found.window_ids[in_rectangle(found, left, right)].tolist())
        see_text(page, "#map-count", f"{len(inside)} windows marked")
        ranked = sounds.search(tags=(f"my.{NAME}", sounds.select(inside)), k=PAGE)
        see_hits(page, ranked)
        assert {int(one) for one in windows_in(page)} <= inside
        assert page.locator("#active .filter-chip").count() == 2
