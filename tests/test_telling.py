"""Recovery tells what it did: one span for each unit, linked to the trace the unit was made in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import StoreUnavailable, telemetry
from memoryos_uow._recovery import Recovery
from memoryos_uow.errors import LedgerError
from memoryos_uow.observers import _names as names
from memoryos_uow.observers import _telemetry
from memoryos_uow.stores import DocumentStore
from memoryos_uow.testing._forks import fork, kill_own_process
from tests.leftovers import EFFECTS, at_effect, begun, leave, open_ledger, write
from tests.watching import WAIT_S, watching

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow import Ledger
    from tests.watching import Seen

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A ledger with version 1 of one record in every store."""
    return begun(tmp_path / "ledger")


def dies_in_a_trace(place: Path, effect: str) -> str:
    """Let a process with an SDK write inside a span and die before `effect`; return its trace's id."""

    def work() -> None:
        with (
            watching() as seen,
            open_ledger(place) as ledger,
            seen.tracers.get_tracer("app").start_as_current_span("r") as span,
        ):
            (place / "trace").write_text(f"{span.get_span_context().trace_id:032x}")
            at_effect(ledger, EFFECTS.index(effect), kill_own_process, after=False)
            write(ledger, 2)

    fork(work).wait()
    return (place / "trace").read_text()


def told(seen: Seen) -> list[tuple[str, str]]:
    """Name and outcome of every span of a unit."""
    return [(span.name, str((span.attributes or {})[names.OUTCOME])) for span in seen.spans()]


def silence(ledger: Ledger, patched: pytest.MonkeyPatch) -> None:
    """Have the store of archives not answer."""

    def refuse(*_: Any) -> None:
        raise StoreUnavailable("It is away.", store="archive")

    for method in ("show", "publish"):  # by the unit's own process, and by recovery
        patched.setattr(ledger._opened.store("archive"), method, refuse)


@pytest.mark.parametrize(("effect", "outcome"), [("DECIDE", "rolled_back"), ("PUBLISH", "rolled_forward")])
def test_recovery_links_to_the_trace_of_the_unit(place: Path, effect: str, outcome: str) -> None:
    """A unit whose process was killed: the span of its recovery links to its own trace, and is counted."""
    trace_id = dies_in_a_trace(place, effect)
    with watching() as seen:
        open_ledger(place).close()
        assert told(seen) == [(names.SPAN_RECOVER, outcome)]
        (span,), (event,) = seen.spans(), seen.events()
        assert span.parent is None
        assert [f"{link.context.trace_id:032x}" for link in span.links] == [trace_id]
        assert (event["event"], event["outcome"]) == (names.EVENT_RECOVERED, outcome)
        assert event["uow_id"] == (span.attributes or {})[names.ID]
        assert seen.total(names.RECOVERIES, memoryos_uow_outcome=outcome) == 1
        assert seen.total(names.IN_DOUBT) == 0


def test_a_silent_store_is_in_doubt_until_recovery_has_settled_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up by one with the unit, unchanged by a recovery in vain, down by one with the one that settles it."""
    with watching() as seen, open_ledger(place) as ledger:
        with monkeypatch.context() as patched:
            silence(ledger, patched)
            write(ledger, 2)
            assert told(seen) == [(names.SPAN_COMMIT, "committed")]
            assert (seen.spans()[0].attributes or {})[names.FAILED_STORE] == "archive"
            assert names.ERROR_TYPE not in (seen.spans()[0].attributes or {})
            assert seen.total(names.IN_DOUBT) == 1
            ledger.recover()
            assert told(seen)[1:] == [(names.SPAN_RECOVER, "in_doubt")]
            assert not seen.spans()[1].status.is_unset
            assert seen.total(names.IN_DOUBT) == 1
        ledger.recover()
        assert told(seen)[2:] == [(names.SPAN_RECOVER, "rolled_forward")]
        assert seen.total(names.IN_DOUBT) == 0
        ledger.recover()
        assert len(told(seen)) == 3


def test_silence_that_could_not_be_noted_is_counted_by_recovery(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the ledger does not say of the unit is not counted either: else nobody could count it down again."""
    with watching() as seen, open_ledger(place) as ledger:
        with monkeypatch.context() as patched:
            silence(ledger, patched)

            def refuse(*_: Any) -> None:
                raise LedgerError("It cannot be written.")

            with monkeypatch.context() as also:
                also.setattr(ledger._opened.rows, "record_silence", refuse)
                write(ledger, 2)
            assert seen.total(names.IN_DOUBT) == 0
            ledger.recover()
            assert seen.total(names.IN_DOUBT) == 1
        ledger.recover()
        assert seen.total(names.IN_DOUBT) == 0


def test_an_undecided_unit_is_in_doubt_from_its_first_recovery_on(place: Path) -> None:
    """Nobody can abandon what it made while its store is not registered; once it is, the unit is settled."""
    dies_in_a_trace(place, "DECIDE")
    with watching() as seen:
        for count in (1, 1):
            open_ledger(place, stores=[DocumentStore("notes")]).close()
            assert told(seen)[-1] == (names.SPAN_RECOVER, "in_doubt")
            assert seen.total(names.IN_DOUBT) == count
        open_ledger(place).close()
        assert told(seen)[-1] == (names.SPAN_RECOVER, "rolled_back")
        assert seen.total(names.IN_DOUBT) == 0


@pytest.mark.parametrize("decided", [True, False])
def test_many_recovered_units_find_room_in_the_queue(
    place: Path, decided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch takes one place: no unit of a long recovery is dropped."""
    leave(place, 300, decided=decided)
    monkeypatch.setattr("memoryos_uow._recovery._BATCH", 100)
    monkeypatch.setattr(_telemetry.worker, "_capacity", 5)
    dropped = telemetry.dropped()
    with watching() as seen:
        open_ledger(place).close()
        assert told(seen) == [(names.SPAN_RECOVER, "rolled_forward" if decided else "rolled_back")] * 300
        assert seen.total(names.RECOVERIES) == 300
    assert telemetry.dropped() == dropped


def test_recovery_asks_nothing_for_nobody(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without listeners neither facts are made nor is the ledger asked for them."""
    leave(place, 3, decided=True)

    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Recovery, "_named_silent", never)
    monkeypatch.setattr("memoryos_uow._recovery.recovered", never)
    with open_ledger(place) as ledger:
        assert ledger.recover().rolled_forward == ()


def test_recovery_goes_on_where_the_question_for_telemetry_fails(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be read is told as not having been in doubt; the units are recovered."""
    leave(place, 3, decided=True)

    def refuse(*_: Any) -> None:
        raise LedgerError("It cannot be read.")

    with watching() as seen:
        monkeypatch.setattr("memoryos_uow._rows.LedgerRows.named_silent", refuse)
        open_ledger(place).close()
        assert told(seen) == [(names.SPAN_RECOVER, "rolled_forward")] * 3
    assert telemetry.flush(WAIT_S)
