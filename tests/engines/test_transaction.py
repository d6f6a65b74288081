"""The write transaction: it ends once, and says the truth about how."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Durability
from memoryos_uow.engines._transaction import SQLiteReader, SQLiteTransaction
from memoryos_uow.errors import LedgerCorrupt, LedgerError, StoreError, UsageError
from tests.engines.looking import insert, interrupted_inside, is_free, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow.engines.sqlite import SQLiteEngine
    from tests.engines.conftest import Opener


def synchronous(engine: SQLiteEngine) -> int:
    """How the writer waits for the disk: 1 is NORMAL, 2 is FULL."""
    tx = engine.begin()
    (level,) = tx.rows("PRAGMA synchronous")[0]
    tx.rollback()
    assert isinstance(level, int)
    return level


# What a transaction can do


def test_commit_is_seen_by_others(engine: SQLiteEngine, path: Path) -> None:
    """What was committed is in the file; the transaction says so and is over."""
    tx = engine.begin()
    assert (tx.open, tx.decided) == (True, False)
    assert tx.execute("INSERT INTO t VALUES (?), (?)", (1, 2)) == 2
    assert rows(path) == []
    tx.commit()
    assert (tx.open, tx.decided, tx.answer_lost) == (False, True, False)
    assert rows(path) == [1, 2]
    assert is_free(engine)


def test_rollback_leaves_nothing(engine: SQLiteEngine, path: Path) -> None:
    """What was rolled back is nowhere, and rolling back again does nothing."""
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    tx.rollback()
    tx.rollback()
    assert (tx.open, tx.decided) == (False, False)
    assert rows(path) == []
    assert is_free(engine)


def test_every_verb_answers(engine: SQLiteEngine) -> None:
    """Statements tell how many rows they changed, an INSERT its rowid, queries their rows at once or one by one."""
    tx = engine.begin()
    assert tx.execute_many("INSERT INTO t VALUES (?)", ((n,) for n in range(3))) == 3
    assert tx.insert("INSERT INTO t VALUES (:x)", {"x": "named"}) == 4
    assert tx.execute("UPDATE t SET x = x + 10 WHERE typeof(x) = 'integer'") == 3
    assert tx.rows("SELECT x FROM t WHERE x = ?", ("named",)) == [("named",)]
    assert list(tx.stream("SELECT x FROM t ORDER BY rowid")) == [(10,), (11,), (12,), ("named",)]
    tx.rollback()


def test_savepoints_cut_exactly(engine: SQLiteEngine, path: Path) -> None:
    """Returning to a savepoint undoes what came after it, releasing one keeps it, and both forget it."""
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    tx.savepoint("uow_0")
    tx.execute("INSERT INTO t VALUES (2)")
    tx.savepoint("uow_1")
    tx.execute("INSERT INTO t VALUES (3)")
    tx.release("uow_1")
    tx.rollback_to("uow_0")
    with pytest.raises(UsageError, match="no such savepoint"):
        tx.release("uow_0")
    tx.execute("INSERT INTO t VALUES (4)")
    tx.commit()
    assert rows(path) == [1, 4]


def test_returning_to_a_savepoint_that_is_gone_ends_the_transaction(engine: SQLiteEngine, path: Path) -> None:
    """Where SQLite cannot return to a savepoint everything is undone, because half of it must not stay."""
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    tx.rollback_to("uow_9")
    assert not tx.open
    tx.rollback_to("uow_9")
    assert rows(path) == []
    assert is_free(engine)


def test_a_transaction_ended_behind_its_back_is_rolled_back(engine: SQLiteEngine, path: Path) -> None:
    """Rolling back what is no longer open in SQLite is no error, and ending twice gives the turn back once."""
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    tx.connection.execute("ROLLBACK")
    tx.rollback()
    tx._end(sound=True)
    assert rows(path) == []
    assert is_free(engine)


def test_a_step_is_all_or_nothing(engine: SQLiteEngine, path: Path) -> None:
    """An exception that leaves a step undoes what the step did, and only that."""
    tx = engine.begin()
    with tx.step():
        tx.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(ZeroDivisionError), tx.step():
        tx.execute("INSERT INTO t VALUES (2)")
        raise ZeroDivisionError
    tx.commit()
    assert rows(path) == [1]


# What it refuses


def verbs(tx: SQLiteTransaction) -> list[Any]:
    """One call of each verb."""
    return [
        lambda: tx.rows("SELECT 1"),
        lambda: list(tx.stream("SELECT 1")),
        lambda: tx.execute("INSERT INTO t VALUES (9)"),
        lambda: tx.execute_many("INSERT INTO t VALUES (?)", [(9,)]),
        lambda: tx.insert("INSERT INTO t VALUES (9)"),
        lambda: tx.savepoint("uow_0"),
        lambda: tx.connection,
        tx.commit,
    ]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_an_ended_transaction_answers_no_more(end: str, engine: SQLiteEngine, path: Path) -> None:
    """After its end a transaction runs nothing, for its connection may be in somebody else's transaction by then."""
    tx = engine.begin()
    getattr(tx, end)()
    decided = tx.decided
    other = engine.begin()
    for verb in verbs(tx):
        with pytest.raises(LedgerError, match="is over"):
            verb()
    assert tx.decided is decided
    tx.rollback()
    assert other.open
    other.rollback()
    assert rows(path) == []


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT OR ROLLBACK INTO t VALUES (1)", StoreError),
        ("INSERT INTO strict_t VALUES (1)", StoreError),
        ("INSERT INTO guarded VALUES (1)", StoreError),
    ],
)
@pytest.mark.parametrize("verb", ["execute", "insert", "rows"])
def test_when_sqlite_rolls_back_by_itself_the_transaction_is_over(
    statement: str, error: type[Exception], verb: str, engine: SQLiteEngine, path: Path
) -> None:
    """OR ROLLBACK in a statement, a table or a trigger ends the transaction: nothing after it commits by itself."""
    setup = engine.begin()
    setup.execute("CREATE TABLE strict_t (x UNIQUE ON CONFLICT ROLLBACK)")
    setup.execute("INSERT INTO strict_t VALUES (1)")
    setup.execute("CREATE TABLE guarded (x)")
    setup.execute("CREATE TRIGGER g BEFORE INSERT ON guarded BEGIN SELECT RAISE(ROLLBACK, 'no'); END")
    setup.execute("INSERT INTO t VALUES (1)")
    setup.commit()
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(error):
        getattr(tx, verb)(statement)
    assert not tx.open
    for later in verbs(tx):
        with pytest.raises(LedgerError):
            later()
    assert not tx.decided
    assert rows(path) == [1]
    assert is_free(engine)


