"""The SQLite engine: what it opens and refuses, what its connections are set to, how it is closed."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Durability, _ambient
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.errors import LedgerBusy, LedgerCorrupt, LedgerError, UsageError
from tests import processes
from tests.engines.looking import PATIENT_S, insert, is_free, rows, thread, watch_turn
from tests.processes import without_rights

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engines.conftest import Opener


def ask(engine: SQLiteEngine, sql: str = "SELECT x FROM t ORDER BY rowid") -> list[Any]:
    """The first column of a query through one of the engine's readers."""
    with engine.reader() as reader:
        return [row[0] for row in reader.rows(sql)]


def listing(directory: Path) -> dict[str, bytes]:
    """Every file of a directory with its content."""
    return {each.name: each.read_bytes() for each in directory.iterdir()}


# Opening


@pytest.mark.parametrize(
    "name", ["memory.db", "with space.db", "50%.db", "a?b#c&mode=ro.db", "żółw 🐢.db", "'\";--.db"]
)
def test_any_name_is_the_files_name(name: str, tmp_path: Path, open_engine: Opener) -> None:
    """A file is made under exactly the name given, whatever that name would mean in a URI or in SQL."""
    engine = open_engine(tmp_path / name)
    tx = engine.begin()
    tx.execute("CREATE TABLE t (x)")
    tx.commit()
    engine.close()
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert rows(tmp_path / name) == []


def test_path_that_begins_with_two_slashes(tmp_path: Path, open_engine: Opener) -> None:
    """A path with two slashes in front, which pathlib keeps, is the same file and not a server's name."""
    twice = Path(f"/{tmp_path}/memory.db")
    assert str(twice).startswith("//")
    open_engine(twice)
    assert (tmp_path / "memory.db").exists()


