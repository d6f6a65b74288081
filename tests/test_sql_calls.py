"""uow.sql: which statements wait and which run at once, and that nothing gets past the guard."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger, LedgerError, Limits, StoreError, UsageError
from memoryos_uow.stores._sql import statement_content
from tests.units import OwnError, locked, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow import UnitOfWork

CANARY = "Sesame-7b1f"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with tables of the application's: t(x UNIQUE), audited with a trigger, words for full text."""
    with Ledger.open(tmp_path / "memory.db", durability="normal", limits=Limits(sql_characters=500)) as opened:
        with unit(opened) as uow:
            uow.sql("CREATE TABLE t (x UNIQUE)")
            uow.sql("CREATE TABLE audited (a)")
            uow.sql("CREATE TABLE audit (what)")
            uow.sql("CREATE TRIGGER audits AFTER INSERT ON audited BEGIN INSERT INTO audit VALUES (new.a); END")
            uow.sql("CREATE VIRTUAL TABLE words USING fts5 (w)")
        yield opened


def unit(ledger: Ledger) -> UnitOfWork:
    """A unit of work of the test's."""
    return ledger.unit(space_id="shared:household", band="GREEN")


def in_file(ledger: Ledger, sql: str = "SELECT x FROM t ORDER BY rowid") -> list[Any]:
    """The first column of a query, as a stranger reads it."""
    return [row[0] for row in rows(ledger.path, sql)]


def recorded(ledger: Ledger, uow: UnitOfWork) -> list[tuple[str | None, str | None]]:
    """Operation and checksum of each recorded write of a unit."""
    return [(write.operation_type, write.checksum) for write in ledger.get(uow.uow_id).writes]


# What waits


def test_a_statement_that_only_writes_waits(ledger: Ledger) -> None:
    """An INSERT without RETURNING takes no lock, is applied at commit, and is recorded with the content asked for."""
    with unit(ledger) as uow:
        with locked(ledger.path):
            assert uow.sql("INSERT INTO t VALUES (?)", (1,)) == []
            assert uow.sql("INSERT INTO t VALUES (:x)", {"x": 2}) == []
        assert in_file(ledger) == []
    assert in_file(ledger) == [1, 2]
    first = statement_content("INSERT INTO t VALUES (?)", (1,))
    second = statement_content("INSERT INTO t VALUES (:x)", {"x": 2})
    assert recorded(ledger, uow) == [("create", f"sha256:{first.sha256}"), ("create", f"sha256:{second.sha256}")]
    assert ledger.get(uow.uow_id).total_bytes_written == first.bytes_written + second.bytes_written


def test_a_query_applies_what_waits_first(ledger: Ledger) -> None:
    """A SELECT sees the unit's own writes, through uow.sql and through stores, and is not recorded itself."""
    with unit(ledger) as uow:
        uow.sql("INSERT INTO t VALUES (1)")
        uow["notes"].create("n1", {"text": "milk"})
        assert uow.sql("SELECT x FROM t") == [(1,)]
        assert uow.sql("SELECT key FROM uow_documents") == [("n1",)]
        assert in_file(ledger) == []
    assert [write.store_name for write in ledger.get(uow.uow_id).writes] == ["sql", "notes"]


def test_writes_that_return_rows_run_at_once(ledger: Ledger) -> None:
    """INSERT ... RETURNING gives its rows at once, in order with what waited, and is recorded in its place."""
    with unit(ledger) as uow:
        uow.sql("INSERT INTO t VALUES (1)")
        assert uow.sql("INSERT INTO t VALUES (?) RETURNING x, rowid", (2,)) == [(2, 2)]
        uow.sql("DELETE FROM t WHERE x = 1")
        assert in_file(ledger) == []
    assert in_file(ledger) == [2]
    assert [operation for operation, _ in recorded(ledger, uow)] == ["create", "create", "delete"]


def test_a_unit_that_only_reads_leaves_no_row(ledger: Ledger) -> None:
    """A unit whose statements only read is not recorded at all."""
    with unit(ledger) as uow:
        assert uow.sql("SELECT count(*) FROM t") == [(0,)]
    assert uow.receipt is None
    with pytest.raises(UsageError, match="has no unit"):
        ledger.get(uow.uow_id)


def test_a_read_is_a_read_whatever_the_connection_did_before(ledger: Ledger) -> None:
    """Table-valued functions and full text, of which SQLite makes more at their first use, are not taken for writes."""
    with unit(ledger) as uow:
        assert uow.sql("SELECT name FROM pragma_table_info('t')") == [("x",)]
        assert uow.sql("SELECT value FROM json_each('[1, 2]')") == [(1,), (2,)]
        assert uow.sql("SELECT w FROM words WHERE words MATCH 'milk'") == []
    assert uow.receipt is None


