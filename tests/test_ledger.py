"""The ledger as users see it: receipts that a stranger can verify, records and their filters, and its end."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import sqlite3
import threading
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

import pytest
import rfc8785

from memoryos_uow import Band, Ledger, LedgerBusy, Status, UsageError, _ambient
from memoryos_uow._recovery import Recovery
from memoryos_uow.receipts import ReceiptWrite, context_digest, writes_root
from memoryos_uow.stores import DocumentStore
from tests.schema_files import make_1_0_0
from tests.units import MARKER, SPACE, OwnError, four_stores, rows, run, start, throw

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow import Receipt, UnitOfWork

BANDS: Final = [band.value for band in Band]


def put(ledger: Ledger, key: str = "n1", **options: Any) -> UnitOfWork:
    """A committed unit with one write."""
    with ledger.unit(**{"space_id": SPACE, "band": "GREEN", **options}) as uow:
        uow["notes"].upsert(key, key)
    return uow


def write_everything(wide: Ledger, band: str = "GREEN", **options: Any) -> UnitOfWork:
    """A committed unit over every kind of store."""
    with wide.unit(space_id=SPACE, band=band, actor_id="älice", **options) as uow:
        uow["notes"].create("n1", {"text": "mïlk\n"})
        uow["orders"].create("o1", {"n": 1})
        uow["embeddings"].create("v1", [1, 2])
        uow["photos"].create("p1.jpg", b"x" * 100)
        uow.sql("CREATE TABLE t (x)")
        uow["notes"].delete("n1")
    return uow


# Receipts


@pytest.mark.parametrize("band", BANDS)
def test_a_stranger_can_verify_a_receipt(wide: Ledger, band: str) -> None:
    """With plain sqlite3 and sha256 the receipt is rebuilt, byte by byte, and its hash is the one in the unit's row."""
    uow = write_everything(wide, band)
    (text, recorded), *others = rows(
        wide.path, "SELECT receipt, receipt_hash FROM uow_receipts JOIN unit_of_work USING (uow_id)"
    )
    assert others == []
    assert uow.receipt is not None
    assert text.encode() == uow.receipt.canonical()
    assert hashlib.sha256(text.encode()).hexdigest() == recorded == uow.receipt.hash
    assert rfc8785.dumps(json.loads(text)) == text.encode()


@pytest.mark.parametrize("band", BANDS)
def test_a_receipt_is_rebuilt_from_the_rows(wide: Ledger, band: str) -> None:
    """The ledger gives back the very receipt that the unit got, now and after it was opened again."""
    uow = write_everything(wide, band)
    assert wide.receipt(uow.uow_id) == uow.receipt
    wide.close()
    with Ledger.open(wide.path, stores=four_stores()) as again:
        assert again.receipt(uow.uow_id) == uow.receipt


@pytest.mark.parametrize("band", BANDS)
def test_a_receipt_binds_every_write_and_the_context(wide: Ledger, band: str) -> None:
    """The writes' rows and nonces give the receipt's root, and the context's nonce opens who acted."""
    uow = write_everything(wide, band, correlation_id="req-42")
    found = rows(
        wide.path,
        "SELECT store_name, record_id, operation_type, bytes_written, checksum, ts, nonce FROM uow_writes"
        " LEFT JOIN uow_nonces ON write_id = id WHERE uow_id = ? ORDER BY id",
        uow.uow_id,
    )
    names = ("store_name", "record_id", "operation_type", "bytes_written", "checksum", "ts", "nonce")
    texts = [(*row, nonce and nonce.hex()) for *row, nonce in found]
    writes = [ReceiptWrite(seq=seq, **dict(zip(names, row, strict=True))) for seq, row in enumerate(texts)]
    ((nonce,),) = rows(wide.path, "SELECT lower(hex(context_nonce)) FROM uow_ledger")
    assert uow.receipt is not None
    assert writes_root(writes) == uow.receipt.writes_root
    assert context_digest(actor_id="älice", correlation_id="req-42", device_id=None, nonce=nonce) == (
        uow.receipt.context
    )
    assert (uow.receipt.write_count, uow.receipt.store_count) == (6, 5)


