"""Makes what can be read in a ledger durable: it may be of a commit that did not wait, or whose process died in it.

Promise: on return no power cut, and no failover to a synchronous standby, takes back what was read before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from memoryos_uow._names import Dialect
from memoryos_uow._wal import sync_log

if TYPE_CHECKING:
    from memoryos_uow.abc import Reader

# Any row will do: a commit that waits brings every earlier one to the disk, and to the standby.
_FLUSH: Final = (
    "UPDATE uow_blocks SET next = next WHERE name = 'writes' RETURNING set_config('synchronous_commit', 'on', true)"
)


def make_durable(reader: Reader) -> None:
    """Make durable what can be read through `reader`, which is in no transaction.

    Raises:
        OSError: the disk failed.
        LedgerError: the server is out of reach.
    """
    if reader.dialect is Dialect.POSTGRESQL:
        reader.rows(_FLUSH)
    else:
        sync_log(Path(reader.rows("PRAGMA database_list")[0][2]))
