"""SQLite's errors in the library's words: the right class for each result code, and no value in any text."""

from __future__ import annotations

import sqlite3
import traceback
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow.engines._sqlite_errors import FOREIGN, is_busy, leaves_doubt, translate, translated
from memoryos_uow.errors import (
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    StoreError,
    UnitOfWorkError,
    UsageError,
)
from tests.processes import forked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CANARY = "Sesame-7b1f"
LEDGER = "memory.db"

# https://sqlite.org/rescode.html: every primary result code that is an error, and what it becomes here.
PRIMARY: dict[int, tuple[str, type[UnitOfWorkError]]] = {
    1: ("ERROR", UsageError),
    2: ("INTERNAL", LedgerError),
    3: ("PERM", LedgerError),
    4: ("ABORT", LedgerError),
    5: ("BUSY", LedgerBusy),
    6: ("LOCKED", LedgerBusy),
    7: ("NOMEM", LedgerError),
    8: ("READONLY", LedgerError),
    9: ("INTERRUPT", LedgerError),
    10: ("IOERR", LedgerError),
    11: ("CORRUPT", LedgerCorrupt),
    12: ("NOTFOUND", LedgerError),
    13: ("FULL", LedgerError),
    14: ("CANTOPEN", LedgerError),
    15: ("PROTOCOL", LedgerBusy),
    16: ("EMPTY", LedgerError),
    17: ("SCHEMA", LedgerError),
    18: ("TOOBIG", UsageError),
    19: ("CONSTRAINT", StoreError),
    20: ("MISMATCH", UsageError),
    21: ("MISUSE", LedgerError),
    22: ("NOLFS", LedgerError),
    23: ("AUTH", LedgerError),
    24: ("FORMAT", LedgerError),
    25: ("RANGE", LedgerError),
    26: ("NOTADB", LedgerCorrupt),
}


def with_code(code: int, words: str = "words of SQLite") -> sqlite3.Error:
    """An error as sqlite3 raises it for a result code."""
    error = sqlite3.DatabaseError(words)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("extended", [0, 1, 2, 42], ids=lambda n: f"extended{n}")
@pytest.mark.parametrize("code", PRIMARY, ids=lambda code: PRIMARY[code][0])
def test_every_result_code_has_its_class(code: int, extended: int) -> None:
    """Each primary result code, extended or not, becomes its class of ours, with a hint."""
    error = translate(with_code(code | extended << 8), LEDGER)
    assert type(error) is PRIMARY[code][1]
    assert error.hint
    assert LEDGER in str(error) or "words of SQLite" in str(error) or "does not fit" in str(error)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (5, "Other writers kept memory.db locked. Nothing was written. Run the unit again"),
        (7, "There is not enough memory. The ledger is memory.db. Nothing of the unit was written. Free some memory"),
        (8, "The ledger cannot be written. The ledger is memory.db."),
        (11, "The file memory.db is damaged. It was left as it is."),
        (13, "The disk is full. The ledger is memory.db. Nothing of the unit was written. Free some space"),
        (14, "The ledger's file cannot be opened. The ledger is memory.db."),
        (26, "The file memory.db is not a SQLite database."),
        (
            10,
            "SQLite reports: words of SQLite. The ledger is memory.db. Nothing of the unit was written. Check",
        ),
    ],
)
def test_words_say_what_to_do(code: int, words: str) -> None:
    """The common troubles have sentences that name the file and what to do."""
    assert str(translate(with_code(code), LEDGER)).startswith(words)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), LedgerCorrupt),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), UsageError),
        (OverflowError("Python int too large to convert to SQLite INTEGER"), UsageError),
        (MemoryError(), LedgerError),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), UsageError),
        (sqlite3.InterfaceError("Error binding parameter 0"), UsageError),
        (sqlite3.Warning("You can only execute one statement at a time."), UsageError),
        (sqlite3.DataError("query string is too large"), UsageError),
    ],
    ids=repr,
)
def test_what_python_raises_itself(error: Exception, expected: type[UnitOfWorkError]) -> None:
    """Exceptions that Python's own module raises, without any result code, have their classes too."""
    assert isinstance(error, FOREIGN)
    assert type(translate(error, LEDGER)) is expected


@pytest.mark.parametrize("code", PRIMARY, ids=lambda code: PRIMARY[code][0])
def test_busy_is_what_waiting_helps_with(code: int) -> None:
    """A code counts as busy exactly when its error says that trying again helps."""
    error = with_code(code | 2 << 8)
    assert is_busy(error) == translate(error, LEDGER).retryable == (code in (5, 6, 15))


