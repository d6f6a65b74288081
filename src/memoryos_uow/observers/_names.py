"""The names under which units are seen: spans, their attributes, metrics and log events, with units and meanings.

Promise: the drivers use no name that does not stand here, and ``docs/reference/telemetry.md`` lists the same (a test
compares them). Names are part of the public contract: dashboards are built on them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SCOPE: Final = "memoryos_uow"
"""Name of the tracer, the meter and the logger."""


class Signal(NamedTuple):
    """One thing that can be seen."""

    name: str
    kind: str
    """``span``, ``attribute``, ``histogram``, ``counter``, ``updowncounter`` or ``event``."""
    unit: str
    """UCUM unit of a metric, else the type of an attribute, else empty."""
    meaning: str


SPAN_COMMIT: Final = "uow commit"
SPAN_ROLLBACK: Final = "uow rollback"
SPAN_RECOVER: Final = "uow recover"
SPAN_HOLD: Final = "INSERT"
SPAN_DECIDE: Final = "COMMIT"
SPAN_PREPARE: Final = "PREPARE TRANSACTION"
SPAN_PUBLISH: Final = "COMMIT PREPARED"

ID: Final = "memoryos.uow.id"
OUTCOME: Final = "memoryos.uow.outcome"
BAND: Final = "memoryos.uow.band"
SPACE: Final = "memoryos.uow.space_id"
STORES: Final = "memoryos.uow.store.count"
WRITES: Final = "memoryos.uow.write.count"
BYTES: Final = "memoryos.uow.bytes"
RETRIES: Final = "memoryos.uow.retry.count"
RECEIPT: Final = "memoryos.uow.receipt.hash"
FAILED_STORE: Final = "memoryos.uow.failed_store"
ERROR_TYPE: Final = "error.type"
STORE: Final = "memoryos.uow.store"
DB_SYSTEM: Final = "db.system.name"
DB_OPERATION: Final = "db.operation.name"

DURATION: Final = "memoryos.uow.duration"
COMMIT_DURATION: Final = "memoryos.uow.commit.duration"
UNITS: Final = "memoryos.uow.units"
RETRIES_TOTAL: Final = "memoryos.uow.retries"
RECOVERIES: Final = "memoryos.uow.recoveries"
IN_DOUBT: Final = "memoryos.uow.in_doubt"

EVENT_COMMITTED: Final = "uow.committed"
EVENT_ROLLED_BACK: Final = "uow.rolled_back"
EVENT_FAILED: Final = "uow.failed"
EVENT_RECOVERED: Final = "uow.recovered"

SIGNALS: Final = (
    Signal(SPAN_COMMIT, "span", "", "a committed unit, from its block's start until every store had answered"),
    Signal(SPAN_ROLLBACK, "span", "", "a unit that failed or was rolled back, or whose outcome is not known"),
    Signal(SPAN_RECOVER, "span", "", "what recovery did with one unit; it links to the trace the unit was made in"),
    Signal(SPAN_HOLD, "span", "", "a store's server carried out the writes of a unit that it is to decide (CLIENT)"),
    Signal(SPAN_DECIDE, "span", "", "a store's server decided the unit (CLIENT)"),
    Signal(SPAN_PREPARE, "span", "", "a store's server prepared its part of the unit (CLIENT)"),
    Signal(SPAN_PUBLISH, "span", "", "a store's server showed what it had prepared (CLIENT)"),
    Signal(ID, "attribute", "string", "the unit's id"),
    Signal(OUTCOME, "attribute", "string", "committed, rolled_back, failed or in_doubt; after recovery rolled_forward"),
    Signal(BAND, "attribute", "string", "GREEN, AMBER, RED or BLACK"),
    Signal(SPACE, "attribute", "string", "whose data it is"),
    Signal(STORES, "attribute", "int", "how many stores the unit wrote to"),
    Signal(WRITES, "attribute", "int", "how many writes it made"),
    Signal(BYTES, "attribute", "int", "bytes of content that it wrote; as a metric their distribution"),
    Signal(RETRIES, "attribute", "int", "waits for the lock, conflicts and attempts before this one"),
    Signal(RECEIPT, "attribute", "string", "SHA-256 of the receipt, 64 hex digits"),
    Signal(FAILED_STORE, "attribute", "string", "the store that refused or did not answer"),
    Signal(ERROR_TYPE, "attribute", "string", "class of the error that ended the unit; absent on success"),
    Signal(STORE, "attribute", "string", "the store whose server was called"),
    Signal(DB_SYSTEM, "attribute", "string", "what kind of server: postgresql"),
    Signal(DB_OPERATION, "attribute", "string", "what it was asked to do, as the span's name"),
    Signal(DURATION, "histogram", "s", "from the block's start to the unit's end"),
    Signal(COMMIT_DURATION, "histogram", "s", "from the block's end to the decision, waiting for the lock included"),
    Signal(BYTES, "histogram", "By", "bytes of content that a committed unit wrote"),
    Signal(UNITS, "counter", "{unit}", "units that have ended, by outcome"),
    Signal(RETRIES_TOTAL, "counter", "{retry}", "waits for the lock, conflicts and repeated attempts"),
    Signal(RECOVERIES, "counter", "{unit}", "units that recovery settled or tried to, by outcome"),
    Signal(IN_DOUBT, "updowncounter", "{unit}", "units left in doubt less those that recovery has settled"),
    Signal(EVENT_COMMITTED, "event", "info", "a unit was committed"),
    Signal(EVENT_ROLLED_BACK, "event", "info", "a unit was rolled back because the caller wanted it"),
    Signal(EVENT_FAILED, "event", "warning", "a unit failed, or its outcome is not known"),
    Signal(EVENT_RECOVERED, "event", "info", "recovery settled a unit, or found a store silent"),
)
