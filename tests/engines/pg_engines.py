"""Engines on PostgreSQL for tests: bare ones, with a table of their own, and whatever stands between."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from memoryos_uow._names import Durability
from memoryos_uow.engines.postgres import PostgresEngine
from tests.postgres_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@contextmanager
def engine_at(
    url: str, *, durability: Durability = Durability.FULL, busy_timeout_s: float = 20.0
) -> Iterator[PostgresEngine]:
    """Lend an open engine; its database has a table t(x) and blocks of ids."""
    engine = PostgresEngine.open(url, durability=durability, busy_timeout_s=busy_timeout_s)
    try:
        with engine.reader() as reader:
            reader.connection.execute("CREATE TABLE IF NOT EXISTS t(x BIGINT PRIMARY KEY, y BIGINT)")
            reader.connection.execute("CREATE TABLE IF NOT EXISTS uow_blocks(name TEXT PRIMARY KEY, next BIGINT)")
            reader.connection.execute("INSERT INTO uow_blocks VALUES ('writes', 1) ON CONFLICT DO NOTHING")
        yield engine
    finally:
        engine.close()


@contextmanager
def behind_proxy(url: str, **options: Any) -> Iterator[tuple[PostgresEngine, Proxy]]:
    """Lend an engine whose connections go through a proxy, and that."""
    proxy = Proxy(port_of(url))
    try:
        with engine_at(proxy.url(url), **options) as engine:
            yield engine, proxy
    finally:
        proxy.close()


def port_of(url: str) -> int:
    """The port in an address that tests are given."""
    parts = urlsplit(url)
    return parts.port or int(parse_qs(parts.query)["port"][0])


def name_of(url: str) -> str:
    """The name of the database in an address that tests are given."""
    return urlsplit(url).path[1:]


def values(engine: PostgresEngine) -> list[int]:
    """What is in the table."""
    with engine.reader() as reader:
        return [x for (x,) in reader.rows("SELECT x FROM t ORDER BY x")]


def insert(engine: PostgresEngine, *numbers: int, **options: Any) -> None:
    """Insert each in one transaction."""
    tx = engine.begin(**options)
    try:
        for number in numbers:
            tx.execute("INSERT INTO t(x) VALUES (?)", (number,))
        tx.commit()
    finally:
        tx.rollback()


def others(engine: PostgresEngine) -> int:
    """How many sessions the database has beside the one that asks."""
    with engine.reader() as reader:
        found: int = reader.rows(BACKENDS)[0][0]
    return found