def test_only_a_failed_sync_leaves_doubt() -> None:
    """Of all extended codes only the two failed syncs leave open whether a commit may come back."""
    codes = [code | extended << 8 for code in PRIMARY for extended in range(40)]
    assert [code for code in codes if leaves_doubt(with_code(code))] == [10 | 4 << 8, 10 | 5 << 8]
    assert not leaves_doubt(MemoryError())


# The real thing


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a file with tables of every sort of constraint."""
    with closing(sqlite3.connect(tmp_path / LEDGER, isolation_level=None)) as opened:
        opened.execute("PRAGMA foreign_keys = ON")
        opened.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL DEFAULT 0, c CHECK (length(c) < 3))"
        )
        opened.execute("CREATE TABLE kid (parent REFERENCES t (id))")
        opened.execute("CREATE TABLE typed (i INTEGER) STRICT")
        opened.execute("CREATE VIRTUAL TABLE words USING fts5 (w)")
        opened.execute("CREATE VIRTUAL TABLE boxes USING rtree (id, low, high)")
        yield opened


# Statement, its parameters with the canary in them, the class, and what the text says besides.
REFUSALS: list[tuple[str, tuple[Any, ...], type[UnitOfWorkError], str]] = [
    ("INSERT INTO t (u) VALUES (?), (?)", (CANARY, CANARY), StoreError, "UNIQUE constraint failed: t.u"),
    ("INSERT INTO t (u, n) VALUES (?, NULL)", (CANARY,), StoreError, "NOT NULL constraint failed: t.n"),
    ("INSERT INTO t (c) VALUES (?)", (CANARY,), StoreError, "CHECK constraint failed: length(c) < 3"),
    ("INSERT INTO kid VALUES (?)", (CANARY,), StoreError, "FOREIGN KEY constraint failed"),
    ("INSERT INTO typed VALUES (?)", (CANARY,), StoreError, "cannot store TEXT value in INTEGER column typed.i"),
    ("INSERT INTO boxes VALUES (1, 9, ?)", (CANARY,), StoreError, "rtree constraint failed"),
    ("INSERT INTO t (id) VALUES (?)", (CANARY,), UsageError, "A value does not fit into SQLite."),
    ("SELECT zeroblob(1 << 40), ?", (CANARY,), UsageError, "A value does not fit into SQLite."),
    ("SELECT ?", (CANARY + "\ud800",), UsageError, "A value does not fit into SQLite."),
    ("SELECT ?, ?", (CANARY, 2**63), UsageError, "A value does not fit into SQLite."),
    ("SELECT ?", (CANARY, CANARY), UsageError, "Incorrect number of bindings supplied"),
    ("SELECT ?, ?", (CANARY,), UsageError, "Incorrect number of bindings supplied"),
    ("SELECT json_extract('{}', ?)", (CANARY,), UsageError, "SQLite refused the statement."),
    ("SELECT * FROM words WHERE words MATCH ?", (f'"{CANARY}',), UsageError, "SQLite refused the statement."),
    ("SELECT * FROM words WHERE words MATCH ?", (f"{CANARY}:a",), UsageError, "SQLite refused the statement."),
    ("SELECT * FROM words WHERE words MATCH ?", (f"a AND {CANARY})",), UsageError, "SQLite refused the statement."),
    ("SELECT * FROM words WHERE words MATCH ?", (f"*{CANARY}",), UsageError, "SQLite refused the statement."),
    ("SELECT CAST(? AS TEXT)", (CANARY.encode() + b"\xff",), LedgerCorrupt, "holds text that is not valid UTF-8"),
]


@pytest.mark.parametrize(("sql", "parameters", "expected", "says"), REFUSALS)
def test_no_value_of_a_parameter_is_shown(
    connection: sqlite3.Connection, sql: str, parameters: tuple[Any, ...], expected: type[UnitOfWorkError], says: str
) -> None:
    """Whatever SQLite refuses a value for, our error names constraint, table and column, and never the value."""
    with pytest.raises(FOREIGN) as raised:
        connection.execute(sql, parameters).fetchall()
    error = translate(raised.value, LEDGER, with_values=True)
    assert type(error) is expected
    assert says in str(error)
    assert CANARY not in "".join(traceback.format_exception_only(error)) + repr(error)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT * FROM missing", "no such table: missing"),
        ("SELECT missing FROM t", "no such column: missing"),
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("SELECT abs(-9223372036854775807 - 1)", "integer overflow"),
    ],
)
def test_statements_without_values_are_explained(connection: sqlite3.Connection, sql: str, says: str) -> None:
    """Where no value was bound, SQLite's own words about the statement are passed on."""
    with pytest.raises(sqlite3.OperationalError) as raised:
        connection.execute(sql).fetchall()
    assert str(translate(raised.value, LEDGER)).startswith(f"SQLite refused the statement: {says}.")