def test_receipts_of_a_space_form_a_chain(ledger: Ledger) -> None:
    """Every space numbers its units from 1 and links each to the one before it; other spaces leave no gap."""
    made = [put(ledger, str(n), space_id=space).receipt for n, space in enumerate("aabacb")]
    with suppress(OwnError), ledger.unit(space_id="a", band="GREEN") as uow:
        uow["notes"].create("never", 1)
        throw(OwnError())
    made.append(put(ledger, "last", space_id="a").receipt)
    chains: dict[str, list[Receipt]] = {}
    for receipt in made:
        assert receipt is not None
        chains.setdefault(str(receipt.space_id), []).append(receipt)
    assert {space: len(chain) for space, chain in chains.items()} == {"a": 4, "b": 2, "c": 1}
    for chain in chains.values():
        assert [receipt.space_seq for receipt in chain] == list(range(1, len(chain) + 1))
        assert [receipt.prev for receipt in chain] == [None, *(receipt.hash for receipt in chain[:-1])]
    assert [seq for (seq,) in rows(ledger.path, "SELECT commit_seq FROM uow_ledger")] == list(range(1, 8))


def test_receipts_name_their_ledger(tmp_path: Path) -> None:
    """Every receipt carries the ledger's origin, given when it was made or made up then."""
    with Ledger.open(tmp_path / "given.db", origin="example.com/household") as ledger:
        receipt = put(ledger).receipt
        assert receipt is not None
        assert (ledger.origin, receipt.origin) == ("example.com/household", "example.com/household")
    with Ledger.open(tmp_path / "made.db") as ledger:
        receipt = put(ledger).receipt
        assert receipt is not None
        assert receipt.origin == ledger.origin
        assert (ledger.origin or "").startswith("memoryos-uow/")


def test_units_without_a_receipt(ledger: Ledger) -> None:
    """There is no receipt of a failed unit, of one that wrote nothing, and of one that never was."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with suppress(OwnError), uow:
        throw(OwnError())
    with pytest.raises(UsageError, match="has no receipt: it is failed"):
        ledger.receipt(uow.uow_id)
    with ledger.unit(space_id=SPACE, band="GREEN") as idle:
        idle["notes"].get("n1")
    assert idle.receipt is None
    for unknown in (idle.uow_id, "no such unit"):
        with pytest.raises(UsageError, match=f"no unit {unknown}") as caught:
            ledger.receipt(unknown)
        assert caught.value.hint


# Records


def test_asking_for_one_unit(ledger: Ledger) -> None:
    """A unit is found by its id, with its writes; what is not an id is refused."""
    uow = put(ledger)
    record = ledger.get(uow.uow_id)
    assert (record.uow_id, len(record.writes)) == (uow.uow_id, 1)
    for wrong in ("", 7, None, "a\0b"):
        with pytest.raises(UsageError, match="uow_id"):
            ledger.get(wrong)  # type: ignore[arg-type]


def test_listing_units(ledger: Ledger) -> None:
    """Units come newest first, without their writes, as many as asked for, those that match every filter."""
    first = put(ledger, space_id="a", actor_id="alice", correlation_id="r1")
    second = put(ledger, space_id="a", band="RED", actor_id="bob")
    third = put(ledger, space_id="b", actor_id="alice", correlation_id="r1")
    with suppress(OwnError), ledger.unit(space_id="b", band="RED", actor_id="alice") as fourth:
        throw(OwnError())
    names = {first.uow_id: 1, second.uow_id: 2, third.uow_id: 3, fourth.uow_id: 4}

    def found(**filters: Any) -> list[int]:
        records = ledger.units(**filters)
        assert all(record.writes == () for record in records)
        return [names[record.uow_id] for record in records]

    assert found() == [4, 3, 2, 1]
    assert found(space_id="a") == [2, 1]
    assert found(band="RED") == found(band=Band.RED) == [4, 2]
    assert found(actor_id="alice") == [4, 3, 1]
    assert found(correlation_id="r1") == [3, 1]
    assert found(status="failed") == found(status=Status.FAILED) == [4]
    assert found(space_id="b", actor_id="alice", status="committed") == [3]
    assert found(space_id="nobody") == []
    assert found(limit=2) == [4, 3]
    assert found(limit=0) == []


def test_listing_units_since(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """`since` is any time with a zone, as text or datetime, and compares with the unit's creation as times do."""
    for hour in (10, 11, 12):
        monkeypatch.setattr(_ambient, "now_text", lambda hour=hour: f"2026-11-22T{hour}:00:00.000000Z")
        put(ledger, str(hour))
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    for since, count in (
        ("2026-11-22T11:00:00Z", 2),
        ("2026-11-22T11:00:00.000001Z", 1),
        ("2026-11-22T13:00:00+02:00", 2),
        (noon, 1),
        (noon.astimezone(timezone(timedelta(hours=-5))), 1),
        (noon + timedelta(microseconds=1), 0),
        ("0300-01-01T00:00:00Z", 3),
        ("9999-12-31T23:59:59Z", 0),
    ):
        assert len(ledger.units(since=since)) == count, since


