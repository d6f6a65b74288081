"""Fixtures that give tests a PostgreSQL server, or a database of their own on it; skipped where there is none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from tests.postgres_server import ELSEWHERE, Databases, end_servers, start_server, why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.postgres_server import Server


_ON_THE_SERVER_NAMED: Final = {"pg_url", "pg_emptied_url", "pg_databases"}


def skip_what_needs_our_server(items: Iterable[pytest.Item]) -> None:
    """Skip tests that do something to the server their database is on, where that server is somebody else's."""
    if os.environ.get(ELSEWHERE):
        for item in items:
            asked = set(getattr(item, "fixturenames", ()))
            if "pg_server" in asked and asked & _ON_THE_SERVER_NAMED:
                item.add_marker(pytest.mark.skip(reason="does things to its server, which is not ours here"))


@pytest.fixture(scope="session")
def pg_start() -> Iterator[Callable[..., Server]]:
    """`start_server`, for tests that kill servers, promote them, or want settings; all are ended with the session."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    yield start_server
    end_servers()


@pytest.fixture(scope="session")
def pg_server(pg_start: Callable[..., Server]) -> Server:
    """The one server that tests of this process share, fast and not durable; do not kill it."""
    return pg_start()


@pytest.fixture(scope="session")
def pg_server_url(request: pytest.FixtureRequest) -> str:
    """The URL of the server on which databases are made: the one the environment names, else `pg_server`."""
    named = os.environ.get(ELSEWHERE)
    if named:
        pytest.importorskip("psycopg", reason="psycopg[binary] is not installed")
        return named
    server: Server = request.getfixturevalue("pg_server")
    return server.url()


@pytest.fixture
def pg_databases(pg_server_url: str) -> Iterator[Databases]:
    """Makes new databases, each dropped after the test."""
    databases = Databases(pg_server_url)
    yield databases
    databases.drop_all()


@pytest.fixture
def pg_url(pg_databases: Databases) -> str:
    """The URL of a new, empty database, dropped after the test."""
    return pg_databases.new()
