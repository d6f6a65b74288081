"""The way up to 1.1.0: from every kind of file, keeping every row and everything that is not ours."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memoryos_uow import _ambient, _schema
from memoryos_uow._migrations import Kind, inspect, migrate_up, shape, waiting
from memoryos_uow.errors import LedgerBusy, LedgerCorrupt, MigrationError, SchemaTooNew
from tests.schema_files import (
    connect,
    contract_shape,
    fill_1_0_0,
    fresh_shape,
    make_1_0_0,
    objects,
    rows_1_0_0,
    run_script,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CURRENT_SHAPE = fresh_shape(_schema.BASE, _schema.UP)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a ledger."""
    return tmp_path / "memory.db"


@pytest.fixture
def conn(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to that place, in SQLite's own journal mode."""
    with closing(connect(path)) as connection:
        yield connection


def by_name(shape_of_file: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Forget the order of the columns, which a migration begun by hand decides."""
    tables = {name: sorted(map(str, (row[1:] for row in shape_of_file[name]))) for name in _schema.CONTRACT_TABLES}
    return shape_of_file | tables


# --- from every starting point ---------------------------------------------------------------------------------------


def test_an_empty_file_becomes_a_ledger(conn: sqlite3.Connection) -> None:
    """From nothing: the specification's tables, our own, one identity and a record of both files."""
    assert inspect(conn).kind is Kind.NEW
    assert migrate_up(conn, origin="example.com/household")
    assert contract_shape(conn) == CURRENT_SHAPE
    state = inspect(conn)
    assert (state.kind, state.version, state.missing) == (Kind.CURRENT, "1.1.0", ())
    assert conn.execute("SELECT id, origin, length(ledger_id) FROM uow_identity").fetchall() == [
        (1, "example.com/household", 32)
    ]
    assert conn.execute("SELECT version, checksum FROM uow_schema ORDER BY version").fetchall() == [
        ("1.1.0", _schema.checksum(_schema.UP)),
        ("1.1.0+ledger.1", _schema.checksum(_schema.LEDGER)),
    ]


@pytest.mark.parametrize("wal", [False, True], ids=["rollback journal", "write-ahead log"])
def test_a_ledger_of_1_0_0_keeps_its_rows(path: Path, wal: bool) -> None:
    """From 1.0.0: the same tables as a new ledger has, every row and row number as it was, version filled in."""
    make_1_0_0(path, 5, wal=wal)
    with closing(connect(path)) as conn:
        before = rows_1_0_0(conn)
        state = inspect(conn)
        assert (state.kind, state.version, state.has_base_tables) == (Kind.BASIC, "1.0.0", True)
        assert migrate_up(conn)
        assert contract_shape(conn) == CURRENT_SHAPE
        assert rows_1_0_0(conn) == before
        assert conn.execute("SELECT DISTINCT contract_version, band, retry_count FROM unit_of_work").fetchall() == [
            ("1.1.0", None, 0)
        ]
        assert inspect(conn).kind is Kind.CURRENT


def test_a_ledger_of_1_0_0_without_writes_gets_the_table(conn: sqlite3.Connection) -> None:
    """The specification calls uow_writes optional: without it basic mode cannot work, migrating can."""
    run_script(conn, _schema.BASE)
    conn.execute("DROP TABLE uow_writes")
    state = inspect(conn)
    assert (state.kind, state.has_base_tables) == (Kind.BASIC, False)
    assert migrate_up(conn)
    assert contract_shape(conn) == CURRENT_SHAPE


def test_a_database_of_the_applications_own_becomes_a_ledger_too(conn: sqlite3.Connection) -> None:
    """Foreign tables, views, triggers and indexes stay byte for byte; so do the numbers in the file's header."""
    conn.executescript(
        """
        PRAGMA user_version = 7; PRAGMA application_id = 99;
        CREATE TABLE  orders(id TEXT PRIMARY KEY, total INT /* cents */);
        CREATE TABLE uow_notes(x);
        CREATE INDEX orders_total ON orders(total);
        CREATE VIEW big AS SELECT * FROM orders WHERE total > 100;
        CREATE TRIGGER audit AFTER INSERT ON orders BEGIN SELECT 1; END;
        INSERT INTO orders VALUES ('o1', 250);
        """
    )
    before = objects(conn)
    assert inspect(conn).kind is Kind.NEW
    assert migrate_up(conn)
    ours = {name for name_of in (_schema.BASE, _schema.UP, _schema.LEDGER) for _, name in _schema.created(name_of)}
    automatic = {name for _, name, _, sql in objects(conn) if sql is None} - {name for _, name, *_ in before}
    assert objects(conn, besides=ours | automatic) == before
    assert conn.execute("PRAGMA user_version").fetchone() == (7,)
    assert conn.execute("PRAGMA application_id").fetchone() == (99,)
    assert conn.execute("SELECT * FROM big").fetchall() == [("o1", 250)]


def test_triggers_and_views_on_the_contract_tables_stay(conn: sqlite3.Connection) -> None:
    """What the application built on a 1.0.0 ledger is still there, still works, and did not fire."""
    run_script(conn, _schema.BASE)
    fill_1_0_0(conn, 2)
    conn.executescript(
        """
        CREATE TABLE seen(uow_id TEXT);
        CREATE TRIGGER see AFTER INSERT ON unit_of_work BEGIN INSERT INTO seen VALUES (NEW.uow_id); END;
        CREATE VIEW open_units AS SELECT * FROM unit_of_work WHERE status = 'pending';
        CREATE INDEX by_envelope ON unit_of_work(envelope_id);
        """
    )
    before = {row for row in objects(conn) if row[1] in ("see", "open_units", "by_envelope", "seen")}
    assert migrate_up(conn)
    assert before <= objects(conn)
    assert conn.execute("SELECT count(*) FROM seen").fetchone() == (0,)
    conn.execute("INSERT INTO unit_of_work (uow_id, status, created_ts) VALUES ('new', 'pending', 't')")
    assert conn.execute("SELECT * FROM seen").fetchall() == [("new",)]


def test_columns_of_the_applications_own_stay(conn: sqlite3.Connection) -> None:
    """A column that the application added to unit_of_work keeps its place and its values."""
    run_script(conn, _schema.BASE)
    conn.execute("ALTER TABLE unit_of_work ADD COLUMN shard INTEGER NOT NULL DEFAULT 3")
    fill_1_0_0(conn, 1)
    assert migrate_up(conn)
    assert conn.execute("SELECT shard, contract_version FROM unit_of_work").fetchall() == [(3, "1.1.0")]
    assert inspect(conn).kind is Kind.CURRENT


added = _schema.added_columns()
index_statements = [s for s in _schema.statements(_schema.UP) if "CREATE INDEX" in s]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.sampled_from(added), unique=True),
    st.lists(st.sampled_from(index_statements), unique=True),
    st.lists(st.sampled_from(_schema.statements(_schema.LEDGER)[:-1]), unique=True),
)
def test_any_part_of_a_migration_by_hand_is_completed(
    columns: list[_schema.AddedColumn], indexes: list[str], own_tables: list[str]
) -> None:
    """Whatever subset of columns, indexes and tables is there, in whatever order: the schema ends the same."""
    with closing(connect(":memory:")) as conn:
        run_script(conn, _schema.BASE)
        fill_1_0_0(conn, 2)
        before = rows_1_0_0(conn)
        for column in columns:
            conn.execute(column.statement)
        for index in indexes:
            try:
                conn.execute(index)
            except sqlite3.OperationalError:
                assert "status" not in index  # its column is not there yet
        made = 0
        for own in own_tables:
            try:
                conn.execute(own)
                made += 1
            except sqlite3.OperationalError:
                assert "CREATE INDEX" in own  # its table is not there yet
        assert inspect(conn).kind is (Kind.PARTIAL if columns or made or indexes_of(conn) else Kind.BASIC)
        assert migrate_up(conn)
        assert by_name(contract_shape(conn)) == by_name(CURRENT_SHAPE)
        assert rows_1_0_0(conn) == before
        assert inspect(conn).kind is Kind.CURRENT
        assert not migrate_up(conn)


