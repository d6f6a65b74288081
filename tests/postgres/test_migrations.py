"""Migrations on PostgreSQL up to 1.1.0, from every state a database can be in."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from memoryos_uow import _migrations_postgres, _schema
from memoryos_uow._migrations import Kind
from memoryos_uow._migrations_postgres import shape
from memoryos_uow.errors import LedgerBusy
from tests.postgres_schemas import (
    FILES,
    LITERAL_1_0_0,
    PLACE,
    RECORD,
    connect,
    kind_of,
    make_1_0_0,
    migrator,
    relations,
    rows_1_0_0,
    run,
    up,
    with_options,
)

# --- from where ------------------------------------------------------------------------------------------------------


def test_from_nothing(conn: Any) -> None:
    """An empty schema becomes a ledger: recorded, with a name of its own, and every table is as the files say."""
    assert kind_of(conn) is Kind.NEW
    assert up(conn)
    assert kind_of(conn) is Kind.CURRENT
    assert shape.problems(conn) == []
    recorded = conn.execute("SELECT version, checksum FROM uow_schema ORDER BY version").fetchall()
    assert recorded == [(version, _schema.checksum(name)) for version, name in sorted(FILES.layers.items())]
    ledger_id, origin = conn.execute("SELECT ledger_id, origin FROM uow_identity").fetchone()
    assert origin == f"memoryos-uow/{ledger_id[:16]}"
    assert conn.execute("SELECT epoch, owner, lease_until_ms FROM uow_sequencer").fetchall() == [(0, None, 0)]


def test_what_the_parser_reads_is_what_postgresql_made(conn: Any) -> None:
    """The shape that is read from the files is the one that the server reports, column by column and key by key."""
    up(conn)
    made = shape.found(conn)
    assert {table: dict(made.tables[table]) for table in shape.expected().tables} == shape.expected().tables
    assert made.tables.keys() - shape.expected().tables.keys() == {"uow_receipts"}
    assert made.keys == shape.expected().keys
    assert {name: made.indexes[name] for name in shape.expected().indexes} == shape.expected().indexes


def test_an_application_s_own_tables_stay(conn: Any) -> None:
    """What is in the schema beside the ledger is not touched."""
    run(conn, "CREATE TABLE recipes (name TEXT PRIMARY KEY); INSERT INTO recipes VALUES ('soup')")
    up(conn, origin="example.com/kitchen")
    assert conn.execute("SELECT name FROM recipes").fetchall() == [("soup",)]
    assert conn.execute("SELECT origin FROM uow_identity").fetchall() == [("example.com/kitchen",)]


@pytest.mark.parametrize("script", [None, LITERAL_1_0_0], ids=["ours", "literal"])
def test_from_1_0_0_with_rows(conn: Any, script: str | None) -> None:
    """Every row stays; old ones count as 1.1.0 with its defaults; new ids are beyond those that are taken."""
    make_1_0_0(conn, script=script)
    assert kind_of(conn) is Kind.BASIC
    before = rows_1_0_0(conn)
    assert up(conn)
    assert rows_1_0_0(conn) == before
    assert shape.problems(conn) == []
    assert conn.execute("SELECT DISTINCT contract_version, retry_count, band FROM unit_of_work").fetchall() == [
        ("1.1.0", 0, None)
    ]
    assert dict(conn.execute("SELECT name, next FROM uow_blocks").fetchall()) == {
        "writes": 7,
        "outbox": 1,
        "streams": 2**62,
    }


@pytest.mark.parametrize("script", [None, LITERAL_1_0_0], ids=["ours", "literal"])
def test_a_unit_s_id_can_change_afterwards(conn: Any, script: str | None) -> None:
    """Erasures give a unit another id: its writes follow, whoever made the tables."""
    make_1_0_0(conn, script=script)
    up(conn)
    run(conn, "UPDATE unit_of_work SET uow_id = 'forgotten' WHERE uow_id = 'u1'")
    assert conn.execute("SELECT count(*) FROM uow_writes WHERE uow_id = 'forgotten'").fetchone() == (2,)


def test_from_1_0_0_without_writes(conn: Any) -> None:
    """A ledger of 1.0.0 may lack uow_writes."""
    run(conn, _schema.statements(FILES.base)[0])
    assert kind_of(conn) is Kind.BASIC
    assert up(conn)
    assert shape.problems(conn) == []


@pytest.mark.parametrize("script", [None, LITERAL_1_0_0], ids=["ours", "literal"])
@pytest.mark.parametrize("statements", range(0, 27, 13))
def test_from_a_migration_begun_by_hand(conn: Any, script: str | None, statements: int) -> None:
    """Whatever part of the specification's script somebody has run already, the rest is added."""
    make_1_0_0(conn, script=script)
    before = rows_1_0_0(conn)
    for statement in _schema.statements(FILES.up)[:statements]:
        run(conn, statement.replace("BIGINT", "INTEGER") if script else statement)
    assert kind_of(conn) is (Kind.PARTIAL if statements else Kind.BASIC)
    assert up(conn)
    assert shape.problems(conn) == []
    assert rows_1_0_0(conn) == before


