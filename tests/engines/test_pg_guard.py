"""What statements of the application's would do on PostgreSQL, told by the server, and which of them units refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow._names import Durability, Operation
from memoryos_uow.engines._pg_guard import PostgresGuard
from memoryos_uow.engines.postgres import PostgresEngine
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

CREATE, UPDATE, DELETE, UPSERT = Operation.CREATE, Operation.UPDATE, Operation.DELETE, Operation.UPSERT


@pytest.fixture
def engine(pg_emptied_url: str) -> Iterator[PostgresEngine]:
    """An engine on a ledger's database with two tables of the application's, a view and a function."""
    opened = PostgresEngine.open(pg_emptied_url, durability=Durability.NORMAL, busy_timeout_s=5.0)
    tx = opened.begin()
    for statement in (
        "CREATE TABLE t (a INT PRIMARY KEY, b TEXT)",
        "CREATE VIEW of_t AS SELECT a, b FROM t",
        "CREATE VIEW of_ours AS SELECT store, space_id, key FROM uow_documents",
        "CREATE OR REPLACE FUNCTION putting() RETURNS INT LANGUAGE sql AS 'INSERT INTO t VALUES (7) RETURNING a'",
    ):
        tx.execute(statement)
    tx.commit()
    yield opened
    opened.close()


@pytest.fixture
def guard(engine: PostgresEngine) -> PostgresGuard:
    """A guard on that engine."""
    return PostgresGuard(engine)


@pytest.mark.parametrize(
    ("sql", "parameters", "returns_rows", "operation"),
    [
        ("SELECT * FROM t WHERE a = ?", (1,), True, None),
        ("(SELECT 1) UNION SELECT 2", (), True, None),
        ("VALUES (1, ?)", ("x",), True, None),
        ("TABLE t", (), True, None),
        ("SHOW timezone", (), True, None),
        ("SELECT count(*) FROM uow_documents", (), True, None),
        ("INSERT INTO t VALUES (?, ?)", (1, "x"), False, CREATE),
        ("INSERT INTO t VALUES (:a, :b) RETURNING a", {"a": 1, "b": "x"}, True, CREATE),
        ("INSERT INTO t VALUES (?1, ?1)", (1,), False, CREATE),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 'x'", (), False, UPSERT),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", (), False, CREATE),
        ("UPDATE t SET b = ? WHERE a = ?;", ("x", 1), False, UPDATE),
        ("/* why */ DELETE FROM t -- ?\n", (), False, DELETE),
        ("DELETE FROM of_t", (), False, DELETE),
        ("WITH gone AS (DELETE FROM t RETURNING a) SELECT * FROM gone", (), True, DELETE),
        ("WITH few AS (SELECT 1 AS a) INSERT INTO t SELECT a FROM few", (), False, CREATE),
        ("SELECT putting()", (), True, UPDATE),
        ("SELECT * FROM t FOR UPDATE", (), True, None),
        ("SELECT 'BEGIN; COMMIT', $$ uow_spaces $$", (), True, None),
    ],
)
def test_what_a_statement_would_do(
    guard: PostgresGuard, sql: str, parameters: Any, returns_rows: bool, operation: Any
) -> None:
    """It is told by the plan, so also for views and for what stands inside WITH; nothing is run."""
    found = guard.classify(sql, parameters)
    assert (found.returns_rows, found.changes_schema, found.operation) == (returns_rows, False, operation)
    assert guard.classify(sql, parameters) == found
    assert guard.classify("SELECT * FROM t LIMIT 0", ()).operation is None


@pytest.mark.parametrize(
    ("sql", "operation"),
    [
        ("CREATE TABLE x (a INT)", CREATE),
        ("CREATE UNLOGGED TABLE x AS SELECT * FROM t", CREATE),
        ("CREATE UNIQUE INDEX i ON t (b)", CREATE),
        ("CREATE OR REPLACE VIEW v AS SELECT * FROM uow_documents", CREATE),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM uow_documents", CREATE),
        ("ALTER TABLE t ADD COLUMN c INT", UPDATE),
        ("DROP TABLE t", DELETE),
        ("TRUNCATE t", DELETE),
        ("COMMENT ON TABLE t IS 'mine'", UPDATE),
        ("GRANT ALL ON t TO public", UPDATE),
        ("CREATE FUNCTION f() RETURNS INT LANGUAGE sql AS 'SELECT 1'", CREATE),
    ],
)
def test_changes_of_the_schema(guard: PostgresGuard, sql: str, operation: Operation) -> None:
    """They are told by their text: PostgreSQL plans none of them."""
    found = guard.classify(sql, ())
    assert (found.returns_rows, found.changes_schema, found.operation) == (False, True, operation)


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN",
        "/* hidden */ COMMIT",
        "ROLLBACK TO x",
        "SAVEPOINT x",
        "SELECT 1; COMMIT",
        "SET ROLE postgres",
        "RESET ALL",
        "DISCARD ALL",
        "COPY t FROM STDIN",
        "LISTEN x",
        "NOTIFY x",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE ALL",
        "DECLARE c CURSOR FOR SELECT 1",
        "DO $$ BEGIN COMMIT; END $$",
        "CALL p()",
        "VACUUM t",
        "EXPLAIN ANALYZE DELETE FROM t",
        "LOCK TABLE t",
        "SELECT * INTO x FROM t",
        "SELECT set_config('a.b', '1', false)",
        "SELECT pg_advisory_xact_lock(1)",
        'SELECT "pg_terminate_backend" (1)',
        "SELECT query_to_xml('DELETE FROM t', true, true, '')",
        "CREATE TEMP TABLE x (a INT)",
        "CREATE TEMPORARY VIEW x AS SELECT 1",
        "CREATE OR REPLACE TEMP VIEW x AS SELECT 1",
        "CREATE DATABASE x",
        "CREATE ROLE x",
        "CREATE INDEX CONCURRENTLY i ON t (b)",
        "DROP SCHEMA public CASCADE",
        "ALTER SYSTEM SET fsync = off",
        "DROP OWNED BY postgres",
        "GRANT postgres TO public",
        "nonsense",
        "",
        " ; ",
        "SELECT nonsense",
        "INSERT INTO nowhere VALUES (1)",
    ],
)
def test_what_has_no_place_in_a_unit(guard: PostgresGuard, sql: str) -> None:
    """Transactions, the session, other databases, the server, several statements, and what is no SQL."""
    with pytest.raises(UsageError) as caught:
        guard.classify(sql, ())
    assert caught.value.hint


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO uow_spaces VALUES ('s', 1, '')",
        "UPDATE unit_of_work SET status = 'committed'",
        "DELETE FROM public.uow_writes",
        "WITH x AS (DELETE FROM uow_spaces RETURNING *) SELECT * FROM x",
        "DELETE FROM of_ours",
        "SELECT * FROM uow_spaces FOR UPDATE",
        "TRUNCATE t, uow_documents",
        "DROP TABLE unit_of_work",
        "ALTER TABLE uow_spaces ADD COLUMN x INT",
        "ALTER TABLE t RENAME TO uow_t",
        'CREATE TABLE "uow_t" (a INT)',
        "CREATE VIEW uow_v AS SELECT 1",
        "CREATE INDEX i ON uow_documents (key)",
        "CREATE TRIGGER x AFTER INSERT ON unit_of_work FOR EACH ROW EXECUTE FUNCTION putting()",
        "CREATE FUNCTION f() RETURNS VOID LANGUAGE sql AS 'DELETE FROM uow_spaces'",
        "CREATE TABLE x (u TEXT REFERENCES unit_of_work)",
    ],
)
def test_the_librarys_tables_are_closed(guard: PostgresGuard, sql: str) -> None:
    """Nothing writes, locks or changes them, by whichever way; reading them is free."""
    with pytest.raises(UsageError, match=r"library's own"):
        guard.classify(sql, ())


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ?", ()),
        ("SELECT 1", (1,)),
        ("SELECT ?, ?", (1,)),
        ("SELECT ?2", (1,)),
        ("SELECT :a", {"b": 1}),
        ("SELECT :a", (1,)),
        ("SELECT ?", {"a": 1}),
        ("SELECT ?, :a", {"a": 1}),
    ],
)
def test_parameters_must_fit(guard: PostgresGuard, sql: str, parameters: Any) -> None:
    """As many as there are marks, or a name for each; the values are not shown."""
    with pytest.raises(UsageError, match="marks"):
        guard.classify(sql, parameters)


def test_what_a_view_reads_may_change(guard: PostgresGuard, engine: PostgresEngine) -> None:
    """What is known of a statement is forgotten when the schema changes through the same ledger."""
    guard.classify("DELETE FROM of_t", ())
    tx = engine.begin()
    guard.classify("CREATE OR REPLACE VIEW of_t AS SELECT 1 AS a, key AS b FROM uow_documents", ())
    tx.execute("DROP VIEW of_t")
    tx.execute("CREATE VIEW of_t AS SELECT key FROM uow_documents")
    tx.commit()
    with pytest.raises(UsageError, match=r"library's own"):
        guard.classify("DELETE FROM of_t", ())


def test_a_units_own_tables_are_seen_inside(guard: PostgresGuard, engine: PostgresEngine) -> None:
    """Nobody else sees them yet; a mistake does not end the unit."""
    tx = engine.begin()
    tx.execute("CREATE TABLE own (a INT)")
    with pytest.raises(UsageError):
        guard.classify("INSERT INTO own VALUES (1)", ())
    assert guard.classify("INSERT INTO own VALUES (1)", (), inside=tx).operation is CREATE
    with pytest.raises(UsageError):
        guard.classify("INSERT INTO nowhere VALUES (1)", (), inside=tx)
    assert tx.rows("SELECT count(*) FROM own") == [(0,)]
    tx.rollback()