def indexes_of(conn: sqlite3.Connection) -> list[Any]:
    """Return the explicit indexes of the contract's tables."""
    return conn.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").fetchall()


def test_a_whole_migration_by_hand_only_gets_our_own_tables(conn: sqlite3.Connection) -> None:
    """Somebody ran the specification's SQL: its tables are taken over as they are, values included."""
    run_script(conn, _schema.BASE)
    run_script(conn, _schema.UP)
    conn.execute(
        "INSERT INTO unit_of_work (uow_id, status, created_ts, band, contract_version)"
        " VALUES ('u', 'pending', 't', 'RED', NULL)"
    )
    state = inspect(conn)
    assert state.kind is Kind.PARTIAL
    assert set(state.missing) == {f"{one.kind} {one.name}" for one in _schema.created(_schema.LEDGER)}
    assert migrate_up(conn)
    assert conn.execute("SELECT band, contract_version FROM unit_of_work").fetchall() == [("RED", "1.1.0")]


def test_columns_without_the_check_are_taken_over(conn: sqlite3.Connection) -> None:
    """A CHECK that a hand-made column lacks is made up for by validation, not by refusing the ledger."""
    run_script(conn, _schema.BASE)
    conn.execute("ALTER TABLE unit_of_work ADD COLUMN band text")
    assert migrate_up(conn)
    assert inspect(conn).kind is Kind.CURRENT