@pytest.mark.parametrize(
    "wrong",
    [
        {"space_id": ""},
        {"actor_id": 7},
        {"correlation_id": "a\0"},
        {"band": "green"},
        {"status": "done"},
        {"since": "yesterday"},
        {"since": "2026-11-22T11:00:00"},
        {"since": datetime(2026, 11, 22)},  # noqa: DTZ001 - the point
        {"since": 7},
        {"since": "0001-01-01T00:00:00+05:00"},
        {"limit": -1},
        {"limit": "5"},
        {"limit": 1.0},
        {"limit": True},
        {"limit": 2**70},
    ],
    ids=repr,
)
def test_wrong_filters(ledger: Ledger, wrong: dict[str, Any]) -> None:
    """A filter that cannot be is refused with a hint, not answered with nothing."""
    with pytest.raises(UsageError) as caught:
        ledger.units(**wrong)
    assert caught.value.hint


@pytest.mark.parametrize("filter_name", ["space_id", "actor_id", "band", "correlation_id"])
def test_filters_use_the_indexes(ledger: Ledger, filter_name: str) -> None:
    """Each of these filters is answered by the specification's index, newest first, without sorting."""
    put(ledger)
    asked: list[str] = []
    with ledger._opened.engine.reader() as reader:
        reader.connection.set_trace_callback(asked.append)
    asking: dict[str, Any] = {filter_name: "GREEN"}
    ledger.units(**asking)
    with ledger._opened.engine.reader() as reader:
        reader.connection.set_trace_callback(None)
    (query,) = asked
    plan = " / ".join(step for *_, step in rows(ledger.path, f"EXPLAIN QUERY PLAN {query}"))
    assert f"USING INDEX idx_uow_{filter_name} " in plan
    assert "TEMP B-TREE" not in plan
    assert "SCAN" not in plan


def test_the_writes_of_a_unit_are_found_without_searching_all(ledger: Ledger) -> None:
    """One unit's writes are read by their ids, not by going through every write of the ledger."""
    uow = put(ledger)
    ledger.get(uow.uow_id)
    asked: list[str] = []
    with ledger._opened.engine.reader() as reader:
        reader.connection.set_trace_callback(asked.append)
    ledger.get(uow.uow_id)
    with ledger._opened.engine.reader() as reader:
        reader.connection.set_trace_callback(None)
    plans = [step for query in asked for *_, step in rows(ledger.path, f"EXPLAIN QUERY PLAN {query}")]
    assert plans
    assert not [step for step in plans if "SCAN" in step]


def test_validation_names_the_rows(ledger: Ledger) -> None:
    """A sound ledger breaks no rule; a row that somebody changed by hand is named."""
    uow = put(ledger)
    assert ledger.validate() == []
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        connection.execute("UPDATE unit_of_work SET receipt_hash = 'abc', commit_time_ms = -1")
    assert {(found.rule, found.uow_id) for found in ledger.validate()} == {
        ("receipt", uow.uow_id),
        ("metrics", uow.uow_id),
    }