def test_full_text_of_the_application_works(ledger: Ledger) -> None:
    """An FTS5 table of the application's is written and searched like any other."""
    with unit(ledger) as uow:
        uow.sql("INSERT INTO words VALUES (?)", ("milk is out",))
        assert uow.sql("SELECT w FROM words WHERE words MATCH ?", ("milk",)) == [("milk is out",)]
    assert [operation for operation, _ in recorded(ledger, uow)] == ["create"]


def test_nothing_to_do_takes_no_lock_and_leaves_no_row(ledger: Ledger) -> None:
    """DROP TABLE IF EXISTS of a table that is not there does nothing: no error, no lock, no record."""
    with unit(ledger) as uow, locked(ledger.path):
        assert uow.sql("DROP TABLE IF EXISTS missing") == []
    assert uow.receipt is None


# Schema changes


def test_tables_of_the_units_own_making(ledger: Ledger) -> None:
    """A unit may make, fill, alter, read and drop a table; others see all of it, or nothing, at the end."""
    with unit(ledger) as uow:
        uow.sql("CREATE TABLE new (a)")
        uow.sql("INSERT INTO new VALUES (1)")
        uow.sql("ALTER TABLE new ADD COLUMN b DEFAULT 2")
        uow.sql("INSERT INTO new (a, b) VALUES (3, 4)")
        assert uow.sql("SELECT a, b FROM new") == [(1, 2), (3, 4)]
        uow.sql("DROP TABLE t")
        uow.sql("CREATE TABLE t (x, y)")
        uow.sql("INSERT INTO t VALUES (5, 6)")
        assert in_file(ledger, "SELECT name FROM sqlite_schema WHERE name = 'new'") == []
    assert in_file(ledger, "SELECT y FROM t") == [6]
    assert [operation for operation, _ in recorded(ledger, uow)] == [
        *("create", "create", "update", "create"),
        *("delete", "create", "create"),
    ]


def test_schema_changes_are_undone_with_the_unit(ledger: Ledger) -> None:
    """A table made by a unit that fails never was, and other units do not know it."""
    with pytest.raises(OwnError), unit(ledger) as uow:
        uow.sql("CREATE TABLE new (a)")
        uow.sql("INSERT INTO new VALUES (1)")
        raise OwnError
    with pytest.raises(UsageError, match="no such table: new"), unit(ledger) as uow:
        uow.sql("INSERT INTO new VALUES (1)")


def test_a_savepoint_undoes_a_schema_change(ledger: Ledger) -> None:
    """A table made after a savepoint that is returned to is gone, and statements about it are refused again."""
    with unit(ledger) as uow:
        with pytest.raises(OwnError), uow.savepoint():
            uow.sql("CREATE TABLE new (a)")
            raise OwnError
        with pytest.raises(UsageError, match="no such table: new"):
            uow.sql("INSERT INTO new VALUES (1)")
        uow.sql("INSERT INTO t VALUES (1)")
    assert in_file(ledger) == [1]


# What does not get past


SPY = "CREATE TRIGGER spy AFTER INSERT ON t BEGIN DELETE FROM unit_of_work; END"


def test_a_trigger_that_writes_our_tables_cannot_be_made(ledger: Ledger) -> None:
    """A trigger whose body names the library's tables is refused when it is made: nobody asks when it fires."""
    with pytest.raises(UsageError, match="the library's own"), unit(ledger) as uow:
        uow.sql(SPY)
    assert in_file(ledger, "SELECT name FROM sqlite_schema WHERE name = 'spy'") == []


def test_a_trigger_made_elsewhere_makes_its_statements_refused(ledger: Ledger) -> None:
    """A trigger that another program made, and that writes our tables, does not fire through uow.sql."""
    with unit(ledger) as uow:
        uow.sql("INSERT INTO t VALUES (1)")
    rows(ledger.path, SPY)
    with pytest.raises(UsageError, match="the library's own"), unit(ledger) as uow:
        uow.sql("INSERT INTO t VALUES (2)")
    assert in_file(ledger) == [1]
    assert len(ledger.units(status="committed")) == 2


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "SAVEPOINT a",
        "PRAGMA synchronous = OFF",
        "VACUUM",
        "ATTACH 'other.db' AS other",
        "CREATE TEMP TABLE other (a)",
        "DELETE FROM uow_writes",
        "DROP INDEX idx_uow_space_id",
        "ALTER TABLE t RENAME TO uow_t",
        "QUERY PLAN DELETE FROM t",
        "SELECT 1; DELETE FROM t",
        "",
    ],
)
@pytest.mark.parametrize("changed", [False, True], ids=["at first", "after a schema change"])
def test_refused_statements_change_nothing(ledger: Ledger, sql: str, changed: bool) -> None:
    """A statement that a unit may not run is refused when called; caught, the unit goes on and commits the rest."""
    with unit(ledger) as uow:
        uow.sql("INSERT INTO t VALUES (1)")
        if changed:
            uow.sql("CREATE TABLE new (a)")
        with pytest.raises(UsageError) as refused:
            uow.sql(sql)
        assert (refused.value.store, refused.value.hint is not None) == ("sql", True)
        uow.sql("INSERT INTO t VALUES (2)")
    assert in_file(ledger) == [1, 2]
    assert uow.status == "committed"


