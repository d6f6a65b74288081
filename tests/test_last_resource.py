"""A unit that another store decides: saved first, decided there, applied here; and what keeps it from that."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import (
    AsyncUnitOfWork,
    ConflictError,
    InDoubtError,
    Ledger,
    LedgerBusy,
    LedgerError,
    RecordExists,
    Status,
    StoreError,
    StoreUnavailable,
    UnitTimeout,
    UsageError,
)
from memoryos_uow._rows import LedgerRows
from memoryos_uow.engines._transaction import SQLiteTransaction
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore, TableStore, VectorStore
from memoryos_uow.testing._forks import fork, kill_own_process
from tests.deciding import DecidingFile, lost
from tests.units import SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow import UnitOfWork
    from memoryos_uow.abc import Store


def open_ledger(directory: Path, *deciders: DecidingFile, **options: Any) -> Ledger:
    """A ledger with one store of every kind, and those that decide."""
    stores: list[Store] = [
        DocumentStore("notes", search=["text"]),
        VectorStore("vectors", dimensions=2),
        BlobStore("photos", "photos", inline_below=10),
        FileStore("files", "files"),
        SQLiteFileStore("archive", "archive.db"),
        TableStore("orders", key="id", columns={"id": "TEXT", "space_id": "TEXT"}),
        *(deciders or (DecidingFile(),)),
    ]
    return Ledger.open(directory / "memory.db", stores=stores, **options)


@pytest.fixture
def decider() -> DecidingFile:
    """The store that decides."""
    return DecidingFile()


@pytest.fixture
def ledger(tmp_path: Path, decider: DecidingFile) -> Iterator[Ledger]:
    """A ledger with `decider`."""
    with open_ledger(tmp_path, decider) as opened:
        yield opened


def unit(ledger: Ledger, **options: Any) -> UnitOfWork:
    """A unit in the usual space."""
    return ledger.unit(**{"space_id": SPACE, "band": "GREEN", **options})


def write_everywhere(uow: UnitOfWork, number: int) -> None:
    """Leave a number in every store whose writes can be kept for later."""
    uow["decides"].upsert("d", number)
    uow["notes"].upsert("n", {"text": f"number {number}", "is": number})
    uow["vectors"].upsert("v", [float(number), 0.0])
    uow["photos"].upsert("small", b"%d" % number)
    uow["photos"].upsert("large", b"a large photo %d" % number)
    uow["files"].upsert("f", b"file %d" % number)
    uow["archive"].upsert("a", number)
    uow.publish("written", {"number": number}, key="k")


def found_everywhere(ledger: Ledger) -> set[int]:
    """The numbers that the stores hold."""

    def get(store: str, key: str) -> Any:
        return ledger[store].get(key, space_id=SPACE)

    numbers = {get("decides", "d"), get("notes", "n")["is"], int(get("vectors", "v")[0]), get("archive", "a")}
    numbers |= {int(get("photos", key).split()[-1]) for key in ("small", "large")} | {
        int(get("files", "f").split()[-1])
    }
    hits = ledger["notes"].search(f"number {max(numbers)}", space_id=SPACE)
    return numbers if [hit.key for hit in hits] == ["n"] else {-1}


def left_over(directory: Path) -> list[int]:
    """How many rows are left of units that are not settled."""
    tables = ("uow_coordination", "uow_prepared", "uow_saved", "uow_redo")
    with closing(sqlite3.connect(directory / "memory.db")) as connection:
        return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


def killed_after(directory: Path, method: str, do: Callable[[Ledger], None]) -> None:
    """Run `do` in a child that is killed right after the deciding store's `method`."""

    def run() -> None:
        decider = DecidingFile()
        original = getattr(decider, method)

        def call(*arguments: Any) -> None:
            original(*arguments)
            kill_own_process()

        setattr(decider, method, call)
        do(open_ledger(directory, decider))

    fork(run).wait()


# --- the way it goes -------------------------------------------------------------------------------------------------


