"""``ledger.outbox``: looking at what is undelivered, trying again, dropping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger, LedgerError, MessageRejected, RelayReport, UsageError
from memoryos_uow.engines import sqlite
from tests import schema_files
from tests.both import address_of, both, sqlite_only
from tests.relay.kit import Clock, Sink, publish

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = both


def parked(ledger: Ledger, *topics: str, key: str | None = None) -> list[str]:
    """Publish messages and have them rejected; return their ids."""
    uow_id = publish(ledger, *topics, key=key)
    ledger.relay(Sink({topic: [MessageRejected("no")] for topic in topics}), until_empty=True)
    return [f"{uow_id}:{number}" for number in range(len(topics))]


def test_an_entry_says_everything_but_the_payload(ledger: Ledger) -> None:
    """Id, state, whose, what, how large, since when, how often and why not."""
    (message_id,) = parked(ledger, "topic", key="k")
    (entry,) = ledger.outbox.messages()
    assert (entry.message_id, entry.state, entry.topic, entry.key) == (message_id, "parked", "topic", "k")
    assert (entry.payload_bytes, entry.attempts, entry.error_type) == (17, 1, "MessageRejected")
    assert entry.error_ts is not None
    assert entry.error_ts > entry.created_ts


def test_messages_are_listed_as_asked(ledger: Ledger) -> None:
    """By topic, parked ones only, and not more than wanted, oldest first."""
    parked(ledger, "a")
    publish(ledger, "b", "a", "c")
    outbox = ledger.outbox
    assert [entry.topic for entry in outbox.messages()] == ["a", "b", "a", "c"]
    assert [entry.topic for entry in outbox.messages(topics=["a", "c"])] == ["a", "a", "c"]
    assert [entry.topic for entry in outbox.messages(parked=True)] == ["a"]
    assert [entry.topic for entry in outbox.messages(limit=2)] == ["a", "b"]
    for wrong in (-1, True, 1.5):
        with pytest.raises(UsageError):
            outbox.messages(limit=wrong)  # type: ignore[arg-type]


def test_a_retried_message_begins_anew(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parked ones and those that are put off are due at once, with no attempt counted; others are not touched."""
    Clock(monkeypatch)
    first, second = parked(ledger, "a", "b", key="k")[0], publish(ledger, "late", key="l")
    ledger.relay(Sink({"late": [ValueError()]}), until_empty=True)
    assert ledger.outbox.retry([first, f"{second}:0", "unknown:0"]) == 2
    sink = Sink()
    assert ledger.relay(sink, until_empty=True) == RelayReport(delivered=3)
    assert [message.attempt for message in sink.taken] == [1, 1, 1]
    assert ledger.outbox.retry([first]) == 0


def test_what_was_not_tried_or_is_on_its_way_is_not_retried(ledger: Ledger) -> None:
    """A waiting message is due already, and one that a relay has is its own."""
    waiting = f"{publish(ledger, 'a')}:0"
    seen: list[int] = []
    assert ledger.outbox.retry([waiting]) == 0
    ledger.relay(lambda message: seen.append(ledger.outbox.retry([message.dedup_key])), until_empty=True)
    assert seen == [0]


def test_one_that_is_tried_again_is_left_to_its_relay(ledger: Ledger) -> None:
    """It was put off before, and is being tried at this moment."""
    publish(ledger, "a")
    ledger.relay(Sink({"a": [ValueError()]}), until_empty=True)
    (entry,) = ledger.outbox.messages()
    assert ledger.outbox.retry([entry.message_id]) == 1
    ledger.relay(Sink({"a": [ValueError()]}), until_empty=True)
    seen: list[int] = []
    assert ledger.outbox.retry([entry.message_id]) == 1
    put_off = "UPDATE uow_outbox SET due_ms = 1"
    ledger._opened.coordinator.transactions.apart(lambda tx: tx.execute(put_off))
    ledger.relay(lambda message: seen.append(ledger.outbox.retry([message.dedup_key])), until_empty=True)
    assert seen == [0]


def test_all_parked_ones_can_be_retried(ledger: Ledger) -> None:
    """And nothing else is."""
    parked(ledger, "a", "b")
    publish(ledger, "c")
    assert ledger.outbox.retry("parked") == 2
    assert ledger.outbox.retry("parked") == 0


def test_a_dropped_message_is_gone_and_frees_its_key(ledger: Ledger) -> None:
    """What waited behind it goes on; the unit's receipt still counts it."""
    ids = parked(ledger, "a", key="k")
    publish(ledger, "b", key="k")
    assert ledger.outbox.drop(ids) == 1
    sink = Sink()
    assert ledger.relay(sink, until_empty=True) == RelayReport(delivered=1)
    assert sink.topics == ["b"]
    assert ledger.get(ids[0][:-2]).writes[0].store_name == "outbox"


def test_all_parked_ones_can_be_dropped(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """Waiting ones stay; the log says how many went."""
    parked(ledger, "a", "b")
    publish(ledger, "c")
    assert ledger.outbox.drop("parked") == 2
    assert ledger.outbox.drop("parked") == 0
    assert [entry.topic for entry in ledger.outbox.messages()] == ["c"]
    assert "uow.messages_dropped messages=2" in caplog.text


@pytest.mark.parametrize(
    "ids", ["all", 7, None, ["x"], ["x:"], [":1"], ["x:-1"], ["x:1.5"], ["x:²"], [7], [f"x:{'9' * 19}"], [b"x:1"]]
)
def test_what_is_no_id_is_refused(ledger: Ledger, ids: Any) -> None:
    """By both, before anything is changed."""
    parked(ledger, "a")
    for change in (ledger.outbox.retry, ledger.outbox.drop):
        with pytest.raises(UsageError, match="Nothing was changed"):
            change(ids)
    assert len(ledger.outbox.messages(parked=True)) == 1


def test_a_ledger_without_stores_has_an_empty_outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing was ever set up, because the file may not be written, there is nothing to list or relay."""
    path = tmp_path / "old.db"
    schema_files.make_1_0_0(path, 1)
    monkeypatch.setattr(sqlite, "is_writable", lambda _path: False)
    with Ledger.open(path, migrate=False) as ledger:
        assert ledger.read_only
        assert ledger.outbox.messages() == []
        assert ledger.relay(Sink(), until_empty=True) == RelayReport()


@sqlite_only("the file's mode forbids it")
def test_a_ledger_that_may_not_be_written_relays_nothing(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages can be seen; delivering them could not be noted, so nothing is handed out."""
    publish(ledger, "a")
    monkeypatch.setattr(sqlite, "is_writable", lambda _path: False)
    sink = Sink()
    with Ledger.open(address_of(ledger)) as reading:
        assert len(reading.outbox.messages()) == 1
        with pytest.raises(LedgerError, match="reading only"):
            reading.relay(sink, until_empty=True)
    assert sink.tried == []