def test_a_failed_statement_that_sqlite_survives_changes_nothing_else(engine: SQLiteEngine, path: Path) -> None:
    """An ordinary refusal leaves the transaction open with everything that came before."""
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(StoreError, match=r"UNIQUE constraint failed: t\.x"):
        tx.execute_many("INSERT INTO t VALUES (?)", [(2,), (1,)])
    assert tx.open
    tx.commit()
    assert rows(path) == [1, 2]


# Commits that fail


@contextmanager
def files_no_larger_than(n_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes: the disk is as good as full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_commit_that_cannot_be_written_leaves_nothing(engine: SQLiteEngine, path: Path) -> None:
    """When the log cannot grow the commit fails, nothing of it is there, and the next one works."""
    insert(engine, 1)
    writer = engine._writer
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (?)", (bytes(500_000),))
    with files_no_larger_than(100_000), pytest.raises(LedgerError) as failed:
        tx.commit()
    assert isinstance(failed.value.__cause__, sqlite3.OperationalError)
    assert (tx.open, tx.decided) == (False, False)
    assert rows(path) == [1]
    assert engine._writer is None
    assert writer is not None
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        writer.execute("SELECT 1")
    assert is_free(engine)
    insert(engine, 2)
    assert rows(path) == [1, 2]
    assert rows(path, "PRAGMA integrity_check") == ["ok"]


def test_full_file_ends_the_transaction_or_leaves_it_whole(engine: SQLiteEngine, path: Path) -> None:
    """A file that may not grow any more is reported as a full disk, and nothing of the transaction is committed."""
    insert(engine, 1)
    tx = engine.begin()
    tx.rows("PRAGMA max_page_count = 5")
    with pytest.raises(LedgerError, match="The disk is full"):
        for _ in range(100):
            tx.execute("INSERT INTO t VALUES (randomblob(2000))")
    tx.rollback()
    assert rows(path) == [1]
    assert is_free(engine)


def test_constraint_checked_at_commit_undoes_everything(engine: SQLiteEngine, path: Path) -> None:
    """A deferred foreign key that fails at COMMIT fails the whole transaction, and the next one begins at once."""
    tx = engine.begin()
    tx.execute("CREATE TABLE kid (parent REFERENCES t (x) DEFERRABLE INITIALLY DEFERRED)")
    tx.execute("INSERT INTO kid VALUES (7)")
    with pytest.raises(StoreError, match="FOREIGN KEY constraint failed"):
        tx.commit()
    assert (tx.open, tx.decided) == (False, False)
    assert rows(path, "SELECT name FROM sqlite_schema WHERE name = 'kid'") == []
    assert is_free(engine)


class FailingConnection:
    """A connection whose COMMIT fails as SQLite's can, which no test can bring about at will."""

    def __init__(self, error: BaseException, *, still_open: bool) -> None:
        self._error = error
        self.in_transaction = still_open

    def execute(self, sql: str, _parameters: object = ()) -> None:
        assert sql in ("COMMIT", "ROLLBACK", "ROLLBACK TO uow_0")
        raise self._error


def with_code(code: int, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    """An error as sqlite3 raises it for a result code."""
    error = kind("said by SQLite")
    error.sqlite_errorcode = code
    return error


IOERR, IOERR_WRITE, IOERR_FSYNC, IOERR_DIR_FSYNC = 10, 10 | 3 << 8, 10 | 4 << 8, 10 | 5 << 8


@pytest.mark.parametrize("still_open", [False, True])
@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (with_code(IOERR), False),
        (with_code(IOERR_WRITE), False),
        (with_code(IOERR_FSYNC), True),
        (with_code(IOERR_DIR_FSYNC), True),
        (with_code(13), False),
        (with_code(11, sqlite3.DatabaseError), False),
        (MemoryError(), False),
    ],
    ids=repr,
)
def test_a_failed_commit_never_counts_as_decided(error: BaseException, lost: bool, still_open: bool) -> None:
    """Whatever SQLite fails with at COMMIT, the decision does not stand; only a failed sync leaves the answer open."""
    ends: list[dict[str, bool]] = []
    connection: Any = FailingConnection(error, still_open=still_open)
    tx = SQLiteTransaction(connection, "memory.db", on_end=lambda **how: ends.append(how))
    with pytest.raises(LedgerError) as failed:
        tx.commit()
    assert failed.value.__cause__ is error
    assert (tx.decided, tx.answer_lost) == (False, lost)
    assert ends == [{"sound": False, "decided": False}]