def test_every_store_has_all_of_it(ledger: Ledger, tmp_path: Path) -> None:
    """Decided elsewhere, a unit over every kind of store is everywhere, with a receipt, and nothing is left over."""
    for number in (1, 2):
        with unit(ledger) as uow:
            write_everywhere(uow, number)
        assert (uow.status, uow.in_doubt, found_everywhere(ledger)) == (Status.COMMITTED, (), {number})
    ledger.close()
    assert left_over(tmp_path)[1:3] == [0, 0]
    with open_ledger(tmp_path) as again:
        assert again.verify().ok
        assert again.verify().level.name


def test_in_asyncio(ledger: Ledger, decider: DecidingFile) -> None:
    """Awaited, a unit is decided elsewhere in the same way, and ends in the same way when that comes to nothing."""

    async def main() -> None:
        async with AsyncUnitOfWork(space_id=SPACE, band="GREEN", ledger=ledger) as uow:
            uow["decides"].upsert("d", 1)
            uow["notes"].upsert("n", {"is": 1})
        assert uow.status is Status.COMMITTED
        decider.before_commit = lost()
        with pytest.raises(StoreUnavailable):
            async with AsyncUnitOfWork(space_id=SPACE, band="GREEN", ledger=ledger) as uow:
                uow["decides"].upsert("d", 2)
        assert uow.status is Status.FAILED

    asyncio.run(main())
    assert ledger["decides"].get("d", space_id=SPACE) == 1


def test_recovery_applies_all_that_was_saved(tmp_path: Path) -> None:
    """Killed right after the other store has committed: recovery has every write, band, actor and key of the unit."""
    with open_ledger(tmp_path) as ledger, unit(ledger) as uow:
        write_everywhere(uow, 1)

    def write(ledger: Ledger) -> None:
        def body(uow: UnitOfWork) -> str:
            write_everywhere(uow, 2)
            return "done"

        ledger.run(body, space_id=SPACE, band="AMBER", actor_id="alice", idempotency_key="once")

    killed_after(tmp_path, "decide", write)
    assert left_over(tmp_path)[:2] == [1, 1]
    with open_ledger(tmp_path) as ledger:
        assert found_everywhere(ledger) == {2}
        newest = ledger.units(limit=1)[0]
        assert (newest.status, newest.actor_id, newest.band, newest.recovery_attempted) == (
            "committed",
            "alice",
            "AMBER",
            1,
        )
        assert len(ledger.get(newest.uow_id).writes) == 8
        again = ledger.run(lambda _: pytest.fail("run again"), space_id=SPACE, band="AMBER", idempotency_key="once")
        assert (again.replayed, again.value) == (True, "done")
        assert ledger.verify().ok
    assert left_over(tmp_path) == [0, 0, 0, 0]


def test_recovery_knows_deletes_and_stores_that_only_read(tmp_path: Path) -> None:
    """A delete is saved as one, and a record that is not touched stays."""
    with open_ledger(tmp_path) as ledger, unit(ledger) as uow:
        write_everywhere(uow, 1)

    def remove(ledger: Ledger) -> None:
        with unit(ledger) as uow:
            uow["decides"].delete("d")
            uow["notes"].delete("n")
            uow["files"].delete("f")

    killed_after(tmp_path, "decide", remove)
    with open_ledger(tmp_path) as ledger:
        assert [
            ledger[name].get(key, space_id=SPACE) for name, key in (("decides", "d"), ("notes", "n"), ("files", "f"))
        ] == [None] * 3
        assert ledger["archive"].get("a", space_id=SPACE) == 1


