"""An answer as a page of its own: it shows and plays what is there, whatever that is called."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from audio_files import noise
from browsing import barriers, browsing, until, watching
from conftest import REPOSITORY, Run
from PIL import Image
from synthetic import Synthetic, make_store, write_tone

import soundalike
from indexer.audio.times import FileSpan
from indexer.errors import OutputError
from indexer.tags import HeardTag, TagVocabulary
from search.asking.answers import Hit
from search.asking.asked import Asked, GivenVectors, GivenWindow
from search.asking.terms import Terms
from search.upkeep.build import build
from soundalike.answer import Answer
from soundalike.show import notebook
from soundalike.show.asked import terms_lines
from soundalike.show.heard import as_mp3

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SAMPLES = REPOSITORY / "data/samples"
DOG = TagVocabulary.audioset().resolve("Dog")
#: All that a page is made of: whatever else a browser finds in it came from a name.
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section"),
    *("h1", "h2", "h3", "p", "ol", "ul", "li", "div", "span", "img", "audio", "dl", "dt", "dd"),
}
VOID = {"meta", "img"}
#: What would act if it were not only shown.
HOSTILE = "\"><img src=x onerror=alert(1)>'&amp;<script>alert(2)<"


class Page(HTMLParser):
    """What a browser finds in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def hit(*paths: Path, start_s: float = 0.0, end_s: float = 2.0, **more: Any) -> Hit:
    known = {"score": 0.75, "window_id": 1, "tags": (HeardTag(DOG, 0.9),), **more}
    return Hit(recording_id=b"x" * 16, paths=paths, start_s=start_s, end_s=end_s, **known)


def reported(tmp_path: Path, *hits: Hit, asked: Asked | None = None) -> Page:
    file = tmp_path / "hits.html"
    written = Answer(hits, asked=asked).report(file, force=True)
    assert (written.path, written.size_bytes) == (file, file.stat().st_size)
    return Page(file.read_text("utf-8"))


def sound_of(element: dict[str, str | None]) -> tuple[npt.NDArray[np.float32], int]:
    """Decode what a player has, as browsers do: with FFmpeg."""
    kind, _, content = (element["src"] or "").partition(",")
    assert kind == "data:audio/mpeg;base64"
    with av.open(io.BytesIO(base64.b64decode(content, validate=True)), "r") as file:
        (stream,) = file.streams.audio
        frames = [frame.to_ndarray() for frame in file.decode(stream)]
        assert stream.codec_context.layout.nb_channels == 1
        return np.concatenate(frames, axis=1)[0], stream.codec_context.sample_rate


