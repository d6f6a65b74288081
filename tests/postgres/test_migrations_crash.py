"""Migrations on PostgreSQL against SIGKILL: real processes, killed between any two statements or inside one."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import _migrations_postgres, _schema
from memoryos_uow._migrations import Kind
from memoryos_uow._migrations_postgres import shape
from tests.postgres_schemas import (
    FILES,
    PLACE,
    columns,
    connect,
    make_1_0_0,
    migrator,
    new_schema,
    relations,
    rows_1_0_0,
    run,
    send,
    start_migrator,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A few points spread over the way are tried by default; with MEMORYOS_UOW_CRASH_POINTS=all, every single one.
POINTS_MAX: Final = 10**6 if os.environ.get("MEMORYOS_UOW_CRASH_POINTS") == "all" else 8

WAYS: Final = {"up": (Kind.BASIC, Kind.CURRENT), "soft": (Kind.CURRENT, Kind.SOFT), "down": (Kind.CURRENT, Kind.BASIC)}
LEFT_UNTOUCHED: Final = {made.name for made in _schema.created(FILES.stores) if made.kind == "table"}


@pytest.fixture(scope="module")
def kill() -> Iterator[Callable[..., Any]]:
    """Runs a migration in a process that kills itself."""
    with migrator("kill") as ask:
        yield ask


def make(url: str, way: str) -> list[tuple[Any, ...]]:
    """Make the ledger that `way` begins with; return its rows."""
    with connect(url) as conn:
        make_1_0_0(conn)
        if way != "up":
            _migrations_postgres.migrate_up(conn, place=PLACE)
        return rows_1_0_0(conn)


def assert_whole_and_completed(url: str, way: str, rows: list[tuple[Any, ...]]) -> Kind:
    """Prove that the ledger is wholly at one version with all its rows, and that going on completes it."""
    with connect(url) as conn:
        kind = _migrations_postgres.inspect(conn, place=PLACE).kind
        assert kind in WAYS[way]
        assert rows_1_0_0(conn) == rows
        if kind is Kind.BASIC:
            bare = {name for name in relations(conn) if not name.startswith(("uow_backup_", *LEFT_UNTOUCHED))}
            assert bare == {"unit_of_work", "unit_of_work_pkey", "uow_writes", "uow_writes_pkey"}
            assert columns(conn, "unit_of_work") == list(shape.base_columns("unit_of_work"))
        elif kind is Kind.CURRENT:
            assert shape.problems(conn) == []
            assert not any("backup" in name for name in relations(conn))
            assert conn.execute("SELECT count(*) FROM uow_schema").fetchone() == (2,)
        assert _migrations_postgres.migrate_up(conn, place=PLACE) is (kind is not Kind.CURRENT)
        assert shape.problems(conn) == []
        assert rows_1_0_0(conn) == rows
    return kind


def spread(count: int) -> range:
    """Return at most POINTS_MAX numbers from 1 to `count`, evenly, the last one among them."""
    return range(count, 0, -max(1, -(-count // POINTS_MAX)))


@pytest.mark.parametrize("way", WAYS)
def test_a_process_killed_after_any_statement_leaves_one_whole_version(
    shared_database: str, kill: Callable[..., Any], way: str
) -> None:
    """Up to its last statement nothing has happened; after it, everything; and either way it can be gone on with."""
    url = new_schema(shared_database)
    make(url, way)
    statements, killed = kill(url, way, 10**6)
    assert not killed
    assert statements > 15
    found = []
    for point in spread(statements):
        url = new_schema(shared_database)
        rows = make(url, way)
        assert kill(url, way, point) == [None, True]
        found.append(assert_whole_and_completed(url, way, rows))
    old, new = WAYS[way]
    assert found[0] is new  # killed after the commit
    assert set(found[1:]) == {old}


def test_a_process_killed_while_the_server_works_for_it(shared_database: str) -> None:
    """The server finds out only when it answers; what it did until then is undone, and others can go on."""
    url = new_schema(shared_database)
    rows = make(url, "up")
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass('unit_of_work')"
    with connect(url) as other, connect(url) as watcher, start_migrator("kill") as process:
        other.execute("BEGIN")
        run(other, "LOCK TABLE unit_of_work IN ROW EXCLUSIVE MODE")  # what a unit of 1.0.0 holds
        send(process, url, "up", 10**6)
        while watcher.execute(waits).fetchone() == (0,):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        other.execute("COMMIT")
    assert assert_whole_and_completed(url, "up", rows) is Kind.BASIC
