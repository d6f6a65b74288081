"""Migrations on PostgreSQL up to 1.1.0, from every state a database can be in."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import _migrations_postgres, _schema
from memoryos_uow._migrations import Kind
from memoryos_uow._migrations_postgres import shape
from memoryos_uow._migrations_postgres.waiting import translated
from memoryos_uow.errors import LedgerBusy, LedgerError, MigrationError, SchemaTooNew, UnitOfWorkError
from tests.postgres_schemas import (
    FILES,
    LITERAL_1_0_0,
    PLACE,
    columns,
    connect,
    make_1_0_0,
    migrator,
    new_schema,
    relations,
    rows_1_0_0,
    run,
    with_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORD: Final = next(text for text in _schema.statements(FILES.ledger) if "uow_schema (" in text)


@pytest.fixture
def url(shared_database: str) -> str:
    """The address of an empty schema."""
    return new_schema(shared_database)


@pytest.fixture
def conn(url: str) -> Iterator[Any]:
    """A connection to it."""
    with connect(url) as connection:
        yield connection


def up(conn: Any, **options: Any) -> bool:
    """Migrate up."""
    return _migrations_postgres.migrate_up(conn, place=PLACE, **options)


def kind_of(conn: Any) -> Kind:
    """Return how far the schema has come."""
    return _migrations_postgres.inspect(conn, place=PLACE).kind


def refused(conn: Any, over: Any = None) -> UnitOfWorkError:
    """Migrate up (`over` another connection), which must be refused with nothing changed; return the error."""
    before = relations(conn)
    with pytest.raises(UnitOfWorkError) as caught:
        up(over or conn)
    assert relations(conn) == before
    assert caught.value.hint is not None
    assert "othing was changed" in caught.value.hint
    return caught.value


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


def test_a_name_that_stays_taken(conn: Any) -> None:
    """What looks like a lost race and is none ends after some attempts, in the server's words."""
    run(conn, "CREATE TYPE uow_schema AS ENUM ('a')")
    assert "uow_schema" in refused(conn).message


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
        with pytest.raises(LedgerBusy):
            up(limited, busy_timeout_s=0.06)
        assert limited.execute("SHOW statement_timeout").fetchone() == ("20ms",)


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_newer_schema_is_refused(conn: Any) -> None:
    """What a later version wrote is left to it."""
    up(conn)
    run(conn, "INSERT INTO uow_schema VALUES ('1.2.0', '', '')")
    error = refused(conn)
    assert isinstance(error, SchemaTooNew)
    assert "1.2.0" in error.message


