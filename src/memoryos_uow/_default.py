"""The ledger that units use when none is named: ``$MEMORYOS_UOW_LEDGER``, else ``memory.db`` in the working directory.

Promise: opened at first use, once per process and file; closed at exit.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from memoryos_uow import _ambient
from memoryos_uow._limits import Limits
from memoryos_uow._names import Durability
from memoryos_uow._open_ledger import OpenLedger

_ENVIRONMENT: Final = "MEMORYOS_UOW_LEDGER"
BUSY_TIMEOUT_S: Final = 30.0
_lock = threading.Lock()
_open: dict[tuple[int, Path], OpenLedger] = {}


def default_opened() -> OpenLedger:
    """Return the process's default ledger, opening it if need be.

    Raises:
        LedgerError: it cannot be opened.
    """
    path = Path(os.environ.get(_ENVIRONMENT) or "memory.db").absolute()
    key = (_ambient.process_id(), path)
    with _lock:
        ledger = _open.get(key)
        if ledger is None or ledger.closed:
            ledger = _open[key] = OpenLedger.open(
                path,
                stores=(),
                durability=Durability.FULL,
                origin=None,
                migrate=True,
                busy_timeout=BUSY_TIMEOUT_S,
                limits=Limits(),
                allow_triggers=(),
            )
        return ledger
