"""How a unit ends: what the commit costs, what an exception meets on its way out, and what becomes of its record."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import subprocess
import traceback
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import (
    ConflictError,
    Ledger,
    LedgerBusy,
    LedgerError,
    Status,
    StoreError,
    UsageError,
    _ambient,
    _backoff,
)
from memoryos_uow._transactions import RECORD_WAIT_S
from memoryos_uow.stores import FileStore
from tests.units import MARKER, SPACE, OwnError, environment, four_stores, locked, python, rows, run, statuses, throw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow import UnitOfWork


def commit_one(ledger: Ledger, key: str = "n1") -> UnitOfWork:
    """A committed unit with one write."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create(key, 1)
    return uow


def fail_one(ledger: Ledger, error: BaseException | None = None) -> UnitOfWork:
    """A failed unit whose exception arrived as it was raised."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    raised = error or OwnError("why")
    with pytest.raises(type(raised)) as caught, uow:
        uow["notes"].create("never", MARKER)
        raise raised
    assert caught.value is raised
    return uow


# What a commit costs

SYNCS: Final = """
    import os, sys
    from memoryos_uow import Ledger
    from tests.units import OwnError, four_stores

    def mark(): os.write(2, b"|")
    ledger = Ledger.open(sys.argv[1], stores=four_stores()[:3])
    def commit(key):
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create(key, {"text": "milk"})
            uow["orders"].create(key, {"n": 1})
            uow["embeddings"].create(key, [1, 2])
        return uow
    commit("warm"); mark()
    for number in range(10): last = commit(f"n{number}")
    mark()
    ledger.get(last.uow_id); ledger.units(); ledger.receipt(last.uow_id)
    mark()
    try:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("x", 1)
            raise OwnError
    except OwnError: pass
    with ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("x", 1)
        uow.rollback()
    mark()
    with ledger.unit(space_id="s", band="GREEN") as uow: uow["notes"].get("n1")
    mark()
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_commit_waits_for_the_disk_once(tmp_path: Path) -> None:
    """A unit over three stores costs one sync; timings, records of failures, rollbacks and reads cost none."""
    log = tmp_path / "calls"
    trace = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,write", "-o", str(log)]
    command = python(SYNCS, tmp_path / "memory.db")
    subprocess.run([*trace, *command], env=environment(), check=True)
    phases: list[int] = [0]
    for line in log.read_text().splitlines():
        if 'write(2, "|"' in line:
            phases.append(0)
        elif "fsync(" in line or "fdatasync(" in line:
            phases[-1] += 1
    assert phases[1:5] == [10, 0, 0, 0]


