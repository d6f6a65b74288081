"""What the SQL guard answers: read or write, of what sort, and what it refuses."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Durability, Operation
from memoryos_uow.engines import _sql_guard
from memoryos_uow.engines._sql_guard import SqlGuard, Statement, _Witness
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.errors import LedgerError, UsageError
from tests.engines import guarded

if TYPE_CHECKING:
    from collections.abc import Iterator

CREATE, UPDATE, UPSERT, DELETE = Operation.CREATE, Operation.UPDATE, Operation.UPSERT, Operation.DELETE


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteEngine]:
    """An engine on the guarded file, shared by the tests that only ask."""
    path = tmp_path_factory.mktemp("guard") / "memory.db"
    guarded.make(path)
    engine = SQLiteEngine.open(path, durability=Durability.NORMAL, busy_timeout_s=60)
    yield engine
    engine.close()


@pytest.fixture
def guard(opened: SQLiteEngine) -> SqlGuard:
    """A guard that knows nothing yet."""
    return SqlGuard(opened)


READS = [
    "SELECT 1",
    "select 1;",
    "  \t\n SeLeCt 1  ",
    "VALUES (1), (2)",
    "/* comment */ SELECT 1",
    "-- comment\nSELECT 1",
    "/* QUERY PLAN */ -- EXPLAIN\n SELECT 1 -- ;",
    "SELECT 'DELETE FROM uow_writes'",
    "SELECT * FROM app",
    "SELECT count(*) FROM unit_of_work JOIN uow_writes USING (uow_id)",
    'SELECT "unit_of_work".status FROM "unit_of_work", [uow_receipts]',
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3) SELECT i FROM n",
    "SELECT * FROM words WHERE words MATCH 'a'",
    "SELECT * FROM older WHERE older MATCH 'a'",
    "SELECT * FROM boxes WHERE low < 7",
    "SELECT * FROM app WHERE x IN (SELECT w FROM words)",
    "SELECT * FROM pragma_table_info('app')",
    "SELECT * FROM pragma_foreign_key_list('kid')",
    "SELECT value FROM json_each('[1, 2]')",
    "SELECT * FROM sqlite_schema",
    "SELECT * FROM sqlite_temp_schema",
]

WRITES = {
    "INSERT INTO bare VALUES (1, 2)": CREATE,
    "insert into main.bare values (1, 2);": CREATE,
    "INSERT INTO bare DEFAULT VALUES": CREATE,
    "INSERT INTO bare SELECT uow_id, status FROM unit_of_work": CREATE,
    "INSERT OR IGNORE INTO app VALUES (1, 2, 3)": CREATE,
    "REPLACE INTO app VALUES (1, 2, 3)": CREATE,
    "INSERT OR REPLACE INTO app VALUES (1, 2, 3)": CREATE,
    "INSERT OR ROLLBACK INTO app VALUES (7, 8, 9)": CREATE,
    "INSERT INTO app VALUES (9, 'one', 3) ON CONFLICT DO NOTHING": CREATE,
    "INSERT INTO app VALUES (9, 'one', 3) ON CONFLICT (x) DO UPDATE SET y = excluded.y": UPSERT,
    "INSERT INTO app (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET y = 1 WHERE y IS NULL": UPSERT,
    "WITH n(i) AS (VALUES (7)) INSERT INTO bare SELECT i, i FROM n": CREATE,
    "WITH n(i) AS (VALUES (7)) UPDATE bare SET a = (SELECT i FROM n)": UPDATE,
    "WITH n(i) AS (VALUES (7)) DELETE FROM bare WHERE a IN n": DELETE,
    "UPDATE bare SET a = 1, b = 2": UPDATE,
    "UPDATE app SET y = u.status FROM unit_of_work AS u": UPDATE,
    "UPDATE app SET id = id + 10": UPDATE,
    "DELETE FROM bare": DELETE,
    "DELETE FROM app WHERE id = 1": DELETE,
    "INSERT INTO audited VALUES (1)": CREATE,
    "DELETE FROM audited": DELETE,
    "INSERT INTO counted (a) VALUES (1)": CREATE,
    "INSERT INTO seen VALUES (1, 2)": CREATE,
    "INSERT INTO words VALUES ('hello')": CREATE,
    "INSERT INTO words (words) VALUES ('optimize')": CREATE,
    "DELETE FROM words": DELETE,
    "INSERT INTO older VALUES ('hello')": CREATE,
    "INSERT INTO boxes VALUES (1, 2, 3)": CREATE,
    "DELETE FROM boxes": DELETE,
    "/* SELECT */ INSERT INTO bare VALUES ('-- x', ';')": CREATE,
}

RETURNING = {
    "INSERT INTO bare VALUES (1, 2) RETURNING a, b": CREATE,
    "UPDATE app SET y = 1 RETURNING id": UPDATE,
    "DELETE FROM app RETURNING *": DELETE,
    "INSERT INTO app VALUES (1, 1, 1) ON CONFLICT (id) DO UPDATE SET y = 2 RETURNING y": UPSERT,
}

SCHEMA_CHANGES = {
    "CREATE TABLE other (a)": CREATE,
    "CREATE TABLE IF NOT EXISTS app (a)": CREATE,
    "CREATE TABLE other AS SELECT * FROM unit_of_work": CREATE,
    "CREATE TABLE other (a REFERENCES unit_of_work (uow_id))": CREATE,
    "CREATE UNIQUE INDEX bare_b ON bare (b)": CREATE,
    "CREATE VIEW other AS SELECT * FROM uow_writes": CREATE,
    "CREATE TRIGGER other AFTER INSERT ON bare BEGIN INSERT INTO audit VALUES (new.a); END": CREATE,
    "CREATE TRIGGER other AFTER INSERT ON bare BEGIN INSERT INTO audit VALUES ('my_uow_x'); END": CREATE,
    "CREATE VIRTUAL TABLE other USING fts5 (a, content='app')": CREATE,
    "DROP TABLE bare": DELETE,
    "DROP TABLE words": DELETE,
    "DROP INDEX bare_a": DELETE,
    "DROP VIEW seen": DELETE,
    "DROP TRIGGER audits": DELETE,
    "ALTER TABLE bare RENAME TO unit_of_work_2": UPDATE,
    "ALTER TABLE bare ADD COLUMN uow_c": UPDATE,
    "ALTER TABLE plain RENAME COLUMN a TO uow_a": UPDATE,
    "ALTER TABLE plain DROP COLUMN b": UPDATE,
    "REINDEX": UPDATE,
    "REINDEX bare_a": UPDATE,
    "ANALYZE": CREATE,
}

NOTHING_TO_DO = [
    "DROP TABLE IF EXISTS missing",
    "DROP TABLE IF EXISTS uow_missing",
    "DROP INDEX IF EXISTS missing",
    "DROP VIEW IF EXISTS missing",
    "DROP TRIGGER IF EXISTS missing",
]

OURS = [
    "INSERT INTO unit_of_work VALUES (1, 2)",
    "INSERT INTO uow_writes DEFAULT VALUES",
    "REPLACE INTO uow_writes VALUES (1, 2)",
    "UPDATE unit_of_work SET status = 'failed'",
    "DELETE FROM uow_writes",
    'DELETE FROM "uow_writes"',
    "DELETE FROM [UOW_Writes]",
    "DELETE FROM `uow_writes`",
    "DELETE FROM main.UNIT_OF_WORK",
    "/* */ DELETE /* */ FROM /* */ uow_writes -- ",
    "WITH n AS (SELECT 1) DELETE FROM uow_writes WHERE id IN n",
    "INSERT INTO uow_writes (id) VALUES (1) ON CONFLICT DO NOTHING",
    "UPDATE uow_writes SET uow_id = 1 RETURNING id",
    "INSERT INTO uow_receipts VALUES (1)",
    "INSERT INTO spied VALUES (1)",
    "DELETE FROM spying",
    "CREATE TABLE uow_x (a)",
    'CREATE TABLE "UOW_X" (a)',
    "CREATE TABLE [uow_] (a)",
    "CREATE TABLE main.uow_x AS SELECT 1",
    "CREATE TABLE IF NOT EXISTS uow_writes (a)",
    "CREATE VIEW uow_x AS SELECT 1",
    "CREATE VIRTUAL TABLE uow_x USING fts5 (a)",
    "CREATE VIRTUAL TABLE uow USING fts5 (a)",
    "CREATE VIRTUAL TABLE Uow USING rtree (id, a, b)",
    "CREATE INDEX other ON uow_writes (id)",
    "CREATE INDEX uow_x ON bare (a)",
    "CREATE TRIGGER other AFTER INSERT ON unit_of_work BEGIN SELECT 1; END",
    "CREATE TRIGGER uow_x AFTER INSERT ON bare BEGIN SELECT 1; END",
    "CREATE TRIGGER other AFTER INSERT ON bare BEGIN DELETE FROM uow_writes; END",
    'CREATE TRIGGER other AFTER INSERT ON bare BEGIN DELETE FROM "UOW_WRITES"; END',
    "CREATE TRIGGER other AFTER INSERT ON bare BEGIN UPDATE[unit_of_work]SET status = 1; END",
    "CREATE TRIGGER other INSTEAD OF DELETE ON seen BEGIN INSERT INTO`uow_writes`(id)VALUES(7); END",
    "DROP TABLE uow_writes",
    "DROP TABLE IF EXISTS Unit_Of_Work",
    "DROP VIEW uow_receipts",
    "DROP INDEX idx_uow_status",
    "DROP TRIGGER trig_on_ours",
    "ALTER TABLE unit_of_work ADD COLUMN a",
    "ALTER TABLE uow_writes RENAME TO other",
    "ALTER TABLE uow_writes RENAME COLUMN id TO other",
    "ALTER TABLE unit_of_work DROP COLUMN status",
    "ALTER TABLE bare RENAME TO uow_x",
    'ALTER TABLE bare RENAME TO "UOW_x"',
    "ALTER TABLE words RENAME TO uow",
    "ALTER TABLE bare RENAME TO uow",
]

ATOMICITY = {
    "BEGIN": "belong to the unit itself",
    "BEGIN IMMEDIATE": "belong to the unit itself",
    "/* */ COMMIT": "belong to the unit itself",
    "end transaction": "belong to the unit itself",
    "ROLLBACK": "belong to the unit itself",
    "SAVEPOINT a": "uow.savepoint",
    "RELEASE a": "uow.savepoint",
    "ROLLBACK TO a": "uow.savepoint",
    "ATTACH 'other.db' AS other": "cannot be attached",
    "ATTACH DATABASE ? AS other": "cannot be attached",
    "DETACH main": "cannot be detached",
    "PRAGMA user_version": "Settings",
    "PRAGMA user_version = 7": "Settings",
    "PRAGMA writable_schema = ON": "Settings",
    "PRAGMA data_version": "Settings",
    "PRAGMA page_size": "Settings",
    "PRAGMA page_size = 512": "Settings",
    "PRAGMA main.journal_mode(delete)": "Settings",
    "VACUUM": "rewrites the whole file",
    "VACUUM main": "rewrites the whole file",
    "VACUUM INTO 'copy.db'": "rewrites the whole file",
    "VACUUM INTO lower('COPY.DB')": "rewrites the whole file",
    "CREATE TEMP TABLE other (a)": "outlive",
    "CREATE TEMPORARY VIEW other AS SELECT 1": "outlive",
    "CREATE TEMP TRIGGER other AFTER INSERT ON bare BEGIN SELECT 1; END": "outlive",
    "CREATE TABLE temp.other (a)": "outlive",
    "CREATE VIEW temp.other AS SELECT 1": "outlive",
    "CREATE VIRTUAL TABLE temp.other USING fts5 (a)": "outlive",
}

NO_STATEMENT = {
    "": "incomplete input",
    "   ": "incomplete input",
    ";": 'near ";"',
    "-- only a comment": "incomplete input",
    "/* never closed": "incomplete input",
    "SELEC 1": 'near "SELEC"',
    "SELECT 1; SELECT 2": "one statement at a time",
    "SELECT 1; DROP TABLE app": "one statement at a time",
    "SELECT 1;;": "one statement at a time",
    "SELECT 'never closed": "unrecognized token",
    "EXPLAIN SELECT 1": 'near "EXPLAIN"',
    "explain QUERY plan SELECT 1": 'near "explain"',
    "QUERY PLAN SELECT 1": 'near "QUERY"',
    "query plan INSERT INTO bare VALUES (1, 2)": 'near "QUERY"',
    "/* */ QUERY -- \n PLAN DELETE FROM app": 'near "QUERY"',
    "QUERY PLAN QUERY PLAN SELECT 1": 'near "QUERY"',
    "SELECT * FROM missing": "no such table: missing",
    "SELECT missing FROM app": "no such column: missing",
    "SELECT missing(1)": "no such function: missing",
    "INSERT INTO bare VALUES (1)": "table bare has 2 columns but 1 values were supplied",
    "INSERT INTO seen (a) VALUES (1) RETURNING missing": "no such column",
    "DROP TABLE missing": "no such table: missing",
    "CREATE TABLE app (a)": "already exists",
    "CREATE TABLE sqlite_other (a)": "reserved for internal use",
    "UPDATE sqlite_schema SET sql = NULL": "may not be modified",
    "DELETE FROM sqlite_master": "may not be modified",
    "INSERT INTO sqlite_schema VALUES (1, 2, 3, 4, 5)": "may not be modified",
    "DROP TABLE sqlite_schema": "may not be dropped",
}


def asked(guard: SqlGuard, sql: str) -> Statement:
    """What the guard says of a statement, given a value for each question mark."""
    return guard.classify(sql, ("value",) * sql.count("?"))


@pytest.mark.parametrize("sql", READS)
def test_reads(guard: SqlGuard, sql: str) -> None:
    """A statement that only reads returns rows and is recorded as nothing, also the first time that it is asked."""
    assert asked(guard, sql) == Statement(returns_rows=True, changes_schema=False, operation=None)


@pytest.mark.parametrize(("sql", "operation"), WRITES.items())
def test_writes(guard: SqlGuard, sql: str, operation: Operation) -> None:
    """A statement that writes rows is recorded by what it does itself, not by what triggers and foreign keys do."""
    assert asked(guard, sql) == Statement(returns_rows=False, changes_schema=False, operation=operation)


@pytest.mark.parametrize(("sql", "operation"), RETURNING.items())
def test_writes_that_return_rows(guard: SqlGuard, sql: str, operation: Operation) -> None:
    """A write with RETURNING is a write that returns rows."""
    assert asked(guard, sql) == Statement(returns_rows=True, changes_schema=False, operation=operation)


@pytest.mark.parametrize(("sql", "operation"), SCHEMA_CHANGES.items())
def test_schema_changes(guard: SqlGuard, sql: str, operation: Operation) -> None:
    """A statement that changes the schema is recorded as creating, changing or deleting, whatever rows it touches."""
    statement = asked(guard, sql)
    assert (statement.changes_schema, statement.operation) == (True, operation)


@pytest.mark.parametrize("sql", NOTHING_TO_DO)
def test_nothing_to_do(guard: SqlGuard, sql: str) -> None:
    """Dropping what is not there, IF EXISTS, is a statement that does nothing, and no error."""
    assert asked(guard, sql) == Statement(returns_rows=False, changes_schema=False, operation=None)


@pytest.mark.parametrize("sql", OURS)
def test_our_tables_are_refused(guard: SqlGuard, opened: SQLiteEngine, sql: str) -> None:
    """Whatever would write, make, change or drop something under the library's names is refused, in any spelling."""
    before = guarded.content(opened.path)
    with pytest.raises(UsageError, match=r"the library's own\. Nothing was written") as refused:
        asked(guard, sql)
    assert refused.value.__cause__ is None
    assert guarded.content(opened.path) == before


