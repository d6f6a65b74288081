"""A unit's transaction: who changed what in between, savepoints, statements that run at once, and what is undone."""

from __future__ import annotations

import itertools
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import (
    ConflictError,
    Isolation,
    Ledger,
    RecordExists,
    RecordMissing,
    StoreError,
    UsageError,
)
from memoryos_uow.stores import DocumentStore, TableStore
from tests.units import MARKER, SPACE, OwnError, locked, rows, start, statuses, throw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from memoryos_uow import UnitOfWork
    from memoryos_uow.abc import Transaction, UnitFacts, Write


def put(ledger: Ledger, key: str, value: object, space: str = SPACE) -> None:
    """Another unit's committed write."""
    with ledger.unit(space_id=space, band="GREEN", nested="independent") as uow:
        uow["notes"].upsert(key, value)


def drop(ledger: Ledger, key: str) -> None:
    """Another unit's committed delete."""
    with ledger.unit(space_id=SPACE, band="GREEN", nested="independent") as uow:
        uow["notes"].delete(key)


def stored(ledger: Ledger, store: str = "notes", space: str = SPACE) -> dict[str, Any]:
    """Every committed record of a store in a space."""
    return {key: ledger[store].get(key, space_id=space) for key in ledger[store].keys(space_id=space)}


def conflict(
    ledger: Ledger, between: Callable[[], object], then: Callable[[UnitOfWork], object], **options: Any
) -> None:
    """A unit reads n1, somebody does something, the unit does something: only one of the two may stand."""
    uow = ledger.unit(space_id=SPACE, band="GREEN", **options)
    before: dict[str, Any] = {}
    with pytest.raises(ConflictError) as caught, uow:
        uow["notes"].get("n1")
        between()
        before = stored(ledger)
        then(uow)
    assert caught.value.retryable
    assert not caught.value.in_doubt
    assert (caught.value.store, caught.value.uow_id) == ("notes", uow.uow_id)
    assert stored(ledger) == before


# Lost updates


WRITES: Final[dict[str, Callable[[UnitOfWork], object]]] = {
    "update": lambda uow: uow["notes"].update("n1", "mine"),
    "upsert": lambda uow: uow["notes"].upsert("n1", "mine"),
    "delete": lambda uow: uow["notes"].delete("n1"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("at_once", [False, True], ids=["at commit", "at a flush"])
def test_a_record_that_changed_after_it_was_read(
    ledger: Ledger, write: Callable[[UnitOfWork], object], at_once: bool
) -> None:
    """What a unit has read and then writes must be as it was read, whichever way it is written."""
    put(ledger, "n1", "old")

    def then(uow: UnitOfWork) -> None:
        write(uow)
        if at_once:
            uow.sql("SELECT 1")

    conflict(ledger, lambda: put(ledger, "n1", "theirs"), then)


def test_a_record_that_was_read_as_absent_and_created_by_another(ledger: Ledger) -> None:
    """Having read that there is no record counts as having read it."""
    conflict(ledger, lambda: put(ledger, "n1", "theirs"), lambda uow: uow["notes"].create("n1", "mine"))
    assert stored(ledger) == {"n1": "theirs"}


def test_a_record_that_was_deleted_and_made_again(ledger: Ledger) -> None:
    """A record that was removed and made anew in between is another record, also with the same value."""
    put(ledger, "n1", "same")

    def between() -> None:
        drop(ledger, "n1")
        put(ledger, "n1", "same")

    conflict(ledger, between, lambda uow: uow["notes"].update("n1", "mine"))


def test_a_record_that_was_deleted(ledger: Ledger) -> None:
    """A record that is gone is a conflict for whoever has read it, not a missing record."""
    put(ledger, "n1", "old")
    conflict(ledger, lambda: drop(ledger, "n1"), lambda uow: uow["notes"].update("n1", "mine"))


def test_the_first_read_counts(ledger: Ledger) -> None:
    """A record that was read before and after a change is not as it was first read."""
    put(ledger, "n1", "old")

    def then(uow: UnitOfWork) -> None:
        assert uow["notes"].get("n1") == "theirs"
        uow["notes"].update("n1", "mine")

    conflict(ledger, lambda: put(ledger, "n1", "theirs"), then)


def test_a_table_row_that_changed_after_it_was_read(wide: Ledger) -> None:
    """Rows are protected like records, also from plain SQL that never heard of units."""
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["orders"].create("o1", {"n": 1})
    late = wide.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(ConflictError), late:
        order = late["orders"].get("o1")
        with wide.unit(space_id=SPACE, band="GREEN", nested="independent") as uow:
            uow.sql("UPDATE orders SET n = n + 1")
        late["orders"].update("o1", {"n": order["n"] + 1})
    assert rows(wide.path, "SELECT n FROM orders") == [(2,)]


def test_what_is_written_without_being_read_is_nobodys_conflict(ledger: Ledger) -> None:
    """A unit that writes a record without having read it asks for no protection."""
    put(ledger, "n1", "old")
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].get("other")
        put(ledger, "n1", "theirs")
        uow["notes"].update("n1", "mine")
    assert stored(ledger) == {"n1": "mine"}


def test_a_changed_record_of_another_space_is_no_conflict(ledger: Ledger) -> None:
    """The same key in another space is another record."""
    put(ledger, "n1", "old")
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].get("n1")
        put(ledger, "n1", "theirs", space="other")
        uow["notes"].update("n1", "mine")
    assert (stored(ledger), stored(ledger, space="other")) == ({"n1": "mine"}, {"n1": "theirs"})


