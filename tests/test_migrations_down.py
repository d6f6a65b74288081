"""The way down to 1.0.0: softly, and in full with a backup; and up again."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, _schema
from memoryos_uow._migrations import Kind, inspect, migrate_down, migrate_up
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
    from collections.abc import Iterator
    from pathlib import Path

BASE_SHAPE = fresh_shape(_schema.BASE)
CURRENT_SHAPE = fresh_shape(_schema.BASE, _schema.UP)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a ledger."""
    return tmp_path / "memory.db"


@pytest.fixture
def conn(path: Path) -> Iterator[sqlite3.Connection]:
    """A current ledger with two units of 1.0.0 and one of 1.1.0 in it, as the engine connects to it."""
    make_1_0_0(path, 2, wal=True)
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        migrate_up(connection)
        connection.executescript(
            """
            INSERT INTO unit_of_work (uow_id, status, created_ts, committed_ts, band, receipt_hash, error_type)
            VALUES ('new', 'committed', 't', 't', 'RED', 'h', NULL);
            INSERT INTO uow_writes (uow_id, store_name, ts, operation_type) VALUES ('new', 'notes', 't', 'delete');
            INSERT INTO uow_ledger (unit, space_seq, context, writes_root, write_count, first_write, nodes)
            VALUES ((SELECT rowid FROM unit_of_work WHERE uow_id = 'new'), 1, x'0c', x'01', 1, 5, x'02');
            INSERT INTO uow_nonces VALUES (5, x'03');
            INSERT INTO uow_spaces VALUES ('s', 1, x'04');
            """
        )
        yield connection


def settings_of(conn: sqlite3.Connection) -> list[object]:
    """Return the settings that a downgrade changes for itself."""
    return [conn.execute(f"PRAGMA {name}").fetchone()[0] for name in ("foreign_keys", "legacy_alter_table")]


# --- softly ----------------------------------------------------------------------------------------------------------


def test_softly_the_fields_are_given_up_and_the_rest_stays(conn: sqlite3.Connection, path: Path) -> None:
    """The specification's DOWN: columns to NULL, version 1.0.0, indexes gone; no backup, our tables untouched."""
    before, log = rows_1_0_0(conn), conn.execute("SELECT * FROM uow_ledger").fetchall()
    assert migrate_down(conn, path, soft=True) is None
    assert inspect(conn).kind is Kind.SOFT
    assert (inspect(conn).version, inspect(conn).has_base_tables) == ("1.0.0", True)
    assert rows_1_0_0(conn) == before
    assert conn.execute("SELECT * FROM uow_ledger").fetchall() == log
    assert conn.execute(
        "SELECT DISTINCT contract_version, band, receipt_hash, store_count, recovery_attempted FROM unit_of_work"
    ).fetchall() == [("1.0.0", None, None, None, None)]
    assert conn.execute("SELECT DISTINCT operation_type, bytes_written, checksum FROM uow_writes").fetchall() == [
        (None, None, None)
    ]
    assert not list(path.parent.glob("*before*"))


def test_softly_twice_is_softly_once(conn: sqlite3.Connection, path: Path) -> None:
    """What was given up is not given up again: a unit that 1.0.0 software wrote since keeps its defaults."""
    migrate_down(conn, path, soft=True)
    conn.execute("INSERT INTO unit_of_work (uow_id, status, created_ts) VALUES ('since', 'pending', 't')")
    assert migrate_down(conn, path, soft=True) is None
    assert conn.execute("SELECT store_count FROM unit_of_work WHERE uow_id = 'since'").fetchall() == [(0,)]


def test_after_a_soft_way_down_up_completes_it_again(conn: sqlite3.Connection, path: Path) -> None:
    """Up again: the tables of a new ledger, every row, the same identity, and given-up units still say 1.0.0."""
    before, identity = rows_1_0_0(conn), conn.execute("SELECT * FROM uow_identity").fetchall()
    migrate_down(conn, path, soft=True)
    assert migrate_up(conn)
    assert inspect(conn).kind is Kind.CURRENT
    assert contract_shape(conn) == CURRENT_SHAPE
    assert rows_1_0_0(conn) == before
    assert conn.execute("SELECT * FROM uow_identity").fetchall() == identity
    assert conn.execute("SELECT DISTINCT contract_version FROM unit_of_work").fetchall() == [("1.0.0",)]