def test_names_in_capitals_are_the_same_names(conn: sqlite3.Connection) -> None:
    """SQLite does not tell Band from band, so neither does the migration."""
    conn.executescript(_schema.text(_schema.BASE).replace("unit_of_work", "Unit_Of_Work"))
    conn.execute("ALTER TABLE unit_of_work ADD COLUMN Band TEXT")
    assert migrate_up(conn)
    assert inspect(conn).kind is Kind.CURRENT


@pytest.mark.parametrize(
    "damage", ["DROP INDEX idx_uow_band", "DROP VIEW uow_receipts", "DROP TABLE uow_spaces", "DELETE FROM uow_schema"]
)
def test_what_was_removed_by_hand_comes_back(conn: sqlite3.Connection, damage: str) -> None:
    """Opening notices that a part of a current ledger is gone, and restores it; its identity stays."""
    migrate_up(conn)
    identity = conn.execute("SELECT * FROM uow_identity").fetchall()
    conn.execute(damage)
    assert inspect(conn).kind is Kind.PARTIAL
    assert migrate_up(conn, origin="other")
    assert inspect(conn).kind is Kind.CURRENT
    assert conn.execute("SELECT * FROM uow_identity").fetchall() == identity


def test_migrating_twice_changes_nothing(conn: sqlite3.Connection) -> None:
    """A current ledger is left alone: not one change, no write lock taken."""
    migrate_up(conn)
    with closing(connect(conn.execute("PRAGMA database_list").fetchone()[2])) as other:
        other.execute("BEGIN IMMEDIATE")
        before = conn.total_changes
        assert not migrate_up(conn, busy_timeout_s=0)
        assert conn.total_changes == before


def test_a_hundred_thousand_rows_migrate(path: Path) -> None:
    """Size is no obstacle: 100,000 units with 200,000 writes, and progress is told."""
    make_1_0_0(path, 100_000)
    told: list[str] = []
    with closing(connect(path)) as conn:
        assert migrate_up(conn, progress=told.append)
        assert conn.execute("SELECT count(*) FROM unit_of_work WHERE contract_version = '1.1.0'").fetchone() == (
            100_000,
        )
        assert inspect(conn).kind is Kind.CURRENT
    assert told[0] == "waiting for the write lock"
    assert told[-1] == "committing"