def test_own_writes_are_no_conflict(ledger: Ledger) -> None:
    """A unit never conflicts with itself, however often it reads, writes and flushes the same record."""
    put(ledger, "n1", 0)
    for flushes in itertools.product([False, True], repeat=3):
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            for flush in flushes:
                uow["notes"].update("n1", uow["notes"].get("n1") + 1)
                if flush:
                    uow.sql("SELECT 1")
    assert stored(ledger) == {"n1": 24}


def test_a_read_in_an_undone_savepoint_still_counts(ledger: Ledger) -> None:
    """What a savepoint block has read stays read when the block is undone."""
    put(ledger, "n1", "old")

    def then(uow: UnitOfWork) -> None:
        with pytest.raises(OwnError), uow.savepoint():
            uow["notes"].update("n1", "undone")
            throw(OwnError())
        uow["notes"].update("n1", "mine")

    conflict(ledger, lambda: put(ledger, "n1", "theirs"), then)


# Serializable


@pytest.mark.parametrize(
    "then",
    [
        lambda uow: uow["notes"].create("n2", "mine"),
        lambda uow: uow.sql("SELECT 1"),
        lambda _: None,
    ],
    ids=["writes another record", "takes the lock", "writes nothing"],
)
def test_serializable_units_check_every_read(ledger: Ledger, then: Callable[[UnitOfWork], object]) -> None:
    """A serializable unit ends well only if all that it has read is still true, written or not."""
    put(ledger, "n1", "old")
    conflict(ledger, lambda: put(ledger, "n1", "theirs"), then, isolation="serializable")
    assert statuses(ledger)[-1] == "failed"


def test_a_serializable_unit_that_nobody_disturbed(ledger: Ledger) -> None:
    """A serializable unit whose reads all hold commits, and one that only reads ends without a row."""
    put(ledger, "n1", "old")
    with ledger.unit(space_id=SPACE, band="GREEN", isolation=Isolation.SERIALIZABLE) as uow:
        uow["notes"].get("n1")
        uow["notes"].get("n2")
        uow["notes"].create("n3", 1)
    with ledger.unit(space_id=SPACE, band="GREEN", isolation="serializable") as reader:
        assert reader["notes"].get("n3") == 1
    assert (uow.status, reader.status, len(statuses(ledger))) == ("committed", "committed", 2)


def test_write_skew_is_caught_only_when_asked_for(ledger: Ledger) -> None:
    """Two units that each read what the other writes: both commit by default, one of two if serializable."""

    def skew(isolation: str) -> list[str]:
        put(ledger, "a", 1)
        put(ledger, "b", 1)
        first = ledger.unit(space_id=SPACE, band="GREEN", isolation=isolation)
        second = ledger.unit(space_id=SPACE, band="GREEN", isolation=isolation, nested="independent")
        with ExitStack() as stack:
            stack.enter_context(pytest.raises(ConflictError) if isolation == "serializable" else ExitStack())
            with first:
                first["notes"].get("b")
                with second:
                    second["notes"].get("a")
                    second["notes"].update("b", 0)
                first["notes"].update("a", 0)
        return [first.status, second.status]

    assert skew("writes") == ["committed", "committed"]
    assert skew("serializable") == ["failed", "committed"]