@pytest.mark.parametrize(("sql", "why"), ATOMICITY.items())
def test_what_ends_atomicity_is_refused(guard: SqlGuard, opened: SQLiteEngine, sql: str, why: str) -> None:
    """Transactions, savepoints, other files, settings, VACUUM and temporary objects are refused with the reason."""
    before = guarded.content(opened.path)
    with pytest.raises(UsageError, match="A unit of work cannot run this statement") as refused:
        asked(guard, sql)
    assert why in str(refused.value)
    assert guarded.content(opened.path) == before


@pytest.mark.parametrize(("sql", "why"), NO_STATEMENT.items())
def test_what_is_no_statement_is_refused(guard: SqlGuard, opened: SQLiteEngine, sql: str, why: str) -> None:
    """What SQLite does not understand as exactly one runnable statement is refused in SQLite's own words."""
    before = guarded.content(opened.path)
    with pytest.raises(UsageError, match="SQLite refused the statement") as refused:
        asked(guard, sql)
    assert why in str(refused.value)
    assert refused.value.hint
    assert guarded.content(opened.path) == before


ACCEPTED = [*READS, *WRITES, *RETURNING, *SCHEMA_CHANGES, *NOTHING_TO_DO]


@pytest.mark.parametrize("sql", ACCEPTED)
def test_the_answer_is_what_happens(guard: SqlGuard, sql: str) -> None:
    """Run for real, each accepted statement returns rows, writes rows and changes the schema exactly as was said."""
    statement = asked(guard, sql)
    with closing(guarded.in_memory()) as connection:
        connection.execute("BEGIN")
        ours = guarded.of_ours(connection)
        (schema,) = connection.execute("PRAGMA schema_version").fetchone()
        changes = connection.total_changes
        returned = connection.execute(sql).fetchall()
        assert statement.returns_rows or not returned
        assert statement.changes_schema or (schema,) == connection.execute("PRAGMA schema_version").fetchone()
        if statement.operation is None:
            assert connection.total_changes == changes
        assert guarded.of_ours(connection) == ours