@pytest.mark.parametrize(
    ("script", "missing"),
    [
        ("CREATE TABLE unit_of_work (uow_id TEXT, status TEXT)", "unit_of_work.committed_ts, unit_of_work.created_ts"),
        ("CREATE VIEW unit_of_work AS SELECT 1 AS uow_id", "table unit_of_work"),
        ("CREATE TABLE uow_writes (id BIGINT)", "uow_writes.record_id"),
        ("CREATE TABLE uow_schema (id BIGINT)", "uow_schema.checksum, uow_schema.version"),
        ("CREATE TABLE uow_documents (title TEXT)", "uow_documents.store"),
        ("CREATE TABLE uow_ledger (title TEXT)", "uow_ledger.commit_seq"),
        ("CREATE VIEW uow_receipts AS SELECT 1 AS one", "uow_receipts.uow_id, uow_receipts.receipt"),
    ],
)
def test_a_foreign_table_is_refused(conn: Any, script: str, missing: str) -> None:
    """A table of our name that is none of ours is named, with what it lacks, and left alone."""
    run(conn, script)
    error = refused(conn)
    assert isinstance(error, MigrationError)
    assert missing in error.message


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("ALTER TABLE unit_of_work ADD COLUMN mine TEXT NOT NULL", "mine of unit_of_work is NOT NULL"),
        ("ALTER TABLE unit_of_work ALTER COLUMN committed_ts SET NOT NULL", "committed_ts of unit_of_work is NOT NULL"),
        ("ALTER TABLE unit_of_work ADD COLUMN band BOOLEAN", "band of unit_of_work is boolean"),
        (
            "ALTER TABLE unit_of_work ADD COLUMN band TEXT COLLATE \"C\" GENERATED ALWAYS AS ('RED') STORED",
            "band of unit_of_work takes no values",
        ),
        (
            "ALTER TABLE uow_writes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY",
            "id of uow_writes takes no values",
        ),
        ("ALTER TABLE uow_writes DROP CONSTRAINT uow_writes_pkey", "uow_writes has no unique key over id"),
        ("CREATE INDEX idx_uow_band ON unit_of_work(status)", "idx_uow_band is not the one"),
        (RECORD.replace('TEXT COLLATE "C"', "VARCHAR(9)"), "version of uow_schema is character varying(9)"),
    ],
)
def test_what_units_could_not_live_with_is_refused(conn: Any, script: str, words: str) -> None:
    """Something in the contract's tables that would make every unit fail is found before the first one."""
    make_1_0_0(conn, 0)
    run(conn, script)
    assert words in refused(conn).message


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("CREATE TYPE uow_ledger AS ENUM ('a')", '"uow_ledger" already exists'),
        ("CREATE VIEW mine AS SELECT id FROM uow_writes", "used by a view"),
    ],
)
def test_what_postgresql_refuses_is_told_in_its_words(conn: Any, script: str, words: str) -> None:
    """A step that the server refuses ends the migration without trace, and its main sentence says why."""
    make_1_0_0(conn, 0, script=LITERAL_1_0_0)
    run(conn, script)
    error = refused(conn)
    assert isinstance(error, MigrationError)
    assert words in error.message


def test_another_encoding_is_refused(conn: Any) -> None:
    """A database that cannot hold every text is no place for a ledger."""

    class Latin:
        """A connection to such a database, as far as it is asked."""

        def execute(self, query: str, params: Any = None, /) -> Any:
            return conn.execute(query.replace("current_setting('server_encoding')", "'LATIN1'").encode(), params)

    assert "LATIN1" in refused(conn, Latin()).message


def test_a_ledger_behind_another_schema_is_refused(shared_database: str, url: str) -> None:
    """New tables would go where nobody looks for them: the search path has to begin with the ledger's schema."""
    with connect(url) as conn:
        up(conn)
        [(there,)] = conn.execute("SELECT current_schema()").fetchall()
    other = new_schema(shared_database)
    with connect(other) as conn:
        [(here,)] = conn.execute("SELECT current_schema()").fetchall()
        run(conn, f"SET search_path = {here}, {there}")
        assert f"in the schema {there}" in refused(conn).message


def test_no_schema_at_all(shared_database: str) -> None:
    """A search path that leads nowhere is named as the reason."""
    with connect(with_options(shared_database, search_path="nowhere")) as conn, pytest.raises(MigrationError) as caught:
        up(conn)
    assert "search_path" in caught.value.message


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda conn: None, "holds no ledger"),
        (make_1_0_0, "is a ledger of 1.0.0"),
        (lambda conn: (up(conn), conn.execute("DROP INDEX idx_uow_band")), "is a ledger of 1.0.0"),
    ],
)
def test_there_is_no_basic_mode(conn: Any, make: Callable[[Any], object], words: str) -> None:
    """What may not be migrated is refused, because PostgreSQL has no mode for 1.0.0; a current ledger is not."""
    make(conn)
    with pytest.raises(LedgerError, match=words) as caught:
        _migrations_postgres.refuse_unmigrated(_migrations_postgres.inspect(conn, place=PLACE), place=PLACE)
    assert "migrate=True" in (caught.value.hint or "")
    up(conn)
    _migrations_postgres.refuse_unmigrated(_migrations_postgres.inspect(conn, place=PLACE), place=PLACE)


# --- privileges ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stranger(url: str) -> Iterator[Any]:
    """A connection of a role that may use the schema and nothing in it."""
    with connect(url) as owner:
        run(owner, "DO $$ BEGIN EXECUTE 'GRANT USAGE ON SCHEMA ' || current_schema() || ' TO pg_monitor'; END $$")
    with connect(with_options(url, role="pg_monitor")) as connection:
        yield connection


