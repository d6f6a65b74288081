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
    from memoryos_uow._limits import Limits
    from memoryos_uow._names import Band, Durability, Isolation, Operation, Status
    from memoryos_uow._records import Hit, RecoveryReport, UnitRecord, Violation, WriteRecord
    from memoryos_uow.errors import (
        ConflictError,
        DuplicateUnit,
        InDoubtError,
        LedgerBusy,
        LedgerCorrupt,
        LedgerError,
        LedgerRollback,
        MigrationError,
        RecordExists,
        RecordMissing,
        SchemaTooNew,
        StoreError,
        StoreUnavailable,
        UnitOfWorkError,
        UnitTimeout,
        UsageError,
        VerificationError,
    )
    from memoryos_uow.ledger import Ledger, default_ledger
    from memoryos_uow.receipts import Receipt
    from memoryos_uow.unit import UnitOfWork

__all__ = [
    "Band",
    "ConflictError",
    "DuplicateUnit",
    "Durability",
    "Hit",
    "InDoubtError",
    "Isolation",
    "Ledger",
    "LedgerBusy",
    "LedgerCorrupt",
    "LedgerError",
    "LedgerRollback",
    "Limits",
    "MigrationError",
    "Operation",
    "Receipt",
    "RecordExists",
    "RecordMissing",
    "RecoveryReport",
    "SchemaTooNew",
    "Status",
    "StoreError",
    "StoreUnavailable",
    "UnitOfWork",
    "UnitOfWorkError",
    "UnitRecord",
    "UnitTimeout",
    "UsageError",
    "VerificationError",
    "Violation",
    "WriteRecord",
    "__version__",
    "default_ledger",
]

# Each name is loaded when it is first asked for (PEP 562): importing the package alone, as the command line's help and
# programs with rare units do, costs next to nothing.
_HOME = {
    "memoryos_uow._limits": ("Limits",),
    "memoryos_uow._names": ("Band", "Durability", "Isolation", "Operation", "Status"),
    "memoryos_uow._records": ("Hit", "RecoveryReport", "UnitRecord", "Violation", "WriteRecord"),
    "memoryos_uow.errors": (
        "ConflictError",
        "DuplicateUnit",
        "InDoubtError",
        "LedgerBusy",
        "LedgerCorrupt",
        "LedgerError",
        "LedgerRollback",
        "MigrationError",
        "RecordExists",
        "RecordMissing",
        "SchemaTooNew",
        "StoreError",
        "StoreUnavailable",
        "UnitOfWorkError",
        "UnitTimeout",
        "UsageError",
        "VerificationError",
    ),
    "memoryos_uow.ledger": ("Ledger", "default_ledger"),
    "memoryos_uow.receipts": ("Receipt",),
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