# Real interleaving


def test_two_threads_on_one_record(ledger: Ledger) -> None:
    """Of two threads that have read the same record and then write it, exactly one commits."""
    put(ledger, "n1", 0)
    have_read = threading.Barrier(2)
    outcomes: list[str] = []

    def increment() -> None:
        try:
            with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                value = uow["notes"].get("n1")
                have_read.wait()
                uow["notes"].update("n1", value + 1)
        except ConflictError as error:
            outcomes.append(f"retryable={error.retryable}")
        else:
            outcomes.append("committed")

    threads = [threading.Thread(target=increment) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["committed", "retryable=True"]
    assert stored(ledger) == {"n1": 1}
    assert sorted(statuses(ledger)) == ["committed", "committed", "failed"]


ONE_INCREMENT: Final = """
    import sys
    from memoryos_uow import ConflictError, Ledger
    with Ledger.open(sys.argv[1]) as ledger:
        try:
            with ledger.unit(space_id="shared:household", band="GREEN") as uow:
                value = uow["notes"].get("n1")
                print("read", flush=True)
                sys.stdin.readline()
                uow["notes"].update("n1", value + 1)
        except ConflictError:
            print("conflict")
        else:
            print("committed")
"""


def test_two_processes_on_one_record(ledger: Ledger) -> None:
    """Of two processes that have read the same record and then write it, exactly one commits."""
    put(ledger, "n1", 0)
    children = [start(ONE_INCREMENT, ledger.path) for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "read\n"
    outcomes = [child.communicate("go\n")[0].strip() for child in children]
    assert sorted(outcomes) == ["committed", "conflict"]
    assert stored(ledger) == {"n1": 1}


MANY_INCREMENTS: Final = """
    import sys
    from memoryos_uow import ConflictError, Ledger
    with Ledger.open(sys.argv[1], durability="normal") as ledger:
        print("ready", flush=True)
        sys.stdin.readline()
        done = 0
        while done < int(sys.argv[2]):
            try:
                with ledger.unit(space_id="shared:household", band="GREEN") as uow:
                    uow["notes"].update("n1", uow["notes"].get("n1") + 1)
            except ConflictError:
                continue
            done += 1
        print(done)
"""


def test_four_processes_lose_no_update(ledger: Ledger) -> None:
    """Four processes that read, add one and write, 50 times each and again after a conflict, end at 200."""
    put(ledger, "n1", 0)
    children = [start(MANY_INCREMENTS, ledger.path, 50) for _ in range(4)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.communicate()[0].strip() for child in children] == ["50"] * 4
    assert stored(ledger) == {"n1": 200}
    assert statuses(ledger).count("committed") == 201
    assert ledger.validate() == []


def test_threads_that_speak_sql_do_not_block_each_other(ledger: Ledger) -> None:
    """Any number of threads may use uow.sql at once: each statement is looked at and run in the thread's own unit."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql("CREATE TABLE t (thread INTEGER, n INTEGER)")
    problems: list[BaseException] = []

    def write(thread: int) -> None:
        try:
            for n in range(25):
                with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                    uow.sql(f"INSERT INTO t VALUES ({thread}, {n})")
                    uow.sql("INSERT INTO t VALUES (?, ?)", (thread, n))
        except BaseException as error:  # noqa: BLE001 - a thread's exception would be lost
            problems.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert rows(ledger.path, "SELECT count(*) FROM t") == [(200,)]


# Nothing is visible before the end


@pytest.mark.parametrize("flush", [False, True])
def test_nobody_sees_a_unit_before_its_end(wide: Ledger, flush: bool) -> None:
    """Neither this process, nor another connection, nor the files beside the ledger show anything of an open unit."""
    before = rows(wide.path, "SELECT name, sql FROM sqlite_schema ORDER BY name")
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", {"text": "milk"})
        uow["orders"].create("o1", {"n": 1})
        uow["embeddings"].create("v1", [1, 2])
        uow["photos"].create("p1", b"x" * 100)
        if flush:
            uow.sql("CREATE TABLE t (x)")
        for store, key in (("notes", "n1"), ("orders", "o1"), ("embeddings", "v1"), ("photos", "p1")):
            assert uow[store].get(key) is not None
            assert wide[store].get(key, space_id=SPACE) is None
        for table in ("uow_documents", "orders", "uow_vectors", "uow_blobs", "unit_of_work", "uow_writes"):
            assert rows(wide.path, f"SELECT * FROM {table}") == []
        assert rows(wide.path, "SELECT name, sql FROM sqlite_schema ORDER BY name") == before
        assert uow.status == "pending"
    assert wide["photos"].get("p1", space_id=SPACE) == b"x" * 100


def test_a_buffered_unit_blocks_nobody(ledger: Ledger) -> None:
    """As long as a unit only buffers, others may write; from a statement that returns rows on, they wait."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
        uow["notes"].get("n2")
        with locked(ledger.path):
            pass
        uow.sql("SELECT 1")
        with pytest.raises(Exception, match="locked"), locked(ledger.path):
            pass


# Savepoints


def test_a_savepoint_undoes_its_block_only(wide: Ledger) -> None:
    """An exception that leaves a savepoint block undoes what it wrote in every store, and nothing else."""
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", {"text": "before"})
        with pytest.raises(OwnError), uow.savepoint():
            uow["notes"].update("n1", {"text": "undone"})
            uow["orders"].create("o1", {"n": 1})
            uow["embeddings"].create("v1", [1, 2])
            uow["photos"].create("p1", b"x" * 100)
            uow.sql("INSERT INTO orders (id, space_id) VALUES ('o2', 's')")
            throw(OwnError())
        uow["notes"].create("n2", {"text": "after"})
        assert uow["orders"].get("o1") is None
    assert stored(wide) == {"n1": {"text": "before"}, "n2": {"text": "after"}}
    assert stored(wide, "orders") == stored(wide, "embeddings") == stored(wide, "photos") == {}
    assert [(w.record_id, w.operation_type) for w in wide.get(uow.uow_id).writes] == [
        ("n1", "create"),
        ("n2", "create"),
    ]
    assert uow.receipt is not None
    assert (uow.receipt.write_count, uow.receipt.store_count) == (2, 1)


@pytest.mark.parametrize("inner_fails", [False, True])
@pytest.mark.parametrize("outer_fails", [False, True])
def test_nested_savepoints_around_flushes(ledger: Ledger, inner_fails: bool, outer_fails: bool) -> None:
    """Savepoints nest and undo exactly their block, wherever between them the buffer was flushed."""
    kept = "ae" if outer_fails else "abde" if inner_fails else "abcde"
    for flush_at in itertools.product("01", repeat=5):
        space, flush = "".join(flush_at), iter(flush_at)
        with ledger.unit(space_id=space, band="GREEN") as uow:
            write(uow, "a", next(flush))
            with forgiven(), uow.savepoint():
                write(uow, "b", next(flush))
                with forgiven(), uow.savepoint():
                    write(uow, "c", next(flush))
                    if inner_fails:
                        throw(OwnError())
                write(uow, "d", next(flush))
                if outer_fails:
                    throw(OwnError())
            write(uow, "e", next(flush))
        assert "".join(stored(ledger, space=space)) == kept
        assert "".join(w.record_id or "" for w in ledger.get(uow.uow_id).writes) == kept


def write(uow: UnitOfWork, key: str, flush: str) -> None:
    """Create a record, and flush the buffer after it if `flush` is "1"."""
    uow["notes"].create(key, key)
    if flush == "1":
        uow.sql("SELECT 1")


def forgiven() -> suppress:
    """A block that the caller's own exception may leave."""
    return suppress(OwnError)


def test_savepoints_that_are_left_in_the_wrong_order(ledger: Ledger) -> None:
    """Leaving an outer savepoint before an inner one is refused, and nothing of the unit is written."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(UsageError, match="opposite order"), uow:
        outer, inner = uow.savepoint(), uow.savepoint()
        outer.__enter__()
        inner.__enter__()
        uow["notes"].create("n1", 1)
        outer.__exit__(None, None, None)
    assert stored(ledger) == {}


def test_an_inner_savepoint_that_outlives_its_outer_one(ledger: Ledger) -> None:
    """A savepoint that was undone with the one around it is over: leaving it late changes nothing more."""

    def inner() -> Iterator[None]:
        with uow.savepoint():
            uow["notes"].create("inner", 1)
            yield

    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        with pytest.raises(OwnError), uow.savepoint():
            suspended = inner()
            next(suspended)
            throw(OwnError())
        uow["notes"].create("after", 1)
        with pytest.raises(KeyError):
            suspended.throw(KeyError())  # type: ignore[attr-defined]
    assert stored(ledger) == {"after": 1}


def test_a_savepoint_after_rollback(ledger: Ledger) -> None:
    """A unit that is rolled back inside a savepoint block leaves the block quietly, and cannot set another one."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        with uow.savepoint():
            uow["notes"].create("n1", 1)
            uow.rollback()
        with pytest.raises(UsageError, match="is over"), uow.savepoint():
            pass
    assert (uow.status, stored(ledger)) == ("rolled_back", {})


# What goes wrong at a flush can be caught


def test_a_refused_flush_in_a_savepoint_can_be_undone(ledger: Ledger) -> None:
    """A write that the store refuses at a flush is undone with its savepoint, and the unit goes on."""
    put(ledger, "taken", "theirs")
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("a", 1)
        with pytest.raises(RecordExists), uow.savepoint():
            uow["notes"].create("b", 1)
            uow["notes"].create("taken", "mine")
            uow.sql("SELECT 1")
        uow["notes"].create("c", 1)
    assert stored(ledger) == {"a": 1, "c": 1, "taken": "theirs"}
    assert [write.record_id for write in ledger.get(uow.uow_id).writes] == ["a", "c"]


def test_a_refused_write_dooms_the_unit_that_keeps_it(ledger: Ledger) -> None:
    """Without a savepoint a write that was refused at a flush is refused again at the end: nothing is half."""
    put(ledger, "taken", "theirs")
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(RecordExists, match="'taken'"), uow:
        uow["notes"].create("a", 1)
        uow["notes"].create("taken", "mine")
        with pytest.raises(RecordExists, match="'taken'"):
            uow.sql("SELECT 1")
    assert stored(ledger) == {"taken": "theirs"}


class Fickle(DocumentStore):
    """Fails once, having applied the first of its writes."""

    fails = True

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        if self.fails:
            self.fails = False
            super().apply(tx, unit, commit_seq, writes[:1])
            raise OSError(MARKER)
        super().apply(tx, unit, commit_seq, writes)


def test_a_flush_that_failed_for_a_moment_is_repeated_as_a_whole(tmp_path: Path) -> None:
    """A run of writes that failed half-way is undone to its beginning, so applying it again writes nothing twice."""
    with Ledger.open(tmp_path / "memory.db", stores=[Fickle("notes")]) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow.sql("CREATE TABLE t (x)")
            uow["notes"].create("a", 1)
            uow["notes"].create("b", 2)
            with pytest.raises(StoreError, match="'notes' failed with OSError"):
                uow.sql("SELECT 1")
        assert stored(ledger) == {"a": 1, "b": 2}


# Statements that run at once


@pytest.fixture
def counted(ledger: Ledger) -> Ledger:
    """A ledger with a table in which 1 is taken."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql("CREATE TABLE t (x INTEGER UNIQUE)")
        uow.sql("INSERT INTO t VALUES (1)")
    return ledger


def test_a_statement_that_fails_half_way_leaves_nothing(counted: Ledger) -> None:
    """A statement that SQLite ends in the middle, keeping its first rows, keeps none of them in a unit."""
    with counted.unit(space_id=SPACE, band="GREEN") as uow:
        with pytest.raises(StoreError):
            uow.sql("INSERT OR FAIL INTO t SELECT value FROM json_each('[5, 6, 1, 7]') RETURNING x")
        uow.sql("INSERT INTO t VALUES (9)")
    assert rows(counted.path, "SELECT x FROM t ORDER BY x") == [(1,), (9,)]
    assert len(counted.get(uow.uow_id).writes) == 1


@pytest.mark.parametrize("in_savepoint", [False, True])
@pytest.mark.parametrize(
    "fatal",
    [
        "INSERT OR ROLLBACK INTO t VALUES (1) RETURNING x",
        "UPDATE OR ROLLBACK t SET x = 1 WHERE x = 2 RETURNING x",
    ],
)
def test_a_statement_that_rolls_everything_back_ends_the_unit(counted: Ledger, fatal: str, in_savepoint: bool) -> None:
    """When SQLite undoes the whole transaction, nothing that the unit does afterwards can be committed by itself."""
    uow = counted.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(StoreError, match="undo the whole unit"), uow:
        uow["notes"].create("before", 1)
        uow.sql("INSERT INTO t VALUES (2)")
        with ExitStack() as stack:
            stack.enter_context(pytest.raises(StoreError, match="constraint"))
            if in_savepoint:
                stack.enter_context(uow.savepoint())
            uow.sql(fatal)
        uow["notes"].create("after", 1)
        for use in (
            lambda: uow.sql("SELECT 1"),
            lambda: uow["notes"].get("before"),
            lambda: uow.sql("INSERT INTO t VALUES (3) RETURNING x"),
        ):
            with pytest.raises(StoreError, match="undo the whole unit"):
                use()
            assert stored(counted) == {}
    assert stored(counted) == {}
    assert rows(counted.path, "SELECT x FROM t") == [(1,)]
    assert counted.get(uow.uow_id).error_type == "StoreError"
    put(counted, "next", 1)


def test_a_trigger_that_rolls_everything_back_ends_the_unit(counted: Ledger) -> None:
    """The same holds for an application's trigger that raises ROLLBACK under a record store's write."""
    with counted.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON t WHEN new.x > 100 BEGIN SELECT RAISE(ROLLBACK, 'too large'); END"
        )
    late = counted.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(StoreError, match="undo the whole unit"), late:
        late["notes"].create("n1", 1)
        with pytest.raises(StoreError):
            late.sql("INSERT INTO t VALUES (101) RETURNING x")
    assert stored(counted) == {}


def test_a_statement_for_which_there_is_no_room_never_runs(tmp_path: Path) -> None:
    """A statement beyond the unit's limits is refused before it runs, so what runs is always recorded."""
    from memoryos_uow import Limits

    with Ledger.open(tmp_path / "memory.db", limits=Limits(writes_per_unit=2)) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow.sql("CREATE TABLE t (x)")
            uow.sql("INSERT INTO t VALUES (1)")
            with pytest.raises(UsageError, match="2 writes at most"):
                uow.sql("INSERT INTO t VALUES (2) RETURNING x")
        assert rows(ledger.path, "SELECT x FROM t") == [(1,)]
        assert len(ledger.get(uow.uow_id).writes) == 2


# Schema changes and new stores


@pytest.mark.parametrize("end", ["well", "rollback", "failure"])
def test_tables_made_in_a_unit_share_its_fate(ledger: Ledger, end: str) -> None:
    """CREATE, ALTER, INDEX and DROP in a unit are there when it commits and never were when it does not."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql("CREATE TABLE old (x)")
        uow.sql("INSERT INTO old VALUES (1)")
    before = rows(ledger.path, "SELECT name, sql FROM sqlite_schema ORDER BY name")
    late = ledger.unit(space_id=SPACE, band="GREEN")
    try:
        with late:
            late.sql("CREATE TABLE new (y)")
            late.sql("INSERT INTO new VALUES (?)", (7,))
            late.sql("ALTER TABLE new ADD COLUMN z DEFAULT 8")
            late.sql("CREATE INDEX new_y ON new (y)")
            assert late.sql("SELECT y, z FROM new") == [(7, 8)]
            late.sql("DROP TABLE old")
            if end == "rollback":
                late.rollback()
            if end == "failure":
                throw(OwnError())
    except OwnError:
        pass
    after = rows(ledger.path, "SELECT name, sql FROM sqlite_schema ORDER BY name")
    assert (after == before) is (end != "well")
    if end == "well":
        assert [w.operation_type for w in ledger.get(late.uow_id).writes] == [
            "create",
            "create",
            "update",
            "create",
            "delete",
        ]
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:  # every connection has caught up
        uow.sql("CREATE TABLE IF NOT EXISTS new (y, z)")
        uow.sql("INSERT INTO new VALUES (1, 2)")


def test_a_table_made_in_a_savepoint_goes_with_it(ledger: Ledger) -> None:
    """A schema change in a savepoint block is undone with the block."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        with pytest.raises(OwnError), uow.savepoint():
            uow.sql("CREATE TABLE t (x)")
            uow["fresh"].create("n1", 1)
            uow.sql("SELECT 1")
            throw(OwnError())
        with pytest.raises(UsageError, match="no such table"):
            uow.sql("SELECT * FROM t")
        uow.sql("CREATE TABLE t (y)")
        uow["fresh"].create("n2", 1)
    assert stored(ledger, "fresh") == {"n2": 1}
    assert rows(ledger.path, "SELECT name FROM pragma_table_info('t')") == [("y",)]


@pytest.mark.parametrize("flush", [False, True])
def test_a_store_made_by_a_failed_unit(ledger: Ledger, flush: bool) -> None:
    """A store that only a failed unit has written to is not recorded, and the next unit makes it anew."""
    with pytest.raises(OwnError), ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["fresh"].create("n1", 1)
        if flush:
            uow.sql("SELECT 1")
        throw(OwnError())
    assert rows(ledger.path, "SELECT name FROM uow_stores") == []
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["fresh"].create("n2", 1)
    assert rows(ledger.path, "SELECT name, kind FROM uow_stores") == [("fresh", "documents")]
    assert stored(ledger, "fresh") == {"n2": 1}


def test_a_table_store_whose_table_a_failed_unit_dropped(tmp_path: Path) -> None:
    """A store over the application's own table goes on after a unit that dropped the table was undone."""
    orders = TableStore("orders", key="id", columns={"id": "TEXT", "n": "INTEGER"}, space_column=None)
    with Ledger.open(tmp_path / "memory.db", stores=[orders]) as ledger:
        with pytest.raises(OwnError), ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow.sql("DROP TABLE orders")
            throw(OwnError())
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["orders"].create("o1", {"n": 1})
        assert ledger["orders"].get("o1", space_id=SPACE) == {"id": "o1", "n": 1}


def test_writes_to_what_is_not_there(ledger: Ledger) -> None:
    """Updating or deleting a record that does not exist refuses the whole unit."""
    for change in ("update", "delete"):
        uow = ledger.unit(space_id=SPACE, band="GREEN")
        with pytest.raises(RecordMissing, match=f"'n1' in this space to {change}"), uow:
            uow["notes"].create("other", 1)
            WRITES[change](uow)
    assert stored(ledger) == {}


# Conflicts that the caller catches


@pytest.mark.parametrize("isolation", ["writes", "serializable"])
def test_a_conflict_that_was_caught_is_still_one(ledger: Ledger, isolation: str) -> None:
    """A caller who catches the conflict at a flush and goes on meets it again at the end: no update is lost."""
    put(ledger, "n1", "old")
    uow = ledger.unit(space_id=SPACE, band="GREEN", isolation=isolation)
    with pytest.raises(ConflictError), uow:
        uow["notes"].get("n1")
        put(ledger, "n1", "theirs")
        uow["notes"].update("n1", "mine")
        for _ in range(2):
            with pytest.raises(ConflictError):
                uow.sql("SELECT 1")
    assert stored(ledger) == {"n1": "theirs"}


def test_a_conflict_in_a_savepoint_goes_with_it(ledger: Ledger) -> None:
    """A write that conflicts is undone with its savepoint; the unit then commits what does not conflict."""
    put(ledger, "n1", "old")
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].get("n1")
        put(ledger, "n1", "theirs")
        with pytest.raises(ConflictError), uow.savepoint():
            uow["notes"].update("n1", "mine")
            uow.sql("SELECT 1")
        uow["notes"].create("n2", "mine")
    assert stored(ledger) == {"n1": "theirs", "n2": "mine"}


def test_a_serializable_conflict_lets_go_of_the_lock(ledger: Ledger) -> None:
    """A serializable unit that meets its conflict when it takes the lock does not keep it."""
    put(ledger, "n1", "old")
    uow = ledger.unit(space_id=SPACE, band="GREEN", isolation="serializable")
    with pytest.raises(ConflictError), uow:
        uow["notes"].get("n1")
        put(ledger, "n1", "theirs")
        with pytest.raises(ConflictError):
            uow.sql("SELECT 1")
        put(ledger, "n2", "others may write")
        uow["notes"].create("n3", "mine")
    assert stored(ledger) == {"n1": "theirs", "n2": "others may write"}


def test_a_transaction_that_could_not_begin_may_begin_later(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller who catches what went wrong while the transaction began can go on: the next use begins it anew."""
    rows_of = ledger._opened.rows
    monkeypatch.setattr(rows_of, "next_position", lambda *_: throw(OSError(MARKER)))
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
        with pytest.raises(StoreError, match="failed with OSError"):
            uow.sql("SELECT 1")
        monkeypatch.undo()
        put(ledger, "n2", "others may write")
        assert uow.sql("SELECT 1") == [(1,)]
    assert stored(ledger) == {"n1": 1, "n2": "others may write"}