def test_the_default_origin_is_made_from_the_identity(conn: sqlite3.Connection) -> None:
    """A ledger nobody named is named after its random id, so no two ledgers share a name."""
    migrate_up(conn)
    ((ledger_id, origin),) = conn.execute("SELECT ledger_id, origin FROM uow_identity").fetchall()
    assert origin == f"memoryos-uow/{ledger_id[:16]}"


def test_the_users_records_stay_as_they_are(conn: sqlite3.Connection) -> None:
    """Records that were written in basic mode keep their values and their versions on the way up."""
    run_script(conn, _schema.BASE)
    run_script(conn, _schema.STORES)
    insert = "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('notes', 's', ?, ?, '{}')"
    conn.executemany(insert, [("a", 1), ("b", 2)])
    before = conn.execute("SELECT * FROM uow_documents").fetchall()
    assert migrate_up(conn)
    assert conn.execute("SELECT * FROM uow_documents").fetchall() == before


def test_a_ledger_of_another_build_is_taken_as_it_is(conn: sqlite3.Connection) -> None:
    """Other checksums on the same tables: what counts is what is there."""
    migrate_up(conn)
    conn.execute("UPDATE uow_schema SET checksum = 'other'")
    assert inspect(conn).kind is Kind.CURRENT
    conn.execute("DROP VIEW uow_receipts")
    assert migrate_up(conn)
    assert conn.execute("SELECT count(*) FROM uow_schema WHERE checksum = 'other'").fetchone() == (0,)


def test_a_ledger_of_another_build_that_lacks_a_column_is_refused(conn: sqlite3.Connection) -> None:
    """Other checksums make a ledger be looked at closely: a column of 1.0.0 that is gone is noticed and named."""
    migrate_up(conn)
    conn.execute("UPDATE uow_schema SET checksum = 'other'")
    conn.execute("ALTER TABLE uow_writes DROP COLUMN record_id")
    assert (inspect(conn).kind, inspect(conn).missing) == (Kind.FOREIGN, ("uow_writes.record_id",))


# --- what is refused, with the file as it was ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "newer"),
    [("2.0.0", True), ("1.1.0+ledger.2", True), ("1.2.0-rc.1", True), ("tomorrow", True), ("1.0.0", False)],
)
def test_a_newer_schema_is_refused(conn: sqlite3.Connection, version: str, newer: bool) -> None:
    """A version above ours is left to the library that wrote it; an older line beside ours does no harm."""
    migrate_up(conn)
    conn.execute("INSERT INTO uow_schema VALUES (?, 't', 'c')", (version,))
    before = objects(conn)
    if not newer:
        assert inspect(conn).kind is Kind.CURRENT
        return
    assert (inspect(conn).kind, inspect(conn).version) == (Kind.TOO_NEW, version)
    with pytest.raises(SchemaTooNew, match="Nothing was changed"):
        migrate_up(conn)
    assert objects(conn) == before
    assert not conn.in_transaction