def test_facts_about_a_ledger(ledger: Ledger, tmp_path: Path) -> None:
    """A ledger tells its file, contract and state."""
    assert (ledger.path, ledger.contract_version) == (tmp_path / "memory.db", "1.1.0")
    assert (ledger.read_only, ledger.closed) == (False, False)
    assert repr(ledger) == f"<Ledger {str(tmp_path / 'memory.db')!r}>"
    ledger.close()
    assert ledger.closed
    assert repr(ledger).endswith(" closed>")


# The end


def test_a_closed_ledger(ledger: Ledger) -> None:
    """A closed ledger refuses every question, and may be closed again."""
    put(ledger)
    notes = ledger["notes"]
    ledger.close()
    ledger.close()
    for use in (
        lambda: ledger["notes"],
        lambda: ledger.get("x"),
        ledger.units,
        ledger.validate,
        ledger.recover,
        lambda: ledger.receipt("x"),
        lambda: notes.get("n1", space_id=SPACE),
        lambda: notes.keys(space_id=SPACE),
        lambda: put(ledger),
    ):
        with pytest.raises(UsageError, match="is closed") as caught:
            use()
        assert caught.value.hint


def test_closing_inside_a_unit(ledger: Ledger) -> None:
    """A ledger whose lock this thread's own unit holds refuses to be closed, loses nothing, and goes on."""
    first = put(ledger)
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n2", 1)
        uow.sql("SELECT 1")
        inner = ledger.unit(space_id=SPACE, band="GREEN", nested="independent")
        with suppress(OwnError), inner:
            throw(OwnError())
        with pytest.raises(UsageError, match="still open"):
            ledger.close()
        assert not ledger.closed
    assert (ledger.get(uow.uow_id).status, ledger.get(inner.uow_id).status) == ("committed", "failed")
    assert ledger.get(first.uow_id).commit_us is not None


def test_closing_waits_for_another_threads_unit(ledger: Ledger) -> None:
    """Closing waits until the unit of another thread that holds the lock is over; it is then committed."""
    holds, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("n1", 1)
            uow.sql("SELECT 1")
            holds.set()
            go_on.wait()

    thread = threading.Thread(target=work)
    thread.start()
    holds.wait()
    closing_it = threading.Thread(target=ledger.close)
    closing_it.start()
    go_on.set()
    closing_it.join()
    thread.join()
    assert ledger.closed
    assert rows(ledger.path, "SELECT key FROM uow_documents") == [("n1",)]


def test_closing_does_not_wait_for_ever(tmp_path: Path) -> None:
    """Where another thread never ends its unit, closing gives up after the busy timeout and leaves the ledger open."""
    holds, go_on = threading.Event(), threading.Event()
    with Ledger.open(tmp_path / "memory.db", busy_timeout=0) as ledger:

        def work() -> None:
            with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["notes"].create("n1", 1)
                uow.sql("SELECT 1")
                holds.set()
                go_on.wait()

        thread = threading.Thread(target=work)
        thread.start()
        holds.wait()
        with pytest.raises(LedgerBusy):
            ledger.close()
        assert not ledger.closed
        go_on.set()
        thread.join()
    assert rows(ledger.path, "SELECT key FROM uow_documents") == [("n1",)]


NEVER_CLOSED: Final = """
    import sys, threading
    import memoryos_uow
    ledger = memoryos_uow.Ledger.open(sys.argv[1])
    with ledger.unit(space_id="s", band="GREEN") as uow: uow["notes"].create("n1", 1)
    if sys.argv[2] == "stuck":
        memoryos_uow._open_ledger.EXIT_WAIT_S = 0
        holds = threading.Event()
        def work():
            with ledger.unit(space_id="s", band="GREEN") as uow:
                uow["notes"].create("n2", 1)
                uow.sql("SELECT 1")
                holds.set()
                threading.Event().wait()
        threading.Thread(target=work, daemon=True).start()
        holds.wait()
    print(uow.status)
"""


def test_a_ledger_is_closed_at_exit(tmp_path: Path) -> None:
    """A process that ends without closing its ledger leaves the timings filled in and no log beside the file."""
    path = tmp_path / "memory.db"
    assert run(NEVER_CLOSED, path, "free") == "committed\n"
    assert {file.name for file in tmp_path.iterdir()} == {"memory.db", "memory.db-head"}
    assert rows(path, "SELECT commit_us IS NULL FROM uow_ledger") == [(0,)]