def test_a_role_that_may_not_create_tables(stranger: Any) -> None:
    """The error names what the role lacks, and whom to ask."""
    error = refused(stranger)
    assert isinstance(error, MigrationError)
    assert "permission denied for schema" in error.message
    assert "owner" in (error.hint or "")


def test_a_role_that_may_not_change_somebody_s_tables(conn: Any, stranger: Any) -> None:
    """An old ledger of another owner is refused too, and so is reading which version it has."""
    make_1_0_0(conn)
    run(conn, "DO $$ BEGIN EXECUTE 'GRANT CREATE ON SCHEMA ' || current_schema() || ' TO pg_monitor'; END $$")
    assert "must be owner of table unit_of_work" in refused(stranger).message
    up(conn)
    assert "permission denied for table uow_schema" in refused(stranger).message


def test_a_role_that_may_not_do_what_units_do(conn: Any, stranger: Any) -> None:
    """Of a ready ledger each missing privilege is named; whoever only reads needs less."""
    up(conn)

    def lacking(*, read_only: bool) -> str:
        with pytest.raises(LedgerError) as caught:
            _migrations_postgres.refuse_unprivileged(stranger, place=PLACE, read_only=read_only)
        return caught.value.message

    assert "SELECT on uow_" in lacking(read_only=True)
    run(
        conn,
        "DO $$ BEGIN EXECUTE 'GRANT SELECT ON ALL TABLES IN SCHEMA ' || current_schema() || ' TO pg_monitor'; END $$",
    )
    _migrations_postgres.refuse_unprivileged(stranger, place=PLACE, read_only=True)
    assert "DELETE, INSERT, UPDATE on unit_of_work" in lacking(read_only=False)
    run(
        conn, "DO $$ BEGIN EXECUTE 'GRANT ALL ON ALL TABLES IN SCHEMA ' || current_schema() || ' TO pg_monitor'; END $$"
    )
    _migrations_postgres.refuse_unprivileged(stranger, place=PLACE)
    assert not up(stranger)


def test_a_database_that_can_only_be_read(conn: Any) -> None:
    """A replica, or a session that may not write, is told so."""
    run(conn, "SET default_transaction_read_only = on")
    assert "can only be read" in refused(conn).message


def test_a_server_that_is_gone(url: str, conn: Any) -> None:
    """A connection that breaks is a typed error, and nothing of the driver's crosses."""
    with connect(url) as killer:
        killer.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))
    with pytest.raises(LedgerError) as caught:
        up(conn)
    assert caught.value.retryable


class RefusedByServer(Exception):  # noqa: N818 - stands for those of psycopg
    """What psycopg raises, as far as it is looked at."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("secret words")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "kind", "words"),
    [
        ("40P01", LedgerBusy, "kept"),
        ("57014", LedgerBusy, "kept"),
        ("53100", MigrationError, "out of space"),
        ("08006", LedgerError, "is gone"),
        ("42501", MigrationError, "privilege"),
        ("2BP01", MigrationError, "built on it"),
        ("XX001", MigrationError, "refused a step"),
        ("42883", MigrationError, "refused a step"),
    ],
)
def test_each_condition_has_its_error(sqlstate: str, kind: type[LedgerError], words: str) -> None:
    """What the server reports while migrating is told by its code, never with more than its main sentence."""
    with pytest.raises(LedgerError, match=words) as caught, translated(PLACE):
        raise RefusedByServer(sqlstate)
    assert type(caught.value) is kind
    assert "secret" not in str(caught.value)


def test_errors_that_are_not_the_driver_s_pass(conn: Any) -> None:
    """What the caller's own callback raises reaches the caller, and nothing was changed."""

    def stop(_: str) -> None:
        raise KeyError("mine")

    before = relations(conn)
    with pytest.raises(KeyError, match="mine"):
        up(conn, progress=stop)
    assert relations(conn) == before
    assert columns(conn, "unit_of_work") == []
