"""The keeper of the write-ahead log: it checkpoints when it is time, blocks nobody, and ends."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow.engines import _wal_keeper
from memoryos_uow.engines._wal_keeper import COMMITS_PER_CHECKPOINT, WalKeeper
from tests.engines.looking import PATIENT_S, insert, keepers, rows
from tests.gathering import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow.engines.sqlite import SQLiteEngine


def in_the_file_itself(path: Path) -> int:
    """How many rows the file holds when its log is left aside."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
        assert isinstance(count, int)
        return count


class Watched(sqlite3.Connection):
    """A connection that keeps what it was asked, and says when it is closed."""

    asked: list[str]
    closed: threading.Semaphore

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        self.asked.append(sql)
        return super().execute(sql, parameters)

    def close(self) -> None:
        super().close()
        self.closed.release()


@pytest.fixture
def watched(path: Path) -> Iterator[type[Watched]]:
    """A class of connections of its own for each test."""

    class Mine(Watched):
        asked: list[str] = []  # noqa: RUF012 - shared by the connections of one test
        closed = threading.Semaphore(0)

    yield Mine
    assert keepers() == 0


@pytest.fixture
def keeper(engine: SQLiteEngine, watched: type[Watched]) -> Iterator[WalKeeper]:
    """A keeper of the engine's log, stopped at the end; the engine's own stays idle."""
    made = WalKeeper(
        lambda: sqlite3.connect(engine.path, timeout=0, isolation_level=None, factory=watched), lambda: None
    )
    yield made
    made.stop()


def note_commits(keeper: WalKeeper, n_checkpoints: int = 1) -> None:
    """Count as many commits as so many checkpoints take."""
    for _ in range(n_checkpoints * COMMITS_PER_CHECKPOINT):
        keeper.note_commit()


def test_no_thread_before_it_is_needed(keeper: WalKeeper) -> None:
    """Until enough commits were counted there is no thread; stopping then does nothing, twice."""
    for _ in range(COMMITS_PER_CHECKPOINT - 1):
        keeper.note_commit()
    assert keepers() == 0
    keeper.stop()
    keeper.stop()


def test_log_is_copied_back_after_its_count(
    engine: SQLiteEngine, keeper: WalKeeper, watched: type[Watched], path: Path
) -> None:
    """After as many commits as promised the rows are in the file itself, and the log keeps its size."""
    insert(engine, 1)
    before = path.stat().st_size
    log = path.with_name("memory.db-wal")
    size = log.stat().st_size
    note_commits(keeper)
    assert watched.closed.acquire(timeout=PATIENT_S)
    assert in_the_file_itself(path) == 1
    assert path.stat().st_size > before
    assert log.stat().st_size == size
    assert watched.asked == ["PRAGMA wal_checkpoint(PASSIVE)"]


