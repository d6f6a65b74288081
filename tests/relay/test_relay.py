"""The relay: at least once, in order per key, shared, and nothing lost by what a sink does."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Band, Ledger, LedgerBusy, MessageRejected, RelayReport, SinkUnavailable, UsageError, _owner
from memoryos_uow._relay import relay as relay_module
from memoryos_uow._relay import rows as outbox_rows
from tests.both import address_of, both, sqlite_only
from tests.relay.kit import Clock, Sink, publish
from tests.units import MARKER, SPACE, locked, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow import Message

pytestmark = both


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that only the test moves."""
    return Clock(monkeypatch)


def relay(ledger: Ledger, sink: Callable[[Message], object], **options: Any) -> RelayReport:
    """Relay what is due."""
    return ledger.relay(sink, until_empty=True, **options)


# What a sink gets


def test_messages_are_delivered_in_order_and_removed(ledger: Ledger) -> None:
    """Each message arrives once, with all its facts, in commit order; then the outbox is empty."""
    first = publish(ledger, "a", "b", key="k")
    second = publish(ledger, "c", band="AMBER")
    sink = Sink()
    assert relay(ledger, sink) == RelayReport(delivered=3)
    assert [message.dedup_key for message in sink.taken] == [f"{first}:0", f"{first}:1", f"{second}:0"]
    message = sink.taken[0]
    assert (message.topic, message.key, message.space_id, message.band) == ("a", "k", SPACE, "GREEN")
    assert (message.payload, message.payload_json, message.attempt) == ({"topic": "a"}, '{"topic":"a"}', 1)
    assert message.payload is not message.payload
    assert message.origin == ledger.origin
    assert rows(address_of(ledger), "SELECT count(*) FROM uow_outbox") == [(0,)]
    assert relay(ledger, sink) == RelayReport()


def test_a_message_shows_nothing_of_itself(ledger: Ledger) -> None:
    """Its repr, and that of an entry of the outbox, has neither topic, key, space nor payload."""
    publish(ledger, f"t-{MARKER}", key=f"k-{MARKER}", space=f"s-{MARKER}")
    sink = Sink()
    assert MARKER not in repr(ledger.outbox.messages())
    relay(ledger, sink)
    assert MARKER not in repr(sink.taken)