def picture_of(element: dict[str, str | None]) -> Image.Image:
    kind, _, content = (element["src"] or "").partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def likeness(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    number = min(len(one), len(other))
    return float(np.corrcoef(one[:number], other[:number])[0, 1])


# --- what is seen and heard ----------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [4000, 8000, 11_025, 32_000, 44_100, 96_000])
def test_players_have_the_samples_of_the_span(tmp_path: Path, rate_hz: int) -> None:
    def tone(at_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """A tone that grows, so that it tells where it is."""
        return 0.1 * at_s * np.sin(2 * np.pi * 700 * at_s)

    file = tmp_path / "tone.wav"
    soundfile.write(file, tone(np.arange(6 * rate_hz) / rate_hz), rate_hz)
    (player,) = reported(tmp_path, hit(file, start_s=1.0, end_s=5.5)).all("audio")
    heard, heard_hz = sound_of(player)
    assert heard_hz <= 32_000
    assert len(heard) / heard_hz == pytest.approx(4.5, abs=2e-3)
    expected = tone(1.0 + np.arange(len(heard)) / heard_hz)
    assert likeness(heard, expected.astype(np.float32)) > 0.99
    assert (player["controls"], player["preload"]) == (None, "none")


def test_players_play_what_matched_and_pictures_frame_it(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", 8.0, 500.0)
    page = reported(tmp_path, hit(sound, end_s=8.0, match_start_s=2.0, match_end_s=3.5))
    heard, rate_hz = sound_of(page.all("audio")[0])
    assert len(heard) / rate_hz == pytest.approx(1.5, abs=2e-3)
    picture = picture_of(page.all("img")[0])
    assert picture.size == (640, 128)
    pixels = np.asarray(picture.convert("RGB"))
    framed = np.flatnonzero((pixels == (120, 255, 220)).all(2).all(0))
    assert (framed[0], framed[-1]) == pytest.approx((639 * 2 / 8, 639 * 3.5 / 8), abs=1)
    assert page.all("img")[0]["alt"] == (
        "Spectrogram of tone.wav, 0:00.0 to 0:08.0; framed is the match, 0:02.0 to 0:03.5"
    )


def test_a_match_that_is_all_of_the_window_is_not_framed(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", 2.0)
    page = reported(tmp_path, hit(sound, match_start_s=0.0, match_end_s=1.999, match_score=0.5))
    pixels = np.asarray(picture_of(page.all("img")[0]).convert("RGB"))
    assert not (pixels == (120, 255, 220)).all(2).any()
    assert "0:00.0 to 0:02.0; score 0.500" in page.text


def test_channels_that_cancel_are_heard(tmp_path: Path) -> None:
    mono = noise(64_000)
    soundfile.write(tmp_path / "apart.wav", np.hstack([mono, -mono]), 32_000, subtype="FLOAT")
    page = reported(tmp_path, hit(tmp_path / "apart.wav"))
    assert likeness(sound_of(page.all("audio")[0])[0], mono[:, 0]) > 0.9


def test_samples_that_are_no_numbers_are_silence(tmp_path: Path) -> None:
    samples = noise(64_000)
    samples[1000:1010] = np.nan
    samples[2000] = np.inf
    soundfile.write(tmp_path / "odd.wav", samples, 32_000, subtype="FLOAT")
    page = reported(tmp_path, hit(tmp_path / "odd.wav"))
    heard, _ = sound_of(page.all("audio")[0])
    assert np.isfinite(heard).all()
    assert likeness(heard[3000:], samples[3000:, 0]) > 0.9


@pytest.mark.whole
@pytest.mark.parametrize("seconds", [0.001, 1.0, 17.0, 18.0, 25.0, 31.0, 60.0])
def test_sounds_of_up_to_a_minute_are_no_larger_than_told(seconds: float) -> None:
    content = as_mp3(noise(round(seconds * 44_100))[:, 0], 44_100)
    assert len(content) <= 120_000 + 1_000  # and a header
    assert len(soundfile.read(io.BytesIO(content))[0]) > 0


@pytest.mark.whole
def test_longer_sounds_are_heard_for_a_minute(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", 70.0, 500.0)
    page = reported(
        tmp_path,
        hit(sound, end_s=70.0),
        hit(sound, end_s=70.0, match_start_s=62.0, match_end_s=65.0),
        asked=Asked((FileSpan(sound), FileSpan(sound, 20.0)), (), Terms()),
    )
    lengths = [len(heard) / rate for heard, rate in map(sound_of, page.all("audio"))]
    assert lengths == pytest.approx([60.0, 50.0, 60.0, 3.0], abs=0.01)
    assert page.text.count("its first 60 s") == 2


# --- what is said --------------------------------------------------------------------------------


def test_everything_known_of_a_hit_is_told(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "SITE_20240601_140505.wav", 2.0)
    known = hit(
        *(sound, tmp_path / "copy.wav"),
        scene_score=0.61,
        tag_score=0.82,
        stands_for=3,
        match_start_s=0.5,
        match_end_s=1.0,
        match_score=0.7,
        metadata={"site": "by the lake", "depth": 1.5, "wet": True, "note": None},
    )
    text = reported(tmp_path, known).text
    for told in (
        *("0.750", "0:00.0 to 0:02.0", "0:00.5 to 0:01.0, framed and played; score 0.700"),
        *("Dog 0.90", "0.750: 0.610 of scenes, 0.820 of tags", "itself and 2 hits like it"),
        *("2024-06-01 14:05:05", str(sound), str(tmp_path / "copy.wav")),
        *("site\nby the lake", "depth\n1.5", "wet\ntrue", "1\nSITE_20240601_140505.wav"),
    ):
        assert told in text
    assert "note" not in text


def test_what_asked_is_shown_and_heard(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", 4.0)
    window = GivenWindow(77, (sound,), 2.0, 4.0)
    like = (FileSpan(sound, 1.0, 1.5), window, GivenVectors(3), "a dog barks")
    asked = Asked(like, (FileSpan(sound),), Terms(tags="Dog"))  # type: ignore[arg-type]
    page = reported(tmp_path, hit(sound), asked=asked)
    lengths = [len(heard) / rate for heard, rate in map(sound_of, page.all("audio"))]
    assert lengths == pytest.approx([1.5, 2.0, 4.0, 2.0], abs=0.01)
    for told in (
        *("1 hit for tone.wav and 3 others", "0:01.0 to 0:02.5", "window\n77", "3 vectors"),
        *("“a dog barks”", "What hits are not to be like", "all of it", "heard\nDog\n"),
    ):
        assert told in page.text


#: A value of each field of the terms that is not as usual, and words that tell of it.
TOLD: dict[str, tuple[Any, str]] = {
    "k": (7, "7 at most"),
    "tags": (("Dog", "Rain"), "Dog and Rain"),
    "any_tags": (("Dog", "Rain"), "Dog, Rain"),
    "not_tags": (("Music",), "Music"),
    "threshold": (0.5, "from 0.5 on"),
    "descendants": (False, "none of those below"),
    "where": ("duration > 5", "duration > 5"),
    "metadata": (Path("sheet.csv"), "sheet.csv"),
    "group_by": ("file", "each file"),
    "include_self": (True, "may be a hit"),
    "tag_weight": (0.1, "0.1 of a score"),
    "level": (False, "no louder"),
    "min_score": (0.3, "0.3"),
    "all_windows": (True, "may all be hits"),
    "unique": (True, "0.95"),
    "unique_at": (0.9, "0.9"),
    "diverse": (0.7, "0.7"),
    "exact": (True, "overlooked"),
    "by": ("place", "place in each window"),
    "locate": (False, "not looked for"),
}


def test_every_term_that_is_not_as_usual_is_told() -> None:
    assert set(TOLD) == {one.name for one in fields(Terms)}
    usual = [*terms_lines(Terms())]
    assert usual == [("hits", "10 at most")]
    for name, (value, told) in TOLD.items():
        lines = [*terms_lines(replace(Terms(), **{name: value}))]
        assert any(told in said for line in lines if line not in usual for said in line), name
    assert any("measured for each tag" in said for _, said in terms_lines(Terms(threshold="auto")))


def test_what_is_told_beside_hits_is_there(tmp_path: Path) -> None:
    answer = Answer((), 2, num_left_out=3, num_silent=1, failures=("a: b",), notes=("it is quiet",))
    answer.report(tmp_path / "none.html")
    text = Page((tmp_path / "none.html").read_text("utf-8")).text
    for told in (
        *("No hits", "no window matches", "3 windows left out", "1 window left out: silent"),
        *("asked without it: a: b", "it is quiet", "not in the index yet: 2 parts"),
    ):
        assert told in text


def test_page_says_when_it_was_made(tmp_path: Path) -> None:
    before = datetime.now().astimezone().replace(microsecond=0)
    (told,) = re.findall(r"Made by soundalike, (.*)", reported(tmp_path).text)
    assert before <= datetime.fromisoformat(told) <= datetime.now().astimezone()


# --- what may not happen -------------------------------------------------------------------------


def test_names_and_metadata_only_are_shown(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "") + "\n\x1b[31m\u202e.wav"
    sound = write_tone(tmp_path / name, 1.0)
    known = hit(sound, Path("/gone") / name, end_s=1.0, metadata={HOSTILE: HOSTILE + "</dd>"})
    lost = hit(Path("/gone") / name)
    asked = Asked(
        (FileSpan(sound), HOSTILE, GivenWindow(1, (Path("/gone") / name,), 0, 1)),
        (FileSpan(Path("/gone") / name),),
        Terms(where=HOSTILE, metadata=Path(name), tags=(HOSTILE,)),
    )
    page = reported(tmp_path, known, lost, asked=asked)
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    assert len(page.all("img")) == len(page.all("audio")) == 2
    assert not [one for _, attributes in page.elements for one in attributes if one[:2] == "on"]
    shown = HOSTILE + "\\x0a\\x1b[31m\\u202e.wav"
    assert page.texts.count(shown) >= 5  # title, headline, and what each is called
    assert HOSTILE + "</dd>" in page.texts
    assert not set("\x1b\u202e") & set(page.text)


def test_page_takes_nothing_from_elsewhere(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", 2.0)
    reported(tmp_path, hit(sound), asked=Asked((FileSpan(sound),), (), Terms()))
    text = (tmp_path / "hits.html").read_text("utf-8")
    assert not re.search(r"https?:|file:|url\(|@import|<script|<link", text)
    page = Page(text)
    for _, attributes in page.elements:
        assert (attributes.get("src") or "data:").startswith("data:")
        assert "href" not in attributes
    policies = [one["content"] for one in page.all("meta") if "http-equiv" in one]
    assert policies == [
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
    ]


def test_hits_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", 2.0)
    (tmp_path / "broken.wav").write_text("not audio")
    hits = (
        *(hit(tmp_path / "gone.wav"), hit(sound), hit(tmp_path / "broken.wav"), hit()),
        hit(sound, start_s=50.0, end_s=60.0),
    )
    written = Answer(hits).report(tmp_path / "hits.html")
    page = Page((tmp_path / "hits.html").read_text("utf-8"))
    assert len(page.all("li")) == 5
    assert len(page.all("audio")) == len(page.all("img")) == 1
    assert page.text.count("its audio cannot be played: ") == 4
    assert [line.partition(": ")[0] for line in written.failures] == [
        *(str(tmp_path / "gone.wav"), str(tmp_path / "broken.wav")),
        *("a recording without a path", str(sound)),
    ]
    assert all(line.partition(": ")[2] in page.text for line in written.failures)
    copies = Answer(hits).copy_to(tmp_path / "copies")[1]
    assert written.failures == copies


def test_page_is_there_whole_and_takes_no_place(tmp_path: Path) -> None:
    file = tmp_path / "hits.html"
    file.write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        Answer(()).report(file)
    assert file.read_text() == "mine"
    Answer(()).report(file, force=True)
    assert file.read_text("utf-8").startswith("<!doctype html>")
    with pytest.raises(OutputError, match=r"says that it is CSV, and what is written is a page"):
        Answer(()).report(tmp_path / "hits.csv")
    with pytest.raises(OutputError, match="there is no folder"):
        Answer(()).report(tmp_path / "no" / "hits.html")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["hits.html"]


@pytest.mark.whole
@pytest.mark.parametrize("seconds", [10.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_twenty_hits_and_what_asked_are_below_5_mb(tmp_path: Path, seconds: float) -> None:
    """Of noise in all colours, which no codec and no picture makes smaller."""
    sound = tmp_path / "noise.wav"
    soundfile.write(sound, noise(round(seconds * 44_100), clicks=True), 44_100)
    asked = Asked((FileSpan(sound),), (), Terms(k=20))
    one, two = (
        Answer((hit(sound, end_s=seconds),) * number, asked=asked)
        .report(tmp_path / "hits.html", force=True)
        .size_bytes
        for number in (1, 2)
    )
    assert two - one > 100_000  # a sound and a picture
    assert one + 19 * (two - one) < 5_000_000


# --- who asks for it -----------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Synthetic:
    """Three recordings of one window each."""
    made = make_store(tmp_path / "store", frames="none", root=tmp_path / "library")
    made.add({"a": 1, "b": 1, "c": 1})
    build(made.store)
    for number, name in enumerate("abc"):
        write_tone(tmp_path / "library" / f"{name}.wav", 10.0, 300.0 * (number + 1))
    return made


def test_an_answer_knows_what_was_asked(stored: Synthetic, tmp_path: Path) -> None:
    sounds = soundalike.open(stored.store.path)
    every = sounds.search(tags="Dog", threshold=0)
    assert every.asked == Asked((), (), Terms(tags="Dog", threshold=0, locate=True))  # type: ignore[arg-type]
    first, second, third = every
    vectors = np.eye(2, 768)
    answer = sounds.search(first.window_id, vectors, unlike=[second.window_id], k=3)
    given = [
        GivenWindow(one.window_id, one.paths, one.start_s, one.end_s) for one in (first, second)
    ]
    assert answer.asked
    assert answer.asked.like == (given[0], GivenVectors(2))
    assert answer.asked.unlike == (given[1],)
    assert answer.asked.terms.k == 3
    assert [hit.window_id for hit in answer] == [third.window_id]
    one, other = sounds.search_many([first.window_id, second.window_id])
    assert one.asked
    assert other.asked
    assert (one.asked.like, other.asked.like) == ((given[0],), (given[1],))


def test_command_writes_a_page_and_says_how_large(
    stored: Synthetic, tmp_path: Path, run: Run
) -> None:
    file = tmp_path / "hits.html"
    words = ("search", stored.store.path, "--tag", "Dog", "--threshold", 0, "--report", file)
    told = run(*words)
    size_mb = file.stat().st_size / 1e6
    assert told.err.splitlines() == [f"3 hits in {file}: {size_mb:.1f} MB"]
    assert len(told.out.splitlines()) == 1 + 3
    page = Page(file.read_text("utf-8"))
    for number, player in zip("abc", page.all("audio"), strict=True):
        assert number
        assert len(sound_of(player)[0]) == pytest.approx(320_000, abs=100)
    assert "is there already" in run(*words, code=1).err
    assert "say --force to replace" in run(*words, code=1).err
    assert run(*words, "--force", "--quiet").err == ""
    assert len(run(*words, "--force", "--format", "json").hits) == 3


def test_command_counts_hits_without_sound(stored: Synthetic, tmp_path: Path, run: Run) -> None:
    (tmp_path / "library/b.wav").unlink()
    file = tmp_path / "hits.html"
    words = ("search", stored.store.path, "--tag", "Dog", "--threshold", 0, "--report", file)
    told = run(*words, code=3)
    assert f"3 hits in {file}, 1 without sound: " in told.err
    lines = [line for line in told.err.splitlines() if line.startswith("not heard in it: ")]
    assert len(lines) == 1
    assert str(tmp_path / "library/b.wav") in lines[0]
    assert run(*words, "--force", "--quiet", code=3).err == f"{lines[0]}\n"
    assert len(Page(file.read_text("utf-8")).all("audio")) == 2


def test_command_says_before_it_asks_that_it_cannot_write(
    stored: Synthetic, tmp_path: Path, run: Run
) -> None:
    words = ("search", stored.store.path, tmp_path / "nothing.wav", "--report")
    for name, why in (
        ("hits.csv", "says that it is CSV"),
        ("no/hits.html", "there is no folder"),
        *((one, "is no name of a page") for one in ("hits.txt", "hits", "-")),
    ):
        told = run(*words, tmp_path / name, code=1)
        assert why in told.err
        assert "soundalike export" not in told.err  # rows are something else


def test_notebooks_have_the_cards_of_the_page(tmp_path: Path) -> None:
    sound = write_tone(tmp_path / "tone.wav", 2.0)
    answer = Answer((hit(sound), hit(tmp_path / "gone.wav"), hit(sound, metadata={"a": HOSTILE})))
    answer.report(tmp_path / "hits.html")
    whole = (tmp_path / "hits.html").read_text("utf-8")
    whole = whole.replace("<h3", "<p").replace("</h3>", "</p>")
    shown = answer._repr_html_()
    cards = re.findall(r'<li class="sound">.*</li>', shown)
    assert len(cards) == 3
    assert cards == re.findall(r'<li class="sound">.*</li>', whole)
    assert {tag for tag, _ in Page(shown).elements} <= ELEMENTS


def test_notebooks_do_not_read_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = write_tone(tmp_path / "tone.wav", 2.0)
    monkeypatch.setattr(notebook, "_PATIENCE_S", 0.0)
    page = Page(Answer((hit(sound),) * 25)._repr_html_())
    assert page.all("audio") == []
    assert page.text.count("reading takes more than 0 s") == 20
    assert "and 5 more hits" in page.text


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def file(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of twenty of the samples and one that is gone; none without a browser."""
    folder = tmp_path_factory.mktemp("report")
    found = sorted(SAMPLES.glob("*/*"))[:40:2]
    lengths = [soundfile.info(one).duration if one.suffix != ".mp4" else 1.0 for one in found]
    hits = [
        hit(one, end_s=length, metadata={"a rather long name of a column": "word " * 40})
        for one, length in zip(found, lengths, strict=True)
    ]
    hits[0] = replace(hits[0], match_start_s=0.0, match_end_s=0.9 * lengths[0])
    lost = hit(Path("/gone") / f"{'very' * 40}.wav")
    asked = Asked((FileSpan(found[0]),), (FileSpan(found[1]),), Terms(tags="Dog", k=21))  # type: ignore[arg-type]
    written = Answer((*hits, lost), asked=asked).report(folder / "hits.html")
    assert len(written.failures) == 1
    assert written.size_bytes < 5_000_000
    return folder / "hits.html"


@pytest.mark.whole
@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_page_opens_from_disk_and_plays(
    browser: Browser, file: Path, tmp_path: Path, width: int, look: str
) -> None:
    how = {"color_scheme": look, "viewport": {"width": width, "height": 800}, "offline": True}
    with watching(browser, file.as_uri(), "", **how) as page:
        assert page.locator("li.sound").count() == 2 + 21
        images = "[...document.images].map(one => one.complete && one.naturalWidth)"
        until(page, lambda: set(page.evaluate(images)) == {640})
        assert page.evaluate(images) == [640] * 22
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        assert barriers(page) == []
        page.evaluate("document.querySelectorAll('audio')[2].play()")
        seconds = "document.querySelectorAll('audio')[2].currentTime"
        until(page, lambda: page.evaluate(seconds) > 0.1)
        assert page.evaluate(seconds) > 0.1
        page.screenshot(path=tmp_path / "page.png")