@pytest.mark.parametrize("still_open", [False, True])
def test_returning_to_a_savepoint_never_fails(still_open: bool) -> None:
    """A savepoint that cannot be returned to ends everything quietly, rolled back by SQLite itself or not."""
    ends: list[dict[str, bool]] = []
    connection: Any = FailingConnection(with_code(IOERR), still_open=still_open)
    tx = SQLiteTransaction(connection, "memory.db", on_end=lambda **how: ends.append(how))
    tx.rollback_to("uow_0")
    assert ends == [{"sound": False, "decided": False}]


@pytest.mark.parametrize("error", [with_code(IOERR), with_code(21, sqlite3.InterfaceError), MemoryError()], ids=repr)
def test_rollback_never_fails(error: BaseException) -> None:
    """Where SQLite cannot roll back, the connection is given up instead, and nobody hears of it."""
    ends: list[dict[str, bool]] = []
    connection: Any = FailingConnection(error, still_open=True)
    tx = SQLiteTransaction(connection, "memory.db", on_end=lambda **how: ends.append(how))
    tx.rollback()
    assert ends == [{"sound": False, "decided": False}]


# Signals


def test_interrupt_during_commit_tells_the_truth(engine: SQLiteEngine, path: Path) -> None:
    """A signal handler that raises when COMMIT has done its work unmakes nothing, and `decided` says so."""
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(KeyboardInterrupt), interrupted_inside(tx.connection):
        tx.commit()
    assert (tx.open, tx.decided) == (False, True)
    assert rows(path) == [1]
    assert is_free(engine)


@pytest.mark.parametrize("came_too_early", [False, True])
def test_interrupted_commit_is_decided_when_sqlite_has_committed(came_too_early: bool) -> None:
    """Of an interrupted COMMIT counts what SQLite has done: it is decided when the transaction is over."""
    ends: list[dict[str, bool]] = []
    connection: Any = FailingConnection(KeyboardInterrupt(), still_open=came_too_early)
    tx = SQLiteTransaction(connection, "memory.db", on_end=lambda **how: ends.append(how))
    with pytest.raises(KeyboardInterrupt):
        tx.commit()
    assert tx.decided is not came_too_early
    assert ends == [{"sound": tx.decided, "decided": tx.decided}]


def test_interrupt_during_rollback_leaves_nothing(engine: SQLiteEngine, path: Path) -> None:
    """A signal handler that raises during ROLLBACK leaves neither the row nor the lock behind."""
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(KeyboardInterrupt), interrupted_inside(tx.connection):
        tx.rollback()
    assert (tx.open, tx.decided) == (False, False)
    assert rows(path) == []
    assert is_free(engine)


