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

from memoryos_uow._limits import Limits
from memoryos_uow._names import Band, Durability, Isolation, Operation, Status
from memoryos_uow._records import Hit, RecoveryReport, UnitRecord, Violation, WriteRecord
from memoryos_uow._version import __version__
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