def test_link_leads_to_the_file(tmp_path: Path, open_engine: Opener) -> None:
    """A ledger opened through a symbolic link is the file behind it, its log included."""
    (tmp_path / "link.db").symlink_to("memory.db")
    one, two = open_engine(tmp_path / "link.db"), open_engine(tmp_path / "memory.db")
    tx = one.begin()
    tx.execute("CREATE TABLE t (x)")
    tx.commit()
    insert(two, 1)
    assert ask(one) == [1]


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])
def test_a_database_of_others_gets_a_log_and_keeps_the_rest(mode: str, path: Path, open_engine: Opener) -> None:
    """An existing database is brought to WAL mode; its tables and its own user_version and application_id stay."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"PRAGMA journal_mode = {mode}; PRAGMA user_version = 7; PRAGMA application_id = 77;"
            "CREATE TABLE t (x); INSERT INTO t VALUES (1)"
        )
    engine = open_engine(path)
    assert ask(engine, "PRAGMA journal_mode") == ["wal"]
    assert (ask(engine), ask(engine, "PRAGMA user_version"), ask(engine, "PRAGMA application_id")) == ([1], [7], [77])


def test_an_empty_file_becomes_a_ledger(path: Path, open_engine: Opener) -> None:
    """A file of no bytes is a new database."""
    path.write_bytes(b"")
    assert ask(open_engine(path), "PRAGMA journal_mode") == ["wal"]


def sound_database(path: Path) -> bytes:
    """The bytes of a database with enough rows to have inner pages."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?)", ((n,) for n in range(2000)))
        connection.execute("COMMIT")
    return path.read_bytes()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda _sound: b"Dear diary, this is not a database. " * 100,
    "short": lambda _sound: b"10 bytes..",
    "nothing but zeros": lambda _sound: bytes(8192),
    "magic": lambda sound: b"SQLite format 4\0" + sound[16:],
    "page size": lambda sound: sound[:16] + b"\x00\x03" + sound[18:],
    "reserved bytes": lambda sound: sound[:20] + b"\xff" + sound[21:],
    "payload fractions": lambda sound: sound[:21] + b"\1\1\1" + sound[24:],
    "format from the future": lambda sound: sound[:18] + b"\x09\x09" + sound[20:],
    "schema page": lambda sound: sound[:100] + b"\xff" * 1000 + sound[1100:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_no_sound_database_is_refused_and_left(
    damage: Callable[[bytes], bytes], path: Path, open_engine: Opener
) -> None:
    """A file that is no database, or has a damaged header or schema, is refused by an error of ours and left."""
    path.write_bytes(damage(sound_database(path)))
    before = listing(path.parent)
    with pytest.raises(LedgerError) as refused:
        open_engine(path)
    assert isinstance(refused.value.__cause__, sqlite3.Error)
    assert listing(path.parent) == before


@pytest.mark.parametrize("name", ["text", "magic", "schema page"])
def test_damage_is_called_damage(name: str, path: Path, open_engine: Opener) -> None:
    """What is surely no database, or a damaged one, is LedgerCorrupt, and the hint says that it was left alone."""
    path.write_bytes(DAMAGE[name](sound_database(path)))
    with pytest.raises(LedgerCorrupt, match="It was left as it is") as refused:
        open_engine(path)
    assert ("is not a SQLite database" in str(refused.value)) == (name != "schema page")


def test_damage_found_later_is_called_damage(path: Path, open_engine: Opener) -> None:
    """A page that is found damaged only when read is reported the same way, and the engine goes on."""
    sound = sound_database(path)
    path.write_bytes(sound[:4096] + b"\xff" * 4096 + sound[8192:])
    engine = open_engine(path)
    with pytest.raises(LedgerCorrupt, match="is damaged"):
        ask(engine)
    assert ask(engine, "SELECT 1") == [1]


def test_a_place_that_cannot_be_opened_after_all_is_refused(path: Path, open_engine: Opener) -> None:
    """A link into a directory that does not exist passes the first look, and SQLite's refusal becomes ours."""
    path.symlink_to("missing/memory.db")
    with pytest.raises(LedgerError, match="cannot be opened"):
        open_engine(path)


def test_mode_that_stays_is_refused(path: Path, open_engine: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite cannot keep a write-ahead log, the file is refused and nothing stays open."""
    connect = SQLiteEngine.connect

    def in_memory(engine: SQLiteEngine, *, wait_s: float | None = None) -> sqlite3.Connection:
        connect(engine, wait_s=wait_s).close()
        return sqlite3.connect(":memory:", check_same_thread=False)

    monkeypatch.setattr(SQLiteEngine, "connect", in_memory)
    with pytest.raises(LedgerError, match="its journal mode stays 'memory'"):
        open_engine(path)


def test_a_reader_in_the_old_mode_is_waited_for_or_named(path: Path, open_engine: Opener) -> None:
    """While somebody reads in rollback mode the mode cannot change: busy at once, and fine when he has ended."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM t").fetchall()
        with pytest.raises(LedgerBusy):
            open_engine(path, busy_timeout_s=0)
        connection.execute("COMMIT")
        assert ask(open_engine(path, busy_timeout_s=0), "PRAGMA journal_mode") == ["wal"]


def test_a_file_that_is_locked_while_it_is_opened_is_waited_for(
    path: Path, open_engine: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds the whole file, as at its last close, a new connection waits, or is busy at once."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerBusy):
            open_engine(path, busy_timeout_s=0)
        monkeypatch.setattr(_ambient, "sleep", lambda _seconds: other.execute("COMMIT"))
        assert ask(open_engine(path)) == []


# For reading only


def made_read_only(directory: Path) -> None:
    """Nobody but root may write the directory and the files in it."""
    for each in directory.iterdir():
        each.chmod(0o444)
    directory.chmod(0o555)


@pytest.fixture
def shared(open_directory: Path, open_engine: Opener) -> SQLiteEngine:
    """An engine whose file, with one row in t, others may read but not write."""
    engine = open_engine(open_directory / "memory.db")
    tx = engine.begin()
    tx.execute("CREATE TABLE t (x)")
    tx.execute("INSERT INTO t VALUES (1)")
    tx.commit()
    return engine


@pytest.mark.parametrize("log", [False, True], ids=["at rest", "with its log"])
def test_what_may_not_be_written_is_opened_for_reading(
    log: bool, engine: SQLiteEngine, path: Path, open_engine: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that finds no right to write reads everything, in the file and in its log, and writes nothing."""
    insert(engine, 1)
    if not log:
        engine.rest()
    monkeypatch.setattr("memoryos_uow.engines.sqlite.is_writable", lambda _path: False)
    other = open_engine(path)
    assert (other.read_only, ask(other), ask(other)) == (True, [1], [1])
    assert other._idle_readers == []
    with pytest.raises(LedgerError, match="open for reading only"):
        other.begin()


def opened_by_others(path: Path, durability: Durability = Durability.FULL) -> SQLiteEngine:
    """The engine as a process sees it that may read only."""
    return SQLiteEngine.open(path, durability=durability, busy_timeout_s=0)


def test_settled_file_is_read_without_a_trace(shared: SQLiteEngine) -> None:
    """A ledger at rest in a directory that cannot be written is read, not written, and nothing is made beside."""
    shared.close()
    made_read_only(shared.path.parent)

    def read() -> tuple[bool, list[Any], str]:
        engine = opened_by_others(shared.path)
        with pytest.raises(LedgerError) as refused:
            engine.begin()
        found = ask(engine)
        engine.close()
        return engine.read_only, found, refused.value.message

    before = listing(shared.path.parent)
    assert without_rights(read) == (True, [1], f"The ledger {shared.path} is open for reading only.")
    assert listing(shared.path.parent) == before


def test_log_without_index_is_refused_rather_than_passed_over(shared: SQLiteEngine, tmp_path: Path) -> None:
    """A log left by a killed process where nothing can be written is not left out: the file is refused."""
    shutil.copy(shared.path, tmp_path)
    shutil.copy(f"{shared.path}-wal", tmp_path)
    shared.close()
    for each in tmp_path.iterdir():
        shutil.copy(each, shared.path.parent)
    made_read_only(shared.path.parent)

    def read() -> str:
        with pytest.raises(LedgerError) as refused:
            opened_by_others(shared.path)
        return str(refused.value)

    assert "cannot be opened" in without_rights(read)


def test_live_log_is_read_by_others(shared: SQLiteEngine) -> None:
    """While its owner has the ledger open, others who may only read see what he committed, log included."""
    shared.path.parent.chmod(0o555)
    assert without_rights(lambda: ask(opened_by_others(shared.path))) == [1]


OWNER = """
import sqlite3, sys
owner = sqlite3.connect(sys.argv[1], isolation_level=None)
owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
for line in sys.stdin:
    owner.execute(line)
    print("done", flush=True)
"""


def test_readers_see_what_the_owner_commits_later(shared: SQLiteEngine) -> None:
    """A reader that found the log empty when it opened the ledger sees what the owner commits afterwards."""
    shared.close()
    with processes.start(OWNER, str(shared.path)) as owner:

        def let_owner(sql: str) -> None:
            assert owner.stdin is not None
            assert owner.stdout is not None
            owner.stdin.write(f"{sql}\n".encode())
            owner.stdin.flush()
            assert owner.stdout.readline() == b"done\n"

        def read() -> list[list[int]]:
            engine = opened_by_others(shared.path)
            seen = [ask(engine)]
            let_owner("INSERT INTO t VALUES (2)")
            return [*seen, ask(engine)]

        let_owner("SELECT 1")
        shared.path.parent.chmod(0o555)
        assert without_rights(read) == [[1], [1, 2]]
        owner.communicate()


def test_half_a_transaction_of_the_old_mode_is_not_shown(open_directory: Path) -> None:
    """A rollback journal left by a killed process is not passed over: half-written pages are refused, not read."""
    path = open_directory / "memory.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 2")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        connection.execute("BEGIN")
        connection.execute("UPDATE t SET x = randomblob(100000)")
        halfway = [path.read_bytes(), path.with_name("memory.db-journal").read_bytes()]
        connection.execute("ROLLBACK")
    path.write_bytes(halfway[0])
    path.with_name("memory.db-journal").write_bytes(halfway[1])
    made_read_only(open_directory)

    def read() -> str:
        with pytest.raises(LedgerError) as refused:
            opened_by_others(path)
        return type(refused.value).__name__

    assert without_rights(read) == "LedgerError"


# Connections

SETTINGS = {
    "trusted_schema": 0,
    "cell_size_check": 1,
    "foreign_keys": 1,
    "wal_autocheckpoint": 16_384,
    "journal_mode": "wal",
}


@pytest.mark.parametrize(("durability", "synchronous"), [(Durability.FULL, 2), (Durability.NORMAL, 1)])
def test_every_connection_has_the_safe_settings(
    durability: Durability, synchronous: int, path: Path, open_engine: Opener
) -> None:
    """Writer, readers, the bare connection for migrations and the WAL keeper's all have the same safe settings."""
    engine = open_engine(path, durability=durability)
    expected = {**SETTINGS, "synchronous": synchronous}
    connections = [engine.connect()]
    with engine.setup_connection() as setup, engine.reader() as reader:
        connections += [setup, reader.connection]
        for connection in connections:
            assert {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in expected} == expected
            assert connection.execute("PRAGMA mmap_size").fetchall() in ([(0,)], [])
    connections[0].close()


def test_a_view_of_a_hostile_file_runs_no_risky_function(path: Path, open_engine: Opener) -> None:
    """A schema object of the file cannot call a function that is not known to be harmless."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW trap AS SELECT load_extension('evil')")
    with pytest.raises(UsageError, match="unsafe use of load_extension"):
        ask(open_engine(path), "SELECT * FROM trap")


def test_readers_are_kept_and_bounded(engine: SQLiteEngine) -> None:
    """A reader's connection is used again; of many lent at once only a few are kept."""
    with engine.reader() as one:
        pass
    with engine.reader() as two:
        assert two.connection is one._connection
    lent = [engine.reader() for _ in range(10)]
    for each in lent:
        each.__enter__()
    for each in lent:
        each.__exit__(None, None, None)
    assert len(engine._idle_readers) == 4


def test_reader_that_saw_an_error_is_not_kept(engine: SQLiteEngine) -> None:
    """After an exception in its block a reader's connection is closed: it may be what is wrong."""
    with pytest.raises(ZeroDivisionError), engine.reader() as reader:
        raise ZeroDivisionError
    assert engine._idle_readers == []
    with pytest.raises(sqlite3.ProgrammingError):
        reader._connection.execute("SELECT 1")


def test_each_query_sees_the_newest_state(engine: SQLiteEngine) -> None:
    """Two queries of one reader are not frozen in time: a commit in between is seen by the second."""
    with engine.reader() as reader:
        assert reader.rows("SELECT count(*) FROM t") == [(0,)]
        insert(engine, 1)
        assert reader.rows("SELECT count(*) FROM t") == [(1,)]


def test_readers_do_not_wait_for_the_writer(engine: SQLiteEngine) -> None:
    """While a transaction is open readers see the state before it, at once."""
    insert(engine, 1)
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (2)")
    assert ask(engine) == [1]
    tx.commit()
    assert ask(engine) == [1, 2]


def test_a_patience_beyond_sqlites_numbers_is_still_patience(path: Path, open_engine: Opener) -> None:
    """A busy timeout of more milliseconds than SQLite can count is the longest it can, not none."""
    engine = open_engine(path, busy_timeout_s=1e12)
    assert ask(engine, "PRAGMA busy_timeout") == [2**31 - 1]
    waited_for = watch_turn(engine)
    tx = engine.begin()
    with thread(lambda: engine.begin().rollback()) as raised:
        assert waited_for.wait(PATIENT_S)
        tx.rollback()
    assert raised == []


def test_a_deleted_file_does_not_come_back_empty(engine: SQLiteEngine, path: Path) -> None:
    """When the file was deleted under an open ledger, a new connection fails instead of making an empty one."""
    for each in list(path.parent.iterdir()):
        each.unlink()
    with pytest.raises(LedgerError, match="cannot be opened"):
        ask(engine)
    assert list(path.parent.iterdir()) == []


# Durability


@pytest.mark.parametrize(("durability", "synced"), [(Durability.FULL, True), (Durability.NORMAL, False)])
def test_the_log_can_be_made_durable(durability: Durability, synced: bool, path: Path, open_engine: Opener) -> None:
    """The engine says whether its commits wait for the disk, and can make the log durable either way."""
    engine = open_engine(path, durability=durability)
    assert engine.syncs_commits is synced
    engine.sync_log()


def test_a_disk_that_cannot_sync_is_named(engine: SQLiteEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the log cannot be synced the error says so, and the system's own is chained."""

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, fail)
    with pytest.raises(LedgerError, match="cannot be synced to the disk") as failed:
        engine.sync_log()
    assert isinstance(failed.value.__cause__, OSError)


# Turns, and the end


def test_the_same_thread_cannot_begin_twice(engine: SQLiteEngine) -> None:
    """A thread that has a transaction open is told so instead of waiting for itself."""
    tx = engine.begin()
    assert engine.held_by_this_thread
    for nested in (engine.begin, lambda: engine.setup_connection().__enter__()):
        with pytest.raises(UsageError, match="holds the ledger's write lock already"):
            nested()
    with pytest.raises(UsageError, match="still open"):
        engine.close()
    tx.commit()
    assert not engine.held_by_this_thread
    assert is_free(engine)


def test_closed_is_closed(engine: SQLiteEngine, path: Path) -> None:
    """After close, which may be called twice, every call is refused and no connection is left: the log is gone."""
    with engine.reader():
        pass
    engine.close()
    engine.close()
    for call in (engine.begin, engine.reader().__enter__, engine.setup_connection().__enter__, engine.refuse_misuse):
        with pytest.raises(UsageError, match=r"is closed\. Nothing was written"):
            call()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_close_waits_for_the_transaction_of_another_thread(engine: SQLiteEngine, path: Path) -> None:
    """Closing waits until another thread's transaction has ended, and loses nothing of it."""
    waited_for = watch_turn(engine)
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    with thread(engine.close) as raised:
        assert waited_for.wait(PATIENT_S)
        tx.commit()
    assert raised == []
    assert rows(path) == [1]
    with pytest.raises(UsageError, match="is closed"):
        engine.begin()


def test_close_does_not_wait_for_ever(engine: SQLiteEngine) -> None:
    """Closing gives up after the time allowed, and the ledger is still open then."""
    tx = engine.begin()
    with thread(lambda: engine.close(wait_s=0)) as raised:
        pass
    assert [type(error) for error in raised] == [LedgerBusy]
    tx.rollback()
    assert is_free(engine)


def test_whoever_waits_while_the_ledger_is_closed_is_refused(engine: SQLiteEngine) -> None:
    """A thread that waited for the lock while another closed the ledger opens nothing on the closed one."""

    class ClosedMeanwhile:
        """A lock that is free again only when the ledger has been closed."""

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            engine._closed = engine._closed or blocking
            return blocking

        def release(self) -> None:
            pass

    engine._give_up_writer()
    turn, engine._turn = engine._turn, ClosedMeanwhile()  # type: ignore[assignment]
    with pytest.raises(UsageError, match="is closed"):
        engine.begin()
    assert engine._writer is None
    engine._turn, engine._closed = turn, False


def test_resting_gives_back_what_nobody_uses(engine: SQLiteEngine, path: Path) -> None:
    """An engine at rest holds no connection, so that the log is gone, and works again when asked."""
    insert(engine, 1)
    assert ask(engine) == [1]
    engine.rest()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    insert(engine, 2)
    assert ask(engine) == [1, 2]


def test_resting_leaves_a_transaction_alone(engine: SQLiteEngine, path: Path) -> None:
    """An engine at rest keeps the connection of a transaction under way."""
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (1)")
    engine.rest()
    tx.commit()
    assert rows(path) == [1]


def test_busy_turn_is_named_with_its_time(engine: SQLiteEngine) -> None:
    """Another thread's transaction makes a begin without patience fail at once, with what it waited for."""
    began, ended = threading.Event(), threading.Event()

    def hold() -> None:
        tx = engine.begin()
        began.set()
        assert ended.wait(PATIENT_S)
        tx.rollback()

    with thread(hold):
        assert began.wait(PATIENT_S)
        with pytest.raises(LedgerBusy, match=r"Other units of this process kept .* locked for 0 s") as busy:
            engine.begin(wait_s=0)
        ended.set()
    assert busy.value.busy_waits == 1
    assert busy.value.retryable
    assert is_free(engine)