def test_a_hand_made_1_1_0_is_given_up_too(path: Path) -> None:
    """Without our own tables there is no record to remove, and the specification's DOWN still runs."""
    with closing(connect(path)) as conn:
        run_script(conn, _schema.BASE)
        run_script(conn, _schema.UP)
        assert migrate_down(conn, path, soft=True) is None
        assert contract_shape(conn)["unit_of_work"] == CURRENT_SHAPE["unit_of_work"]
        assert inspect(conn).kind is Kind.PARTIAL


def test_half_of_1_1_0_cannot_be_given_up_softly(path: Path) -> None:
    """The DOWN script needs every column; a file that has only some is refused with a way out."""
    with closing(connect(path)) as conn:
        run_script(conn, _schema.BASE)
        conn.execute(_schema.added_columns()[0].statement)
        with pytest.raises(MigrationError, match=r"without unit_of_work\.actor_id.*Migrate it up first"):
            migrate_down(conn, path, soft=True)
        assert not conn.in_transaction


# --- in full ---------------------------------------------------------------------------------------------------------


def test_in_full_the_tables_are_those_of_1_0_0(conn: sqlite3.Connection, path: Path) -> None:
    """The true 1.0.0: its tables to the letter, every row and row number, nothing of ours left."""
    before = rows_1_0_0(conn)
    backup = migrate_down(conn, path)
    assert contract_shape(conn) == BASE_SHAPE
    assert rows_1_0_0(conn) == before
    with closing(connect(":memory:")) as fresh:
        run_script(fresh, _schema.BASE)
        assert objects(conn) == objects(fresh)
    assert inspect(conn).kind is Kind.BASIC
    assert settings_of(conn) == [1, 0]
    assert backup is not None


def test_the_backup_holds_everything_from_before(conn: sqlite3.Connection, path: Path) -> None:
    """The backup is a whole ledger of 1.1.0 under a new name beside the file, no more readable than the file."""
    conn.execute("PRAGMA user_version = 7")
    path.chmod(0o600)
    units = conn.execute("SELECT * FROM unit_of_work").fetchall()
    backup = migrate_down(conn, path)
    assert backup is not None
    assert (backup.parent, backup.suffix) == (path.parent, ".db")
    assert backup.name.startswith("memory.before-1.0.0.20")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(connect(backup)) as copy:
        assert inspect(copy).kind is Kind.CURRENT
        assert copy.execute("SELECT * FROM unit_of_work").fetchall() == units
        assert copy.execute("SELECT count(*) FROM uow_nonces").fetchone() == (1,)
        assert copy.execute("PRAGMA user_version").fetchone() == (7,)


def test_down_and_up_again_loses_nothing_1_0_0_can_hold(conn: sqlite3.Connection, path: Path) -> None:
    """Round trips end where they began: rows, tables, and a fresh identity, since the old log is gone."""
    before, identity = rows_1_0_0(conn), conn.execute("SELECT * FROM uow_identity").fetchall()
    for _ in range(2):
        assert migrate_down(conn, path) is not None
        assert migrate_up(conn)
        assert contract_shape(conn) == CURRENT_SHAPE
        assert rows_1_0_0(conn) == before
        assert inspect(conn).kind is Kind.CURRENT
    assert conn.execute("SELECT * FROM uow_identity").fetchall() != identity
    assert len(list(path.parent.glob("*.before-1.0.0.*"))) == 2


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_down_stays_as_it_is(path: Path, soft: bool) -> None:
    """An empty file and a ledger of 1.0.0 are down already: no backup, no change."""
    with closing(connect(path)) as conn:
        assert migrate_down(conn, path, soft=soft) is None
        assert inspect(conn).kind is Kind.NEW
        run_script(conn, _schema.BASE)
        fill_1_0_0(conn, 1)
        before = objects(conn)
        assert migrate_down(conn, path, soft=soft) is None
        assert objects(conn) == before
    assert not list(path.parent.glob("*before*"))


