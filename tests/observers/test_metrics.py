"""What units add to metrics: each duration for itself, counts once for a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from memoryos_uow import Band, Ledger, telemetry
from memoryos_uow.observers import UnitEnded, UnitRecovered, _metrics, _telemetry
from memoryos_uow.observers import _names as names
from memoryos_uow.stores import DocumentStore
from memoryos_uow.testing._forks import fork
from tests.watching import WAIT_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.watching import Seen


def ended(**given: Any) -> UnitEnded:
    """A unit that was committed, but for what is given."""
    facts: dict[str, Any] = {
        "uow_id": "u",
        "band": Band.GREEN,
        "outcome": "committed",
        "started_ts": "2026-11-22T19:20:31.110000Z",
        "duration_us": 1000,
        "commit_us": 500,
        "in_doubt": False,
        "store_count": 1,
        "write_count": 1,
        "bytes_written": 5,
        "retry_count": 0,
        "retries_of_its_own": 0,
        "ids": {"space_id": "s", "actor_id": None},
    }
    return UnitEnded(**facts | given)


def recovered(outcome: str, *, was_in_doubt: bool = False) -> UnitRecovered:
    """A unit that recovery has come upon."""
    return UnitRecovered(
        uow_id="u",
        band=Band.RED,
        outcome=outcome,
        started_ts="2026-11-22T19:20:31.110000Z",
        duration_us=1,
        was_in_doubt=was_in_doubt,
    )


def test_a_batch_is_counted_once_for_each_series() -> None:
    """However many units count alike, a counter is added to once; each duration is recorded."""
    provider = Mock()
    made = _metrics.Instruments(provider)
    owed = _metrics.nothing_owed()
    for _ in range(5):
        made.record(ended(retries_of_its_own=2), owed)
    made.record(ended(outcome="failed", error_type="ConflictError", commit_us=None, in_doubt=True), owed)
    made.record(recovered("rolled_forward", was_in_doubt=True), owed)
    made.record(recovered("in_doubt"), owed)
    made.record(recovered("in_doubt", was_in_doubt=True), owed)
    meter = provider.get_meter.return_value
    assert meter.create_histogram.return_value.record.call_count == 6 + 5 + 5  # durations, commits, sizes
    assert not meter.create_counter.return_value.add.called
    _metrics.settle(owed)
    added = [(call.args[0], sorted(call.args[1].values())) for call in meter.create_counter().add.call_args_list]
    assert sorted(added) == [
        (1, ["ConflictError", "GREEN", "failed"]),
        (1, ["RED", "rolled_forward"]),
        (2, ["RED", "in_doubt"]),
        (5, ["GREEN", "committed"]),
        (10, ["GREEN", "committed"]),
    ]
    assert [call.args for call in meter.create_up_down_counter().add.call_args_list] == [(1, {})]  # 1 - 1 + 1 + 0
    assert not owed


def test_a_counter_that_raises_keeps_nothing_from_the_others() -> None:
    """What it raises comes in the end, once."""
    provider = Mock()
    provider.get_meter.return_value.create_counter.return_value.add.side_effect = [ValueError("x"), None, None]
    made, owed = _metrics.Instruments(provider), _metrics.nothing_owed()
    for outcome in ("committed", "failed", "rolled_back"):
        made.record(ended(outcome=outcome), owed)
    with pytest.raises(ValueError, match="x"):
        _metrics.settle(owed)
    assert provider.get_meter.return_value.create_counter.return_value.add.call_count == 3


def test_what_is_kept_of_series_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of classes made at run time do not fill the memory."""
    monkeypatch.setattr(_metrics, "_KEPT_MAX", 3)
    made, owed = _metrics.Instruments(Mock()), _metrics.nothing_owed()
    for number in range(10):
        made.record(ended(outcome="failed", error_type=f"Error{number}"), owed)
    assert len(made._attributes) <= 3
    assert sum(owed.values()) == 10


def test_an_exemplar_leads_to_the_trace_of_the_caller(tmp_path: Path, seen: Seen) -> None:
    """The duration was recorded in the context of who waited for the unit."""
    with (
        seen.tracers.get_tracer("app").start_as_current_span("request") as caller,
        Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as ledger,
        ledger.unit(space_id="s", band="GREEN") as uow,
    ):
        uow["notes"].create("a", 1)
    (duration,) = seen.metrics()[names.DURATION]
    assert [one.span_id for one in duration.exemplars] == [caller.get_span_context().span_id]


def test_a_forked_child_does_not_pay_what_its_parent_owes(seen: Seen) -> None:
    """Counts that were not added yet when a process forked are added once, by the parent."""
    del seen
    assert telemetry.flush(WAIT_S)
    batch = _telemetry._batch
    made = _metrics.Instruments(Mock())
    made.record(ended(), batch._owed)
    try:
        assert fork(lambda: _owes_nothing(batch)).wait() == (None, "")
        assert len(batch._owed) == 1
    finally:
        batch._owed.clear()


def _owes_nothing(batch: Any) -> None:
    assert not batch._owed
