"""The page: right for any ledger, safe whatever is in it, readable on every screen, and at rest."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final

import pytest

from memoryos_uow import Ledger
from memoryos_uow.report import PAGE_BYTES_MAX
from memoryos_uow.report.style import STYLE
from memoryos_uow.stores import DocumentStore
from tests.cli.tools import invoke, make_ledger
from tests.report.browser import CHROMIUM, Browser
from tests.schema_files import make_1_0_0
from tests.statistics.rows import Unit, make, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE: Final = (
    "</title><script>alert(1)</script>\"'><img src=http://example.com/x onerror=alert(2)>\u202e\x1b[31m&lt;"
)
ANCHORS: Final = ["overview", "time", "failures", "who", "slowest", "doubt", "proof", "storage"]


def page(ledger: Path, *options: str) -> str:
    """The page of a ledger."""
    place = ledger.with_suffix(".html")
    result = invoke("report", ledger, "-o", place, *options)
    assert result.exit_code == 0, result.output
    assert place.stat().st_size < PAGE_BYTES_MAX
    return place.read_text(encoding="utf-8")


def hostile_ledger(path: Path) -> Path:
    """A ledger in which every text that a user can choose tries to get out."""
    with Ledger.open(path, stores=[DocumentStore("notes")]) as ledger:
        for number in range(3):
            error = type(HOSTILE, (ValueError,), {})(HOSTILE)
            with (
                suppress(ValueError),
                ledger.unit(space_id=HOSTILE, band="GREEN", actor_id=HOSTILE, correlation_id=HOSTILE) as uow,
            ):
                uow["notes"].create(f"{HOSTILE}{number}", {"text": HOSTILE})
                if number == 2:
                    raise error
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE unit_of_work SET failed_store = ?, band = 'GREEN'", (HOSTILE,))
        connection.execute("UPDATE uow_identity SET origin = ?", (HOSTILE,))
    return path


class Tags(HTMLParser):
    """The tags of a page that are not closed, and everything that would be fetched or run."""

    VOID = frozenset({"meta", "link", "rect", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.suspicious: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag asks for."""
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on") or name in ("src", "srcset", "style", "action", "data"):
                self.suspicious.append((tag, name))
            if name == "href" and not re.match(r"#|data:,$", value or ""):
                self.suspicious.append((tag, value or ""))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Match it with the tag that it closes."""
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_page_is_whole_and_at_rest(tmp_path: Path) -> None:
    """Tags match, each part is there once and linked to, and nothing is fetched, run or styled from outside."""
    text = page(make_ledger(tmp_path / "ledger.db"))
    tags = Tags(text)
    assert tags.open == []
    assert tags.suspicious == []
    assert tags.ids == ANCHORS
    assert re.findall(r'<a href="#(\w+)">', text)[:] == ANCHORS
    assert not tags.tags & {"script", "img", "iframe", "object", "embed", "form", "base"}
    assert "default-src &#x27;none&#x27;" in text


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    """Ids, store names, error types and origin that hold markup are shown as they are written, and do nothing."""
    text = page(hostile_ledger(tmp_path / "ledger.db"))
    tags = Tags(text)
    assert (tags.open, tags.suspicious, tags.ids) == ([], [], ANCHORS)
    assert "script" not in tags.tags
    assert "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\\u202e" in text
    assert not set(text) & {"\u202e", "\x1b"}


def test_a_hostile_file_name_stays_text(tmp_path: Path) -> None:
    """The name of the file is shown as text too, in heading and title."""
    text = page(make(tmp_path / "<script>x<\u202e.db"))
    assert Tags(text).open == []
    assert "<script" not in text
    assert text.count("&lt;script&gt;x&lt;\\u202e.db") == 2


def test_bands_are_kept(tmp_path: Path) -> None:
    """Neither actor, record, nor foreign error text is in the page, nor the space of RED and BLACK units."""
    path = tmp_path / "ledger.db"
    with Ledger.open(path, stores=[DocumentStore("notes"), DocumentStore("secret_store")]) as ledger:
        black = ""
        for band in ("RED", "BLACK"):
            with suppress(ValueError), ledger.unit(space_id=f"space-of-{band}", band=band, actor_id="actor-x") as uow:
                uow["secret_store"].create("record-x", {"text": "payload-x"})
            with suppress(ValueError), ledger.unit(space_id=f"space-of-{band}", band=band) as uow:
                uow["secret_store"].create("record-y", {})
                raise ValueError("words-x")
            black = uow.uow_id
    text = page(path)
    assert black
    for word in ("space-of", "actor-x", "record-x", "payload-x", "words-x", "secret_store", black):
        assert word not in text
    assert "(withheld by band)" in text


def test_an_empty_ledger_has_a_page(tmp_path: Path) -> None:
    """Without units the page says so, and has no charts."""
    text = page(make(tmp_path / "ledger.db"))
    assert "No unit of work is recorded here" in text
    assert "Bar chart" not in text
    assert Tags(text).open == []


def test_a_ledger_of_1_0_0_has_a_page(tmp_path: Path) -> None:
    """Of contract 1.0.0 there are counts over time, and sentences for what it does not know."""
    make_1_0_0(tmp_path / "ledger.db")
    text = page(tmp_path / "ledger.db")
    assert "Contract 1.0.0 has no receipts to verify." in text
    assert "Bar chart of units per hour" in text


@pytest.mark.parametrize(
    ("days", "step", "steps"),
    [(0, "hour", 1), (7, "hour", 169), (30, "day", 31), (190, "day", 191), (9000, "month", 200)],
)
def test_time_has_steps_that_can_be_told_apart(tmp_path: Path, days: int, step: str, steps: int) -> None:
    """However long a ledger has been in use, its charts have at most 200 equally long steps, empty ones included."""
    path = make(tmp_path / "ledger.db")
    first = datetime(2000, 1, 1, tzinfo=UTC)
    times = [(first + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%S.%fZ") for number in (0, days)]
    put(path, [Unit(created=time) for time in times])
    text = page(path, "--no-verify")
    assert f"Units per {step}" in text
    assert text.count("<title>") == 1 + steps + min(2, steps) - (1 if step == "month" else 0)
    assert Tags(text).open == []


def test_very_many_names_do_not_make_a_large_page(tmp_path: Path) -> None:
    """A thousand spaces and kinds of failure with long names leave the page small, and are counted."""
    path = make(tmp_path / "ledger.db")
    put(
        path,
        [Unit(space=f"{number} {'long' * 50}", status="failed", error=f"E{number}" * 50) for number in range(1000)],
    )
    text = page(path, "--no-verify")
    assert len(text) < 100_000
    assert "and 988 more spaces" in text
    assert "and 980 more kinds of failure" in text


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    """A ledger whose rows were changed has a page that says so: level none, the rule, and the broken contract rule."""
    path = make_ledger(tmp_path / "ledger.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE unit_of_work SET error_type = NULL, space_id = 'another'")
    text = page(path)
    assert '<span class="mark bad">none</span>' in text
    assert '<span class="mark bad">4 rows</span>' in text


def test_units_in_doubt_are_listed(tmp_path: Path) -> None:
    """A unit that is not settled is named with its state, escaped."""
    path = make_ledger(tmp_path / "ledger.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        for state, name in (("preparing", "<b>unit-x"), ("committed", "unit-y")):
            connection.execute("INSERT INTO uow_coordination VALUES (?, ?, 1, '', 0, '{}', '{}')", (name, state))
    text = page(path, "--no-verify")
    assert "&lt;b&gt;unit-x" in text
    assert "committed: a store has still to publish its part" in text


def test_live_content_is_compared_when_asked_for(tmp_path: Path) -> None:
    """With --live the page says how many records are as their receipts say; without, that nothing was compared."""
    path = make_ledger(tmp_path / "ledger.db")
    assert "was not compared" in page(path)
    assert "1 store compared: 2 of 4 records" in page(path, "--live")


def test_colours_stand_out() -> None:
    """Text contrasts with its ground by 4.5 to 1, lines and bars by 3 to 1, in light and in dark."""
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in STYLE.split("@media (prefers", 1))
    for colours in (light, dark):
        for ground in ("ground", "card"):
            for ink in ("ink", "soft", "link"):
                assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for mark in ("good", "bad", "doubt"):
            assert contrast(colours[mark], colours[f"{mark}-ground"]) >= 4.5, mark
        for line in ("bar", "wrong", "p50", "p95", "p99"):
            assert contrast(colours[line], colours["card"]) >= 3, line


def contrast(one: str, other: str) -> float:
    """How much two colours differ (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (tools/debian-packages.txt)")
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of ledgers with no unit, one, many and hostile ones."""
    folder = tmp_path_factory.mktemp("pages")
    put(make(folder / "one.db"), [Unit()])
    many = [
        Unit(created=f"2026-11-{1 + n % 28:02}T00:00:00.000000Z", us=50 + n * n, space=f"s{n % 30}") for n in range(500)
    ]
    put(make(folder / "many.db"), many)
    hostile_ledger(folder / "hostile.db")
    make(folder / "none.db")
    for name in ("none", "one", "many", "hostile"):
        page(folder / f"{name}.db")
    return {path.stem: path for path in folder.glob("*.html")}


@pytest.mark.parametrize("name", ["none", "one", "many", "hostile"])
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, False), (390, True)])
def test_browser_shows_it(browser: Browser, pages: dict[str, Path], name: str, width: int, *, dark: bool) -> None:
    """No complaint on the console, no request but the page, no scrolling to the side; light or dark as asked for."""
    browser.open(pages[name], width=width, dark=dark)
    assert browser.complaints() == []
    assert browser.requests() == [pages[name].as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    red = browser.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.slice(4))")
    assert (red < 64) == dark
    assert browser.evaluate("document.scripts.length + document.images.length") == 0
    assert browser.evaluate("[...document.querySelectorAll('.chart svg')].every(one => one.clientWidth > 200)")


def test_everything_can_be_reached_by_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    """The first Tab offers to skip the links, and tables, links and details follow in the order of the page."""
    browser.open(pages["many"])
    reached = []
    for _ in range(14):
        browser.press("Tab")
        reached.append(browser.evaluate("document.activeElement.className || document.activeElement.tagName"))
    assert reached[0] == "skip"
    assert reached[1:9] == ["A"] * 8
    assert {"SUMMARY", "scroll"} <= set(reached)


def test_charts_have_words_and_tables(browser: Browser, pages: dict[str, Path]) -> None:
    """Each chart is an image with a description, and the table below it has a row for each of its steps."""
    browser.open(pages["many"])
    names = browser.evaluate(
        "[...document.querySelectorAll('svg:not([aria-hidden])')].map(one => one.getAttribute('aria-label'))"
    )
    assert [name.split(" ")[0] for name in names] == ["Bar", "Line"]
    assert browser.evaluate("[...document.querySelectorAll('details tbody')].map(one => one.rows.length)") == [28, 28]