def test_columns_of_the_application_s_stay(conn: Any) -> None:
    """Somebody's own column, index and view on the contract's tables survive the way up."""
    make_1_0_0(conn)
    run(
        conn,
        "ALTER TABLE unit_of_work ADD COLUMN note TEXT; UPDATE unit_of_work SET note = 'mine';"
        "CREATE INDEX my_notes ON unit_of_work(note); CREATE VIEW my_units AS SELECT uow_id, note FROM unit_of_work;",
    )
    up(conn)
    assert conn.execute("SELECT DISTINCT note FROM my_units").fetchall() == [("mine",)]
    assert "my_notes" in relations(conn)


def test_once_is_enough(conn: Any) -> None:
    """A current ledger is left alone, and what is missing from one later is made again."""
    assert up(conn)
    assert not up(conn)
    identity = conn.execute("SELECT * FROM uow_identity").fetchall()
    run(conn, "DROP INDEX idx_uow_band")
    assert kind_of(conn) is Kind.PARTIAL
    assert up(conn)
    assert conn.execute("SELECT * FROM uow_identity").fetchall() == identity
    assert kind_of(conn) is Kind.CURRENT


def test_another_build_of_this_version_is_known_by_its_shape(conn: Any) -> None:
    """Other checksums are no reason to migrate as long as everything is as this library needs it."""
    up(conn)
    run(conn, "UPDATE uow_schema SET checksum = 'another build'")
    assert kind_of(conn) is Kind.CURRENT
    for change in (
        "DROP INDEX uow_units_by_band; CREATE INDEX uow_units_by_band ON unit_of_work(band)",
        "DROP TABLE uow_blobs",
        "ALTER TABLE uow_outbox DROP COLUMN topic",
    ):
        with conn.transaction(force_rollback=True):
            run(conn, change)
            assert kind_of(conn) is Kind.PARTIAL


def test_a_ledger_that_goes_down_while_it_is_looked_at(url: str, conn: Any) -> None:
    """Between the two queries the record may disappear: what is found then is what is there afterwards."""
    up(conn)

    class Slow:
        """A connection on which another process migrates down before the second query."""

        def execute(self, query: str, params: Any = None, /) -> Any:
            if "FROM uow_schema" in query:
                with connect(url) as other:
                    _migrations_postgres.migrate_down(other, place=PLACE)
            return conn.execute(query.encode(), params)

    assert _migrations_postgres.inspect(Slow(), place=PLACE).kind is Kind.BASIC


# --- several at once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["new", "1.0.0", "partial"])
def test_processes_that_open_one_database_at_once_agree(url: str, conn: Any, start: str) -> None:
    """Eight begin together; one migrates, the others find it done; no process fails and no row is lost."""
    if start != "new":
        make_1_0_0(conn, 300)
    if start == "partial":
        run(conn, _schema.statements(FILES.up)[0])
        run(conn, RECORD)
    with migrator("race") as ask:
        assert sorted(ask(url, 8)) == [False] * 7 + [True]
    assert kind_of(conn) is Kind.CURRENT
    assert len(rows_1_0_0(conn)) == (0 if start == "new" else 900)
    assert conn.execute("SELECT count(*) FROM uow_identity").fetchone() == (1,)
    assert conn.execute("SELECT count(*) FROM uow_schema").fetchone() == (2,)


def test_whoever_waited_looks_again(url: str, conn: Any) -> None:
    """A migrator that had to wait for another one does nothing when that one has done it."""
    calls = []

    def other_first(what: str) -> None:
        calls.append(what)
        if len(calls) == 1:
            with connect(url) as other:
                up(other)

    assert not up(conn, progress=other_first)
    assert calls == ["waiting for other migrators"]


def test_a_lost_race_for_a_name_is_run_again(url: str, conn: Any) -> None:
    """PostgreSQL tells the slower of two that the name of a table is taken; it begins anew, and finds it made."""
    done: list[bool] = []
    with connect(url) as other, connect(url) as watcher:
        other.execute("BEGIN")
        run(other, RECORD)
        slower = threading.Thread(target=lambda: done.append(up(conn)))
        slower.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
        while watcher.execute(waiting, (conn.info.backend_pid,)).fetchone() == (0,):
            assert slower.is_alive()
        other.execute("COMMIT")
        slower.join()
    assert done == [True]
    assert kind_of(conn) is Kind.CURRENT


def test_a_lock_that_is_not_given_up_in_time(url: str, conn: Any) -> None:
    """Somebody else's transaction on the table of units makes migrating wait, for as long as is allowed."""
    make_1_0_0(conn)
    with connect(url) as other:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM unit_of_work")
        with pytest.raises(LedgerBusy, match=re.escape(PLACE)):
            up(conn, busy_timeout_s=0.02)
        other.execute("ROLLBACK")
    assert kind_of(conn) is Kind.BASIC
    assert up(conn)


def test_a_time_limit_for_queries_does_not_end_a_migration(url: str) -> None:
    """A role's statement_timeout is for its queries; the migration has its own limit, for locks."""
    with connect(with_options(url, statement_timeout="20")) as limited, connect(url) as other:
        make_1_0_0(limited)
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM unit_of_work")
        with pytest.raises(LedgerBusy) as caught:
            up(limited, busy_timeout_s=0.06)
        assert getattr(caught.value.__cause__, "sqlstate", "") == "55P03"  # lock_timeout; the other is 57014
        assert limited.execute("SHOW statement_timeout").fetchone() == ("20ms",)