def test_from_a_soft_downgrade_and_from_half_of_1_1_0_in_full(conn: sqlite3.Connection, path: Path) -> None:
    """The full way starts anywhere: what is there of 1.1.0 goes, what is not there is not missed."""
    migrate_down(conn, path, soft=True)
    conn.execute("DROP VIEW uow_receipts")
    conn.execute("ALTER TABLE unit_of_work DROP COLUMN band")
    assert migrate_down(conn, path) is not None
    assert contract_shape(conn) == BASE_SHAPE


def test_a_1_1_0_without_writes_goes_down(path: Path) -> None:
    """A table that is not there is not made anew."""
    with closing(connect(path)) as conn:
        run_script(conn, _schema.BASE)
        conn.execute("DROP TABLE uow_writes")
        conn.execute(_schema.added_columns()[0].statement)
        assert migrate_down(conn, path) is not None
        assert [name for _, name, *_ in objects(conn)].count("uow_writes") == 0
        assert inspect(conn).kind is Kind.BASIC


def test_progress_is_told(conn: sqlite3.Connection, path: Path) -> None:
    """Whoever waits for a long downgrade hears what is being done."""
    told: list[str] = []
    migrate_down(conn, path, backup=path.with_name("b.db"), progress=told.append)
    assert told == [
        "waiting for the write lock",
        "writing a backup to b.db",
        "rebuilding the tables of 1.0.0",
        "committing",
    ]


# --- what belongs to the application ---------------------------------------------------------------------------------

APPLICATION = """
CREATE TABLE  orders (id TEXT PRIMARY KEY, uow_id TEXT REFERENCES unit_of_work(uow_id) ON DELETE CASCADE);
INSERT INTO orders VALUES ('o1', 'new'), ('o2', 'u0');
CREATE INDEX "by envelope" ON unit_of_work (envelope_id) WHERE status = 'committed';
CREATE UNIQUE INDEX place ON uow_writes (uow_id, id DESC);
CREATE TABLE seen (uow_id TEXT);
CREATE TRIGGER "see it" AFTER INSERT ON unit_of_work BEGIN INSERT INTO seen VALUES (NEW.uow_id); END;
CREATE TRIGGER gone AFTER DELETE ON unit_of_work BEGIN DELETE FROM seen WHERE uow_id = OLD.uow_id; END;
CREATE TRIGGER count_writes AFTER INSERT ON orders BEGIN
  UPDATE unit_of_work SET envelope_id = (SELECT count(*) FROM uow_writes) WHERE uow_id = NEW.uow_id;
END;
CREATE VIEW open_units AS SELECT u.*, w.store_name FROM unit_of_work AS u JOIN uow_writes AS w USING (uow_id);
CREATE VIEW entry AS SELECT uow_id FROM unit_of_work;
CREATE TRIGGER enter INSTEAD OF INSERT ON entry BEGIN
  INSERT INTO unit_of_work (uow_id, status, created_ts) VALUES (NEW.uow_id, 'pending', 't');
END;
CREATE VIEW broken AS SELECT * FROM nowhere;
"""


def test_everything_the_application_built_stays_and_works(conn: sqlite3.Connection, path: Path) -> None:
    """Tables, indexes, triggers and views around the contract's tables stay byte for byte, and did not fire."""
    before = objects(conn)
    conn.executescript(APPLICATION)
    foreign = objects(conn) - before
    assert migrate_down(conn, path) is not None
    assert foreign <= objects(conn)
    assert len(objects(conn) - foreign) == 3  # the two tables and the index behind a primary key
    assert conn.execute("SELECT * FROM seen").fetchall() == []
    assert conn.execute("SELECT * FROM orders").fetchall() == [("o1", "new"), ("o2", "u0")]
    conn.execute("INSERT INTO entry VALUES ('later')")
    conn.execute("INSERT INTO orders VALUES ('o3', 'later')")
    assert conn.execute("SELECT * FROM seen").fetchall() == [("later",)]
    assert conn.execute("SELECT envelope_id FROM unit_of_work WHERE uow_id = 'later'").fetchall() == [("5",)]
    conn.execute("DELETE FROM unit_of_work WHERE uow_id = 'later'")
    assert conn.execute("SELECT count(*) FROM orders").fetchone() == (2,)
    assert conn.execute("SELECT * FROM seen").fetchall() == []
    conn.execute("DROP VIEW broken")
    assert migrate_up(conn)
    assert inspect(conn).kind is Kind.CURRENT