def a_second(connection: sqlite3.Connection, **options: Any) -> sqlite3.Connection:
    """Another connection to the same file."""
    (path,) = (row[2] for row in connection.execute("PRAGMA database_list"))
    return sqlite3.connect(f"file:{path}?{options.pop('mode', 'mode=rw')}", uri=True, isolation_level=None, timeout=0)


def busy(connection: sqlite3.Connection) -> None:
    """Ask for a lock that another connection holds."""
    connection.execute("BEGIN IMMEDIATE")
    with closing(a_second(connection)) as other:
        other.execute("BEGIN IMMEDIATE")


def locked(connection: sqlite3.Connection) -> None:
    """Drop a table while the same connection reads."""
    connection.execute("INSERT INTO t (id) VALUES (1), (2)")
    reading = connection.execute("SELECT * FROM t")
    next(reading)
    connection.execute("DROP TABLE kid")


def read_only(connection: sqlite3.Connection) -> None:
    """Write through a connection that may only read."""
    with closing(a_second(connection, mode="mode=ro")) as other:
        other.execute("DELETE FROM t")


def full(connection: sqlite3.Connection) -> None:
    """Write more than the file may hold."""
    connection.execute("PRAGMA max_page_count = 1")
    connection.execute("INSERT INTO t (u) VALUES (zeroblob(1000000))")


def cannot_open(connection: sqlite3.Connection) -> None:
    """Open what is not there."""
    with closing(a_second(connection)) as other:
        other.execute("ATTACH 'file:/missing/memory.db?mode=ro' AS missing")


def interrupted(connection: sqlite3.Connection) -> None:
    """Stop a query half-way."""
    connection.set_progress_handler(lambda: 1, 1)
    connection.execute("SELECT count(*) FROM t, t AS u")


@pytest.mark.parametrize(
    ("provoke", "name", "expected"),
    [
        (busy, "SQLITE_BUSY", LedgerBusy),
        (locked, "SQLITE_LOCKED", LedgerBusy),
        (read_only, "SQLITE_READONLY", LedgerError),
        (full, "SQLITE_FULL", LedgerError),
        (cannot_open, "SQLITE_CANTOPEN", LedgerError),
        (interrupted, "SQLITE_INTERRUPT", LedgerError),
    ],
)
def test_provoked_errors(
    provoke: Callable[[sqlite3.Connection], None],
    name: str,
    expected: type[UnitOfWorkError],
    connection: sqlite3.Connection,
) -> None:
    """Troubles brought about for real arrive through `translated` as our class, the original chained as the cause."""
    with pytest.raises(UnitOfWorkError) as raised, translated(LEDGER):
        provoke(connection)
    assert type(raised.value) is expected
    assert isinstance(raised.value.__cause__, sqlite3.Error)
    assert raised.value.__cause__.sqlite_errorname == name


def test_out_of_memory_for_real(connection: sqlite3.Connection) -> None:
    """When SQLite gets no memory, which Python reports as MemoryError, it is an error of ours as well."""

    def provoke() -> str:
        connection.execute("PRAGMA hard_heap_limit = 500000")
        try:
            with translated(LEDGER):
                connection.execute("SELECT zeroblob(1000000)").fetchall()
        except LedgerError as error:
            return f"{type(error.__cause__).__name__}: {error.message}"
        return "nothing"

    assert forked(provoke) == "MemoryError: There is not enough memory. The ledger is memory.db."


def test_what_is_not_sqlites_passes_through() -> None:
    """An exception that is neither SQLite's nor about a value, such as the caller's own, is left as it is."""
    with pytest.raises(ZeroDivisionError), translated(LEDGER):
        raise ZeroDivisionError
    with pytest.raises(UsageError, match="ours"), translated(LEDGER):
        raise UsageError("ours")
    with translated(LEDGER), suppress(KeyError):
        raise KeyError
