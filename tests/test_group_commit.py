"""Units of several threads that commit together: one sync for all, and nobody pays for what another one did."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import (
    ConflictError,
    InDoubtError,
    Ledger,
    LedgerBusy,
    LedgerError,
    UsageError,
    _ambient,
    _group_commit,
)
from memoryos_uow.engines import sqlite as engine_module
from memoryos_uow.engines._transaction import SQLiteTransaction
from memoryos_uow.stores import DocumentStore, FileStore, SQLiteFileStore
from tests.gathering import PATIENCE_S, Caller, group_of, held_up, line_up, together, until
from tests.units import SPACE, environment, four_stores, python, rows, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow import UnitOfWork


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with four stores, warm."""
    with Ledger.open(tmp_path / "memory.db", stores=four_stores()) as opened:
        with opened.unit(space_id=SPACE, band="GREEN") as uow:
            for name, value in (("notes", {"n": 0}), ("orders", {"n": 0, "what": "x"}), ("embeddings", [1, 0])):
                uow[name].create("warm", value)
            uow["photos"].create("warm", b"x")
        yield opened
        assert opened.validate() == []


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no batch end because this machine is slow; one test has it end so."""
    monkeypatch.setattr(_group_commit, "BATCH_NS", int(PATIENCE_S * 1e9))


def create(key: str) -> Callable[[UnitOfWork], None]:
    """What a unit does: one note and one order under `key`."""

    def do(uow: UnitOfWork) -> None:
        uow["notes"].create(key, {"text": key})
        uow["orders"].create(key, {"n": 1, "what": key})

    return do


def callers(ledger: Ledger, *keys: str) -> list[Caller]:
    """A caller for each key."""
    return [Caller(ledger, create(key)) for key in keys]


def notes(ledger: Ledger) -> set[str]:
    """The keys of all notes but the first; each has an order too."""
    keys = set(ledger["notes"].keys(space_id=SPACE))
    assert keys == set(ledger["orders"].keys(space_id=SPACE))
    return keys - {"warm"}


@pytest.fixture
def statements(ledger: Ledger) -> Iterator[list[str]]:
    """Every statement of the ledger's writer."""
    heard: list[str] = []
    with ledger._opened.file.setup_connection() as writer:
        writer.set_trace_callback(heard.append)
    yield heard
    with ledger._opened.file.setup_connection() as writer:
        writer.set_trace_callback(None)


# What a batch is


def test_units_that_wait_commit_together(ledger: Ledger, statements: list[str]) -> None:
    """Four units that wait share one transaction; each has its own receipt, and they follow one another."""
    units = callers(ledger, "a", "b", "c", "d")
    assert together(ledger, *units) == ["committed"] * 4
    assert (statements.count("BEGIN IMMEDIATE"), statements.count("COMMIT")) == (1, 1)
    assert notes(ledger) == {"a", "b", "c", "d"}
    receipts = [caller.unit.receipt for caller in units]
    for number, receipt in enumerate(receipts):
        assert receipt is not None
        assert receipt.space_seq == number + 2
        assert ledger.receipt(receipt.uow_id).hash == receipt.hash
    assert [receipt.prev for receipt in receipts[1:] if receipt] == [
        receipt.hash for receipt in receipts[:3] if receipt
    ]
    assert all(caller.unit.retry_count >= 1 for caller in units)


def test_a_lone_unit_has_no_savepoint(ledger: Ledger, statements: list[str]) -> None:
    """A unit that is alone runs one transaction and no savepoint: nothing that it would not run without companions."""
    create("a")(uow := ledger.unit(space_id=SPACE, band="GREEN").__enter__())
    uow.__exit__(None, None, None)
    assert (statements.count("BEGIN IMMEDIATE"), statements.count("COMMIT")) == (1, 1)
    assert not [sql for sql in statements if "SAVEPOINT" in sql or "RELEASE" in sql]
    assert uow.retry_count == 0