def test_columns_and_constraints_of_the_application_stay(path: Path) -> None:
    """Its columns (generated ones too), its checks, its numbering and its comments outlive the round trip."""
    text = _schema.text(_schema.BASE)
    text = text.replace("id INTEGER PRIMARY KEY", "id INTEGER PRIMARY KEY AUTOINCREMENT /* never again */")
    text = text.replace("envelope_id TEXT,", "envelope_id TEXT, shard INT DEFAULT 3 CHECK (shard < 9),")
    with closing(connect(path)) as conn:
        conn.executescript(text)
        conn.execute("ALTER TABLE unit_of_work ADD COLUMN day TEXT AS (substr(created_ts, 1, 10))")
        fill_1_0_0(conn, 2)
        conn.execute("DELETE FROM uow_writes WHERE id = 4")
        original = objects(conn)
        assert migrate_up(conn)
        conn.execute("UPDATE unit_of_work SET shard = 5 WHERE uow_id = 'u1'")
        assert migrate_down(conn, path) is not None
        assert objects(conn) == original
        assert conn.execute("SELECT uow_id, shard, day FROM unit_of_work").fetchall() == [
            ("u0", 3, "2025-09-13"),
            ("u1", 5, "2025-09-13"),
        ]
        conn.execute("INSERT INTO uow_writes (uow_id, store_name, ts) VALUES ('u1', 's', 't')")
        assert conn.execute("SELECT max(id) FROM uow_writes").fetchone() == (5,)


def test_a_column_called_rowid_is_no_obstacle(path: Path) -> None:
    """Row numbers are copied under whichever of their names no column has."""
    with closing(connect(path)) as conn:
        run_script(conn, _schema.BASE)
        conn.execute("ALTER TABLE unit_of_work ADD COLUMN rowid TEXT")
        fill_1_0_0(conn, 3)
        conn.execute("DELETE FROM unit_of_work WHERE uow_id = 'u0'")
        conn.execute(_schema.added_columns()[0].statement)
        before = conn.execute("SELECT oid, rowid, uow_id FROM unit_of_work").fetchall()
        assert migrate_down(conn, path) is not None
        assert conn.execute("SELECT oid, rowid, uow_id FROM unit_of_work").fetchall() == before


FOREIGN_TRIGGER = """
CREATE TABLE other (x);
CREATE TRIGGER mine AFTER UPDATE OF x ON other BEGIN
  INSERT INTO uow_writes (uow_id, store_name, ts, checksum) VALUES ('u0', 's', 't', 'c');
END;
"""


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("CREATE INDEX mine ON unit_of_work (actor_id, status)", "actor_id cannot be removed"),
        ("CREATE INDEX mine ON unit_of_work (envelope_id) WHERE \"band\" = 'RED'", "band cannot be removed"),
        ("CREATE INDEX mine ON uow_writes (bytes_written)", "bytes_written cannot be removed"),
        ("CREATE VIEW mine AS SELECT band, count(*) FROM unit_of_work GROUP BY band", "reading the view mine"),
        ("CREATE VIEW mine AS SELECT * FROM uow_receipts", "reading the view mine"),
        (
            "CREATE TRIGGER mine AFTER INSERT ON unit_of_work WHEN NEW.band = 'RED' BEGIN SELECT 1; END",
            "inserting into unit_of_work",
        ),
        (FOREIGN_TRIGGER, "updating other"),
        ("CREATE TRIGGER mine AFTER INSERT ON uow_ledger BEGIN SELECT 1; END", "1.0.0 does not know: trigger mine"),
        ("CREATE INDEX mine ON uow_ledger (space_seq)", "1.0.0 does not know: index mine"),
        (
            "CREATE TABLE other (seq REFERENCES uow_ledger(commit_seq)); INSERT INTO other VALUES (1)",
            "other refers to uow_ledger",
        ),
    ],
)
def test_what_needs_1_1_0_is_named_and_refused(conn: sqlite3.Connection, path: Path, script: str, named: str) -> None:
    """Something of the application's that 1.0.0 could not carry stops the way down; nothing changed, no backup."""
    conn.executescript(script)
    before, rows = objects(conn), rows_1_0_0(conn)
    with pytest.raises(MigrationError, match="Nothing was changed") as caught:
        migrate_down(conn, path)
    assert named in str(caught.value)
    assert (objects(conn), rows_1_0_0(conn)) == (before, rows)
    assert inspect(conn).kind is Kind.CURRENT
    assert not list(path.parent.glob("*before*"))
    assert settings_of(conn) == [1, 0]