def test_killed_before_the_decision(tmp_path: Path) -> None:
    """Killed while the other store holds its part: recovery makes sure, and a key that was claimed is free again."""
    with open_ledger(tmp_path) as ledger, unit(ledger) as uow:
        write_everywhere(uow, 1)

    def write(ledger: Ledger) -> None:
        ledger.run(lambda uow: write_everywhere(uow, 2), space_id=SPACE, band="GREEN", idempotency_key="once")

    def killed_when_saved() -> None:
        decider = DecidingFile()
        decider.decide = lambda _: kill_own_process()  # type: ignore[method-assign,assignment]
        write(open_ledger(tmp_path, decider))

    fork(killed_when_saved).wait()
    assert left_over(tmp_path)[1] == 1
    with open_ledger(tmp_path) as ledger:
        assert found_everywhere(ledger) == {1}
        assert ledger.units(limit=1)[0].error_type == "OwnerDied"
        write(ledger)
        assert found_everywhere(ledger) == {2}


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("also", "problem"),
    [
        (lambda uow: uow["orders"].create("o1", {}), "writes to 'orders', whose writes cannot be kept"),
        (lambda uow: uow.sql("CREATE TABLE t(x)"), "holds the ledger's lock already"),
        (
            lambda uow: (uow["notes"].create("n", {"text": "a word"}), uow["notes"].search("word")),
            "holds the ledger's lock already",
        ),
    ],
    ids=["table", "sql", "search"],
)
def test_what_cannot_be_put_aside_is_refused(ledger: Ledger, also: Callable[[UnitOfWork], Any], problem: str) -> None:
    """What recovery could not apply for certain has no place in such a unit, and nothing of the unit is written."""
    with pytest.raises(UsageError, match=problem), unit(ledger) as uow:
        uow["decides"].create("d", 1)
        also(uow)
    assert uow.status is Status.FAILED
    assert ledger["decides"].get("d", space_id=SPACE) is None


def test_two_that_can_only_decide(tmp_path: Path) -> None:
    """Only one commit can decide a unit."""
    with open_ledger(tmp_path, DecidingFile(), DecidingFile("also")) as ledger:
        with pytest.raises(UsageError, match="'decides' and 'also' cannot prepare"), unit(ledger) as uow:
            uow["decides"].create("d", 1)
            uow["also"].create("d", 1)
        assert uow.status is Status.FAILED


def test_the_ledger_refuses_before_the_store_decides(ledger: Ledger, decider: DecidingFile, tmp_path: Path) -> None:
    """A record that is there, a conflict or a deadline end the unit while the other store can still let go."""
    with unit(ledger) as uow:
        write_everywhere(uow, 1)
    with pytest.raises(RecordExists), unit(ledger) as uow:
        uow["decides"].update("d", 2)
        uow["notes"].create("n", {})
    assert (uow.status, decider.held, found_everywhere(ledger)) == (Status.FAILED, {}, {1})
    with pytest.raises(ConflictError, match="changed by another unit"), unit(ledger) as uow:
        uow["decides"].get("d")
        with unit(ledger, nested="independent") as other:
            other["decides"].update("d", 1)
        uow["decides"].update("d", 3)
    with pytest.raises(UnitTimeout), unit(ledger, timeout=1e-9) as uow:
        uow["decides"].update("d", 4)
    assert found_everywhere(ledger) == {1}
    assert left_over(tmp_path)[1:3] == [0, 0]


def test_the_store_refuses_to_commit(ledger: Ledger, decider: DecidingFile, tmp_path: Path) -> None:
    """A refusal that is sure ends the unit: nothing of it is anywhere."""
    decider.before_commit = StoreError("The constraint is broken.")
    with pytest.raises(StoreError, match="constraint is broken"), unit(ledger) as uow:
        uow["decides"].create("d", 1)
        uow["notes"].create("n", {})
    assert (uow.status, ledger["notes"].get("n", space_id=SPACE)) == (Status.FAILED, None)
    assert left_over(tmp_path)[1:3] == [0, 0]


@pytest.mark.parametrize(
    ("meanwhile", "problem"),
    [
        ("UPDATE uow_coordination SET epoch = epoch + 1", "Recovery took this unit over"),
        ("UPDATE uow_idempotency SET claim = 'somebody else'", "idempotency key over"),
    ],
)
def test_taken_over_while_it_is_held(
    ledger: Ledger, decider: DecidingFile, tmp_path: Path, meanwhile: str, problem: str
) -> None:
    """Who was taken over, or has lost its key, saves nothing and does not ask the other store to commit."""
    hold = decider.hold

    def held(*arguments: Any) -> None:
        hold(*arguments)
        with closing(sqlite3.connect(tmp_path / "memory.db")) as connection, connection:
            connection.execute(meanwhile)

    decider.hold = held  # type: ignore[method-assign,assignment]
    with pytest.raises(ConflictError, match=problem), unit(ledger, idempotency_key="once") as uow:
        write_everywhere(uow, 1)
    assert (uow.status, decider.held) == (Status.FAILED, {})
    assert left_over(tmp_path)[1:3] == [0, 0]


