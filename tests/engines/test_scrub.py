"""What deleted rows leave in free pages and in the log goes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import LedgerBusy, _ambient
from memoryos_uow.engines import _scrub

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow.engines.sqlite import SQLiteEngine

MARK = b"mArKeD"


def write_and_delete(engine: SQLiteEngine, *, delete: bool = True) -> None:
    """Write a row of several pages, and delete it."""
    for sql in ("INSERT INTO t VALUES (hex(zeroblob(9000)) || 'mArKeD')", *(["DELETE FROM t"] if delete else [])):
        tx = engine.begin()
        tx.execute(sql)
        tx.commit()


def setting(engine: SQLiteEngine, name: str) -> int:
    """A setting of the writer connection."""
    with engine.setup_connection() as connection:
        value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
        return value


def carelessly(engine: SQLiteEngine) -> None:
    """Have the writer leave what it deletes, as most builds of SQLite do."""
    with engine.setup_connection() as connection:
        connection.execute("PRAGMA secure_delete = OFF")


def test_the_log_is_emptied(engine: SQLiteEngine, path: Path) -> None:
    """After empty_log the log is gone to nothing, and the rows are in the file."""
    write_and_delete(engine, delete=False)
    log = path.with_name(f"{path.name}-wal")
    assert MARK in log.read_bytes()
    assert _scrub.empty_log(engine, wait_s=0)
    assert log.stat().st_size == 0
    assert MARK in path.read_bytes()


def test_a_reader_keeps_the_log(engine: SQLiteEngine, path: Path) -> None:
    """While somebody reads an earlier state, empty_log answers False."""
    write_and_delete(engine)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM t").fetchall()
        write_and_delete(engine)
        assert not _scrub.empty_log(engine, wait_s=0)
    assert _scrub.empty_log(engine, wait_s=0)


def test_free_pages_go(engine: SQLiteEngine, path: Path) -> None:
    """What was deleted earlier is in free pages, until the file is written anew."""
    carelessly(engine)
    write_and_delete(engine)
    _scrub.empty_log(engine, wait_s=0)
    assert MARK in path.read_bytes()
    _scrub.write_anew(engine, wait_s=0)
    _scrub.empty_log(engine, wait_s=0)
    assert MARK not in path.read_bytes()
    assert setting(engine, "busy_timeout") == 0


def test_what_is_deleted_securely_leaves_no_free_page(engine: SQLiteEngine, path: Path) -> None:
    """Inside the block deleted rows are overwritten; the setting is as before afterwards, also after an error."""
    carelessly(engine)
    write_and_delete(engine, delete=False)
    with _scrub.deleting_securely(engine):
        assert setting(engine, "secure_delete") == 1
        tx = engine.begin()
        tx.execute("DELETE FROM t")
        tx.commit()
    assert setting(engine, "secure_delete") == 0
    _scrub.empty_log(engine, wait_s=0)
    assert MARK not in path.read_bytes()
    with pytest.raises(ZeroDivisionError), _scrub.deleting_securely(engine):
        raise ZeroDivisionError
    assert setting(engine, "secure_delete") == 0


def test_a_locked_file_is_not_written_anew(engine: SQLiteEngine, path: Path) -> None:
    """While another process writes, writing anew is LedgerBusy and nothing is changed."""
    write_and_delete(engine, delete=False)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusy):
            _scrub.write_anew(engine, wait_s=0)
        other.execute("ROLLBACK")
    _scrub.write_anew(engine, wait_s=0)
    with engine.reader() as reader:
        assert reader.rows("SELECT count(*) FROM t") == [(1,)]


def test_another_checkpoint_is_waited_for(engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody stands in the way it tries again, for as long as it was told to."""
    write_and_delete(engine)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM t").fetchall()
        write_and_delete(engine)
        waited: list[float] = []

        def leave(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 3:
                other.execute("COMMIT")

        monkeypatch.setattr(_ambient, "sleep", leave)
        assert _scrub.empty_log(engine, wait_s=60)
        assert len(waited) == 3