def test_references_that_led_nowhere_before_are_no_obstacle(conn: sqlite3.Connection, path: Path) -> None:
    """Writes without their unit, and a foreign key that never worked, are the application's affair, not ours."""
    conn.executescript(
        """
        PRAGMA foreign_keys = OFF;
        INSERT INTO uow_writes (uow_id, store_name, ts) VALUES ('nobody', 's', 't');
        CREATE TABLE other (e REFERENCES unit_of_work(envelope_id));
        INSERT INTO other VALUES ('e0');
        """
    )
    before = rows_1_0_0(conn)
    assert migrate_down(conn, path) is not None
    assert rows_1_0_0(conn) == before
    assert settings_of(conn) == [0, 0]


# --- the users' records ----------------------------------------------------------------------------------------------


def test_empty_store_tables_go(conn: sqlite3.Connection, path: Path) -> None:
    """Tables for records that nobody wrote are not left behind."""
    run_script(conn, _schema.STORES)
    migrate_down(conn, path)
    assert {name for kind, name, *_ in objects(conn) if kind == "table"} == {"unit_of_work", "uow_writes"}


@pytest.mark.parametrize(
    "script",
    [
        "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('notes', 's', 'k', 7, '{}')",
        "INSERT INTO uow_stores VALUES ('notes', 'document', '{}', 't')",
        "INSERT INTO uow_redo VALUES (1, 7, 0, 'new', 'archive', 's', 'k', 'create', x'00')",
        "CREATE VIEW pictures AS SELECT key FROM uow_blobs",
    ],
    ids=["a record", "a registration", "a write still to be published", "a view"],
)
def test_the_users_records_outlive_the_contract(conn: sqlite3.Connection, path: Path, script: str) -> None:
    """No downgrade drops what users wrote, what is owed to a store, or what somebody looks at: all tables stay."""
    run_script(conn, _schema.STORES)
    conn.execute(script)
    kept = {name for _, name in _schema.created(_schema.STORES)}
    rows = [conn.execute(f"SELECT * FROM {table}").fetchall() for table in ("uow_documents", "uow_stores", "uow_redo")]
    for migrate in (lambda: migrate_down(conn, path), lambda: migrate_up(conn)):
        assert migrate()
        assert kept <= {name for _, name, *_ in objects(conn)}
    assert rows == [
        conn.execute(f"SELECT * FROM {table}").fetchall() for table in ("uow_documents", "uow_stores", "uow_redo")
    ]


# --- refused, with the file as it was --------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
def test_a_newer_schema_is_not_taken_down(conn: sqlite3.Connection, path: Path, soft: bool) -> None:
    """What a later library wrote, only a later library can undo."""
    conn.execute("INSERT INTO uow_schema VALUES ('1.2.0', 't', 'c')")
    with pytest.raises(SchemaTooNew):
        migrate_down(conn, path, soft=soft)


def test_a_table_that_only_bears_the_name_is_not_taken_down(path: Path) -> None:
    """A foreign unit_of_work is refused here as on the way up."""
    with closing(connect(path)) as conn:
        conn.execute("CREATE TABLE unit_of_work (task TEXT)")
        with pytest.raises(MigrationError, match=r"lacks unit_of_work\.committed_ts"):
            migrate_down(conn, path)


def test_a_backup_never_replaces_a_file(conn: sqlite3.Connection, path: Path) -> None:
    """A name that is taken is refused, and the file there is left alone."""
    taken = path.with_name("precious.db")
    taken.write_text("precious")
    with pytest.raises(MigrationError, match=r"precious\.db cannot be made: File exists"):
        migrate_down(conn, path, backup=taken)
    assert taken.read_text() == "precious"
    assert inspect(conn).kind is Kind.CURRENT


