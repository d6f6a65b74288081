"""What each band lets out, as one table: attributes of spans, fields of log events, metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import Band, Ledger
from memoryos_uow.observers import UnitRecovered
from memoryos_uow.observers import _names as names
from memoryos_uow.stores import DocumentStore
from tests.units import OwnError, throw

if TYPE_CHECKING:
    from pathlib import Path

    from tests.watching import Seen

ALWAYS: Final = {names.ID, names.OUTCOME, names.BAND}
SIZES: Final = {names.SPACE, names.STORES, names.WRITES, names.BYTES, names.RETRIES}
FIELDS: Final = {"event", "log_level", "uow_id", "band", "outcome", "trace_id", "span_id"}
TIMES: Final = {"duration_s", "commit_s"}
CONTEXT: Final = {"space_id", "actor_id", "device_id", "correlation_id", "envelope_id"}
COUNTS: Final = {"store_count", "write_count", "bytes", "retry_count"}
GREEN: Final = FIELDS | TIMES | CONTEXT | COUNTS | {"receipt_hash"}

TABLE: Final[dict[str, tuple[set[str], set[str], set[str]]]] = {
    "GREEN": (
        ALWAYS | SIZES | {names.RECEIPT},
        GREEN,
        {names.UNITS, names.DURATION, names.COMMIT_DURATION, names.BYTES},
    ),
    "AMBER": (
        ALWAYS | SIZES | {names.RECEIPT},
        GREEN - {"actor_id"},
        {names.UNITS, names.DURATION, names.COMMIT_DURATION, names.BYTES},
    ),
    "RED": (ALWAYS, FIELDS | TIMES, {names.UNITS, names.DURATION, names.COMMIT_DURATION}),
    "BLACK": (ALWAYS, FIELDS, {names.UNITS}),
}
"""By band: attributes of a committed unit's span, fields of its event, metrics that it adds to."""


def unit(path: Path, band: str, *, fails: bool) -> str:
    """Run one unit with every field of its context given; return its id."""
    context = {name: f"some {name}" for name in CONTEXT}
    with Ledger.open(path / "memory.db", stores=[DocumentStore("notes")], telemetry="inline") as ledger:
        uow = ledger.unit(band=band, **context)
        try:
            with uow:
                uow["notes"].create("secret key", {"text": "secret text"})
                if fails:
                    throw(OwnError("secret words"))
        except OwnError:
            pass
    return uow.uow_id


@pytest.mark.parametrize("band", Band)
def test_a_committed_unit_shows_what_its_band_allows(tmp_path: Path, seen: Seen, band: str) -> None:
    """Span, event and metrics show exactly what the table says."""
    uow_id = unit(tmp_path, band, fails=False)
    attributes, fields, metrics = TABLE[band]
    (span,), (event,) = seen.spans(), seen.events()
    assert (span.name, set(span.attributes or ())) == (names.SPAN_COMMIT, attributes)
    assert (event["event"], set(event)) == (names.EVENT_COMMITTED, fields)
    assert seen.metrics().keys() == metrics
    shown = {**(span.attributes or {})}
    assert (shown[names.ID], shown[names.OUTCOME], shown[names.BAND]) == (uow_id, "committed", band)


@pytest.mark.parametrize("band", Band)
def test_a_failed_unit_adds_only_the_type_of_its_error(tmp_path: Path, seen: Seen, band: str) -> None:
    """The error's class is shown for every band, its words for none."""
    unit(tmp_path, band, fails=True)
    attributes, fields, metrics = TABLE[band]
    (span,), (event,) = seen.spans(), seen.events()
    shown = {**(span.attributes or {})}
    assert (span.name, shown.keys() - {names.ERROR_TYPE}) == (names.SPAN_ROLLBACK, attributes - {names.RECEIPT})
    assert (event["event"], set(event) - {"error_type"}) == (names.EVENT_FAILED, fields - {"receipt_hash", "commit_s"})
    assert shown[names.ERROR_TYPE] == event["error_type"] == "OwnError"
    assert seen.metrics().keys() == metrics - {names.COMMIT_DURATION, names.BYTES}
    assert "secret" not in repr((shown, span.status.description, span.events, event, seen.metrics()))


@pytest.mark.parametrize("band", Band)
def test_the_time_of_a_black_unit_is_not_told(tmp_path: Path, seen: Seen, band: str) -> None:
    """Its span ends when it begins; those of the others have the duration that their event names."""
    unit(tmp_path, band, fails=False)
    (span,), (event,) = seen.spans(), seen.events()
    assert span.start_time is not None
    assert span.end_time is not None
    duration_s = (span.end_time - span.start_time) / 1e9
    assert duration_s == (0 if band == "BLACK" else event["duration_s"])


def test_an_actor_is_not_in_a_span(tmp_path: Path, seen: Seen) -> None:
    """Spans name no actor, device or envelope, not even for GREEN: they are many, and the event has them."""
    unit(tmp_path, "GREEN", fails=False)
    (span,) = seen.spans()
    values: Any = (span.attributes or {}).values()
    assert not {f"some {name}" for name in CONTEXT - {"space_id"}} & {str(value) for value in values}


@pytest.mark.parametrize("band", Band)
def test_recovery_shows_the_same_for_every_band(band: Band) -> None:
    """Of a recovered unit its id, band and outcome are told, whatever the band."""
    fact = UnitRecovered(
        uow_id="u", band=band, outcome="rolled_back", started_ts="2026-11-22T19:20:31.110000Z", duration_us=1
    )
    assert fact.attributes() == {names.ID: "u", names.BAND: band.value, names.OUTCOME: "rolled_back"}
    assert fact.event_name == names.EVENT_RECOVERED
    assert fact.fields() == {"uow_id": "u", "band": band.value, "outcome": "rolled_back"}