def test_interrupt_during_begin_holds_no_lock(engine: SQLiteEngine, path: Path) -> None:
    """A signal handler that raises when BEGIN has taken the lock gives it back: no lock is left without owner."""
    with pytest.raises(KeyboardInterrupt), interrupted_inside(engine._writer_connection()):
        engine.begin()
    assert is_free(engine)
    insert(engine, 1)
    assert rows(path) == [1]


def test_interrupt_during_a_statement_leaves_the_transaction_open(engine: SQLiteEngine, path: Path) -> None:
    """A signal handler that raises during a statement ends nothing: whoever drives the transaction decides."""
    tx = engine.begin()
    with pytest.raises(KeyboardInterrupt), interrupted_inside(tx.connection):
        tx.execute("INSERT INTO t VALUES (1)")
    assert tx.open
    tx.rollback()
    assert rows(path) == []
    assert is_free(engine)


# Relaxed commits


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_relaxed_transaction_relaxes_nothing_else(end: str, path: Path, open_engine: Opener) -> None:
    """A transaction that need not wait for the disk does not; the next one does again."""
    engine = open_engine(path, durability=Durability.FULL)
    tx = engine.begin(relaxed=True)
    assert tx.rows("PRAGMA synchronous") == [(1,)]
    getattr(tx, end)()
    assert synchronous(engine) == 2


def test_relaxed_transaction_that_cannot_begin_relaxes_nothing_else(path: Path, open_engine: Opener) -> None:
    """A relaxed begin that finds the lock taken leaves the writer as durable as before."""
    engine, other = open_engine(path, durability=Durability.FULL), open_engine(path)
    held = other.begin()
    with pytest.raises(LedgerError):
        engine.begin(wait_s=0, relaxed=True)
    held.rollback()
    assert synchronous(engine) == 2


def test_relaxed_transaction_that_cannot_be_restored_gives_the_writer_up(
    engine: SQLiteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the setting cannot be restored, the decided transaction succeeds and the connection is replaced."""
    tx = engine.begin(relaxed=True)
    writer = engine._writer
    monkeypatch.setattr(engine, "_durability", "full; SELECT 1")  # a PRAGMA that sqlite3 refuses
    tx.commit()
    assert tx.decided
    assert engine._writer is not writer
    monkeypatch.undo()
    assert is_free(engine)


# Readers


def test_reader_that_was_given_back_answers_no_more(engine: SQLiteEngine) -> None:
    """A reader used after its block is refused: its connection may be somebody else's."""
    with engine.reader() as reader:
        assert reader.rows("SELECT count(*) FROM t") == [(0,)]
    with pytest.raises(LedgerError, match="is over"):
        reader.rows("SELECT 1")


def test_stream_left_half_read_keeps_nobody_in_the_past(engine: SQLiteEngine) -> None:
    """A stream that was not read to its end does not make the connection's next borrower see old rows."""
    insert(engine, 1)
    insert(engine, 2)
    with engine.reader() as reader:
        half_read = reader.stream("SELECT x FROM t")
        assert next(half_read) == (1,)
    insert(engine, 3)
    with engine.reader() as again:
        assert again.connection is reader._connection
        assert again.rows("SELECT count(*) FROM t") == [(3,)]
    with pytest.raises(UsageError, match="closed cursor"):
        next(half_read)


def test_reader_translates_what_goes_wrong_on_the_way(engine: SQLiteEngine) -> None:
    """An error that comes up only while rows are read one by one is one of ours as well."""
    with pytest.raises(UsageError, match="integer overflow"), engine.reader() as reader:
        list(reader.stream("SELECT abs(x) FROM (SELECT 1 AS x UNION ALL SELECT -9223372036854775807 - 1)"))


def test_text_that_is_not_utf8_is_damage_and_is_not_shown(engine: SQLiteEngine) -> None:
    """Text in the file that cannot be decoded is reported without showing it."""
    with pytest.raises(LedgerCorrupt, match="not valid UTF-8") as refused, engine.reader() as reader:
        reader.rows("SELECT CAST(x'736563726574ff' AS TEXT) AS c")
    assert "secret" not in str(refused.value)


def test_writing_through_a_reader_is_no_way_around_the_lock(engine: SQLiteEngine, path: Path) -> None:
    """A reader is lent for queries only; `SQLiteReader` has no verb that writes."""
    assert not {"execute", "execute_many", "insert", "commit"} & set(dir(SQLiteReader))
    with engine.reader() as reader:
        assert reader.rows("SELECT x FROM t") == []
    assert rows(path) == []