def test_more_messages_than_a_batch(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches follow each other until nothing is left, in order."""
    monkeypatch.setattr(relay_module, "BATCH", 3)
    topics = [f"t{number}" for number in range(10)]
    publish(ledger, *topics)
    sink = Sink()
    assert relay(ledger, sink).delivered == 10
    assert sink.topics == topics


def test_only_the_topics_asked_for(ledger: Ledger) -> None:
    """Others stay, hold nobody back, and are not counted as left."""
    publish(ledger, "a", "b", "c", key="k")
    sink = Sink()
    assert relay(ledger, sink, topics=["b", "c"]) == RelayReport(delivered=2)
    assert sink.topics == ["b", "c"]
    assert [entry.topic for entry in ledger.outbox.messages()] == ["a"]


def test_a_sink_may_write_to_the_ledger(ledger: Ledger) -> None:
    """No lock is held while it works: a unit of its own commits, and what it publishes is delivered too."""

    def sink(message: Message) -> None:
        if message.topic == "ask":
            with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["answers"].create(message.dedup_key, {})
                uow.publish("answer", 1)

    publish(ledger, "ask")
    assert relay(ledger, sink).delivered == 2


def test_nothing_is_handed_out_before_it_is_durable(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is synced after the claim and before the sink is called."""
    events: list[str] = []
    monkeypatch.setattr(ledger._opened.engine, "sync_log", lambda: events.append("sync"))
    publish(ledger, "a", "b")
    relay(ledger, lambda message: events.append(message.topic))
    assert events == ["sync", "a", "b"]


# Failures


@sqlite_only("pauses and leases run by the database's clock there, which no test can turn")
def test_a_failed_message_is_put_off_and_tried_again(ledger: Ledger, clock: Clock) -> None:
    """It waits longer after each failure, tells its attempt, and says why; the others are delivered meanwhile."""
    publish(ledger, "bad", "good")
    sink = Sink({"bad": [ValueError("no"), ValueError("still no")]})
    assert relay(ledger, sink) == RelayReport(delivered=1, retried=1, left=1)
    (entry,) = ledger.outbox.messages()
    assert (entry.state, entry.attempts, entry.error_type, entry.error_message) == ("delayed", 1, "ValueError", "no")
    clock.move(0.999)
    assert relay(ledger, sink) == RelayReport(left=1)
    clock.move(0.001)
    assert relay(ledger, sink) == RelayReport(retried=1, left=1)
    clock.move(1.999)
    assert relay(ledger, sink) == RelayReport(left=1)
    clock.move(0.001)
    assert relay(ledger, sink) == RelayReport(delivered=1)
    assert (sink.topics, sink.taken[1].attempt) == (["good", "bad"], 3)


@sqlite_only("pauses and leases run by the database's clock there, which no test can turn")
def test_a_failing_message_holds_back_its_own_key_only(ledger: Ledger, clock: Clock) -> None:
    """Later ones of its key wait, also those of the same batch; other keys, other spaces and none go on."""
    publish(ledger, "k1", "k2", key="k")
    publish(ledger, "other", key="l")
    publish(ledger, "elsewhere", key="k", space="another")
    publish(ledger, "k3", key="k")
    publish(ledger, "plain")
    sink = Sink({"k1": [ValueError()]})
    assert relay(ledger, sink) == RelayReport(delivered=3, retried=1, left=3)
    assert sink.tried == ["k1", "other", "elsewhere", "plain"]
    publish(ledger, "later", key="k", space="another")
    assert relay(ledger, sink) == RelayReport(delivered=1, left=3)
    clock.move(1)
    assert relay(ledger, sink).delivered == 3
    assert sink.topics == ["other", "elsewhere", "plain", "later", "k1", "k2", "k3"]


@sqlite_only("pauses and leases run by the database's clock there, which no test can turn")
def test_a_message_that_fails_too_often_is_parked(
    ledger: Ledger, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """After the given attempts it is kept with the reason, not tried again, and still holds back its key."""
    publish(ledger, "bad", "after", key="k")
    sink = Sink({"bad": [ValueError(MARKER)] * 9})
    for _ in range(2):
        assert relay(ledger, sink, attempts=3).retried == 1
        clock.move(10)
    assert relay(ledger, sink, attempts=3) == RelayReport(parked=1, left=2)
    clock.move(100_000)
    assert relay(ledger, sink, attempts=3) == RelayReport(left=2)
    assert [(entry.topic, entry.state, entry.attempts) for entry in ledger.outbox.messages()] == [
        ("bad", "parked", 3),
        ("after", "waiting", 0),
    ]
    assert "uow.message_parked" in caplog.text
    assert MARKER not in caplog.text


def test_a_rejected_message_is_parked_at_once(ledger: Ledger) -> None:
    """MessageRejected says that trying again is of no use."""
    publish(ledger, "bad", "good")
    sink = Sink({"bad": [MessageRejected("no")]})
    assert relay(ledger, sink) == RelayReport(delivered=1, parked=1, left=1)


@sqlite_only("pauses and leases run by the database's clock there, which no test can turn")
def test_an_outage_parks_nothing(ledger: Ledger, clock: Clock) -> None:
    """While the receiver is out of reach the relay stops trying, no attempt is counted, and others go first after."""
    publish(ledger, "a", "b")
    sink = Sink({"a": [SinkUnavailable("down")] * 50})
    for _ in range(20):
        assert relay(ledger, sink, attempts=1).parked == 0
        clock.move(100)
    assert sink.tried.count("b") == 0
    sink.errors["a"] = [SinkUnavailable("down")]
    relay(ledger, sink, attempts=1)
    assert relay(ledger, sink, attempts=1) == RelayReport(delivered=1, left=1)  # a is put off, b goes
    clock.move(1)
    assert relay(ledger, sink, attempts=1) == RelayReport(delivered=1)
    assert sink.taken[-1].attempt == 1


@sqlite_only("pauses and leases run by the database's clock there, which no test can turn")
def test_the_reason_is_kept_as_far_as_the_band_allows(ledger: Ledger) -> None:
    """GREEN keeps the text, AMBER our own sentence only, RED and BLACK the type."""
    bands = [band.value for band in Band]
    for band in bands:
        publish(ledger, band, band=band)
        publish(ledger, f"{band}-ours", band=band)
    sink = Sink(
        {band: [ValueError(MARKER)] for band in bands} | {f"{band}-ours": [MessageRejected(MARKER)] for band in bands}
    )
    relay(ledger, sink)
    reasons = {entry.topic: (entry.error_type, entry.error_message) for entry in ledger.outbox.messages()}
    assert reasons == {
        "GREEN": ("ValueError", MARKER),
        "GREEN-ours": ("MessageRejected", MARKER),
        "AMBER": ("ValueError", None),
        "AMBER-ours": ("MessageRejected", MessageRejected.summary),
        "RED": ("ValueError", None),
        "RED-ours": ("MessageRejected", None),
        "BLACK": ("ValueError", None),
        "BLACK-ours": ("MessageRejected", None),
    }


def test_an_interrupt_gives_everything_back(ledger: Ledger) -> None:
    """What was taken is acknowledged, the rest is free at once, and the interrupt goes on to the caller."""
    publish(ledger, "a", "b", "c", key="k")
    sink = Sink({"b": [KeyboardInterrupt()]})
    with pytest.raises(KeyboardInterrupt):
        relay(ledger, sink)
    assert [entry.state for entry in ledger.outbox.messages()] == ["waiting", "waiting"]
    assert relay(ledger, sink).delivered == 2
    assert sink.topics == ["a", "b", "c"]


def test_a_relay_that_is_told_to_stop_gives_back_the_rest(ledger: Ledger) -> None:
    """It ends after the message at hand; what it had claimed is free, and was never tried."""
    publish(ledger, "a", "b", "c")
    stop = threading.Event()
    tried: list[str] = []

    def sink(message: Message) -> None:
        tried.append(message.topic)
        stop.set()

    assert ledger.relay(sink, stop=stop) == RelayReport(delivered=1, left=2)
    assert tried == ["a"]
    assert {(entry.state, entry.attempts) for entry in ledger.outbox.messages()} == {("waiting", 0)}


def test_a_busy_ledger_costs_no_acknowledgement(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sink has taken while the ledger was busy is acknowledged later and not delivered again."""
    publish(ledger, "a", "b")
    stop = threading.Event()
    apart = ledger._opened.coordinator.transactions.apart
    calls: list[str] = []

    def busy(*arguments: Any, **options: Any) -> None:
        calls.append("")
        if len(calls) == 2:  # the claim is the first
            raise LedgerBusy("busy")
        apart(*arguments, **options)

    monkeypatch.setattr(ledger._opened.coordinator.transactions, "apart", busy)
    monkeypatch.setattr(relay_module, "POLL_S", 0)
    sink = Sink()

    def counting(message: Message) -> None:
        sink(message)
        if message.topic == "b":
            publish(ledger, "last")
        if message.topic == "last":
            stop.set()

    assert ledger.relay(counting, stop=stop).delivered == 3
    assert sink.topics == ["a", "b", "last"]


def test_a_busy_ledger_ends_a_relay_that_works_once(tmp_path: Path) -> None:
    """Without the lock nothing can be claimed, and the caller is told."""
    with Ledger.open(tmp_path / "m.db", busy_timeout=0) as ledger:
        publish(ledger, "a")
        sink = Sink()
        with locked(ledger.path), pytest.raises(LedgerBusy):
            relay(ledger, sink)
        assert sink.tried == []


# Several relays


def test_what_a_relay_has_is_left_alone_by_others(ledger: Ledger, clock: Clock) -> None:
    """While one delivers, another finds neither its messages nor later ones of their keys; others it delivers."""
    publish(ledger, "a", key="k")
    inner = Sink()

    def sink(message: Message) -> None:
        publish(ledger, "behind", key="k")
        publish(ledger, "free", key="l")
        assert relay(ledger, inner) == RelayReport(delivered=1, left=2)
        assert [entry.state for entry in ledger.outbox.messages()] == ["in flight", "waiting"]

    ledger.relay(sink, until_empty=True, topics=["a"])
    assert inner.topics == ["free"]
    assert relay(ledger, inner).delivered == 1
    assert inner.topics == ["free", "behind"]


@sqlite_only("pauses and leases run by the database's clock there, which no test can turn")
def test_a_late_acknowledgement_changes_nothing(ledger: Ledger, clock: Clock) -> None:
    """A sink that hangs beyond the lease loses its message to another relay, with all later ones of its batch."""
    publish(ledger, "a", "b", key="k")
    inner = Sink()
    tried: list[str] = []

    def slow(message: Message) -> None:
        tried.append(message.topic)
        clock.move(61)
        assert relay(ledger, inner, topics=["a", "b"]).delivered == 2
        publish(ledger, "c", key="k")

    assert relay(ledger, slow, topics=["a", "b"]) == RelayReport()
    assert tried == ["a"]
    assert inner.topics == ["a", "b"]
    assert [message.attempt for message in inner.taken] == [2, 2]
    assert [entry.topic for entry in ledger.outbox.messages()] == ["c"]


@sqlite_only("pauses and leases run by the database's clock there, which no test can turn")
def test_a_late_failure_changes_nothing(ledger: Ledger, clock: Clock) -> None:
    """The same for one whose sink fails after another relay has taken over."""
    publish(ledger, "a")

    def slow(message: Message) -> None:
        clock.move(61)
        with ledger._opened.engine.reader() as reader:
            (found,) = outbox_rows.claimable(reader, None, limit=9)
        ledger._opened.coordinator.transactions.apart(lambda tx: outbox_rows.claim(tx, [found], clock.now_ms + 9_000))
        raise ValueError

    assert relay(ledger, slow) == RelayReport(left=1)
    (entry,) = ledger.outbox.messages()
    assert (entry.state, entry.attempts) == ("in flight", 0)


def test_a_slow_sink_keeps_its_messages(ledger: Ledger, clock: Clock) -> None:
    """The lease is renewed while a batch takes long, message by message, and what is taken is acknowledged."""
    publish(ledger, *"abcdef")
    inner = Sink()
    seen: list[int] = []

    def slow(message: Message) -> None:
        clock.move(40)
        assert relay(ledger, inner) == RelayReport(left=len(ledger.outbox.messages()))
        seen.append(len(ledger.outbox.messages()))

    assert relay(ledger, slow) == RelayReport(delivered=6)
    assert seen == [6, 5, 4, 3, 2, 1]
    assert inner.tried == []


def test_quick_deliveries_are_acknowledged_together_but_not_late(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction acknowledges a whole batch; a batch that takes more than a second is acknowledged on the way."""
    publish(ledger, *"abc")
    seen: list[int] = []
    relay(ledger, lambda message: seen.append(len(ledger.outbox.messages())))
    assert seen == [3, 3, 3]
    publish(ledger, *"abc")
    monkeypatch.setattr(relay_module, "NOTE_EVERY_S", 0)
    relay(ledger, lambda message: seen.append(len(ledger.outbox.messages())))
    assert seen[3:] == [3, 2, 1]


def test_what_a_dead_relay_had_is_tried_alone(ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims of a process that is gone are free at once; each is claimed on its own, and counted as tried."""
    publish(ledger, "a", "b", "c")
    with ledger._opened.engine.reader() as reader:
        found = outbox_rows.claimable(reader, None, limit=2)
    monkeypatch.setattr(_owner, "own_name", lambda: "another")
    ledger._opened.coordinator.transactions.apart(lambda tx: outbox_rows.claim(tx, found, clock.now_ms + 60_000))
    monkeypatch.undo()
    clock = Clock(monkeypatch)
    sink = Sink()
    assert relay(ledger, sink) == RelayReport(delivered=1, left=2)
    assert sink.topics == ["c"]
    monkeypatch.setattr(_owner, "is_gone", lambda name: name == "another")
    in_flight: list[int] = []

    def alone(message: Message) -> None:
        entries = ledger.outbox.messages()
        in_flight.append(sum(rows(address_of(ledger), "SELECT count(*) FROM uow_outbox WHERE owner != 'another'")[0]))
        sink(message)
        assert entries[0].attempts == 1, "the claim that lapsed was not counted"

    assert relay(ledger, alone) == RelayReport(delivered=2)
    assert [(message.topic, message.attempt) for message in sink.taken[1:]] == [("a", 2), ("b", 2)]
    assert in_flight == [1, 1]


@sqlite_only("pauses and leases run by the database's clock there, which no test can turn")
def test_a_message_that_kills_every_relay_is_parked(ledger: Ledger, clock: Clock) -> None:
    """Claims that lapse count as attempts; the last one parks the message without trying it, and others live on."""
    publish(ledger, "killer", "good")
    transactions = ledger._opened.coordinator.transactions

    def die(tx: Any) -> None:
        found = outbox_rows.claimable(tx, None, limit=1)
        outbox_rows.claim(tx, found, 1_000)
        if found[0].lapsed:
            outbox_rows.count_lapse(tx, replace(found[0], epoch=found[0].epoch + 1))

    for _ in range(3):
        transactions.apart(die)
        clock.move(2)
    sink = Sink()
    assert relay(ledger, sink, attempts=3) == RelayReport(delivered=1, parked=1, left=1)
    assert sink.tried == ["good"]
    (entry,) = ledger.outbox.messages(parked=True)
    assert (entry.topic, entry.error_type, entry.attempts) == ("killer", "RelayDied", 3)


# Running on


def test_a_waiting_relay_notices_what_others_commit(tmp_path: Path) -> None:
    """Two relays in threads, one ledger object each: every message arrives once, soon after its commit."""
    path = tmp_path / "m.db"
    stop = threading.Event()
    lock = threading.Lock()
    taken: list[str] = []
    done = threading.Event()

    def sink(message: Message) -> None:
        with lock:
            taken.append(message.dedup_key)
            if len(taken) == 40:
                done.set()

    def work() -> None:
        with Ledger.open(path) as own:
            own.relay(sink, stop=stop)

    with Ledger.open(path) as ledger:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        published = [f"{publish(ledger, 't', key=str(number % 3))}:0" for number in range(40)]
        assert done.wait(30)
        stop.set()
        for thread in threads:
            thread.join()
        assert sorted(taken) == sorted(published)
        assert ledger.outbox.messages() == []


@sqlite_only("pauses and leases run by the database's clock there, which no test can turn")
def test_a_relay_rests_while_its_receiver_is_out_of_reach(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses double up to the largest, and the first success ends the row of them."""
    publish(ledger, "a")
    pauses: list[float | None] = []

    by_hand = Clock(monkeypatch)

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout)
            by_hand.move(100)
            return self.is_set()

    stop = Stop()
    monkeypatch.setattr(relay_module, "PAUSE_LARGEST_S", 2.0)
    sink = Sink({"a": [SinkUnavailable("down") for _ in range(4)]})

    def deliver(message: Message) -> None:
        sink(message)
        stop.set()

    assert ledger.relay(deliver, stop=stop) == RelayReport(delivered=1, retried=4)
    assert pauses == [0.5, 1.0, 2.0, 2.0]


@sqlite_only("pauses and leases run by the database's clock there, which no test can turn")
def test_a_waiting_relay_looks_again_though_nobody_commits(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put off becomes due by time alone."""
    publish(ledger, "a")
    by_hand = Clock(monkeypatch)
    waits: list[float | None] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            by_hand.move(timeout or 0)
            return self.is_set()

    stop = Stop()
    sink = Sink({"a": [ValueError()]})

    def deliver(message: Message) -> None:
        sink(message)
        stop.set()

    assert ledger.relay(deliver, stop=stop) == RelayReport(delivered=1, retried=1)
    assert len(waits) == relay_module.LOOK_EVERY
    assert min(wait or 0 for wait in waits) >= relay_module.POLL_S


# Bad input


async def _coroutine(_message: Message) -> None: ...


def _generator(_message: Message) -> Any:
    yield


def _later(made: Callable[[Message], Any], message: Message) -> Any:
    return made(message)


class _AsyncCall:
    async def __call__(self, message: Message) -> None: ...


@pytest.mark.parametrize(
    "sink",
    [
        None,
        "http://x",
        Sink,
        _coroutine,
        _generator,
        _AsyncCall(),
        partial(_later, _coroutine),
        partial(_later, _generator),
    ],
    ids=["none", "text", "class", "coroutine function", "generator", "async call", "coroutine", "made generator"],
)
def test_what_is_no_sink_is_refused(ledger: Ledger, sink: Any) -> None:
    """Also one whose call would do nothing yet; no message is lost or counted as tried."""
    publish(ledger, "a")
    with pytest.raises(UsageError, match="sink"):
        relay(ledger, sink)
    (entry,) = ledger.outbox.messages()
    assert (entry.state, entry.attempts) == ("waiting", 0)


@pytest.mark.parametrize(
    "options",
    [
        {"topics": "a"},
        {"topics": []},
        {"topics": [7]},
        {"topics": 7},
        {"stop": 7},
        {"attempts": 0},
        {"attempts": True},
        {"attempts": 1.5},
        {"lease": 0},
        {"lease": "60"},
        {"lease": float("nan")},
    ],
)
def test_wrong_arguments_are_refused(ledger: Ledger, options: dict[str, Any]) -> None:
    """Before anything is claimed."""
    publish(ledger, "a")
    sink = Sink()
    with pytest.raises(UsageError):
        relay(ledger, sink, **options)
    assert sink.tried == []


@sqlite_only("there no unit holds a lock that others need")
def test_a_relay_is_no_part_of_a_unit_that_holds_the_lock(ledger: Ledger) -> None:
    """It would wait for itself."""
    publish(ledger, "a")
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n", {})
        uow.sql("SELECT 1")
        with pytest.raises(UsageError, match="lock"):
            relay(ledger, Sink())


def test_a_closed_ledger_relays_nothing(ledger: Ledger) -> None:
    """It says so."""
    ledger.close()
    with pytest.raises(UsageError, match="closed"):
        relay(ledger, Sink())