def test_timings_are_known_at_once_and_for_good(tmp_path: Path) -> None:
    """How long the commit took is there for whoever asks the ledger next, and for everybody once it is closed."""
    path = tmp_path / "memory.db"
    with Ledger.open(path) as ledger:
        uow = commit_one(ledger)
        (before,) = rows(path, "SELECT total_execution_time_ms, commit_time_ms FROM unit_of_work")
        record = ledger.get(uow.uow_id)
        last = commit_one(ledger, "n2")
    assert before[1] is None  # it cannot be known inside the commit that it is about
    assert record.commit_us is not None
    assert record.execution_us is not None
    assert 0 < record.commit_us <= record.execution_us
    assert record.commit_time_ms == (record.commit_us + 500) // 1000
    stored = rows(path, "SELECT commit_us, execution_us FROM uow_ledger ORDER BY commit_seq")
    assert stored[0] == (record.commit_us, record.execution_us)
    assert all(None not in row for row in stored)
    filled = rows(
        path, "SELECT commit_time_ms, total_execution_time_ms FROM unit_of_work WHERE uow_id = ?", last.uow_id
    )
    assert filled == [((stored[1][0] + 500) // 1000, (stored[1][1] + 500) // 1000)]


def test_timings_go_along_with_the_next_commit(ledger: Ledger) -> None:
    """Another unit's transaction carries them: without anybody asking, a ledger in use fills them in."""
    commit_one(ledger)
    commit_one(ledger, "n2")
    assert [us is None for (us,) in rows(ledger.path, "SELECT commit_us FROM uow_ledger ORDER BY commit_seq")] == [
        False,
        True,
    ]


def test_a_rolled_back_transaction_gives_back_what_it_carried(ledger: Ledger) -> None:
    """What went along with a transaction that was rolled back is written by a later one."""
    first = commit_one(ledger)
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        assert uow.sql("SELECT commit_us IS NULL FROM uow_ledger") == [(0,)]
        uow.rollback()
    assert rows(ledger.path, "SELECT commit_us IS NULL FROM uow_ledger") == [(1,)]
    assert ledger.get(first.uow_id).commit_us is not None


# The caller's exception


@pytest.mark.parametrize(
    "kind", [OwnError, KeyError, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit]
)
@pytest.mark.parametrize("locks", [False, True], ids=["buffered", "with the lock held"])
def test_the_callers_exception_arrives_unchanged(ledger: Ledger, kind: type[BaseException], locks: bool) -> None:
    """Whatever leaves the block reaches the caller: the same object, its traceback ending where it was raised."""
    error = kind(MARKER)
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(kind) as caught, uow:
        uow["notes"].create("n1", 1)
        if locks:
            uow.sql("SELECT 1")
        throw(error)
    assert caught.value is error
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames == ["test_the_callers_exception_arrives_unchanged", "throw"]
    assert error.__cause__ is error.__context__ is None
    assert not hasattr(error, "__notes__")
    assert (uow.status, uow.error, uow.receipt) == (Status.FAILED, error, None)
    assert ledger.get(uow.uow_id).error_type == kind.__name__
    assert ledger["notes"].get("n1", space_id=SPACE) is None
    commit_one(ledger)  # the lock is free again


class Timeless:
    """A clock that moves only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept_s = 0.0
        monkeypatch.setattr(_ambient, "monotonic_ns", lambda: int(self.slept_s * 1e9))
        monkeypatch.setattr(_ambient, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept_s += seconds


def test_a_busy_ledger_does_not_hold_up_the_exception(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the lock, an exception waits for its record for a moment; the row comes later."""
    time = Timeless(monkeypatch)
    with locked(ledger.path):
        uow = fail_one(ledger)
        assert time.slept_s <= RECORD_WAIT_S + _backoff.LARGEST_S
        assert time.slept_s > 0
        assert rows(ledger.path, "SELECT * FROM unit_of_work") == []
    commit_one(ledger)
    assert rows(ledger.path, "SELECT uow_id, status FROM unit_of_work ORDER BY rowid")[0] == (uow.uow_id, "failed")


def test_a_late_record_is_seen_by_whoever_asks(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that had to wait is in the ledger once somebody asks it, or when it is closed."""
    Timeless(monkeypatch)
    with locked(ledger.path):
        first, second = fail_one(ledger), fail_one(ledger)
        assert statuses(ledger) == []  # asking waits no longer than an exception does
    assert ledger.get(first.uow_id).status == ledger.get(second.uow_id).status == "failed"
    with locked(ledger.path):
        fail_one(ledger)
    ledger.close()
    assert rows(ledger.path, "SELECT status FROM unit_of_work") == [("failed",)] * 3


def test_a_busy_ledger_never_weakens_later_commits(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that found the ledger busy leaves the connection as it was: commits go on waiting for the disk."""
    Timeless(monkeypatch)
    commit_one(ledger)
    with locked(ledger.path):
        fail_one(ledger)
    with ledger._opened.file.setup_connection() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_a_late_record_that_nobody_can_write_is_logged(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the ledger stays locked until it is closed, each lost record is a line in the log, with its unit's id."""
    Timeless(monkeypatch)
    with locked(ledger.path), caplog.at_level(logging.WARNING, "memoryos_uow"):
        uow = fail_one(ledger)
        ledger.close()
    assert [record.message for record in caplog.records] == [
        f"uow.record_lost uow_id={uow.uow_id} status=failed reason=closed"
    ]
    assert MARKER not in caplog.text


def test_a_failure_in_a_closed_ledger_is_logged(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """A ledger that was closed inside the block costs the record, not the exception; the log names the unit."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    error = OwnError(MARKER)
    with caplog.at_level(logging.WARNING, "memoryos_uow"), pytest.raises(OwnError) as caught, uow:
        uow["notes"].create("n1", 1)
        ledger.close()
        raise error
    assert caught.value is error
    assert uow.status == "failed"
    assert [record.message for record in caplog.records] == [
        f"uow.record_lost uow_id={uow.uow_id} status=failed reason=UsageError"
    ]


def test_a_failure_is_recorded_later_while_this_thread_holds_the_lock_elsewhere(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """A unit of a second Ledger object on the file fails while one of the first holds the lock: its row comes later."""
    failed = ledger.unit(space_id=SPACE, band="GREEN")
    with caplog.at_level(logging.WARNING, "memoryos_uow"):
        with Ledger.open(ledger.path) as first, first.unit(space_id=SPACE, band="GREEN") as holds:
            holds.sql("SELECT 1")
            with pytest.raises(OwnError), failed:
                failed["notes"].create("n1", 1)
                raise OwnError(MARKER)
        ledger.recover()
        ledger.close()
    assert caplog.records == []
    with Ledger.open(ledger.path) as again:
        assert [unit.status for unit in again.units() if unit.uow_id == failed.uow_id] == ["failed"]


def test_a_commit_into_a_closed_ledger_fails(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """A block that ends well after its ledger was closed is told so; its unit is failed, not pending."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with caplog.at_level(logging.WARNING, "memoryos_uow"), pytest.raises(UsageError, match="closed"), uow:
        uow["notes"].create("n1", 1)
        ledger.close()
    assert uow.status == "failed"
    assert uow.uow_id in caplog.text


def fill_the_disk(ledger: Ledger) -> None:
    """Let the file grow no more, as on a full disk."""
    with ledger._opened.file.setup_connection() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")


def make_room(ledger: Ledger) -> None:
    """End of the full disk."""
    with ledger._opened.file.setup_connection() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")


def test_on_a_full_disk_every_failure_is_recorded_or_logged(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """With no room for records each exception arrives all the same, and each unit is a row or a line in the log."""
    fill_the_disk(ledger)
    with caplog.at_level(logging.WARNING, "memoryos_uow"):
        failed = {fail_one(ledger, OwnError("x" * 1000)).uow_id for _ in range(20)}
    recorded = {record.uow_id for record in ledger.units()}
    logged = {str(record.message).split()[1].removeprefix("uow_id=") for record in caplog.records}
    assert logged
    assert not recorded & logged
    assert recorded | logged == failed
    assert MARKER not in caplog.text


def test_a_commit_on_a_full_disk_leaves_nothing_and_the_ledger_usable(ledger: Ledger) -> None:
    """A unit that finds the disk full fails as a whole, with its timings kept; with room again the next one commits."""
    first = commit_one(ledger)
    fill_the_disk(ledger)
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(Exception, match="The disk is full"), uow:
        uow["notes"].create("small", 1)
        uow["notes"].create("large", "x" * 100_000)
    make_room(ledger)
    assert ledger["notes"].get("small", space_id=SPACE) is None
    assert ledger.get(first.uow_id).commit_us is not None
    commit_one(ledger, "n2")
    assert ledger.validate() == []


def test_asking_a_ledger_on_a_full_disk(ledger: Ledger) -> None:
    """Reading records needs no room: what cannot be written now is written later, and no reader is told."""
    uow = commit_one(ledger)
    settled = ledger._opened.coordinator._leftovers
    with ledger._opened.file.setup_connection() as connection:
        connection.execute("CREATE TRIGGER full BEFORE UPDATE ON uow_ledger BEGIN SELECT RAISE(FAIL, 'no room'); END")
    assert ledger.get(uow.uow_id).commit_us is None
    assert settled
    with ledger._opened.file.setup_connection() as connection:
        connection.execute("DROP TRIGGER full")
    assert ledger.get(uow.uow_id).commit_us is not None
    assert not settled


WRITE_FAILS: Final = """
    import logging, resource, signal, sys, os
    from memoryos_uow import Ledger, LedgerError
    from tests.units import OwnError

    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    ledger = Ledger.open(sys.argv[1])
    with ledger.unit(space_id="s", band="GREEN") as uow: uow["notes"].create("n1", 1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(sys.argv[1] + "-wal"), resource.RLIM_INFINITY))
    boom = OwnError("mine")
    try:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("n2", 1)
            raise boom
    except OwnError as error:
        print(error is boom, uow.status, uow.uow_id)
    try:
        with ledger.unit(space_id="s", band="GREEN") as uow: uow["notes"].create("n3", "x" * 10_000)
    except LedgerError as error:
        print(type(error).__name__, uow.status, uow.uow_id)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with ledger.unit(space_id="s", band="GREEN") as uow: uow["notes"].create("n4", 1)
    print(list(ledger["notes"].keys(space_id="s")))
"""


def test_a_file_that_takes_no_more_bytes(tmp_path: Path) -> None:
    """When the operating system refuses to write, the caller's exception wins, the loss is logged, nothing is half."""
    lines = run(WRITE_FAILS, tmp_path / "memory.db").splitlines()
    lost = [line for line in lines if line.startswith("uow.record_lost")]
    said = [line.split() for line in lines if not line.startswith("uow.")]
    assert said[0][:2] == ["True", "failed"]
    assert said[1][:2] == ["LedgerError", "failed"]
    assert [line.split()[1] for line in lost] == [f"uow_id={said[0][2]}", f"uow_id={said[1][2]}"]
    assert lines[-1] == "['n1', 'n4']"


# Interrupted at the decision


def interrupt_after_commit(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise KeyboardInterrupt when SQLite's commit has returned and before the library's has."""

    def interrupt(_rows: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger._opened.file._keeper, "note_commit", interrupt)


def test_a_signal_right_after_the_decision(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt that comes when the decision stands goes on to the caller, and the unit is what the ledger says."""
    interrupt_after_commit(ledger, monkeypatch)
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(KeyboardInterrupt), uow:
        uow["notes"].create("n1", 1)
    monkeypatch.undo()
    assert (uow.status, uow.error) == ("committed", None)
    assert uow.receipt is not None
    assert uow.receipt == ledger.receipt(uow.uow_id)
    assert ledger["notes"].get("n1", space_id=SPACE) == 1
    commit_one(ledger, "n2")


def test_a_signal_before_the_decision(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in the middle of the commit undoes the unit and lets go of the lock."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger._opened.rows, "insert_committed", interrupt)
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(KeyboardInterrupt), uow:
        uow["notes"].create("n1", 1)
    monkeypatch.undo()
    assert ledger.get(uow.uow_id).error_type == "KeyboardInterrupt"
    assert ledger["notes"].get("n1", space_id=SPACE) is None
    commit_one(ledger)


# Locks


def test_a_busy_ledger_is_said_to_be_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that does not get the lock in time fails, retryable, blames no store, and counts how often it waited."""
    Timeless(monkeypatch)
    monkeypatch.setattr(_ambient, "random_fraction", lambda: 1.0)
    with Ledger.open(tmp_path / "memory.db", busy_timeout=1.0) as ledger:
        at_the_end: Callable[[UnitOfWork], object] = lambda uow: uow["notes"].create("n1", 1)  # noqa: E731
        at_once: Callable[[UnitOfWork], object] = lambda uow: uow.sql("SELECT 1")  # noqa: E731
        for write in (at_the_end, at_once):
            uow = ledger.unit(space_id=SPACE, band="GREEN")
            with locked(ledger.path), pytest.raises(LedgerBusy) as caught, uow:
                write(uow)
            assert caught.value.retryable
            assert caught.value.uow_id == uow.uow_id
            record = ledger.get(uow.uow_id)
            assert (record.error_type, record.failed_store) == ("LedgerBusy", None)
            assert record.retry_count == uow.retry_count == 25  # 1 + 2 + ... + 32 ms, then 50 ms each, for 1 s


def test_waiting_is_counted_in_the_committed_unit(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that had to wait and then committed says how often."""
    held = locked(ledger.path)
    held.__enter__()
    naps: list[float] = []

    def release_after_three(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            held.__exit__(None, None, None)

    monkeypatch.setattr(_ambient, "sleep", release_after_three)
    uow = commit_one(ledger)
    assert uow.retry_count == ledger.get(uow.uow_id).retry_count == 3


# Stores outside the transaction


def test_files_are_made_before_and_without_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a store makes large blobs durable, everybody else may write: the lock is taken after that."""
    with Ledger.open(tmp_path / "memory.db", stores=four_stores()) as ledger:
        store = ledger._opened.store("photos")
        prepare, seen = store.prepare, []

        def watched(*arguments: Any) -> None:
            with locked(ledger.path):
                seen.append(len(list((tmp_path / "photos").rglob("*"))))
            prepare(*arguments)

        monkeypatch.setattr(store, "prepare", watched)
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["photos"].create("p1", b"x" * 100)
        assert len(seen) == 1
        assert ledger["photos"].get("p1", space_id=SPACE) == b"x" * 100


def test_a_store_that_cannot_prepare_ends_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while bytes are made outside the ledger ends the unit before anything is decided."""
    with Ledger.open(tmp_path / "memory.db", stores=four_stores()) as ledger:

        def refuse(*_: Any) -> None:
            raise OSError(MARKER)

        monkeypatch.setattr(ledger._opened.store("photos"), "prepare", refuse)
        uow = ledger.unit(space_id=SPACE, band="GREEN")
        with pytest.raises(Exception, match="'photos' failed with OSError"), uow:
            uow["notes"].create("n1", {"text": "milk"})
            uow["photos"].create("p1", b"x" * 100)
        record = ledger.get(uow.uow_id)
        assert (record.status, record.failed_store, record.error_type) == ("failed", "photos", "StoreError")
        assert ledger["notes"].get("n1", space_id=SPACE) is None
        assert rows(ledger.path, "SELECT * FROM uow_coordination") == []


def while_preparing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, happening: Callable[[], object]) -> UnitOfWork:
    """A unit with a large blob, during whose preparation something happens."""
    store = ledger._opened.store("photos")
    prepare: Callable[..., None] = store.prepare

    def watched(*arguments: Any) -> None:
        prepare(*arguments)
        happening()

    monkeypatch.setattr(store, "prepare", watched)
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with uow:
        uow["notes"].create("n1", {"text": "milk"})
        uow["photos"].create("p1", b"x" * 100)
    return uow


def test_a_second_ledger_in_the_process_leaves_units_at_work_alone(
    wide: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening the same file again, and recovering there, does not take away what this process is at work on."""

    def open_again() -> None:
        with Ledger.open(wide.path, stores=four_stores()) as again:
            report = again.recover()
        assert report.rolled_back == report.rolled_forward == report.in_doubt == ()

    assert while_preparing(wide, monkeypatch, open_again).status == "committed"
    assert wide["photos"].get("p1", space_id=SPACE) == b"x" * 100


def test_a_unit_that_recovery_took_over(wide: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit whose intent another process took over meanwhile is refused at the decision, and nothing of it stays."""

    def take_over() -> None:
        with closing(sqlite3.connect(wide.path)) as connection, connection:
            connection.execute("UPDATE uow_coordination SET epoch = epoch + 1, owner = 'another'")

    with pytest.raises(ConflictError, match="took this unit over") as caught:
        while_preparing(wide, monkeypatch, take_over)
    assert caught.value.retryable
    assert wide["notes"].get("n1", space_id=SPACE) is None
    assert [record.error_type for record in wide.units()] == ["ConflictError"]


@pytest.mark.parametrize("note", ["written", "lost"])
def test_a_decision_stands_although_nothing_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: str
) -> None:
    """When the ledger cannot be read right after the decision, the unit is committed; recovery shows what is owed."""

    def fail(*_: object, **__: object) -> None:
        raise LedgerError("The disk is gone.")

    with Ledger.open(tmp_path / "memory.db", stores=[FileStore("files", "files")]) as ledger:
        monkeypatch.setattr(ledger._opened.coordinator.publishing, "show", fail)
        if note == "lost":
            monkeypatch.setattr(ledger._opened.rows, "record_silence", fail)
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["files"].create("f1", b"milk")
        assert (uow.status, uow.in_doubt, uow.error) == ("committed", ("files",), None)
        assert ledger.get(uow.uow_id).error_type == ("LedgerError" if note == "written" else None)
        assert ledger["files"].get("f1", space_id=SPACE) == b"milk"
        monkeypatch.undo()
        assert ledger.recover().rolled_forward == (uow.uow_id,)
        assert ledger["files"].get("f1", space_id=SPACE) == b"milk"


def test_a_commit_that_a_deferred_constraint_refuses(ledger: Ledger) -> None:
    """A constraint that SQLite looks at only when it commits refuses the whole unit, and lets go of the lock."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        uow.sql("CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
    late = ledger.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(StoreError, match="FOREIGN KEY") as caught, late:
        late["notes"].create("n1", 1)
        late.sql("INSERT INTO child VALUES (7)")
    assert caught.value.uow_id == late.uow_id
    assert (late.status, late.receipt) == ("failed", None)
    assert ledger.get(late.uow_id).error_type == "StoreError"
    assert ledger["notes"].get("n1", space_id=SPACE) is None
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql("INSERT INTO child VALUES (8)")
        uow.sql("INSERT INTO parent VALUES (8)")
    assert rows(ledger.path, "SELECT id FROM child") == [(8,)]
