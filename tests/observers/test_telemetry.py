"""Who is told of which unit, in whose context, and that nothing a receiver does reaches a unit."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

from memoryos_uow import AsyncLedger, InDoubtError, Ledger, RecordExists, telemetry
from memoryos_uow.observers import TelemetryMode, UnitEnded, _otel, _telemetry
from memoryos_uow.observers import _names as names
from memoryos_uow.observers._worker import Worker
from memoryos_uow.stores import DocumentStore, FileStore
from tests.watching import WAIT_S, watching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

    from tests.watching import Seen


def write(ledger: Ledger, key: str, **context: Any) -> str:
    """Commit one unit with one document; return its id."""
    with ledger.unit(**{"space_id": "s", "band": "GREEN", **context}) as uow:
        uow["notes"].create(key, {"n": 1})
    return uow.uow_id


@pytest.fixture(params=["background", "inline"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that tells from either thread."""
    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")], telemetry=request.param) as opened:
        yield opened


# Who is told of what


def test_the_callers_span_is_the_parent_and_the_event_is_inside(told: Ledger, seen: Seen) -> None:
    """The unit's span is a child of the caller's; its event has its ids and what the caller bound."""
    with seen.tracers.get_tracer("app").start_as_current_span("request") as caller:
        structlog.contextvars.bind_contextvars(request_id="r-1")
        write(told, "a")
        structlog.contextvars.clear_contextvars()
    (span,), (event,) = seen.spans(), seen.events()
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    assert span.context is not None
    assert event["request_id"] == "r-1"
    assert (event["trace_id"], event["span_id"]) == (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}")
    assert span.context.trace_id == caller.get_span_context().trace_id


def test_each_end_has_its_span_event_and_count(told: Ledger, seen: Seen) -> None:
    """Committed, rolled back and failed units are told apart; one without writes is not told of."""
    write(told, "a")
    with told.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("b", 1)
        uow.rollback()
    with pytest.raises(RecordExists):
        write(told, "a")
    with told.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].get("a")
    with told.unit(space_id="s", band="GREEN") as uow:
        uow.rollback()
    assert [span.name for span in seen.spans()] == [names.SPAN_COMMIT, names.SPAN_ROLLBACK, names.SPAN_ROLLBACK]
    assert [span.status.is_unset for span in seen.spans()] == [True, True, False]
    assert [(event["event"], event["log_level"]) for event in seen.events()] == [
        (names.EVENT_COMMITTED, "info"),
        (names.EVENT_ROLLED_BACK, "info"),
        (names.EVENT_FAILED, "warning"),
    ]
    for outcome in ("committed", "rolled_back", "failed"):
        assert seen.total(names.UNITS, memoryos_uow_outcome=outcome) == 1
    assert seen.total(names.UNITS, error_type="RecordExists") == 1
    failed = seen.spans()[2].attributes or {}
    assert (failed[names.FAILED_STORE], failed[names.ERROR_TYPE]) == ("notes", "RecordExists")


def test_attributes_are_those_of_the_row(told: Ledger, seen: Seen) -> None:
    """What a span says of a unit is what the ledger says of it."""
    uow_id = write(told, "a")
    receipt = told.receipt(uow_id)
    (span,) = seen.spans()
    assert dict(span.attributes or {}) == {
        names.ID: uow_id,
        names.OUTCOME: "committed",
        names.BAND: "GREEN",
        names.SPACE: "s",
        names.STORES: receipt.store_count,
        names.WRITES: receipt.write_count,
        names.BYTES: receipt.total_bytes_written,
        names.RETRIES: 0,
        names.RECEIPT: receipt.hash,
    }
    (duration,) = seen.metrics()[names.DURATION]
    assert span.start_time is not None
    assert span.end_time is not None
    assert duration.sum == (span.end_time - span.start_time) / 1e9
    (size,) = seen.metrics()[names.BYTES]
    assert (size.count, size.sum) == (1, receipt.total_bytes_written)