def test_a_backup_into_nowhere_is_refused(conn: sqlite3.Connection, path: Path) -> None:
    """Without a place for the backup nothing is taken down."""
    with pytest.raises(MigrationError, match="No such file or directory"):
        migrate_down(conn, path, backup=path.parent / "nowhere" / "b.db")
    assert inspect(conn).kind is Kind.CURRENT


def test_a_path_that_is_not_text_is_a_typed_error(tmp_path: Path) -> None:
    """SQLite takes the backup's name as text only; a file name in another encoding is refused, nothing left over."""
    path = tmp_path / "caf\udce9.db"
    with closing(connect(path)) as conn:
        migrate_up(conn)
        with pytest.raises(MigrationError, match="Nothing was changed"):
            migrate_down(conn, path)
        assert inspect(conn).kind is Kind.CURRENT
    assert not list(tmp_path.glob("*before*"))


def test_an_unsound_backup_is_not_relied_on(conn: sqlite3.Connection, path: Path) -> None:
    """A copy that SQLite itself finds fault with stops the way down, and is not left lying around."""
    conn.executescript(
        """
        CREATE TABLE t (x); INSERT INTO t VALUES (NULL);
        PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = 'CREATE TABLE t (x NOT NULL)' WHERE name = 't';
        """
    )
    with pytest.raises(MigrationError, match=r"is not sound: NULL value in t\.x"):
        migrate_down(conn, path, backup=path.with_name("b.db"))
    assert not path.with_name("b.db").exists()
    assert inspect(conn).kind is Kind.CURRENT


def test_rows_that_break_a_check_do_not_spoil_the_backup(conn: sqlite3.Connection, path: Path) -> None:
    """What is wrong in the application's own rows was so before: the copy is as good as the file."""
    conn.executescript(
        """
        CREATE TABLE t (x CHECK (x > 0));
        PRAGMA ignore_check_constraints = ON;
        INSERT INTO t VALUES (-1);
        """
    )
    assert migrate_down(conn, path) is not None
    assert conn.execute("SELECT x FROM t").fetchall() == [(-1,)]


def test_a_busy_ledger_is_not_taken_down(conn: sqlite3.Connection, path: Path) -> None:
    """The write lock is taken before the backup: somebody else's unit is in the backup or still possible, not lost."""
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusy):
            migrate_down(conn, path, busy_timeout_s=0)
    assert not list(path.parent.glob("*before*"))


def test_nobody_can_commit_between_the_backup_and_the_rebuild(conn: sqlite3.Connection, path: Path) -> None:
    """From before the backup on the write lock is held, so no unit can be in neither of the two files."""
    locked: list[str] = []
    with closing(connect(path)) as other:

        def try_to_write(doing: str) -> None:
            if doing != "waiting for the write lock":
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("BEGIN IMMEDIATE")
                locked.append(doing)

        migrate_down(conn, path, progress=try_to_write)
    assert len(locked) == 3


def test_a_file_that_is_no_database_is_not_taken_down(path: Path) -> None:
    """The same typed error as on the way up."""
    path.write_text("a diary\n" * 500)
    with closing(connect(path)) as conn, pytest.raises(LedgerCorrupt):
        migrate_down(conn, path)


def test_undelivered_messages_are_in_the_way(tmp_path: Path) -> None:
    """A ledger whose outbox is not empty is not taken down in full: 1.0.0 would never deliver; softly it is."""
    path = tmp_path / "memory.db"
    with Ledger.open(path) as ledger, ledger.unit(space_id="s", band="GREEN") as uow:
        uow.publish("note.created", {})
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        before = conn.execute("SELECT * FROM uow_outbox").fetchall()
        with pytest.raises(MigrationError, match="1 messages in its outbox") as caught:
            migrate_down(conn, path)
        assert "Nothing was changed" in (caught.value.hint or "")
        assert list(tmp_path.glob("*before*")) == []
        assert migrate_down(conn, path, soft=True) is None
        assert conn.execute("SELECT * FROM uow_outbox").fetchall() == before
        conn.execute("DELETE FROM uow_outbox")
        assert migrate_down(conn, path) is not None