def test_a_daemon_thread_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    """A process ends although a daemon thread sits in the middle of a unit; nothing of that unit is there."""
    path = tmp_path / "memory.db"
    assert run(NEVER_CLOSED, path, "stuck") == "committed\n"
    assert rows(path, "SELECT key FROM uow_documents") == [("n1",)]


class Stubborn(DocumentStore):
    """Refuses to be closed."""

    def close(self) -> None:
        raise OSError(MARKER)


def test_a_store_that_cannot_be_closed(tmp_path: Path) -> None:
    """A store that fails to close is named; the ledger and the other stores are closed all the same."""
    closed: list[str] = []

    class Watched(DocumentStore):
        def close(self) -> None:
            closed.append(self.name)

    ledger = Ledger.open(tmp_path / "memory.db", stores=[Stubborn("bad"), Watched("good")])
    with pytest.raises(Exception, match="'bad' could not be closed"):
        ledger.close()
    assert (closed, ledger.closed) == (["good"], True)
    ledger.close()


def test_a_ledger_as_a_context_manager(tmp_path: Path) -> None:
    """Leaving the block closes the ledger, and lets the caller's exception through."""
    error = OwnError()
    with pytest.raises(OwnError) as caught, Ledger.open(tmp_path / "memory.db") as ledger:
        throw(error)
    assert caught.value is error
    assert ledger.closed


# Several at once


READER: Final = """
    import sys
    from memoryos_uow import Ledger
    with Ledger.open(sys.argv[1]) as ledger:
        print("open", flush=True)
        for line in sys.stdin:
            print(len(ledger.units()), ledger["notes"].get("n1", space_id="s"), flush=True)
"""


def test_another_process_sees_what_is_committed(ledger: Ledger) -> None:
    """A second process that has the ledger open sees each unit as soon as it is committed, and never before."""
    child = start(READER, ledger.path)
    assert child.stdin is not None
    assert child.stdout is not None

    def ask() -> str:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("?\n")
        child.stdin.flush()
        return child.stdout.readline().strip()

    assert child.stdout.readline() == "open\n"
    assert ask() == "0 None"
    with ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("n1", "milk")
        uow.sql("SELECT 1")
        assert ask() == "0 None"
    assert ask() == "1 milk"
    child.communicate()


def test_a_ledger_that_is_opened_while_a_unit_is_in_flight(ledger: Ledger) -> None:
    """A ledger may be opened a second time while a unit holds the lock; only what writes has to wait."""
    put(ledger)
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n2", 1)
        uow.sql("SELECT 1")
        with Ledger.open(ledger.path, busy_timeout=0) as again:
            assert again["notes"].get("n1", space_id=SPACE) == "n1"
            assert again["notes"].get("n2", space_id=SPACE) is None
            with pytest.raises(LedgerBusy):
                put(again, "n3")
    with Ledger.open(ledger.path) as again:
        assert again["notes"].get("n2", space_id=SPACE) == 1


def test_records_are_frozen(ledger: Ledger) -> None:
    """A record and a receipt cannot be changed by accident."""
    uow = put(ledger)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ledger.get(uow.uow_id).status = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        uow.receipt.band = "RED"  # type: ignore[misc,union-attr]


def test_a_ledger_of_1_0_0_has_nothing_to_verify(tmp_path: Path) -> None:
    """It has no receipts, and says so."""
    make_1_0_0(tmp_path / "memory.db")
    with (
        Ledger.open(tmp_path / "memory.db", migrate=False) as ledger,
        pytest.raises(UsageError, match="has no receipts to verify"),
    ):
        ledger.verify()


def test_recovery_that_cannot_be_done_now_does_not_hinder_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What dead processes left waits for the next recovery where the ledger is locked for too long; the log says so."""

    def busy(recovery: Recovery) -> bool:
        raise LedgerBusy("Others hold it.")

    monkeypatch.setattr(Recovery, "is_needed", busy)
    with caplog.at_level(logging.WARNING, "memoryos_uow"), Ledger.open(tmp_path / "memory.db") as ledger:
        assert not ledger.closed
    assert "uow.recovery_delayed reason=LedgerBusy" in caplog.text
