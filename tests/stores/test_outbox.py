"""Publishing: messages are writes of a unit like all others."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger, Limits, UsageError
from memoryos_uow.stores._outbox import OutboxMessages
from tests.both import address_of, both, sqlite_only
from tests.units import MARKER, SPACE, OwnError, rows

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = both

GREEN = {"space_id": SPACE, "band": "GREEN"}
OUTBOX = "SELECT uow_id, seq, space_id, band, topic, key, payload, state, attempts FROM uow_outbox ORDER BY id"


def test_a_message_lies_in_the_outbox_once_its_unit_is_committed(ledger: Ledger) -> None:
    """Nothing is there before the commit; after it the row says who, where, what, and the number in the unit."""
    with ledger.unit(**GREEN) as uow:
        uow.publish("note.updated", {"id": "n1", "ä": [1.5, None]}, key="n1")
        uow.publish("note.counted", 7)
        assert rows(address_of(ledger), "SELECT count(*) FROM uow_outbox") == [(0,)]
    assert rows(address_of(ledger), OUTBOX) == [
        (uow.uow_id, 0, SPACE, "GREEN", "note.updated", "n1", '{"id":"n1","ä":[1.5,null]}', "waiting", 0),
        (uow.uow_id, 1, SPACE, "GREEN", "note.counted", None, "7", "waiting", 0),
    ]


def test_a_message_stands_in_the_units_writes_and_receipt(ledger: Ledger) -> None:
    """It is a write to the store outbox, with the digest of its payload, and the receipt counts it."""
    with ledger.unit(**GREEN) as uow:
        uow.publish("note.updated", {"id": "n1"})
        uow["notes"].create("n1", {})
    record = ledger.get(uow.uow_id)
    payload = b'{"id":"n1"}'
    (message, _) = record.writes
    assert (message.store_name, message.record_id, message.operation_type) == ("outbox", None, "create")
    assert (message.bytes_written, message.checksum) == (11, f"sha256:{hashlib.sha256(payload).hexdigest()}")
    assert uow.receipt is not None
    assert (uow.receipt.write_count, uow.receipt.store_count) == (2, 2)
    assert ledger.receipt(uow.uow_id).hash == uow.receipt.hash


def test_what_is_undone_is_not_published(ledger: Ledger) -> None:
    """A failed unit and a savepoint that was returned to publish nothing; numbers have no gaps, applied or not."""
    with pytest.raises(OwnError), ledger.unit(**GREEN) as uow:
        uow.publish("lost", 0)
        raise OwnError
    with ledger.unit(**GREEN) as uow:
        uow.publish("first", 1)
        uow.sql("SELECT 1")  # applies what waits
        for applied in (True, False):
            with pytest.raises(OwnError), uow.savepoint():
                uow.publish("undone", 2)
                if applied:
                    uow.sql("SELECT 1")
                raise OwnError
        uow.publish("second", 3)
        uow["notes"].create("n", {})
        uow.publish("third", 4)
    found = rows(address_of(ledger), "SELECT uow_id, seq, topic FROM uow_outbox ORDER BY id")
    assert found == [(uow.uow_id, 0, "first"), (uow.uow_id, 1, "second"), (uow.uow_id, 2, "third")]


def test_row_numbers_follow_the_order_of_commits(ledger: Ledger) -> None:
    """A unit that began first and commits last comes last."""
    with ledger.unit(**GREEN) as early:
        early.publish("early", 1)
        with ledger.unit(**GREEN, nested="independent") as late:
            late.publish("late", 2)
    assert rows(address_of(ledger), "SELECT topic, seq FROM uow_outbox ORDER BY id") == [("late", 0), ("early", 0)]


def test_a_later_change_of_the_payload_reaches_nobody(ledger: Ledger) -> None:
    """The payload is what it was when publish was called."""
    payload: dict[str, Any] = {"n": 1}
    with ledger.unit(**GREEN) as uow:
        uow.publish("t", payload)
        payload["n"] = 2
    assert rows(address_of(ledger), "SELECT payload FROM uow_outbox") == [('{"n":1}',)]


@sqlite_only("statements are watched on SQLite's connection")
def test_a_unit_that_publishes_nothing_pays_nothing(ledger: Ledger) -> None:
    """No statement of it touches the outbox."""
    seen: list[str] = []
    with ledger.unit(**GREEN) as uow:
        uow["notes"].create("n", {})
        uow.sql("SELECT 1")
        connection = ledger._opened.file._writer
        assert connection is not None
        connection.set_trace_callback(seen.append)
    connection.set_trace_callback(None)
    assert seen
    assert not [statement for statement in seen if "uow_outbox" in statement]


@pytest.mark.parametrize(
    ("topic", "payload", "key"),
    [
        ("", 1, None),
        (7, 1, None),
        ("t" * 256, 1, None),
        ("a\nb", 1, None),
        ("a\x9fb", 1, None),
        ("\ud800", 1, None),
        ("t", 1, ""),
        ("t", 1, 7),
        ("t", 1, "k" * 1025),
        ("t", 1, "a\tb"),
        ("t", MARKER.encode(), None),
        ("t", {1: MARKER}, None),
        ("t", float("nan"), None),
        ("t", (1, MARKER), None),
        ("t", MARKER * 20, None),
        ("t", f"{MARKER}\0", None),
        ("t", object(), None),
    ],
)
def test_bad_messages_are_refused_when_published(tmp_path: Path, topic: Any, payload: Any, key: Any) -> None:
    """A wrong topic, key or payload, or one over the limit, is refused at once, and the unit can go on without it."""
    with Ledger.open(tmp_path / "memory.db", limits=Limits(message_bytes=100)) as ledger:
        with ledger.unit(**GREEN) as uow:
            with pytest.raises(UsageError) as caught:
                uow.publish(topic, payload, key=key)
            assert (caught.value.store, caught.value.uow_id) == ("outbox", uow.uow_id)
            assert "Nothing was written" in (caught.value.hint or "")
            assert MARKER not in str(caught.value)
            uow.publish("fine", "x" * 98)
        assert rows(address_of(ledger), "SELECT topic FROM uow_outbox") == [("fine",)]


def test_a_unit_that_is_over_publishes_nothing(ledger: Ledger) -> None:
    """After the block, and before it, publish is refused."""
    uow = ledger.unit(**GREEN)
    with pytest.raises(UsageError, match="not begun"):
        uow.publish("t", 1)
    with uow:
        uow.publish("t", 1)
    with pytest.raises(UsageError, match="is over"):
        uow.publish("t", 1)


def test_the_outbox_is_no_store_of_records(ledger: Ledger) -> None:
    """Its name cannot be used, in a unit or out of it, and the SQL of a unit cannot write its table."""
    with pytest.raises(UsageError, match="kept for the library"), ledger.unit(**GREEN) as uow:
        uow["outbox"].create("k", {})
    with pytest.raises(UsageError, match="kept for the library"):
        ledger["outbox"]
    with pytest.raises(UsageError), ledger.unit(**GREEN) as uow:
        uow.sql("DELETE FROM uow_outbox")
    store = OutboxMessages()
    with pytest.raises(UsageError, match=r"uow\.publish"):
        store.encode("create", "k", 1, Limits())  # type: ignore[arg-type]


def test_a_ledger_in_basic_mode_has_an_outbox(tmp_path: Path) -> None:
    """A 1.0.0 ledger that was not migrated publishes and delivers all the same."""
    from tests import schema_files

    path = tmp_path / "old.db"
    schema_files.make_1_0_0(path, 3)
    taken: list[Any] = []
    with Ledger.open(path, migrate=False) as ledger:
        with ledger.unit(**GREEN) as uow:
            uow.publish("t", 1)
        ledger.relay(taken.append, until_empty=True)
    assert [message.dedup_key for message in taken] == [f"{uow.uow_id}:0"]
    assert '"source": "memoryos-uow"' in taken[0].cloud_event()
