"""The ledger that units use when none is named: ``$MEMORYOS_UOW_LEDGER``, else ``memory.db`` in the working directory.

Promise: opened at first use, once per process and file, or database; closed at exit.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient
from memoryos_uow._limits import Limits
from memoryos_uow._names import Durability, address_of
from memoryos_uow._open_ledger import OpenLedger
from memoryos_uow._opening import check_path

if TYPE_CHECKING:
    from pathlib import Path

_ENVIRONMENT: Final = "MEMORYOS_UOW_LEDGER"
BUSY_TIMEOUT_S: Final = 30.0
_lock = threading.Lock()
_open: dict[tuple[int, Path | str], OpenLedger] = {}


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 - another thread may hold it while this one forks; in the child nobody would release it
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def default_opened() -> OpenLedger:
    """Return the process's default ledger, opening it if need be.

    Raises:
        UsageError: the environment variable holds neither a path nor an address.
        LedgerError: it cannot be opened.
    """
    named = os.environ.get(_ENVIRONMENT) or "memory.db"
    place = address_of(named) or check_path(named)
    key = (_ambient.process_id(), place)
    with _lock:
        ledger = _open.get(key)
        if ledger is None or ledger.closed:
            ledger = _open[key] = OpenLedger.open(
                place,
                stores=(),
                durability=Durability.FULL,
                origin=None,
                migrate=True,
                busy_timeout=BUSY_TIMEOUT_S,
                limits=Limits(),
                allow_triggers=(),
                recover=True,
            )
        return ledger