def test_attempts_count_as_retries(told: Ledger, seen: Seen) -> None:
    """Each attempt is seen, with the number of those before it; the counter counts each repetition once."""

    def twice_disturbed(uow: Any) -> None:
        number = uow["notes"].get("a", 0)
        if uow.retry_count < 2:
            with told.unit(space_id="s", band="GREEN", nested="independent", correlation_id="other") as other:
                other["notes"].upsert("a", number + 10)
        uow["notes"].upsert("a", number + 1)

    told.run(twice_disturbed, space_id="s", band="GREEN", correlation_id="request")
    assert [(span.attributes or {})[names.RETRIES] for span in seen.spans()] == [0, 0, 0, 1, 2]
    attempts = [event for event in seen.events() if event["correlation_id"] == "request"]
    assert [event["event"] for event in attempts] == ["uow.failed", "uow.failed", "uow.committed"]
    assert [event.get("error_type") for event in attempts] == ["ConflictError", "ConflictError", None]
    assert seen.total(names.RETRIES_TOTAL) == 2


def test_off_is_off(tmp_path: Path, seen: Seen) -> None:
    """With telemetry="off" nobody is told of anything, and no trace is stored."""
    with (
        seen.tracers.get_tracer("app").start_as_current_span("request"),
        Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")], telemetry="off") as ledger,
    ):
        write(ledger, "a")
        assert ledger._opened.coordinator.telemetry.traceparent() is None
    assert (seen.spans(), seen.events(), seen.metrics()) == ([], [], {})


def test_a_group_commit_keeps_contexts_apart(tmp_path: Path, seen: Seen) -> None:
    """Units that share a transaction are children of their own callers, not of whoever led the commit."""
    start = threading.Barrier(8)
    traces: dict[str, int] = {}

    def work(number: int) -> None:
        start.wait(WAIT_S)
        with seen.tracers.get_tracer("app").start_as_current_span("request") as caller:
            traces[write(ledger, str(number))] = caller.get_span_context().trace_id

    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as ledger:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = {(span.attributes or {})[names.ID]: span.context.trace_id for span in seen.spans() if span.context}
    assert found == traces
    assert len(set(traces.values())) == 8


def test_units_of_tasks_have_their_tasks_span(tmp_path: Path, seen: Seen) -> None:
    """Each task's unit is a child of the span that is current in that task, though threads do the work."""
    traces: dict[str, int] = {}

    async def work(ledger: AsyncLedger, number: int) -> None:
        with seen.tracers.get_tracer("app").start_as_current_span("request") as caller:
            async with ledger.unit(space_id="s", band="GREEN") as uow:
                uow["notes"].create(str(number), {"n": number})
            traces[uow.uow_id] = caller.get_span_context().trace_id

    async def main() -> None:
        async with AsyncLedger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as ledger:
            await asyncio.gather(*(work(ledger, number) for number in range(5)))

    asyncio.run(main())
    found = {(span.attributes or {})[names.ID]: span.context.trace_id for span in seen.spans() if span.context}
    assert found == traces
    assert len(set(traces.values())) == 5