SYNCS: Final = """
    import os, sys
    from memoryos_uow import Ledger, _group_commit
    from tests.gathering import Caller, together
    _group_commit.BATCH_NS = 60_000_000_000  # traced, everything takes long
    ledger = Ledger.open(sys.argv[1])
    callers = [Caller(ledger, lambda uow, n=n: uow["notes"].create(f"{n}", n)) for n in range(8)]
    with ledger.unit(space_id="s", band="GREEN") as uow: uow["notes"].create("warm", 1)
    os.write(2, b"|")
    together(ledger, *callers)
    os.write(2, b"|")
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_batch_waits_for_the_disk_once(tmp_path: Path) -> None:
    """Eight units of eight threads cost one sync."""
    log = tmp_path / "calls"
    trace = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,write", "-o", str(log)]
    subprocess.run([*trace, *python(SYNCS, tmp_path / "memory.db")], env=environment(), check=True)
    between = log.read_text().split('write(2, "|"')[1]
    assert between.count("fdatasync(") + between.count("fsync(") == 1


def test_nobody_is_told_before_the_commit(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the commit that holds a batch is under way every unit of it is pending, for its thread and for readers."""
    units = callers(ledger, "a", "b", "c")
    seen: list[object] = []
    commit = SQLiteTransaction.commit

    def look_and_commit(tx: SQLiteTransaction) -> None:
        seen.append(([caller.seen for caller in units], [caller.is_alive() for caller in units], notes(ledger)))
        commit(tx)

    monkeypatch.setattr(SQLiteTransaction, "commit", look_and_commit)
    assert together(ledger, *units) == ["committed"] * 3
    monkeypatch.undo()
    assert seen == [([None] * 3, [True] * 3, set())]


