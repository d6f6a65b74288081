"""What is told about a unit that has ended, and how much of it its band lets out (design, bands).

Promise: no payload and no record id is in here. GREEN shows every id; AMBER all but the actor; RED the unit's id, band,
outcome and timings; BLACK its id, band and outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, TypeAlias

from memoryos_uow._names import Band
from memoryos_uow.observers import _names as names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_US_PER_S: Final = 1_000_000
_EVENTS: Final = {"committed": names.EVENT_COMMITTED, "rolled_back": names.EVENT_ROLLED_BACK}


class Note(NamedTuple):
    """What is to be told, as noted in the unit's own thread; making facts of it is left to who tells them."""

    facts: Callable[[], Facts]
    units: int = 1
    """About so many."""


class RemoteCall(NamedTuple):
    """One call of a store's to its server, on the way of a unit's commit."""

    store: str
    system: str
    """``db.system.name`` of OpenTelemetry's semantic conventions."""
    operation: str
    offset_us: int
    """Since the unit began."""
    duration_us: int
    error_type: str | None

    def attributes(self, band: Band) -> dict[str, str | int]:
        """Return the attributes of the call's span; which store it was is said as far as the band lets out."""
        shown: dict[str, str | int] = {names.DB_SYSTEM: self.system, names.DB_OPERATION: self.operation}
        if band in (Band.GREEN, Band.AMBER):
            shown[names.STORE] = self.store
        if self.error_type:
            shown[names.ERROR_TYPE] = self.error_type
        return shown


@dataclass(slots=True, kw_only=True)
class UnitEnded:
    """One unit of this process, at its end."""

    uow_id: str
    band: Band
    outcome: str
    """``committed``, ``rolled_back``, ``failed`` or ``in_doubt``."""
    started_ts: str
    """RFC 3339 UTC text, by the wall clock."""
    duration_us: int
    commit_us: int | None
    """From the block's end to the decision; None if there was none."""
    in_doubt: bool
    """It is committed, and the ledger notes a store that has not shown its part yet: recovery will settle it."""
    store_count: int
    write_count: int
    bytes_written: int
    retry_count: int
    retries_of_its_own: int
    """Its waits for the lock, and one if it is itself a repeated attempt: over all attempts of a run they add up."""
    receipt_hash: str | None = None
    failed_store: str | None = None
    error_type: str | None = None
    calls: Sequence[RemoteCall] = ()
    """To servers of its stores."""
    ids: Mapping[str, str | None]
    """space_id, actor_id, device_id, correlation_id and envelope_id."""

    @property
    def shows_timings(self) -> bool:
        """Whether the band lets out how long the unit took."""
        return self.band is not Band.BLACK

    @property
    def shows_sizes(self) -> bool:
        """Whether the band lets out more than timings."""
        return self.band in (Band.GREEN, Band.AMBER)

    def attributes(self) -> dict[str, str | int]:
        """Return the attributes of the unit's span."""
        shown: dict[str, str | int] = {names.ID: self.uow_id, names.OUTCOME: self.outcome, names.BAND: self.band.value}
        if self.error_type:
            shown[names.ERROR_TYPE] = self.error_type
        if not self.shows_sizes:
            return shown
        space = self.ids["space_id"]
        if space is not None:
            shown[names.SPACE] = space
        shown[names.STORES] = self.store_count
        shown[names.WRITES] = self.write_count
        shown[names.BYTES] = self.bytes_written
        shown[names.RETRIES] = self.retry_count
        if self.receipt_hash is not None:
            shown[names.RECEIPT] = self.receipt_hash
        if self.failed_store is not None:
            shown[names.FAILED_STORE] = self.failed_store
        return shown

    @property
    def event_name(self) -> str:
        """The name of the log event."""
        return _EVENTS.get(self.outcome, names.EVENT_FAILED)

    def fields(self) -> dict[str, str | int | float]:
        """Return the fields of the log event."""
        fields: dict[str, str | int | float] = {
            "uow_id": self.uow_id,
            "band": self.band.value,
            "outcome": self.outcome,
        }
        if self.shows_timings:
            fields["duration_s"] = self.duration_us / _US_PER_S
            if self.commit_us is not None:
                fields["commit_s"] = self.commit_us / _US_PER_S
        if self.error_type:
            fields["error_type"] = self.error_type
        if not self.shows_sizes:
            return fields
        hidden = None if self.band is Band.GREEN else "actor_id"
        fields |= {name: value for name, value in self.ids.items() if value is not None and name != hidden}
        fields["store_count"] = self.store_count
        fields["write_count"] = self.write_count
        fields["bytes"] = self.bytes_written
        fields["retry_count"] = self.retry_count
        if self.receipt_hash is not None:
            fields["receipt_hash"] = self.receipt_hash
        if self.failed_store is not None:
            fields["failed_store"] = self.failed_store
        return fields


@dataclass(slots=True, kw_only=True)
class UnitRecovered:
    """One unit of a dead process, or one whose store was silent, that recovery has come upon."""

    uow_id: str
    band: Band
    outcome: str
    """``rolled_forward``, ``rolled_back`` or ``in_doubt``."""
    started_ts: str
    duration_us: int
    """How long this recovery took so far."""
    traceparent: str | None = None
    """W3C Trace Context of the unit's own trace, as its process stored it."""
    was_in_doubt: bool = False
    """It was listed as in doubt before."""

    def attributes(self) -> dict[str, str | int]:
        """Return the attributes of the recovery's span."""
        return {names.ID: self.uow_id, names.OUTCOME: self.outcome, names.BAND: self.band.value}

    event_name: ClassVar[str] = names.EVENT_RECOVERED

    def fields(self) -> dict[str, str | int | float]:
        """Return the fields of the log event."""
        return {"uow_id": self.uow_id, "band": self.band.value, "outcome": self.outcome}


Facts: TypeAlias = "Sequence[UnitEnded | UnitRecovered]"
