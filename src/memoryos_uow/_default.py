"""The ledger that units use when none is named: ``$MEMORYOS_UOW_LEDGER``, else ``memory.db`` in the working directory.

Promise: opened at first use, once per process and file; closed at exit.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from memoryos_uow import _ambient
from memoryos_uow.ledger import Ledger

_ENVIRONMENT = "MEMORYOS_UOW_LEDGER"
_lock = threading.Lock()
_open: dict[tuple[int, Path], Ledger] = {}


def default_ledger() -> Ledger:
    """Return the process's default ledger, opening it if need be.

    Raises:
        LedgerError: it cannot be opened.
    """
    path = Path(os.environ.get(_ENVIRONMENT) or "memory.db").absolute()
    key = (_ambient.process_id(), path)
    with _lock:
        ledger = _open.get(key)
        if ledger is None or ledger.closed:
            ledger = _open[key] = Ledger.open(path)
        return ledger
