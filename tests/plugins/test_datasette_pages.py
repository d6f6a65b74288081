"""Ledgers in Datasette: a unit's page, badges and queries; bands, permissions and escaping hold there too."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import sqlite3
import warnings
from contextlib import closing
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from datasette.app import Datasette

from memoryos_uow import Band, Ledger
from memoryos_uow.plugins import datasette_pages
from memoryos_uow.stores import DocumentStore
from tests.units import OwnError, throw

datasette_plugins: Any = pytest.importorskip("datasette.plugins")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = "<script>alert(1)</script>"

# Datasette 0.65 leaves connections to the garbage collector, of which Python warns from 3.13 on.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """Leave none of these connections to the tests of other files."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    """The plugin is there, whether or not the library is installed with its entry points."""
    manager = datasette_plugins.pm
    if manager.has_plugin("memoryos_uow") or manager.is_registered(datasette_pages):
        yield
        return
    manager.register(datasette_pages, name="memoryos_uow_under_test")
    yield
    manager.unregister(name="memoryos_uow_under_test")


@pytest.fixture
def units(tmp_path: Path) -> dict[str, str]:
    """A ledger with a committed unit of each band, and a failed one; their ids."""
    found: dict[str, str] = {}
    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as ledger:
        for band in Band:
            with ledger.unit(space_id=f"space {band}", band=band, actor_id=f"actor {band}") as uow:
                uow["notes"].create(f"{HOSTILE} {band}", {"text": "secret"})
            found[band] = uow.uow_id
        uow = ledger.unit(space_id="s", band="GREEN")
        with pytest.raises(OwnError), uow:
            uow["notes"].create("k", 1)
            throw(OwnError(HOSTILE))
        found["failed"] = uow.uow_id
    return found


def close(datasette: Any) -> None:
    """Close Datasette's connections; 0.65 cannot do so itself, and leaves those in memory to the collector."""
    if hasattr(datasette, "close"):
        datasette.close()
    else:
        internal = [vars(datasette)["_internal_database"]] if "_internal_database" in vars(datasette) else []  # 1.0
        for database in (*datasette.databases.values(), *internal):
            database.close()


def get(path: Path, address: str, **options: Any) -> tuple[int, str]:
    """Status and text of a page."""

    async def ask() -> tuple[int, str]:
        datasette = Datasette([str(path)], **options)
        try:
            await datasette.invoke_startup()
            answer = await datasette.client.get(address)
            return answer.status_code, answer.text
        finally:
            close(datasette)

    return asyncio.run(ask())


def page(tmp_path: Path, uow_id: str) -> str:
    """The page of a unit."""
    status, text = get(tmp_path / "memory.db", f"/-/uow/memory/{uow_id}")
    assert status == 200
    return text


@pytest.mark.parametrize("band", Band)
def test_the_page_shows_what_the_band_allows(tmp_path: Path, units: dict[str, str], band: str) -> None:
    """GREEN all with its receipt, AMBER neither actor nor keys, RED and BLACK no context; payloads never."""
    text = unescape(page(tmp_path, units[band]))
    assert units[band] in text
    assert (f"actor {band}" in text) is (band == "GREEN")
    assert (f"space {band}" in text) is (band in {"GREEN", "AMBER"})
    assert (f"{HOSTILE} {band}" in text) is (band == "GREEN")
    assert ("<h2>Receipt</h2>" in text) is (band == "GREEN")
    assert "secret" not in text


def test_hostile_text_is_escaped(tmp_path: Path, units: dict[str, str]) -> None:
    """What stands in keys and errors does not become part of the page."""
    for name in ("GREEN", "failed"):
        text = page(tmp_path, units[name])
        assert "<script" not in text
        assert "&lt;script&gt;" in text


def test_a_failure_is_explained(tmp_path: Path, units: dict[str, str]) -> None:
    """The page says what happened, as the command line does."""
    assert "What happened:</strong> An exception of the application" in page(tmp_path, units["failed"])


def test_the_table_has_badges_and_links(tmp_path: Path, units: dict[str, str]) -> None:
    """In the table of units a band is a badge, and an id leads to the unit's page."""
    status, text = get(tmp_path / "memory.db", "/memory/unit_of_work")
    assert status == 200
    assert f'href="/-/uow/memory/{units["GREEN"]}">committed</a>' in text
    assert set(re.findall(r"color:#fff[^>]*>(\w+)</span>", text)) == set(Band)


@pytest.mark.parametrize("name", datasette_pages.QUERIES)
def test_each_query_can_be_asked(tmp_path: Path, units: dict[str, str], name: str) -> None:
    """Each is listed on the database's page and answers."""
    assert f"/memory/{name}" in get(tmp_path / "memory.db", "/memory")[1]
    status, text = get(tmp_path / "memory.db", f"/memory/{name}.json?_shape=array")
    assert status == 200, text
    assert (units["failed"] in text) is (name in {"uow_failed", "uow_slowest"})


def test_what_is_not_there(tmp_path: Path, units: dict[str, str]) -> None:
    """Other databases, units and files are not found, and a database without a ledger is left alone."""
    assert get(tmp_path / "memory.db", "/-/uow/other/u")[0] == 404
    assert get(tmp_path / "memory.db", "/-/uow/memory/no-such-unit")[0] == 404
    assert get(tmp_path / "memory.db", "/-/uow/_memory/u", memory=True)[0] == 404
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE t (band TEXT, uow_id TEXT)")
        connection.execute("INSERT INTO t VALUES ('GREEN', 'u')")
        connection.commit()
    assert "uow_failed" not in get(tmp_path / "other.db", "/other")[1]
    assert "/-/uow/" not in get(tmp_path / "other.db", "/other/t")[1]


def test_permissions_hold(tmp_path: Path, units: dict[str, str]) -> None:
    """Who may not see the database does not see its units' pages either."""
    key = "config" if "config" in inspect.signature(Datasette).parameters else "metadata"  # before 1.0
    options = {key: {"databases": {"memory": {"allow": {"id": "root"}}}}}
    assert get(tmp_path / "memory.db", "/memory", **options)[0] == 403
    assert get(tmp_path / "memory.db", f"/-/uow/memory/{units['GREEN']}", **options)[0] == 403


def test_odd_cells_are_left_alone() -> None:
    """A band that is none, and what is no text, is shown as it is."""
    assert datasette_pages._badge("<x>") == "&lt;x&gt;"
    assert datasette_pages.render_cell({}, "space_id", "unit_of_work", "d", None) is None
    assert datasette_pages.render_cell({}, "band", "people", "d", None) is None