@pytest.mark.parametrize("sql", [*OURS, *ATOMICITY, *NO_STATEMENT, *ACCEPTED])
def test_asking_leaves_the_reader_as_it_was(guard: SqlGuard, opened: SQLiteEngine, sql: str) -> None:
    """After any question the connection is free of the guard: the same reader may do what a unit may not."""
    with suppress(UsageError):
        asked(guard, sql)
    with opened.reader() as reader:
        assert reader.rows("PRAGMA user_version") == [(0,)]
        assert not reader.connection.in_transaction


# Parameters


@pytest.mark.parametrize(
    ("sql", "fits", "others"),
    [
        ("INSERT INTO bare VALUES (?, ?)", (1, 2), [(), (1,), (1, 2, 3)]),
        ("INSERT INTO bare VALUES (:a, $b)", {"a": 1, "b": 2}, [{}, {"a": 1}, {"b": 1}]),
        ("SELECT 1", (), [(1,)]),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_parameters_have_to_fit(guard: SqlGuard, sql: str, fits: Any, others: list[Any], known: bool) -> None:
    """Parameters of a wrong number or names are refused when asked, also of a statement that was asked before."""
    if known:
        guard.classify(sql, fits)
    for wrong in others:
        with pytest.raises(UsageError, match="SQLite refused the statement"):
            guard.classify(sql, wrong)
    assert guard.classify(sql, fits)


def test_values_are_not_shown(guard: SqlGuard) -> None:
    """A value that does not fit is refused without being shown."""
    for value in ("secret\ud800", 2**70):
        with pytest.raises(UsageError, match="A value does not fit into SQLite") as refused:
            guard.classify("SELECT ?", (value,))
        assert "secret" not in str(refused.value)


# What is remembered


@pytest.fixture
def own(engine: SQLiteEngine) -> SqlGuard:
    """A guard on a file of the test's own, with the table t(x)."""
    return SqlGuard(engine)


def run(engine: SQLiteEngine, sql: str) -> None:
    """Commit a statement past the guard."""
    tx = engine.begin()
    tx.execute(sql)
    tx.commit()


def test_a_known_statement_is_not_asked_again(own: SqlGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time, with other values of the same shape, the answer is remembered."""
    answer = own.classify("INSERT INTO t VALUES (?)", (1,))
    monkeypatch.setattr(own, "_ask", None)
    assert own.classify("INSERT INTO t VALUES (?)", ("other",)) is answer


def test_memory_is_bounded(own: SqlGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many different statements do not fill the memory, and are answered all the same."""
    monkeypatch.setattr(_sql_guard, "KNOWN_MAX", 3)
    for number in range(5):
        assert own.classify(f"INSERT INTO t VALUES ({number})", ()).operation is CREATE
    assert len(own._known) == 3


def test_a_trigger_made_meanwhile_is_seen(engine: SQLiteEngine, own: SqlGuard) -> None:
    """An answer does not outlive the schema: with a trigger made since, that writes our tables, it is refused."""
    run(engine, "CREATE TABLE uow_writes (id)")
    assert own.classify("INSERT INTO t VALUES (1)", ()).operation is CREATE
    run(engine, "CREATE TRIGGER spy AFTER INSERT ON t BEGIN DELETE FROM uow_writes; END")
    with pytest.raises(UsageError, match="the library's own"):
        own.classify("INSERT INTO t VALUES (1)", ())
    run(engine, "DROP TRIGGER spy")
    assert own.classify("INSERT INTO t VALUES (1)", ()).operation is CREATE


def test_a_table_made_meanwhile_is_seen(engine: SQLiteEngine, own: SqlGuard) -> None:
    """A table that another connection made is known at once."""
    with pytest.raises(UsageError, match="no such table"):
        own.classify("SELECT * FROM new", ())
    run(engine, "CREATE TABLE new (x)")
    assert own.classify("SELECT * FROM new", ()).returns_rows


def test_inside_a_transaction_its_own_schema_counts(engine: SQLiteEngine, own: SqlGuard) -> None:
    """Asked inside a transaction the guard sees tables and triggers of its making, which nobody else does."""
    tx = engine.begin()
    tx.execute("CREATE TABLE uow_writes (id)")
    tx.execute("CREATE TABLE new (x)")
    tx.execute("CREATE TRIGGER spy AFTER INSERT ON t BEGIN DELETE FROM uow_writes; END")
    assert own.classify("INSERT INTO t VALUES (1)", ()).operation is CREATE
    assert own.classify("INSERT INTO new VALUES (1)", (), inside=tx).operation is CREATE
    with pytest.raises(UsageError, match="the library's own"):
        own.classify("INSERT INTO t VALUES (1)", (), inside=tx)
    assert tx.open
    tx.execute("INSERT INTO new VALUES (1)")
    tx.rollback()
    with pytest.raises(UsageError, match="no such table"):
        own.classify("INSERT INTO new VALUES (1)", ())


def test_a_closed_ledger_is_refused(engine: SQLiteEngine, own: SqlGuard) -> None:
    """The guard asks nothing of a closed ledger."""
    engine.close()
    with pytest.raises(UsageError, match="is closed"):
        own.classify("SELECT 1", ())


def test_a_file_that_cannot_be_read_is_not_the_statements_fault(engine: SQLiteEngine, own: SqlGuard) -> None:
    """When the file is gone the error says so, instead of blaming the SQL."""
    for each in list(engine.path.parent.iterdir()):
        each.unlink()
    with pytest.raises(LedgerError, match="cannot be opened"):
        own.classify("SELECT 1", ())


def test_threads_do_not_mix_their_questions(own: SqlGuard) -> None:
    """Eight threads that ask at once each get the answer to their own question."""
    start = threading.Barrier(8)
    wrong: list[object] = []

    def ask(number: int) -> None:
        start.wait()
        for turn in range(60):
            marker = f"/* {number} {turn} */"
            try:
                if number % 2:
                    assert own.classify(f"SELECT x FROM t {marker}", ()).operation is None
                else:
                    assert own.classify(f"DELETE FROM t {marker}", ()).operation is DELETE
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test wants to see it
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_raw_pages_cannot_be_written() -> None:
    """Where SQLite is built with the virtual table of raw pages, writing to it is refused, reading is not."""
    witness = _Witness()
    assert witness(sqlite3.SQLITE_READ, "sqlite_dbpage", "data", "main", None) == sqlite3.SQLITE_OK
    assert witness(sqlite3.SQLITE_UPDATE, "sqlite_dbpage", "data", "main", None) == sqlite3.SQLITE_DENY
    assert witness.refusal