def test_an_open_transaction_and_an_open_read_are_not_disturbed(
    engine: SQLiteEngine, keeper: WalKeeper, watched: type[Watched], path: Path
) -> None:
    """A checkpoint while others read and write neither waits for them nor changes what they see."""
    insert(engine, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as reading:
        reading.execute("BEGIN")
        assert reading.execute("SELECT count(*) FROM t").fetchone() == (1,)
        insert(engine, 2)
        tx = engine.begin()
        tx.execute("INSERT INTO t VALUES (3)")
        note_commits(keeper)
        assert watched.closed.acquire(timeout=PATIENT_S)
        assert watched.asked == ["PRAGMA wal_checkpoint(PASSIVE)"]
        assert reading.execute("SELECT count(*) FROM t").fetchone() == (1,)
        tx.commit()
    assert rows(path) == [1, 2, 3]


def test_a_checkpoint_that_fails_harms_nobody(engine: SQLiteEngine, watched: type[Watched], path: Path) -> None:
    """When the file cannot be opened at the moment the thread lives on, and the next time is as good as the first."""
    insert(engine, 1)
    failed = threading.Event()

    def connect() -> sqlite3.Connection:
        if not failed.is_set():
            failed.set()
            raise sqlite3.OperationalError
        return sqlite3.connect(path, timeout=0, isolation_level=None, factory=watched)

    keeper = WalKeeper(connect, lambda: None)
    note_commits(keeper)
    assert failed.wait(PATIENT_S)
    note_commits(keeper)
    assert watched.closed.acquire(timeout=PATIENT_S)
    keeper.stop()
    assert in_the_file_itself(path) == 1


def test_statistics_are_kept_now_and_then(
    keeper: WalKeeper, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every so many checkpoints SQLite's own upkeep of its statistics is asked for."""
    monkeypatch.setattr(_wal_keeper, "_CHECKPOINTS_PER_OPTIMIZE", 2)
    for _ in range(4):
        note_commits(keeper)
        assert watched.closed.acquire(timeout=PATIENT_S)
    checkpoint, optimize = "PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA optimize"
    assert watched.asked == [checkpoint, checkpoint, optimize, checkpoint, checkpoint, optimize]


def test_stopping_ends_the_thread(keeper: WalKeeper, watched: type[Watched]) -> None:
    """After stop the thread is gone, also when commits were counted that it had not come to."""
    note_commits(keeper)
    assert watched.closed.acquire(timeout=PATIENT_S)
    note_commits(keeper)
    keeper.stop()
    assert keepers() == 0
    assert len(watched.asked) in (1, 2)


def test_after_stopping_it_can_be_needed_again(keeper: WalKeeper, watched: type[Watched]) -> None:
    """A keeper that was stopped, as a fork does it, checkpoints again when enough commits were counted."""
    for _ in range(2):
        note_commits(keeper)
        assert watched.closed.acquire(timeout=PATIENT_S)
        keeper.stop()
    assert watched.asked == ["PRAGMA wal_checkpoint(PASSIVE)"] * 2


def test_a_commit_succeeds_where_no_thread_can_be_had(
    engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no thread can be started, as at the interpreter's end, commits succeed, and it is tried again."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_wal_keeper, "COMMITS_PER_CHECKPOINT", 2)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for value in range(5):
        insert(engine, value)
    assert rows(path) == [0, 1, 2, 3, 4]
    monkeypatch.undo()
    note_commits(engine._keeper)
    assert keepers() == 1
    engine.close()
    assert keepers() == 0


def commits(engine: SQLiteEngine, number: int) -> Callable[[], None]:
    """A call that commits so many rows."""

    def commit() -> None:
        for value in range(number):
            insert(engine, value)

    return commit


def test_engine_counts_its_commits(engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's own keeper checkpoints after the engine's commits, not after rollbacks, and ends with the engine."""
    monkeypatch.setattr(_wal_keeper, "COMMITS_PER_CHECKPOINT", 3)
    engine._keeper._commits = 0
    for _ in range(10):
        engine.begin().rollback()
    commits(engine, 2)()
    assert keepers() == 0
    checkpointed = threading.Event()
    connect = engine._keeper._connect

    def connect_watched() -> sqlite3.Connection:
        connection = connect()
        connection.set_trace_callback(lambda sql: checkpointed.set() if "checkpoint" in sql else None)
        return connection

    engine._keeper._connect = connect_watched
    insert(engine, 2)
    assert checkpointed.wait(PATIENT_S)
    engine.close()
    assert keepers() == 0
    assert rows(path) == [0, 1, 2]


# Under steady load


def restarted(keeper: WalKeeper) -> Callable[[], None]:
    """A call that waits until the keeper has given back a turn that it took."""
    ended = threading.Event()
    keeper._end_turn = ended.set

    def wait() -> None:
        assert ended.wait(PATIENT_S)

    return wait


def test_a_long_log_is_copied_to_its_end(
    engine: SQLiteEngine, keeper: WalKeeper, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the log is too long the keeper asks for a turn, and with it has the log begin anew; then it asks no more."""
    monkeypatch.setattr(_wal_keeper, "LOG_PAGES_MAX", 0)
    insert(engine, 1)
    assert not keeper.takes_turn()
    note_commits(keeper)
    assert watched.closed.acquire(timeout=PATIENT_S)
    wait = restarted(keeper)
    assert keeper.takes_turn()
    wait()
    assert watched.asked == ["PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA wal_checkpoint(RESTART)"]
    assert not keeper.takes_turn()
    assert not keeper.has_turn


def test_a_turn_is_given_back_whatever_fails(engine: SQLiteEngine, watched: type[Watched]) -> None:
    """When the checkpoint cannot be made the turn is given back all the same."""

    def fail() -> sqlite3.Connection:
        raise sqlite3.OperationalError

    keeper = WalKeeper(fail, lambda: None)
    note_commits(keeper)
    keeper._asks = True
    wait = restarted(keeper)
    assert keeper.takes_turn()
    wait()
    keeper.stop()


def test_a_log_begins_anew(engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit after commit the log is as long as what is written between two checkpoints, and not longer each time."""
    monkeypatch.setattr(_wal_keeper, "COMMITS_PER_CHECKPOINT", 20)
    monkeypatch.setattr(_wal_keeper, "LOG_PAGES_MAX", 20)
    keeper, sizes = engine._keeper, list[int]()
    for cycle in range(12):
        for number in range(20):
            insert(engine, cycle * 100 + number)
        until(lambda: keeper._asks)
        insert(engine, cycle * 100 + 50)  # leaves its turn to the keeper
        until(lambda: not keeper.has_turn)
        keeper._commits = 0
        sizes.append(path.with_name("memory.db-wal").stat().st_size)
    assert len(rows(path)) == 12 * 21
    assert max(sizes) < 2 * sizes[0]


def test_a_reader_that_stays_does_not_hold_up_writers(
    engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody reads in the past the log cannot begin anew; commits go on, and afterwards it is copied."""
    monkeypatch.setattr(_wal_keeper, "COMMITS_PER_CHECKPOINT", 5)
    monkeypatch.setattr(_wal_keeper, "LOG_PAGES_MAX", 0)
    insert(engine, 0)
    with closing(sqlite3.connect(path, isolation_level=None)) as reading:
        reading.execute("BEGIN")
        assert reading.execute("SELECT count(*) FROM t").fetchone() == (1,)
        for value in range(1, 31):
            insert(engine, value)
        assert reading.execute("SELECT count(*) FROM t").fetchone() == (1,)
    for value in range(31, 61):
        insert(engine, value)
    engine.close()
    assert in_the_file_itself(path) == 61


def test_a_large_commit_counts_by_its_rows(keeper: WalKeeper, watched: type[Watched]) -> None:
    """A commit of very many rows is reason enough to copy the log."""
    keeper.note_commit(_wal_keeper.ROWS_PER_CHECKPOINT)
    assert watched.closed.acquire(timeout=PATIENT_S)
    assert watched.asked == ["PRAGMA wal_checkpoint(PASSIVE)"]


def test_the_thread_that_commits_can_go_on_while_the_keeper_has_its_turn(
    engine: SQLiteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that was left to the keeper is nobody's: the thread that left it waits for it like any other."""
    monkeypatch.setattr(_wal_keeper, "COMMITS_PER_CHECKPOINT", 1)
    monkeypatch.setattr(_wal_keeper, "LOG_PAGES_MAX", 0)
    for value in range(50):
        insert(engine, value)
        assert not engine.held_by_this_thread
        engine.rest()
