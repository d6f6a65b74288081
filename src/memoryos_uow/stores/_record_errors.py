"""What is said of a write that cannot be, because its record is there or is not.

Promise: a key is shown only as far as the unit's band allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memoryos_uow._bands import shown_key
from memoryos_uow.errors import RecordExists, RecordMissing

if TYPE_CHECKING:
    from memoryos_uow.abc import UnitFacts, Write


def record_exists(write: Write, unit: UnitFacts) -> RecordExists:
    """Return the error for a create that found its key taken."""
    return RecordExists(
        f"The store {write.store!r} has a record {shown_key(str(write.key), unit.band)} in this space already.",
        hint="Nothing of the unit was written. Use update() to change it, or upsert() for either.",
        store=write.store,
    )


def record_missing(write: Write, unit: UnitFacts) -> RecordMissing:
    """Return the error for an update or delete that did not find its key."""
    shown = shown_key(str(write.key), unit.band)
    return RecordMissing(
        f"The store {write.store!r} has no record {shown} in this space to {write.operation}.",
        hint="Nothing of the unit was written. Use create() for a new record, or upsert() for either.",
        store=write.store,
    )