def test_in_doubt_is_an_error_of_its_own_kind(tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit whose answer is lost is told as in doubt, with the error that its caller gets."""
    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as ledger:
        coordinator = ledger._opened.coordinator

        def lose(unit: Any) -> Any:
            raise InDoubtError("The answer is lost.", uow_id=unit.facts.uow_id)

        def lost(unit: Any) -> Any:
            coordinator._carry_out(unit, _lost())

        monkeypatch.setitem(coordinator._do, _effect("PROVE_GONE"), lose)
        monkeypatch.setitem(coordinator._do, _effect("DECIDE"), lost)
        with pytest.raises(InDoubtError):
            write(ledger, "a")
    (span,), (event,) = seen.spans(), seen.events()
    assert (span.name, (span.attributes or {})[names.OUTCOME]) == (names.SPAN_ROLLBACK, "in_doubt")
    assert (event["event"], event["error_type"]) == (names.EVENT_FAILED, "InDoubtError")
    assert not span.status.is_ok
    assert seen.total(names.IN_DOUBT) == 0  # recovery will not come upon it


def _effect(name: str) -> Any:
    from memoryos_uow._protocol import Effect

    return Effect[name]


def _lost() -> Any:
    from memoryos_uow._protocol import Event

    return Event.ANSWER_LOST


# Receivers that misbehave


class Raising(SpanProcessor):
    """Raises when a span starts, or when one ends."""

    def __init__(self, when: str) -> None:
        self.when = when

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.when == "start" and span.name.startswith("uow"):
            raise ValueError("secret")

    def on_end(self, span: ReadableSpan) -> None:
        if self.when == "end" and span.name.startswith("uow"):
            raise ValueError("secret")


@pytest.mark.parametrize("when", ["start", "end"])
def test_a_processor_that_raises_harms_nobody(told: Ledger, when: str) -> None:
    """The units are committed, events and metrics come all the same, and the failures are counted."""
    before = telemetry.failed()
    with watching(Raising(when)) as seen:
        for number in range(3):
            write(told, str(number))
        assert len(told.units()) == 3
        assert seen.total(names.UNITS) == 3
        events = [event["event"] for event in seen.events()]
    assert events.count(names.EVENT_COMMITTED) == 3
    if told._opened.coordinator.telemetry._mode is TelemetryMode.INLINE:
        assert events.count("uow.telemetry_failed") == 3
    else:
        assert telemetry.failed() - before == 3


def test_a_log_handler_that_raises_harms_nobody(told: Ledger) -> None:
    """Spans and metrics come all the same."""

    def fail(*_: object) -> Any:
        raise ValueError("secret")

    with watching() as seen:
        structlog.configure(processors=[fail])
        for number in range(3):
            write(told, str(number))
        assert len(told.units()) == 3
        assert len(seen.spans()) == 3
        assert seen.total(names.UNITS) == 3


def test_an_exporter_that_blocks_slows_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred units end while the exporter does not answer; what found no room is counted, the rest comes later."""
    go_on = threading.Event()

    class Blocking(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            go_on.wait(WAIT_S)

    worker = Worker(_telemetry._batch.stages, capacity=50, at_rest=_telemetry._batch.end)
    monkeypatch.setattr(_telemetry, "worker", worker)
    with (
        watching(Blocking()) as seen,
        Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")], durability="normal") as ledger,
    ):
        for number in range(100):
            write(ledger, str(number))
        assert len(ledger.units(limit=200)) == 100
        assert worker.dropped > 0
        go_on.set()
        assert worker.flush(WAIT_S)
        assert len(seen.spans()) + worker.dropped == 100
        reported = [event["dropped"] for event in seen.events() if event["event"] == "uow.telemetry_dropped"]
        assert sum(reported) == worker.dropped


def test_an_sdk_that_is_shut_down_in_mid_unit(told: Ledger, seen: Seen) -> None:
    """The unit ends well; there is nobody left to record its span."""
    with told.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("a", 1)
        seen.tracers.shutdown()
    assert telemetry.flush(WAIT_S)
    assert [record.status for record in told.units()] == ["committed"]
    assert len(seen.events()) == 1


def test_a_span_that_raises_does_not_fail_a_unit(tmp_path: Path, seen: Seen) -> None:
    """Asked for its context on the way of a commit, a span of the application's own making may raise."""

    class Broken(trace.NonRecordingSpan):
        def get_span_context(self) -> Any:
            raise ValueError("secret")

    stores = [FileStore("files", tmp_path / "files")]
    with Ledger.open(tmp_path / "memory.db", stores=stores) as ledger:
        with (
            trace.use_span(Broken(trace.INVALID_SPAN_CONTEXT), end_on_exit=False),
            ledger.unit(space_id="s", band="GREEN") as uow,
        ):
            uow["files"].upsert("a", b"x")
        assert [record.status for record in ledger.units()] == ["committed"]


def test_receivers_that_write_units_are_not_told_of_them(told: Ledger, seen: Seen) -> None:
    """A log processor that keeps events in the ledger itself does not set off an endless chain."""

    def keep(_logger: object, _method: str, event: Any) -> Any:
        with told.unit(space_id="log", band="GREEN", nested="independent") as uow:
            uow["notes"].create(f"event of {event['uow_id']}", {"event": event["event"]})
        return event

    structlog.configure(processors=[keep, seen.log])
    write(told, "a")
    assert [event["event"] for event in seen.events()] == [names.EVENT_COMMITTED]
    assert len(seen.spans()) == 1
    assert len(told.units()) == 2


def test_an_event_below_the_loggers_level_is_not_made(
    told: Ledger, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only warnings are logged, a committed unit costs no event, and a failed one is logged."""
    made: list[str] = []
    fields = UnitEnded.fields

    def counted(fact: UnitEnded) -> dict[str, Any]:
        made.append(fact.outcome)
        return {**fields(fact)}

    monkeypatch.setattr(UnitEnded, "fields", counted)
    structlog.configure(processors=[seen.log], wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    write(told, "a")
    with pytest.raises(RecordExists):
        write(told, "a")
    assert [event["event"] for event in seen.events()] == [names.EVENT_FAILED]
    assert made == ["failed"]


def test_a_logger_of_the_applications_own_making(told: Ledger, seen: Seen) -> None:
    """One that cannot say what it logs is given everything."""

    class Own(structlog.BoundLoggerBase):
        def info(self, event: str, **fields: Any) -> None:
            with suppress(structlog.DropEvent):
                self._proxy_to_logger("info", event, **fields)

    structlog.configure(processors=[seen.log], wrapper_class=Own)
    write(told, "a")
    assert [event["event"] for event in seen.events()] == [names.EVENT_COMMITTED]


def test_suppressed_instrumentation_is_respected(told: Ledger, seen: Seen) -> None:
    """An exporter that writes into a ledger has no spans made of that."""
    token = otel_context.attach(otel_context.set_value("suppress_instrumentation", True))
    write(told, "a")
    otel_context.detach(token)
    assert (seen.spans(), seen.metrics()) == ([], {})


def test_a_provider_that_raises_is_reported(told: Ledger, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even looking for who listens can fail a unit."""

    def fail(_context: object) -> Any:
        raise ValueError("secret")

    structlog.reset_defaults()
    monkeypatch.setattr(_otel, "providers", fail)
    write(told, "a")
    monkeypatch.undo()
    assert [record.status for record in told.units()] == ["committed"]


# What is stored for recovery

_INTENT = "SELECT unit ->> 'traceparent' FROM uow_coordination WHERE state = 'preparing'"


def test_the_callers_trace_is_stored_with_units_that_may_need_recovery(tmp_path: Path, seen: Seen) -> None:
    """The intent's row has the caller's traceparent, whole, until the unit is settled."""
    found: list[Any] = []

    class Looking(FileStore):
        def prepare(self, *given: Any) -> None:
            with closing(sqlite3.connect(tmp_path / "memory.db")) as connection:
                found.extend(connection.execute(_INTENT))
            super().prepare(*given)

    with Ledger.open(tmp_path / "memory.db", stores=[Looking("files", tmp_path / "files")]) as ledger:
        with seen.tracers.get_tracer("app").start_as_current_span("request") as caller:
            context = caller.get_span_context()
            with ledger.unit(space_id="s", band="GREEN") as uow:
                uow["files"].upsert("a", b"x")
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["files"].upsert("a", b"y")
    flags = f"{int(context.trace_flags):02x}"
    assert found == [(f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags}",), (None,)]
