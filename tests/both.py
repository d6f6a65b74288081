"""One suite on both engines: which tests run on SQLite and on PostgreSQL, and the ledgers that they get.

A test, or a module by its `pytestmark`, that is marked `both` runs twice, if it takes a ledger from `backend` or from
what is made of it: `place`, `ledger`, `wide`, and `driver` in `tests/stores`. What is marked `sqlite_only` too says why
it does not. On PostgreSQL all tests of a process share one database, which is emptied for each: that takes
milliseconds, a new database takes a tenth of a second.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow import Ledger

BACKENDS: Final = ("sqlite", "postgresql")
both = pytest.mark.both

_KEPT: Final = frozenset({"uow_schema", "uow_identity", "uow_blocks", "uow_sequencer"})
_places: dict[str, str] = {}
"""Addresses by how ledgers name their place: without user and password, with which nobody could connect."""


def sqlite_only(reason: str) -> pytest.MarkDecorator:
    """Mark a test of a module that runs on both, but for this one."""
    return pytest.mark.sqlite_only(reason=reason)


def parametrise(metafunc: pytest.Metafunc) -> None:
    """Have a test run on both, if it is to; called by pytest's hook."""
    marked = metafunc.definition.get_closest_marker
    if "backend" in metafunc.fixturenames and marked("both") and not marked("sqlite_only"):
        metafunc.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """Which engine the test runs on."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def place(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a new ledger goes: a path, or the address of an emptied database."""
    if backend == "sqlite":
        return tmp_path / "memory.db"
    return str(request.getfixturevalue("pg_emptied_url"))


@pytest.fixture(scope="session")
def pg_shared_url(pg_server_url: str) -> Iterator[str]:
    """The address of a database with a ledger's schema, dropped with the session."""
    from memoryos_uow import Ledger
    from tests.postgres_server import Databases

    databases = Databases(pg_server_url)
    url = databases.new()
    with Ledger.open(url) as ledger:
        _places[ledger._opened.engine.place] = url
    yield url
    databases.drop_all()


@pytest.fixture
def pg_emptied_url(pg_shared_url: str) -> str:
    """The address of the shared database, with nothing in it but the schema and who the ledger is."""
    _empty(pg_shared_url)
    return pg_shared_url


def _empty(url: str) -> None:
    import psycopg

    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute("SET lock_timeout = 5000")
        found = connection.execute("SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        relations = [(name, kind) for name, kind in found.fetchall() if kind in _DROPS]
        ours = [one for one in relations if one[0].startswith("uow_") or one[0] == "unit_of_work"]
        strange = sorted(
            (one for one in relations if one not in ours), key=lambda one: one[1] == "S"
        )  # their own go first
        script = [
            "DELETE FROM uow_writes",
            *(f"DELETE FROM {name}" for name, kind in ours if kind == "r" and name not in _KEPT),
            "UPDATE uow_sequencer SET owner = NULL, lease_until_ms = 0",
            *(f'DROP {_DROPS[kind]} IF EXISTS "{name}" CASCADE' for name, kind in strange),
        ]
        connection.execute(";".join(script).encode())


_DROPS: Final = {"r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW", "S": "SEQUENCE"}


def address_of(ledger: Ledger) -> Path | str:
    """Where somebody else finds the ledger: its path, or an address to connect to."""
    return _places.get(ledger._opened.engine.place) or ledger.path


def rows(place: Path | str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """What a stranger with plain sqlite3, or psycopg, reads there; marks are ``?``."""
    if isinstance(place, Path):
        import sqlite3

        with closing(sqlite3.connect(place)) as connection:
            return connection.execute(sql, parameters).fetchall()
    import psycopg

    with closing(psycopg.connect(place, autocommit=True)) as there:
        cursor = there.execute(sql.replace("%", "%%").replace("?", "%s").encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def change(place: Path | str, sql: str, *rows_of_values: tuple[object, ...]) -> None:
    """What a stranger does there: one statement for each row of values, or once without any."""
    many = rows_of_values or ((),)
    if isinstance(place, Path):
        import sqlite3

        with closing(sqlite3.connect(place)) as connection, connection:
            connection.executemany(sql, many)
        return
    import psycopg

    with closing(psycopg.connect(place)) as there:
        there.cursor().executemany(sql.replace("%", "%%").replace("?", "%s").encode(), many)
        there.commit()