def test_a_batch_is_bounded(ledger: Ledger, statements: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into a batch is the next one, led by the first who waits; order is kept."""
    monkeypatch.setattr(_group_commit, "UNITS_MAX", 2)
    units = callers(ledger, "a", "b", "c", "d", "e")
    assert together(ledger, *units) == ["committed"] * 5
    assert statements.count("COMMIT") == 3
    assert [caller.unit.receipt.space_seq for caller in units if caller.unit.receipt] == [2, 3, 4, 5, 6]


def test_a_batch_ends_in_time(ledger: Ledger, statements: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that has been at it for its time takes nobody else along."""
    monkeypatch.setattr(_group_commit, "BATCH_NS", 0)
    assert together(ledger, *callers(ledger, "a", "b")) == ["committed"] * 2
    assert statements.count("COMMIT") == 2


def test_a_large_unit_leads(ledger: Ledger, statements: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit of many writes is nobody's burden: it waits until it leads, and then takes others along."""
    monkeypatch.setattr(_group_commit, "WRITES_MAX", 1)
    small = Caller(ledger, lambda uow: uow["notes"].upsert("warm", {}))
    assert together(ledger, *callers(ledger, "a", "b"), small) == ["committed"] * 3
    assert statements.count("COMMIT") == 2


def test_the_main_thread_leads_only_itself(ledger: Ledger, statements: list[str]) -> None:
    """Signal handlers run in the main thread and may raise there: so it commits no unit but its own."""
    others = callers(ledger, "b", "c")
    turn, group = ledger._opened.file._turn, group_of(ledger)
    assert turn.acquire(blocking=False)

    def line_up_behind_the_main_thread() -> None:
        until(lambda: group._leader is not None)
        for number, caller in enumerate(others, 1):
            caller.start()
            until(lambda number=number: len(group._waiting) == number)  # type: ignore[misc]
        turn.release()

    helper = threading.Thread(target=line_up_behind_the_main_thread)
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        create("a")(uow)
        helper.start()
    helper.join()
    for caller in others:
        caller.join()
    assert statements.count("COMMIT") == 2
    assert notes(ledger) == {"a", "b", "c"}


def test_units_of_several_spaces_and_stores_outside(tmp_path: Path) -> None:
    """A batch may hold units of different spaces, some with files and a second database: all is shown to everybody."""
    stores = [DocumentStore("notes"), FileStore("files", "files"), SQLiteFileStore("archive", "archive.db")]
    with Ledger.open(tmp_path / "memory.db", stores=stores) as ledger:

        def everywhere(uow: UnitOfWork) -> None:
            uow["notes"].create("k", {"s": uow.space_id})
            uow["files"].create("k", uow.space_id.encode())
            uow["archive"].create("k", {"s": uow.space_id})

        units = [Caller(ledger, everywhere, space_id=space) for space in ("one", "two", "three")]
        plain = [Caller(ledger, lambda uow: uow["notes"].create("p", {}), space_id=space) for space in ("one", "four")]
        # Those with files have their intents to write before, so they cannot be lined up: they come as they come.
        for caller in (*units, *plain):
            caller.start()
        for caller in (*units, *plain):
            caller.join()
        assert [caller.outcome for caller in (*units, *plain)] == ["committed"] * 5
        for space in ("one", "two", "three"):
            assert ledger["notes"].get("k", space_id=space) == {"s": space}
            assert ledger["files"].get("k", space_id=space) == space.encode()
            assert ledger["archive"].get("k", space_id=space) == {"s": space}
        assert ledger.validate() == []
    with Ledger.open(tmp_path / "memory.db", stores=stores) as ledger:
        assert ledger.recover().in_doubt == ()


# A failing unit never harms its neighbours


def test_a_refused_write(ledger: Ledger) -> None:
    """A unit in the middle that a store refuses fails alone, with its own error in its own thread, and is recorded."""
    units = [*callers(ledger, "a"), Caller(ledger, create("warm")), *callers(ledger, "c")]
    assert together(ledger, *units) == ["committed", "RecordExists", "committed"]
    assert notes(ledger) == {"a", "c"}
    assert sorted(statuses(ledger)) == ["committed"] * 3 + ["failed"]
    refused = units[1]
    assert refused.raised is not None
    assert getattr(refused.raised, "uow_id", None) == refused.unit.uow_id
    assert ledger.get(refused.unit.uow_id).failed_store == "notes"
    assert "__exit__" in [frame.name for frame in _frames(refused.raised)]


def _frames(error: BaseException) -> list[Any]:
    import traceback

    return list(traceback.extract_tb(error.__traceback__))


def test_a_write_that_is_refused_after_others(ledger: Ledger) -> None:
    """What a refused unit had written before, behind its savepoint, is undone; its neighbours keep theirs."""

    def half(uow: UnitOfWork) -> None:
        uow["notes"].create("half", {})
        uow["orders"].create("warm", {"n": 1, "what": "x"})

    [first], refused, [last] = callers(ledger, "a"), Caller(ledger, half), callers(ledger, "c")
    assert together(ledger, first, refused, last) == ["committed", "RecordExists", "committed"]
    assert notes(ledger) == {"a", "c"}


def test_a_leader_that_is_refused(ledger: Ledger) -> None:
    """The leader's own failure undoes its own unit; those who waited commit with another leader."""
    units = [Caller(ledger, create("warm")), *callers(ledger, "b", "c")]
    assert together(ledger, *units) == ["RecordExists", "committed", "committed"]
    assert notes(ledger) == {"b", "c"}


def test_a_statement_that_rolls_everything_back(ledger: Ledger) -> None:
    """When one unit's statement makes SQLite undo the whole transaction, all others commit all the same."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql("CREATE TABLE once (x PRIMARY KEY)")
        uow.sql("INSERT INTO once VALUES (1)")
    fatal = Caller(ledger, lambda uow: uow.sql("INSERT OR ROLLBACK INTO once VALUES (1)"))
    units = [*callers(ledger, "a", "b"), fatal, *callers(ledger, "d")]
    assert together(ledger, *units) == ["committed", "committed", "StoreError", "committed"]
    assert notes(ledger) == {"a", "b", "d"}


def test_a_constraint_that_is_checked_at_the_commit(ledger: Ledger) -> None:
    """When the commit itself is refused because of one unit, only that unit fails."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql("CREATE TABLE parent (x PRIMARY KEY)")
        uow.sql("CREATE TABLE child (x REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
    orphan = Caller(ledger, lambda uow: uow.sql("INSERT INTO child VALUES (1)"))
    units = [*callers(ledger, "a"), orphan, *callers(ledger, "c")]
    assert together(ledger, *units) == ["committed", "StoreError", "committed"]
    assert notes(ledger) == {"a", "c"}


def test_tables_made_behind_a_savepoint_that_is_undone(ledger: Ledger) -> None:
    """A store that a failing unit brought into being is made again by the next one, in the same transaction."""
    with Ledger.open(ledger.path.with_name("other.db")) as other:

        def fail(uow: UnitOfWork) -> None:
            uow["fresh"].create("k", {"n": 1})
            uow["notes"].update("nothing", {})

        units = [
            Caller(other, lambda uow: uow["notes"].create("a", {})),
            Caller(other, fail),
            Caller(other, lambda uow: uow["fresh"].create("j", {"n": 2})),
        ]
        assert together(other, *units) == ["committed", "RecordMissing", "committed"]
        assert list(other["fresh"].keys(space_id=SPACE)) == ["j"]
        assert ("fresh",) in rows(other.path, "SELECT name FROM uow_stores")


# Isolation inside a batch


def read_then_write(uow: UnitOfWork) -> None:
    """What loses an update where nobody looks."""
    found = uow["notes"].get("warm")
    uow["notes"].update("warm", {"n": found["n"] + 1})


def test_no_lost_update_inside_a_batch(ledger: Ledger) -> None:
    """Of units that read one record and then write it all but the first conflict: the later sees the earlier."""
    units = [Caller(ledger, read_then_write) for _ in range(3)]
    assert together(ledger, *units) == ["committed", "ConflictError", "ConflictError"]
    assert ledger["notes"].get("warm", space_id=SPACE) == {"n": 1}
    assert isinstance(units[1].raised, ConflictError)


def test_serializable_units_inside_a_batch(ledger: Ledger) -> None:
    """A serializable unit conflicts when an earlier one of its batch changed what it has only read."""

    def skew(uow: UnitOfWork) -> None:
        uow["notes"].get("warm")
        uow["orders"].upsert("else", {"n": 1, "what": "x"})

    units = [
        Caller(ledger, lambda uow: uow["orders"].upsert("own", {"n": 1, "what": "x"}), isolation="serializable"),
        Caller(ledger, read_then_write),
        Caller(ledger, skew, isolation="serializable"),
        Caller(ledger, skew),
    ]
    assert together(ledger, *units) == ["committed", "committed", "ConflictError", "committed"]


@pytest.mark.parametrize("leads", [True, False])
def test_reads_count_again_when_a_batch_is_undone(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, leads: bool) -> None:
    """A unit that was written, undone because of a neighbour, and tried again still remembers what it had read."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql("CREATE TABLE once (x PRIMARY KEY)")
        uow.sql("INSERT INTO once VALUES (1)")
    fatal = Caller(ledger, lambda uow: uow.sql("INSERT OR ROLLBACK INTO once VALUES (1)"))
    reader, [other] = Caller(ledger, read_then_write), callers(ledger, "a")
    group = group_of(ledger)
    commit_alone = group._commit_alone

    def change_then_commit(decision: Any) -> None:
        if threading.current_thread() is reader:
            with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["notes"].upsert("warm", {"n": 50})
        commit_alone(decision)

    monkeypatch.setattr(group, "_commit_alone", change_then_commit)
    units = [reader, other, fatal] if leads else [other, reader, fatal]
    together(ledger, *units)
    assert (reader.outcome, other.outcome) == ("ConflictError", "committed")
    assert ledger["notes"].get("warm", space_id=SPACE) == {"n": 50}


# The disk


class Failing(engine_module._Connection):
    """A connection whose next commit fails: "undone" and "done" leave doubt, "full" does not."""

    how = ""

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        if sql == "COMMIT" and Failing.how:
            how, Failing.how = Failing.how, "always" if Failing.how == "always" else ""
            super().execute("COMMIT" if how == "done" else "ROLLBACK")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL if how == "full" else sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(sql, *parameters)  # type: ignore[arg-type]


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger whose commits can be made to fail."""
    monkeypatch.setattr(engine_module, "_Connection", Failing)
    monkeypatch.setattr(Failing, "how", "")
    with Ledger.open(tmp_path / "memory.db", stores=four_stores()) as opened:
        with opened.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("warm", {"n": 0})
            uow["orders"].create("warm", {"n": 0, "what": "x"})
        yield opened


def fail_at_the_commit(ledger: Ledger, how: str, units: list[Caller]) -> list[str | None]:
    """Have the batch of `units` fail at its commit."""
    units[-1].do = lambda uow, do=units[-1].do: do(uow)  # type: ignore[misc]
    group = group_of(ledger)
    commit = group._commit

    def fail(batch: Any) -> None:
        if len(batch) > 1:
            Failing.how = how
        commit(batch)

    group._commit = fail  # type: ignore[method-assign]
    return together(ledger, *units)


def test_a_full_disk_at_the_commit(failing: Ledger) -> None:
    """When the commit of a batch fails for certain each unit is tried by itself, and may well succeed."""
    assert fail_at_the_commit(failing, "full", callers(failing, "a", "b", "c")) == ["committed"] * 3
    assert notes(failing) == {"a", "b", "c"}


def test_an_answer_that_was_lost_and_is_found(failing: Ledger) -> None:
    """When the sync of a batch failed but the commit is there, every unit of it finds that out and is committed."""
    units = callers(failing, "a", "b", "c")
    assert fail_at_the_commit(failing, "done", units) == ["committed"] * 3
    assert notes(failing) == {"a", "b", "c"}
    for caller in units:
        assert caller.unit.receipt is not None
        assert failing.receipt(caller.unit.uow_id).hash == caller.unit.receipt.hash


def test_an_answer_that_was_lost_with_the_commit(failing: Ledger) -> None:
    """When the commit is not there, every unit of the batch has failed, says so, and nothing of it is stored."""
    units = callers(failing, "a", "b", "c")
    assert fail_at_the_commit(failing, "undone", units) == ["LedgerError"] * 3
    assert notes(failing) == set()
    assert statuses(failing) == ["committed", "failed", "failed", "failed"]
    assert all(isinstance(caller.raised, LedgerError) and not caller.raised.in_doubt for caller in units)


def test_an_answer_that_nobody_can_find(failing: Ledger) -> None:
    """While the disk stays broken every unit of the batch is in doubt, and none claims anything."""
    units = callers(failing, "a", "b", "c")
    assert fail_at_the_commit(failing, "always", units) == ["InDoubtError"] * 3
    assert [caller.seen for caller in units] == ["pending"] * 3
    assert {caller.raised.uow_id for caller in units if isinstance(caller.raised, InDoubtError)} == {
        caller.unit.uow_id for caller in units
    }
    Failing.how = ""


# Interrupts


def test_a_leader_that_is_interrupted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt while a leader writes another's unit ends the leader's own; the others commit."""
    units = callers(ledger, "a", "b", "c")
    deciding = group_of(ledger)._deciding
    write = deciding.write

    def interrupted(decision: Any) -> None:
        write(decision)
        if decision.unit.facts.uow_id == units[1].unit.uow_id and threading.current_thread() is units[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(deciding, "write", interrupted)
    assert together(ledger, *units) == ["KeyboardInterrupt", "committed", "committed"]
    assert notes(ledger) == {"b", "c"}
    assert ledger.get(units[0].unit.uow_id).status == "failed"


def test_a_leader_that_is_interrupted_after_the_decision(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt right after the commit reaches the leader, and nobody else; all are committed."""
    units = callers(ledger, "a", "b", "c")
    commit = SQLiteTransaction.commit

    def commit_and_raise(tx: SQLiteTransaction) -> None:
        commit(tx)
        if threading.current_thread() is units[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(SQLiteTransaction, "commit", commit_and_raise)
    assert together(ledger, *units) == ["KeyboardInterrupt", "committed", "committed"]
    assert [caller.seen for caller in units] == ["committed"] * 3
    assert notes(ledger) == {"a", "b", "c"}


class Interrupted:
    """A signal to wait for that is interrupted a number of times."""

    def __init__(self, lock: Any, times: int, before: Callable[[], None] | None = None) -> None:
        self.lock = lock
        self.times = times
        self.before = before

    def acquire(self, *_: object, **options: Any) -> bool:
        if self.times:
            self.times -= 1
            if self.before is not None:
                self.before()
            raise KeyboardInterrupt
        return bool(self.lock.acquire(**options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lock, name)


def interrupt(monkeypatch: pytest.MonkeyPatch, victim: Caller, before: Callable[[], None] | None = None) -> None:
    """Have the victim's wait interrupted twice."""
    made = _group_commit._Attempt.__init__

    def make(attempt: Any, decision: Any) -> None:
        made(attempt, decision)
        if decision.unit.facts.uow_id == victim.unit.uow_id:
            attempt.signal = Interrupted(attempt.signal, 2, before)

    monkeypatch.setattr(_group_commit._Attempt, "__init__", make)


def test_a_waiting_thread_that_is_interrupted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is interrupted before a leader has begun with its unit leaves: nothing of it is written."""
    leader, victim, other = callers(ledger, "a", "b", "c")
    interrupt(monkeypatch, victim)
    with held_up(ledger):
        line_up(ledger, [leader])
        victim.start()
        until(lambda: not group_of(ledger)._waiting and victim.unit.retry_count)
        line_up_more(ledger, other)
    for caller in (leader, victim, other):
        caller.join()
    assert [caller.outcome for caller in (leader, victim, other)] == ["committed", "KeyboardInterrupt", "committed"]
    assert notes(ledger) == {"a", "c"}
    assert ledger.get(victim.unit.uow_id).status == "failed"


def line_up_more(ledger: Ledger, *more: Caller) -> None:
    """Start callers that wait behind those who do."""
    group = group_of(ledger)
    for caller in more:
        number = len(group._waiting) + 1
        caller.start()
        until(lambda number=number: len(group._waiting) == number)  # type: ignore[misc]


def test_a_thread_that_is_interrupted_too_late(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is interrupted when a leader has begun with its unit learns its fate first: it is committed, and says so."""
    leader, victim = callers(ledger, "a", "b")
    taken = threading.Event()
    group = group_of(ledger)
    before = group._next_member

    def next_member(attempt: Any) -> Any:
        member = before(attempt)
        taken.set()
        return member

    monkeypatch.setattr(group, "_next_member", next_member)

    def wait() -> None:
        assert taken.wait(PATIENCE_S)

    interrupt(monkeypatch, victim, wait)
    assert together(ledger, leader, victim) == ["committed", "KeyboardInterrupt"]
    assert victim.seen == "committed"
    assert victim.unit.receipt is not None
    assert notes(ledger) == {"a", "b"}


def test_an_interrupted_thread_that_should_have_led(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is interrupted in the moment in which it becomes the leader hands that on."""
    monkeypatch.setattr(_group_commit, "UNITS_MAX", 1)
    leader, victim, other = callers(ledger, "a", "b", "c")
    group = group_of(ledger)
    interrupt(
        monkeypatch, victim, lambda: until(lambda: getattr(group._leader, "decision", None) is not None and leader.seen)
    )
    assert together(ledger, leader, victim, other) == ["committed", "KeyboardInterrupt", "committed"]
    assert notes(ledger) == {"a", "c"}


# Patience


def test_patience_of_those_who_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for longer than the ledger's timeout gives up, leader and follower alike; nothing is written."""
    with Ledger.open(tmp_path / "memory.db", stores=four_stores(), busy_timeout=0.05) as ledger:
        leader, follower = callers(ledger, "a", "b")
        with held_up(ledger):
            line_up(ledger, [leader])
            follower.start()
            leader.join()
            follower.join()
        assert [leader.outcome, follower.outcome] == ["LedgerBusy", "LedgerBusy"]
        assert isinstance(follower.raised, LedgerBusy)
        assert "Other units of this process" in str(follower.raised)
        assert group_of(ledger)._leader is None
        monkeypatch.setattr(ledger._opened.engine, "busy_timeout_s", PATIENCE_S)
        assert together(ledger, *callers(ledger, "c", "d")) == ["committed"] * 2


def impatient(ledger: Ledger, key: str) -> Caller:
    """A caller that waits for a moment only."""

    def do(uow: UnitOfWork) -> None:
        assert uow._state is not None
        uow._state.wait_s = 0.01
        create(key)(uow)

    return Caller(ledger, do)


def test_a_follower_that_runs_out_of_patience(ledger: Ledger) -> None:
    """Who waits in the queue for longer than it may leaves it, while its leader still waits for the lock."""
    leader, other = callers(ledger, "a", "c")
    follower = impatient(ledger, "b")
    with held_up(ledger):
        line_up(ledger, [leader])
        follower.start()
        follower.join()
        line_up_more(ledger, other)
    leader.join()
    other.join()
    assert [caller.outcome for caller in (leader, follower, other)] == ["committed", "LedgerBusy", "committed"]
    assert "Other units of this process" in str(follower.raised)
    assert notes(ledger) == {"a", "c"}


def test_patience_that_ends_too_late(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs out of patience when a leader has begun with its unit waits for what becomes of it."""
    [leader], follower = callers(ledger, "a"), impatient(ledger, "b")
    group = group_of(ledger)
    withdraw, next_member = group._withdraw, group._next_member
    begun, tried = threading.Event(), threading.Event()

    def withdraw_late(attempt: Any) -> bool:
        assert begun.wait(PATIENCE_S)
        done = withdraw(attempt)
        tried.set()
        return done

    def begin_and_wait(attempt: Any) -> Any:
        member = next_member(attempt)
        begun.set()
        assert tried.wait(PATIENCE_S)
        return member

    monkeypatch.setattr(group, "_withdraw", withdraw_late)
    monkeypatch.setattr(group, "_next_member", begin_and_wait)
    assert together(ledger, leader, follower) == ["committed", "committed"]


def test_a_ledger_closed_while_units_wait(ledger: Ledger) -> None:
    """Whoever waits while the ledger is closed is refused, one leader after the other."""
    units = callers(ledger, "a", "b", "c")
    with held_up(ledger):
        line_up(ledger, units)
        ledger._opened.file._closed = True
    for caller in units:
        caller.join()
    ledger._opened.file._closed = False
    assert [caller.outcome for caller in units] == ["UsageError"] * 3
    assert notes(ledger) == set()


def test_a_thread_that_holds_the_lock_joins_nobody(ledger: Ledger) -> None:
    """A second unit of a thread whose first one holds the lock is refused at once, and does not wait for itself."""
    with ledger.unit(space_id=SPACE, band="GREEN") as outer:
        outer.sql("SELECT 1")
        with (
            pytest.raises(UsageError, match="holds the ledger's write lock already"),
            ledger.unit(space_id=SPACE, band="GREEN", nested="independent") as inner,
        ):
            inner["notes"].create("a", {})
        outer["notes"].create("b", {})
        outer["orders"].create("b", {"n": 1, "what": "x"})
    assert notes(ledger) == {"b"}


def test_a_follower_waits_only_for_what_is_left(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that has waited as a follower and then leads has only the rest of its time for the lock."""
    monkeypatch.setattr(_group_commit, "UNITS_MAX", 1)
    engine = ledger._opened.file
    allowed: list[float | None] = []
    begin = engine.begin

    def note(*, wait_s: float | None = None, **options: Any) -> SQLiteTransaction:
        allowed.append(wait_s)
        return begin(wait_s=wait_s, **options)

    monkeypatch.setattr(engine, "begin", note)
    started = _ambient.monotonic_ns()
    together(ledger, *callers(ledger, "a", "b"))
    assert allowed[0] == engine.busy_timeout_s
    assert allowed[1] is not None
    assert 0 < allowed[1] < engine.busy_timeout_s
    assert engine.busy_timeout_s - allowed[1] < (_ambient.monotonic_ns() - started) / 1e9 + 1


def add_at_times(ledger: Ledger, worker: int, number: int) -> None:
    """One unit of many; every third adds one to a number, every third takes the lock before its end."""
    while True:
        try:
            with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                create(f"{worker}-{number}")(uow)
                if number % 3 == 0:
                    read_then_write(uow)
                if number % 3 == 1:
                    uow.sql("SELECT 1")
        except ConflictError:
            continue
        return


def test_many_threads_at_once(ledger: Ledger) -> None:
    """Thirty-two threads that add to one number, and try again on a conflict, lose nothing and leave no gap."""
    raised: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for number in range(6):
                add_at_times(ledger, worker, number)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test wants to see it
            raised.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    assert len(notes(ledger)) == 32 * 6
    assert ledger["notes"].get("warm", space_id=SPACE) == {"n": 32 * 2}
    sequence = rows(ledger.path, "SELECT space_seq FROM uow_ledger ORDER BY commit_seq")
    assert sequence == [(number,) for number in range(1, 32 * 6 + 2)]
