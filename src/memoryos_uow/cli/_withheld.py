"""What of a unit the command line shows: as much as its band allows (design, section on bands).

GREEN shows everything. AMBER keeps back who acted, which records were written, and error texts that are not the
library's own. RED and BLACK show id, band, outcome, times and the type of an error; BLACK does not show how long
anything took, so its times are cut to the minute.

Promise: decided here alone, for tables and JSON alike; who filters by what is kept back finds nothing by it. A unit of
contract 1.0.0 has no band and is shown; a band that is none of the four counts as BLACK.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow import errors
from memoryos_uow._names import Band

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memoryos_uow._records import UnitRecord

_SHOWN_FOR_RED: Final = frozenset(
    {
        "uow_id",
        "band",
        "status",
        "created_ts",
        "committed_ts",
        "total_execution_time_ms",
        "commit_time_ms",
        "execution_us",
        "commit_us",
        "error_type",
        "error_ts",
        "contract_version",
    }
)
_DURATIONS: Final = frozenset({"total_execution_time_ms", "commit_time_ms", "execution_us", "commit_us"})
_TIMES: Final = ("created_ts", "committed_ts", "error_ts")
_BANDS_THAT_SHOW: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(("space_id", "device_id", "correlation_id", "envelope_id"), frozenset({Band.GREEN, Band.AMBER})),
    "actor_id": frozenset({Band.GREEN}),
    "total_execution_time_ms": frozenset({Band.GREEN, Band.AMBER, Band.RED}),
}
"""Of columns that not every band shows."""
_OUR_SENTENCES: Final = frozenset(
    kind.summary
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.UnitOfWorkError)
)


class Shown(NamedTuple):
    """A unit as it may be shown."""

    record: UnitRecord
    """Without what is withheld: None there, and no writes."""
    withheld: frozenset[str]
    """Columns that hold something which the band keeps back; ``record_id`` is one of the writes'."""


def shown(record: UnitRecord) -> Shown:
    """Return `record` without what its band keeps back."""
    if record.band in (None, Band.GREEN):
        return Shown(record, frozenset())
    hidden = _hidden_for_amber(record) if record.band == Band.AMBER else _hidden_for_red(record)
    withheld = frozenset(name for name in hidden if getattr(record, name) not in (None, ()))
    changes: dict[str, Any] = dict.fromkeys(withheld)
    if record.band not in (Band.AMBER, Band.RED):
        times = {name: getattr(record, name) for name in _TIMES}
        changes |= {name: to_the_minute(time) for name, time in times.items() if time is not None}
    if "writes" in withheld:
        changes["writes"] = ()
    elif any(write.record_id is not None for write in record.writes):
        changes["writes"] = tuple(replace(write, record_id=None) for write in record.writes)
        withheld |= {"record_id"}
    return Shown(replace(record, **changes), withheld)


def _hidden_for_amber(record: UnitRecord) -> set[str]:
    return {"actor_id"} if record.error_message in _OUR_SENTENCES else {"actor_id", "error_message"}


def _hidden_for_red(record: UnitRecord) -> set[str]:
    hidden = {field.name for field in fields(record)} - _SHOWN_FOR_RED
    return hidden if record.band == Band.RED else hidden | _DURATIONS


def to_the_minute(text: str) -> str:
    """Return a time of RFC 3339 without its seconds; what is no such time as it is."""
    return f"{text[:16]}:00Z" if text[16:17] == ":" else text


def bands_that_show(columns: Iterable[str]) -> frozenset[str] | None:
    """Return the bands of units that may be found by these columns, None if all may."""
    found = [_BANDS_THAT_SHOW[name] for name in columns if name in _BANDS_THAT_SHOW]
    return frozenset.intersection(*found) if found else None