@pytest.mark.parametrize(
    ("script", "named"),
    [
        (
            "ALTER TABLE unit_of_work ADD COLUMN band VARCHAR(10)",
            "band of unit_of_work is declared VARCHAR(10), not TEXT",
        ),
        ("ALTER TABLE unit_of_work ADD COLUMN store_count", "store_count of unit_of_work is declared without a type"),
        ("ALTER TABLE uow_writes ADD COLUMN checksum BLOB", "checksum of uow_writes is declared BLOB, not TEXT"),
        ("ALTER TABLE unit_of_work ADD COLUMN band TEXT AS ('RED')", "band of unit_of_work is a generated one"),
        (
            "ALTER TABLE unit_of_work ADD COLUMN actor_id TEXT NOT NULL DEFAULT ''",
            "actor_id of unit_of_work is NOT NULL",
        ),
        ("CREATE INDEX idx_uow_band ON unit_of_work(status)", "idx_uow_band is not the one this library makes"),
        ("CREATE TABLE other(x); CREATE INDEX idx_uow_band ON other(x)", "idx_uow_band is not the one"),
        ("CREATE TABLE uow_ledger(x)", "the table uow_ledger is not the one this library makes"),
        ("CREATE VIEW uow_receipts AS SELECT 1", "uow_receipts is not the one this library makes"),
        ("CREATE TABLE idx_uow_band(x)", "there is already a table named idx_uow_band"),
        ("CREATE TABLE uow_schema(x)", "lacks uow_schema.checksum"),
        ("CREATE TABLE uow_identity(id INTEGER PRIMARY KEY, ledger_id)", "the table uow_identity is not the one"),
    ],
)
def test_what_stands_in_the_way_is_named(conn: sqlite3.Connection, script: str, named: str) -> None:
    """A column, index, table or view that is not what it should be is refused by name, nothing changed."""
    run_script(conn, _schema.BASE)
    fill_1_0_0(conn, 2)
    conn.executescript(script)
    before, rows = objects(conn), rows_1_0_0(conn)
    with pytest.raises(MigrationError, match="Nothing was changed") as caught:
        migrate_up(conn)
    assert named in str(caught.value)
    assert (objects(conn), rows_1_0_0(conn)) == (before, rows)
    assert not conn.in_transaction


BASE_TEXT = _schema.text(_schema.BASE)


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("CREATE TABLE unit_of_work (task TEXT, hours REAL)", "unit_of_work.committed_ts"),
        ("CREATE VIEW unit_of_work AS SELECT 1 AS uow_id", "unit_of_work.committed_ts"),
        (
            "CREATE VIEW unit_of_work AS SELECT 1 uow_id, 2 envelope_id, 3 status, 4 created_ts, 5 committed_ts",
            "it lacks",
        ),
        (BASE_TEXT.replace("envelope_id TEXT, ", ""), "unit_of_work.envelope_id"),
        (BASE_TEXT.replace("record_id TEXT, ", ""), "uow_writes.record_id"),
        (BASE_TEXT.replace("uow_id TEXT PRIMARY KEY", "uow_id TEXT"), "uow_id of unit_of_work has another place"),
        (
            BASE_TEXT.replace("envelope_id TEXT,", "envelope_id TEXT NOT NULL,"),
            "envelope_id of unit_of_work is NOT NULL",
        ),
        (
            BASE_TEXT.replace("envelope_id TEXT,", "envelope_id TEXT, shard INT NOT NULL,"),
            "shard of unit_of_work is NOT",
        ),
        (BASE_TEXT.replace("committed_ts TEXT);", "committed_ts TEXT) WITHOUT ROWID;"), "WITHOUT ROWID"),
        (BASE_TEXT.replace("id INTEGER PRIMARY KEY", "id TEXT PRIMARY KEY"), "id of uow_writes is declared TEXT"),
    ],
)
def test_tables_that_only_bear_the_names_are_refused(conn: sqlite3.Connection, script: str, named: str) -> None:
    """A table of the application's own called unit_of_work is not touched, and what is wrong is named."""
    conn.executescript(script)
    before = objects(conn)
    with pytest.raises(MigrationError, match="Nothing was changed") as caught:
        migrate_up(conn)
    assert named in str(caught.value)
    assert objects(conn) == before


