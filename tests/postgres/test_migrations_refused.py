"""Migrations on PostgreSQL that are refused: what is said, and that nothing was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import _migrations_postgres
from memoryos_uow._migrations_postgres.waiting import translated
from memoryos_uow.errors import LedgerBusy, LedgerError, MigrationError, SchemaTooNew, UnitOfWorkError
from tests.postgres_schemas import (
    LITERAL_1_0_0,
    PLACE,
    RECORD,
    columns,
    connect,
    make_1_0_0,
    new_schema,
    relations,
    run,
    up,
    with_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def refused(conn: Any, over: Any = None) -> UnitOfWorkError:
    """Migrate up (`over` another connection), which must be refused with nothing changed; return the error."""
    before = relations(conn)
    with pytest.raises(UnitOfWorkError) as caught:
        up(over or conn)
    assert relations(conn) == before
    assert caught.value.hint is not None
    assert "othing was changed" in caught.value.hint
    return caught.value


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


def test_a_name_that_stays_taken(conn: Any) -> None:
    """What looks like a lost race and is none ends after some attempts, in the server's words."""
    run(conn, "CREATE TYPE uow_schema AS ENUM ('a')")
    assert "uow_schema" in refused(conn).message


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
