"""Servers and databases come from `tests.postgres_fixtures`, as in every folder; here is what only this one needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.postgres_server import ELSEWHERE, Databases

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shared_database(pg_server_url: str) -> Iterator[str]:
    """The URL of one database for many tests, each of which makes a schema of its own in it."""
    databases = Databases(pg_server_url)
    yield databases.new()
    if os.environ.get(ELSEWHERE):  # a server of ours ends with the session, and dropping thousands of tables takes time
        databases.drop_all()
