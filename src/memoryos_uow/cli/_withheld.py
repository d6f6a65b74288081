"""What of a unit the command line shows: as much as its band allows (design, section on bands).

GREEN shows everything. AMBER keeps back who acted, which records were written, and error texts that are not the
library's own. RED and BLACK show id, band, outcome, times and the type of an error.

Promise: decided here alone, for tables and JSON alike. A unit of contract 1.0.0 has no band and is shown; a band that
is none of the four counts as BLACK.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow import errors
from memoryos_uow._names import Band

if TYPE_CHECKING:
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
    if "writes" in withheld:
        changes["writes"] = ()
    elif any(write.record_id is not None for write in record.writes):
        changes["writes"] = tuple(replace(write, record_id=None) for write in record.writes)
        withheld |= {"record_id"}
    return Shown(replace(record, **changes), withheld)


def _hidden_for_amber(record: UnitRecord) -> set[str]:
    return {"actor_id"} if record.error_message in _OUR_SENTENCES else {"actor_id", "error_message"}


def _hidden_for_red(record: UnitRecord) -> set[str]:
    return {field.name for field in fields(record)} - _SHOWN_FOR_RED