# --- answers that are lost -------------------------------------------------------------------------------------------


def test_lost_answers(ledger: Ledger, decider: DecidingFile) -> None:
    """With its answer lost the store is asked: what it has is committed, what it has not is failed for good."""
    decider.after_commit = lost()
    with unit(ledger) as uow:
        write_everywhere(uow, 1)
    assert (uow.status, found_everywhere(ledger)) == (Status.COMMITTED, {1})
    decider.after_commit, decider.before_commit = None, lost()
    with pytest.raises(StoreUnavailable, match="the unit with it") as caught, unit(ledger) as uow:
        write_everywhere(uow, 2)
    assert (uow.status, found_everywhere(ledger), caught.value.retryable) == (Status.FAILED, {1}, True)
    assert decider.fate(uow.uow_id).name == "ABORTED"


def test_a_run_goes_on_with_its_key(ledger: Ledger, decider: DecidingFile) -> None:
    """After an attempt that came to nothing in the decision the next one runs under the same key, and uses it up."""
    errors = [lost(), StoreUnavailable("Not now."), None]

    def body(uow: UnitOfWork) -> int:
        decider.before_commit = errors.pop(0)
        write_everywhere(uow, 3)
        return len(errors)

    done = ledger.run(body, space_id=SPACE, band="GREEN", idempotency_key="once", attempts=3)
    assert (done.value, done.replayed, found_everywhere(ledger)) == (0, False, {3})
    assert ledger.run(body, space_id=SPACE, band="GREEN", idempotency_key="once").replayed


def test_interrupted_in_the_decision(ledger: Ledger, decider: DecidingFile) -> None:
    """Ctrl-C while the store commits goes on to the caller, and the unit's state is what the store says."""
    decider.after_commit = KeyboardInterrupt()  # type: ignore[assignment]
    uow = unit(ledger)
    with pytest.raises(KeyboardInterrupt), uow:
        write_everywhere(uow, 1)
    assert (uow.status, found_everywhere(ledger)) == (Status.COMMITTED, {1})


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_the_ledger_fails_after_the_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    """The other store has committed and the ledger cannot be written: the unit is in doubt until it can."""
    decider = DecidingFile()
    with open_ledger(tmp_path, decider, durability=durability) as ledger:
        commit = SQLiteTransaction.commit

        def fail(tx: SQLiteTransaction) -> None:
            tx.rollback()
            raise LedgerError("The disk is full.")

        decide = decider.decide

        def decided(uow_id: str) -> None:
            decide(uow_id)
            monkeypatch.setattr(SQLiteTransaction, "commit", fail)

        decider.decide = decided  # type: ignore[method-assign]
        with pytest.raises(InDoubtError), unit(ledger) as uow:
            write_everywhere(uow, 1)
        monkeypatch.setattr(SQLiteTransaction, "commit", commit)
        assert uow.status is Status.PENDING
        assert ledger.recover().rolled_forward == (uow.uow_id,)
        assert found_everywhere(ledger) == {1}