def test_stricter_constraints_that_do_no_harm_are_accepted(conn: sqlite3.Connection) -> None:
    """A 1.0.0 table may say NOT NULL of its key, AUTOINCREMENT, or bring defaults: units can be kept."""
    text = BASE_TEXT.replace("uow_id TEXT PRIMARY KEY", "uow_id TEXT PRIMARY KEY NOT NULL")
    conn.executescript(text.replace("id INTEGER PRIMARY KEY", "id INTEGER PRIMARY KEY AUTOINCREMENT"))
    assert migrate_up(conn)
    assert inspect(conn).kind is Kind.CURRENT


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """A text file stays as it is, and the error says what it is not."""
    path.write_text("this is a diary, not a database\n" * 100)
    before = path.read_bytes()
    with closing(connect(path)) as conn:
        for call in (inspect, migrate_up):
            with pytest.raises(LedgerCorrupt, match="is not a SQLite database"):
                call(conn)
    assert path.read_bytes() == before


def test_a_damaged_database_is_refused(path: Path) -> None:
    """A database whose schema page is overwritten is called damaged."""
    make_1_0_0(path)
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    with closing(connect(path)) as conn, pytest.raises(LedgerCorrupt, match="is damaged"):
        inspect(conn)


def test_text_that_is_not_utf_8_is_damage(conn: sqlite3.Connection) -> None:
    """What sqlite3 reports without a code, a damaged version text, is called damage as well."""
    migrate_up(conn)
    conn.execute("INSERT INTO uow_schema VALUES (CAST(x'ff31' AS TEXT), 't', 'c')")
    with pytest.raises(LedgerCorrupt, match="is damaged"):
        inspect(conn)


def test_a_current_file_that_may_only_be_read_can_be_opened(path: Path) -> None:
    """Inspecting a current ledger writes nothing, and migrating it is nothing to do."""
    with closing(connect(path)) as conn:
        migrate_up(conn)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as conn:
        assert inspect(conn).kind is Kind.CURRENT
        assert not migrate_up(conn)


def test_an_old_file_that_may_only_be_read_is_refused_clearly(path: Path) -> None:
    """A 1.0.0 ledger that cannot be written can be looked at, and migrating says what is needed."""
    make_1_0_0(path)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as conn:
        assert inspect(conn).kind is Kind.BASIC
        with pytest.raises(MigrationError, match=r"cannot be written\. Nothing was changed\. Make"):
            migrate_up(conn)


def test_a_full_disk_changes_nothing(path: Path) -> None:
    """When the file may not grow, the migration is rolled back and says so."""
    make_1_0_0(path, 2000)
    with closing(connect(path)) as conn:
        conn.execute(f"PRAGMA max_page_count = {conn.execute('PRAGMA page_count').fetchone()[0]}")
        with pytest.raises(MigrationError, match="The disk is full"):
            migrate_up(conn)
        assert inspect(conn).kind is Kind.BASIC
        assert len(rows_1_0_0(conn)) == 6000


def test_a_closed_connection_is_a_typed_error_too(path: Path) -> None:
    """Whatever sqlite3 raises arrives as an error of this library, even where the file's name cannot be asked for."""
    with closing(connect(path)) as conn:
        pass
    with pytest.raises(MigrationError, match=r"migration of the database: Cannot operate on a closed database"):
        migrate_up(conn)


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_a_held_lock_ends_in_a_typed_error(path: Path) -> None:
    """After busy_timeout the error says that nothing was changed and that trying again helps."""
    make_1_0_0(path)
    with closing(connect(path)) as conn, closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusy, match="Nothing was changed") as caught:
            migrate_up(conn, busy_timeout_s=0)
        assert caught.value.retryable
        other.execute("COMMIT")
        assert migrate_up(conn, busy_timeout_s=0)


def waits_then(monkeypatch: pytest.MonkeyPatch, release: Callable[[], object], *, after: int = 2) -> list[float]:
    """Replace sleeping: the lock is released when the migration has waited `after` times."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == after:
            release()

    monkeypatch.setattr(_ambient, "sleep", sleep)
    return slept


def test_a_lock_that_is_released_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting is done here, with jitter, and the migration goes on as soon as the lock is free."""
    make_1_0_0(path)
    with closing(connect(path)) as conn, closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        slept = waits_then(monkeypatch, lambda: other.execute("COMMIT"))
        assert migrate_up(conn)
    assert len(slept) == 2
    assert all(0 <= seconds <= 0.05 for seconds in slept)


