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


def loaded_first() -> set[Path]:
    """Return what a browser loads of both pages before anything is pressed."""
    wanted, found = [PAGE / "index.html", PAGE / "docs.html"], set()
    while wanted:
        one = wanted.pop()
        if one in found:
            continue
        found.add(one)
        text = one.read_text()
        names = STATIC.findall(text) if one.suffix == ".js" else []
        if one.suffix == ".html":
            names = [name for name in Reader(text).loaded if name.startswith("/page/")]
        wanted += [PAGE / name.rsplit("/", 1)[-1] for name in names]
    return found


def test_the_page_is_small() -> None:
    """What is loaded at first, all together; and each file that is loaded when it is opened."""
    first = loaded_first()
    assert PAGE / "keys.js" in first
    assert sum(one.stat().st_size for one in first) <= 150_000
    later = set(SOURCES) - first
    assert PAGE / "teach.js" in later
    text = "".join(one.read_text() for one in SOURCES if one.suffix == ".js")
    for one in later:
        assert one.stat().st_size <= 30_000, one.name
        assert re.search(rf"""["'](?:\./|/page/){re.escape(one.name)}["']""", text), one.name


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
