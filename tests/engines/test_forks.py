"""Forks: a child may not use its parent's ledger, and does not disturb it."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Durability, _ambient
from memoryos_uow.engines import sqlite
from memoryos_uow.engines._wal_keeper import COMMITS_PER_CHECKPOINT
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.errors import UsageError
from tests import processes
from tests.engines.looking import insert, is_free, keepers, rows, thread

if TYPE_CHECKING:
    from pathlib import Path

FORKED = "was opened by another process; this one was forked from it"


def refusals(engine: SQLiteEngine) -> list[str]:
    """What each call says in this process."""
    said = []
    calls = [engine.begin, engine.reader().__enter__, engine.setup_connection().__enter__, engine.refuse_misuse]
    for call in calls:
        with pytest.raises(UsageError) as refused:
            call()
        said.append(str(refused.value))
    engine.close()  # says nothing and does nothing: it is not the child's to close
    return said


def test_every_call_of_a_child_is_refused(engine: SQLiteEngine) -> None:
    """In a forked child every call says that the ledger is its parent's, and how to go on."""
    said = processes.forked(lambda: refusals(engine))
    assert len(said) == 4
    assert all(FORKED in each and "Open the ledger again in the child process." in each for each in said)
    assert is_free(engine)


def test_another_process_id_is_another_process(engine: SQLiteEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the process id: with another one, every call is refused and close does nothing."""
    monkeypatch.setattr(_ambient, "process_id", lambda: 0)
    assert all(FORKED in each for each in refusals(engine))
    monkeypatch.undo()
    assert is_free(engine)


def test_what_was_open_at_the_fork_is_kept_and_its_file_refused(
    engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a child open connections are never freed, closed ones are forgotten, and the file is refused."""
    lost = engine.connect()
    closed = engine.connect()
    closed.close()
    assert closed not in sqlite._connections
    monkeypatch.setattr(sqlite, "_connections", {lost})
    monkeypatch.setattr(sqlite, "_files_of_parent", set())
    references = sys.getrefcount(lost)
    sqlite._after_fork_in_child()
    assert sys.getrefcount(lost) == references + 1
    with pytest.raises(UsageError, match="was being used when this process was forked"):
        SQLiteEngine.open(path, durability=Durability.NORMAL, busy_timeout_s=0)
    lost.close()


def test_parent_goes_on_in_the_middle_of_a_transaction(engine: SQLiteEngine, path: Path) -> None:
    """A child that is forked inside a transaction, calls what it likes and ends, changes nothing for its parent."""
    with engine.reader() as reader:
        tx = engine.begin()
        tx.execute("INSERT INTO t VALUES (1)")
        assert len(processes.forked(lambda: refusals(engine))) == 4
        assert reader.rows("SELECT x FROM t") == []
    assert rows(path) == []
    tx.commit()
    assert rows(path) == [1]
    assert is_free(engine)


def test_child_that_drops_everything_disturbs_nothing(engine: SQLiteEngine, path: Path) -> None:
    """A child that lets go of every object it inherited closes none of its parent's connections."""
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")

    def drop() -> int:
        engine._writer = None
        tx._connection = None  # type: ignore[assignment]
        return gc.collect()

    processes.forked(drop)
    tx.commit()
    assert rows(path) == [1]
    assert rows(path, "PRAGMA integrity_check") == ["ok"]


ENDS_WITHOUT_CARE = """
import os, sys
from pathlib import Path
from memoryos_uow import Durability
from memoryos_uow.engines.sqlite import SQLiteEngine
engine = SQLiteEngine.open(Path(sys.argv[1]), durability=Durability.NORMAL, busy_timeout_s=60)
with engine.reader() as reader:
    reader.rows("SELECT 1")
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    if os.fork() == 0:
        sys.exit(0)  # with everything that an interpreter does at its end
    os.wait()
    tx.commit()
    assert reader.rows("SELECT x FROM t") == [(1,)]
engine.close()
"""


def test_child_that_ends_as_programs_do_disturbs_nothing(engine: SQLiteEngine, path: Path) -> None:
    """A child whose interpreter ends in the usual way leaves its parent's transaction whole."""
    engine.close()
    assert processes.run(ENDS_WITHOUT_CARE, str(path)) == (b"", b"")
    assert rows(path) == [1]
    assert rows(path, "PRAGMA integrity_check") == ["ok"]


def opened_anew(path: Path, value: int) -> list[int]:
    """What a child sees and writes that opens the ledger for itself."""
    engine = SQLiteEngine.open(path, durability=Durability.NORMAL, busy_timeout_s=60)
    insert(engine, value)
    with engine.reader() as reader:
        found = [row[0] for row in reader.rows("SELECT x FROM t ORDER BY x")]
    engine.close()
    return found


def test_child_can_open_the_ledger_anew(engine: SQLiteEngine, path: Path) -> None:
    """A child that opens the ledger for itself reads and writes, and its parent and it see each other's commits."""
    insert(engine, 1)
    with engine.reader():
        pass
    assert processes.forked(lambda: opened_anew(path, 2)) == [1, 2]
    insert(engine, 3)
    assert processes.forked(lambda: opened_anew(path, 4)) == [1, 2, 3, 4]
    assert rows(path) == [1, 2, 3, 4]
    assert rows(path, "PRAGMA integrity_check") == ["ok"]


def opened_by_itself(path: Path) -> Path:
    """The path of a file that the child has opened."""
    return SQLiteEngine.open(path, durability=Durability.NORMAL, busy_timeout_s=60).path


def refused_anew(path: Path) -> str:
    """What a child is told that may not open the ledger for itself."""
    with pytest.raises(UsageError) as refused:
        opened_anew(path, 2)
    return str(refused.value)


@pytest.mark.parametrize("link", [False, True])
def test_child_of_a_busy_parent_may_not_open_its_file(link: bool, engine: SQLiteEngine, path: Path) -> None:
    """A child forked while another thread has a transaction open is told so: SQLite would mistake that one's locks."""
    (path.parent / "link.db").symlink_to(path)
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    said: list[str] = []
    with thread(lambda: said.append(processes.forked(lambda: refused_anew(path.parent / "link.db" if link else path)))):
        pass
    tx.commit()
    assert len(said) == 1
    assert "was being used when this process was forked" in said[0]
    assert rows(path) == [1]
    assert is_free(engine)


def test_child_of_a_parent_that_reads_may_not_open_its_file(engine: SQLiteEngine, path: Path) -> None:
    """A child forked in the middle of a query is refused as well, and may open any other file."""
    insert(engine, 1)
    with engine.reader() as reader:
        half_read = reader.stream("SELECT x FROM t")
        next(half_read)
        assert "Nothing was opened" in processes.forked(lambda: refused_anew(path))
        other = path.with_name("other.db")
        assert (
            processes.forked(lambda: SQLiteEngine.open(other, durability=Durability.NORMAL, busy_timeout_s=0).read_only)
            is False
        )
    assert processes.forked(lambda: opened_anew(path, 2)) == [1, 2]


def test_keeper_of_the_log_does_not_keep_a_child_from_opening(engine: SQLiteEngine, path: Path) -> None:
    """A fork ends the thread that keeps the log, so that it is not in the child's way; it starts again."""
    for _ in range(2):
        engine._keeper._commits = COMMITS_PER_CHECKPOINT
        insert(engine, 0)
        assert keepers() == 1
        assert processes.forked(lambda: opened_anew(path, 2)) == [0, 2]
        assert keepers() == 0
        tx = engine.begin()
        tx.execute("DELETE FROM t")
        tx.commit()