def test_looking_waits_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a write-ahead log a committing process keeps readers out for a moment: inspect waits for it."""
    make_1_0_0(path)
    with closing(connect(path)) as conn, closing(connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerBusy):
            inspect(conn, busy_timeout_s=0)
        slept = waits_then(monkeypatch, lambda: other.execute("COMMIT"))
        assert inspect(conn).kind is Kind.BASIC
    assert slept


def test_the_commit_waits_for_readers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a write-ahead log a reader holds up the commit: it is tried again, the work is not done again."""
    make_1_0_0(path)
    with closing(connect(path)) as conn, closing(connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM unit_of_work").fetchone()
        slept = waits_then(monkeypatch, lambda: reader.execute("COMMIT"))
        assert migrate_up(conn)
        assert inspect(conn).kind is Kind.CURRENT
    assert slept


def test_somebody_faster_is_noticed_inside_the_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes see an old file; the one that gets the lock second finds the work done and does nothing."""
    make_1_0_0(path)
    with closing(connect(path)) as conn, closing(connect(path)) as faster:
        faster.execute("BEGIN IMMEDIATE")

        def finish() -> None:
            faster.execute("COMMIT")
            assert migrate_up(faster, origin="first")

        waits_then(monkeypatch, finish)
        assert not migrate_up(conn, origin="second")
        assert conn.execute("SELECT origin FROM uow_identity").fetchall() == [("first",)]


def test_threads_may_ask_for_the_shape_at_once() -> None:
    """The cached shape is made of plain values, so threads that open ledgers share no connection."""
    shape.expected.cache_clear()
    found: list[shape.Shape] = []
    threads = [threading.Thread(target=lambda: found.append(shape.expected())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == found[0] for one in found)
    assert len(found) == 4


# --- interrupted anywhere --------------------------------------------------------------------------------------------


def test_an_interruption_anywhere_leaves_1_0_0(path: Path, tmp_path: Path) -> None:
    """SQLite stops the migration after n steps, for n spread over the whole way: each time it is as if never begun."""
    make_1_0_0(path, 20)
    with closing(connect(path)) as conn:
        rows = rows_1_0_0(conn)
    copy = tmp_path / "copy.db"
    steps = count_steps(path, copy)
    for stop in range(1, steps, max(1, steps // 60)):
        shutil.copyfile(path, copy)
        with closing(connect(copy)) as conn:
            interrupt_after(conn, stop)
            with pytest.raises(MigrationError, match="interrupted"):
                migrate_up(conn)
            conn.set_progress_handler(None, 0)
            assert not conn.in_transaction
            assert inspect(conn).kind is Kind.BASIC
            assert rows_1_0_0(conn) == rows
            assert migrate_up(conn)
            assert contract_shape(conn) == CURRENT_SHAPE


def count_steps(path: Path, copy: Path) -> int:
    """Return how many steps of SQLite's machine a whole migration of `path` takes."""
    shutil.copyfile(path, copy)
    with closing(connect(copy)) as conn:
        counted = interrupt_after(conn, 10**9)
        assert migrate_up(conn)
    return counted[0]


def interrupt_after(conn: sqlite3.Connection, steps: int) -> list[int]:
    """Let SQLite interrupt whatever `conn` does at that step; return the running count."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return counted[0] == steps

    conn.set_progress_handler(count, 1)
    return counted


def test_a_failing_rollback_does_not_hide_the_first_error(conn: sqlite3.Connection) -> None:
    """What went wrong first reaches the caller, even when rolling back fails too."""

    def spoil() -> None:
        with waiting.write_transaction(conn, 0):
            conn.execute("ROLLBACK")  # so that the one to come has nothing to roll back
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        spoil()
