"""One atomic, crash-safe, receipted write across several stores.

```python
from memoryos_uow import UnitOfWork

with UnitOfWork(space_id="shared:household", band="GREEN") as uow:
    uow["notes"].create("n1", {"text": "milk is out", "tags": ["shopping"]})
print(uow.status)
```
```output
committed
```

Stores are in `memoryos_uow.stores`, the contract for stores of your own in `memoryos_uow.abc`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from memoryos_uow._version import __version__

if TYPE_CHECKING:
    from memoryos_uow._async_ledger import AsyncLedger
    from memoryos_uow._copying.report import CopyProgress, CopyReport
    from memoryos_uow._decorating import unit_of_work
    from memoryos_uow._limits import Limits
    from memoryos_uow._messages import Message, OutboxEntry, RelayReport
    from memoryos_uow._names import Band, Durability, Isolation, Operation, Status
    from memoryos_uow._records import Erasure, Hit, RecoveryReport, UnitRecord, Violation, WriteRecord
    from memoryos_uow._requests import Outcome
    from memoryos_uow.abc import MISSING
    from memoryos_uow.aio import AsyncUnitOfWork
    from memoryos_uow.errors import (
        ConflictError,
        DuplicateUnit,
        InDoubtError,
        LedgerBusy,
        LedgerCorrupt,
        LedgerError,
        LedgerRollback,
        MessageRejected,
        MigrationError,
        RecordExists,
        RecordMissing,
        SchemaTooNew,
        SinkError,
        SinkUnavailable,
        StoreError,
        StoreUnavailable,
        UnitOfWorkError,
        UnitTimeout,
        UsageError,
        VerificationError,
    )
    from memoryos_uow.ledger import Ledger, default_ledger
    from memoryos_uow.receipts import Receipt
    from memoryos_uow.statistics import Durations, FailureCount, GroupBy, SlowUnit, Statistics, StatisticsGroup
    from memoryos_uow.unit import UnitOfWork
    from memoryos_uow.verification import Finding, StoreCheck, Verification, VerificationLevel

__all__ = [
    "MISSING",
    "AsyncLedger",
    "AsyncUnitOfWork",
    "Band",
    "ConflictError",
    "CopyProgress",
    "CopyReport",
    "DuplicateUnit",
    "Durability",
    "Durations",
    "Erasure",
    "FailureCount",
    "Finding",
    "GroupBy",
    "Hit",
    "InDoubtError",
    "Isolation",
    "Ledger",
    "LedgerBusy",
    "LedgerCorrupt",
    "LedgerError",
    "LedgerRollback",
    "Limits",
    "Message",
    "MessageRejected",
    "MigrationError",
    "Operation",
    "OutboxEntry",
    "Outcome",
    "Receipt",
    "RecordExists",
    "RecordMissing",
    "RecoveryReport",
    "RelayReport",
    "SchemaTooNew",
    "SinkError",
    "SinkUnavailable",
    "SlowUnit",
    "Statistics",
    "StatisticsGroup",
    "Status",
    "StoreCheck",
    "StoreError",
    "StoreUnavailable",
    "UnitOfWork",
    "UnitOfWorkError",
    "UnitRecord",
    "UnitTimeout",
    "UsageError",
    "Verification",
    "VerificationError",
    "VerificationLevel",
    "Violation",
    "WriteRecord",
    "__version__",
    "default_ledger",
    "unit_of_work",
]

# Each name is loaded when it is first asked for (PEP 562): importing the package alone, as the command line's help and
# programs with rare units do, costs next to nothing.
_HOME = {
    "memoryos_uow._async_ledger": ("AsyncLedger",),
    "memoryos_uow.aio": ("AsyncUnitOfWork",),
    "memoryos_uow._copying.report": ("CopyProgress", "CopyReport"),
    "memoryos_uow._limits": ("Limits",),
    "memoryos_uow._messages": ("Message", "OutboxEntry", "RelayReport"),
    "memoryos_uow._names": ("Band", "Durability", "Isolation", "Operation", "Status"),
    "memoryos_uow._records": ("Erasure", "Hit", "RecoveryReport", "UnitRecord", "Violation", "WriteRecord"),
    "memoryos_uow.errors": (
        "ConflictError",
        "DuplicateUnit",
        "InDoubtError",
        "LedgerBusy",
        "LedgerCorrupt",
        "LedgerError",
        "LedgerRollback",
        "MessageRejected",
        "MigrationError",
        "RecordExists",
        "RecordMissing",
        "SchemaTooNew",
        "SinkError",
        "SinkUnavailable",
        "StoreError",
        "StoreUnavailable",
        "UnitOfWorkError",
        "UnitTimeout",
        "UsageError",
        "VerificationError",
    ),
    "memoryos_uow._decorating": ("unit_of_work",),
    "memoryos_uow._requests": ("Outcome",),
    "memoryos_uow.abc": ("MISSING",),
    "memoryos_uow.ledger": ("Ledger", "default_ledger"),
    "memoryos_uow.receipts": ("Receipt",),
    "memoryos_uow.verification": ("Finding", "StoreCheck", "VerificationLevel", "Verification"),
    "memoryos_uow.statistics": (
        "Durations",
        "FailureCount",
        "GroupBy",
        "SlowUnit",
        "Statistics",
        "StatisticsGroup",
    ),
    "memoryos_uow.unit": ("UnitOfWork",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
