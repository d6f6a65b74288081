"""Servers and databases come from `tests.postgres_fixtures`, as in every folder; here is what only this one needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.postgres_schemas import connect, new_schema
from tests.postgres_server import ELSEWHERE, Databases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.postgres_server import Server


@pytest.fixture(scope="session")
def shared_database(pg_server_url: str) -> Iterator[str]:
    """The URL of one database for many tests, each of which makes a schema of its own in it."""
    databases = Databases(pg_server_url)
    yield databases.new()
    if os.environ.get(ELSEWHERE):  # a server of ours ends with the session, and dropping thousands of tables takes time
        databases.drop_all()


@pytest.fixture(scope="session")
def durable_server_url(request: pytest.FixtureRequest) -> str:
    """The URL of a server that syncs its log, without which no ledger is opened at full durability."""
    named = os.environ.get(ELSEWHERE)
    if named:
        return named
    start: Callable[..., Server] = request.getfixturevalue("pg_start")
    return start(durable=True).url()


@pytest.fixture
def durable_url(durable_server_url: str) -> Iterator[str]:
    """The URL of a new, empty database on a server that syncs its log."""
    databases = Databases(durable_server_url)
    yield databases.new()
    databases.drop_all()


@pytest.fixture
def url(shared_database: str) -> str:
    """The address of an empty schema."""
    return new_schema(shared_database)


@pytest.fixture
def conn(url: str) -> Iterator[Any]:
    """A connection to it."""
    with connect(url) as connection:
        yield connection