def test_extensions_cannot_be_loaded(ledger: Ledger) -> None:
    """load_extension is a read to the guard, and SQLite itself refuses to run it."""
    with unit(ledger) as uow, pytest.raises(UsageError, match="not authorized"):
        uow.sql("SELECT load_extension('evil')")


class Text(str, enum.Enum):  # noqa: UP042 - prints as Text.INSERT, which is the point
    INSERT = "INSERT INTO t VALUES (1)"


class Seven(enum.IntEnum):
    SEVEN = 7


def test_enums_count_for_what_they_hold(ledger: Ledger) -> None:
    """A statement and a parameter given by enum members are what the members hold."""
    with unit(ledger) as uow:
        uow.sql(Text.INSERT)
        uow.sql("INSERT INTO t VALUES (?)", (Seven.SEVEN,))
    assert in_file(ledger) == [1, 7]


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (None, "is a NoneType, not a string"),
        (b"SELECT 1", "is a bytes, not a string"),
        ("SELECT '\0'", r"contains U\+0000"),
        ("SELECT '\ud800'", "contains a lone surrogate"),
        ("SELECT 1 --" + "x" * 500, "has 511 characters; the limit is 500"),
    ],
    ids=["none", "bytes", "nul", "surrogate", "long"],
)
def test_texts_that_are_none(ledger: Ledger, sql: Any, why: str) -> None:
    """What is no text, cannot be stored or is longer than the limit is refused with the reason."""
    with unit(ledger) as uow, pytest.raises(UsageError, match=f"The SQL text {why}"):
        uow.sql(sql)


def test_the_longest_text(ledger: Ledger) -> None:
    """A text of exactly as many characters as allowed is run."""
    with unit(ledger) as uow:
        assert uow.sql("SELECT 1 --" + "x" * 489) == [(1,)]


def test_parameters_are_checked_when_called(ledger: Ledger) -> None:
    """Parameters of a wrong number, name or type are refused at the call, not at the commit, known statement or not."""
    with unit(ledger) as uow:
        uow.sql("INSERT INTO t VALUES (?)", (1,))
        for wrong in ((), (1, 2), {"x": 1}, (object(),), "x"):
            with pytest.raises(UsageError):
                uow.sql("INSERT INTO t VALUES (?)", wrong)
    assert in_file(ledger) == [1]


def test_no_value_is_shown(ledger: Ledger) -> None:
    """Neither a refusal at once, nor one at commit, nor the unit's record shows the value of a parameter."""
    messages = []
    for sql in ("SELECT * FROM words WHERE words MATCH ?", "SELECT json_extract('{}', ?)"):
        with pytest.raises(UsageError) as refused, unit(ledger) as uow:
            uow.sql(sql, (f"{CANARY}:",))
        messages += [str(refused.value), repr(refused.value), str(uow.error)]
    with pytest.raises(StoreError) as failed, unit(ledger) as uow:
        uow.sql("INSERT INTO t VALUES (?), (?)", (CANARY, CANARY))
    messages += [str(failed.value), str([record.error_message for record in ledger.units(status="failed")])]
    assert not [message for message in messages if CANARY in message]
    assert len(ledger.units(status="failed")) == 3


def test_limits_count_before_a_statement_runs(tmp_path: Path) -> None:
    """A statement beyond the unit's limit is refused before it runs: nothing is done that is not recorded."""
    with Ledger.open(tmp_path / "memory.db", durability="normal", limits=Limits(writes_per_unit=2)) as ledger:
        with unit(ledger) as uow:
            uow.sql("CREATE TABLE t (x)")
            uow.sql("INSERT INTO t VALUES (1) RETURNING x")
            for sql in ("INSERT INTO t VALUES (2) RETURNING x", "CREATE TABLE more (x)", "INSERT INTO t VALUES (2)"):
                with pytest.raises(UsageError, match="2 writes at most"):
                    uow.sql(sql)
        assert in_file(ledger) == [1]
        assert in_file(ledger, "SELECT name FROM sqlite_schema WHERE name = 'more'") == []
        assert len(ledger.get(uow.uow_id).writes) == 2


def test_a_read_only_ledger_is_not_read_by_sql(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a ledger open for reading only, uow.sql says that it needs the lock even for a query."""
    monkeypatch.setattr(ledger._opened.engine, "read_only", True)
    with pytest.raises(LedgerError, match="open for reading only"), unit(ledger) as uow:
        uow.sql("SELECT 1")
