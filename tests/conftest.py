"""Hypothesis for all tests: the same examples every time, and no limits that depend on how busy the machine is.

And the ledgers that most tests of units work on, and PostgreSQL servers for those that need one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from memoryos_uow import Ledger
from tests.both import backend, parametrise, pg_emptied_url, pg_shared_url, place
from tests.postgres_fixtures import (
    pg_databases,
    pg_server,
    pg_server_url,
    pg_start,
    pg_url,
    skip_what_needs_our_server,
)
from tests.units import four_stores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "backend",
    "ledger",
    "pg_databases",
    "pg_emptied_url",
    "pg_server",
    "pg_server_url",
    "pg_shared_url",
    "pg_start",
    "pg_url",
    "place",
    "wide",
]

settings.register_profile(
    "deterministic", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("deterministic")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave a PostgreSQL server alone that the environment names."""
    skip_what_needs_our_server(items)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have tests that are marked `both` run on both engines."""
    parametrise(metafunc)


@pytest.fixture
def ledger(place: Path | str) -> Iterator[Ledger]:
    """A new ledger in which every name is a document store, closed at the end."""
    with Ledger.open(place) as opened:
        yield opened


@pytest.fixture
def wide(place: Path | str, tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger with one store of each kind, closed at the end."""
    with Ledger.open(place, stores=four_stores(tmp_path if isinstance(place, str) else None)) as opened:
        yield opened
