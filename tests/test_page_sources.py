"""The files of the page: small, and nothing that is not this server's."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import REPOSITORY

PAGE = REPOSITORY / "soundalike/web/page"
SOURCES = sorted(PAGE.iterdir())
#: What an icon is drawn in has a name that begins like an address, and nothing is fetched for it.
_NAMESPACE = "http://www.w3.org/2000/svg"

#: A module that another needs before it runs.
STATIC = re.compile(r"""^(?:import|export) (?:[^"'();]*? from )?["']([^"']+)["']""", re.MULTILINE)


class Reader(HTMLParser):
    """What a page of HTML loads, and what it has in itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        self.loaded += [given[name] or "" for name in ("src", "href") if name in given]


def loaded_with(name: str) -> set[str]:
    """Return what a page of HTML, or a module, loads at once: itself, and what it imports."""
    found, ahead = set(), [name]
    while ahead:
        one = ahead.pop()
        if one in found:
            continue
        found.add(one)
        text = (PAGE / one).read_text()
        if one.endswith(".html"):
            ahead += [each[6:] for each in Reader(text).loaded if each.startswith("/page/")]
        elif one.endswith(".js"):
            ahead += re.findall(
                r"""^import (?:[^"'()]*from )?["']\./([^"']+)""", text, re.MULTILINE
            )
    return found


def test_the_page_is_small() -> None:
    """What it loads at first; what is loaded when it is opened counts by itself."""
    first = loaded_with("index.html")
    assert {"app.js", "page.css", "server.js"} < first
    assert sum((PAGE / one).stat().st_size for one in first) <= 150_000
    for one in SOURCES:
        if one.name not in first:
            assert one.stat().st_size <= 30_000, one.name


@pytest.mark.parametrize("source", SOURCES, ids=lambda one: one.name)
def test_nothing_comes_from_elsewhere(source: Path) -> None:
    text = source.read_text().replace(_NAMESPACE, "")
    assert not re.findall(r"(?:https?:)?//[\w-]+(?:\.[\w-]+)+", text)
    assert not re.findall(r"@import|url\(|\beval\(|new Function", text)
    for imported in re.findall(r"""(?:from |import |import\()["']([^"']+)""", text):
        assert (PAGE / imported.removeprefix("./")).is_file()


@pytest.mark.parametrize("name", ["index.html", "docs.html"])
def test_no_script_and_no_style_is_within_the_html(name: str) -> None:
    page = Reader((PAGE / name).read_text())
    assert not page.inline
    for one in page.loaded:
        assert one.startswith(("/", "data:")), one
        assert not one.startswith("//")
        if one.startswith("/page/"):
            assert (PAGE / one.removeprefix("/page/")).is_file()