def test_recovery_itself_may_fail(ledger: Ledger, decider: DecidingFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that cannot be written leaves the unit as it is, for another time."""
    with unit(ledger) as uow:
        write_everywhere(uow, 1)
    uow = in_doubt(ledger, decider, committed=True)
    decider.is_silent = False
    with monkeypatch.context() as patch:
        patch.setattr(LedgerRows, "insert_committed", lambda *_: (_ for _ in ()).throw(LedgerError("Not now.")))
        assert ledger.recover().in_doubt == (uow.uow_id,)
    assert ledger.recover().rolled_forward == (uow.uow_id,)
    assert found_everywhere(ledger) == {2}


def in_doubt(ledger: Ledger, decider: DecidingFile, *, committed: bool, key: str | None = None) -> UnitOfWork:
    """A unit whose answer is lost, and of which nobody can be asked."""

    class LostError(InDoubtError):
        def __init__(self) -> None:
            super().__init__("The answer was lost.")
            decider.is_silent = True

    original = decider.decide

    def decide(uow_id: str) -> None:
        if committed:
            original(uow_id)
        else:
            decider.held.pop(uow_id).close()
        raise LostError

    decider.decide = decide  # type: ignore[method-assign]
    uow = unit(ledger, idempotency_key=key)
    with pytest.raises(InDoubtError, match="only the store 'decides' knows"), uow:
        write_everywhere(uow, 2)
    decider.decide = original  # type: ignore[method-assign]
    return uow


@pytest.mark.parametrize("committed", [True, False])
def test_in_doubt_until_the_store_answers(
    ledger: Ledger, decider: DecidingFile, tmp_path: Path, *, committed: bool
) -> None:
    """Nothing is claimed while nobody can be asked; only its records and its key are withheld; then it is settled."""
    with unit(ledger) as uow:
        write_everywhere(uow, 1)
    uow = in_doubt(ledger, decider, committed=committed, key="once")
    assert (uow.status, uow.uow_id in {one.uow_id for one in ledger.units(limit=9)}) == (Status.PENDING, False)
    assert ledger.recover().in_doubt == (uow.uow_id,)
    with pytest.raises(ConflictError, match="another store is deciding"), unit(ledger) as other:
        other["notes"].update("n", {"is": 9})
    with (
        pytest.raises(LedgerBusy, match="idempotency key"),
        open_ledger(tmp_path, DecidingFile("elsewhere"), busy_timeout=0.01) as second,
    ):
        second.run(lambda _: None, space_id=SPACE, band="GREEN", idempotency_key="once")
    with unit(ledger) as other:
        other["notes"].create("another", {})
    decider.is_silent = False
    report = ledger.recover()
    assert (report.rolled_forward, report.rolled_back) == (((uow.uow_id,), ()) if committed else ((), (uow.uow_id,)))
    outcome = ledger.run(lambda _: "again", space_id=SPACE, band="GREEN", idempotency_key="once")
    assert outcome.replayed is committed
    assert found_everywhere(ledger) == {2 if committed else 1}
    with unit(ledger) as other:
        other["notes"].update("n", {"text": "number 3", "is": 3})


def test_read_while_it_is_applied(ledger: Ledger, decider: DecidingFile, tmp_path: Path) -> None:
    """A store that is not registered now leaves the unit in doubt, and is asked once it is."""
    with unit(ledger) as uow:
        write_everywhere(uow, 1)
    ledger.close()
    killed_after(tmp_path, "decide", _number_two)
    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as without:
        assert len(without.recover().in_doubt) == 1
    with open_ledger(tmp_path) as again:
        assert found_everywhere(again) == {2}


def _number_two(ledger: Ledger) -> None:
    with unit(ledger) as uow:
        write_everywhere(uow, 2)


def test_what_is_saved_is_as_written(ledger: Ledger, decider: DecidingFile, tmp_path: Path) -> None:
    """The rows of a unit in doubt hold every write in its order, and who decides."""
    with unit(ledger) as uow:
        write_everywhere(uow, 1)
    uow = in_doubt(ledger, decider, committed=True)
    with closing(sqlite3.connect(tmp_path / "memory.db")) as connection:
        [(store, known)] = connection.execute("SELECT store, unit FROM uow_prepared").fetchall()
        writes = connection.execute("SELECT seq, store, key, operation, payload FROM uow_saved ORDER BY seq").fetchall()
    assert (store, json.loads(known)["claim"]) == ("decides", None)
    assert [(seq, name) for seq, name, *_ in writes] == list(
        enumerate(["decides", "notes", "vectors", "photos", "photos", "files", "archive", "outbox"])
    )
    assert writes[1][4] == b'{"text":"number 2","is":2}'
    decider.is_silent = False
    assert ledger.recover().rolled_forward == (uow.uow_id,)


def test_erasing_where_the_store_can_only_decide(ledger: Ledger) -> None:
    """A record is deleted by a unit that its store decides, and then erased by one that holds the ledger."""
    with unit(ledger) as uow:
        write_everywhere(uow, 1)
    done = ledger.erase(space_id=SPACE, store="decides", key="d")
    assert done.complete
    assert ledger["decides"].get("d", space_id=SPACE) is None
    assert ledger["notes"].get("n", space_id=SPACE)["is"] == 1
    assert ledger.verify().ok
