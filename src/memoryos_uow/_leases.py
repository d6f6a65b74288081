"""The clock by which leases are measured: that of the ledger, whoever asks.

Promise: where a ledger is shared by machines, their clocks count for nothing: when a lease ends, and whether it has, is
said by the database's clock in the very statement that asks. A ledger in a file is shared by the processes of one
machine, so that machine's clock is the ledger's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient
from memoryos_uow._names import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memoryos_uow.abc import Reader

_NOW: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"

MOMENT: Final[Mapping[Dialect, str]] = {Dialect.SQLITE: "?", Dialect.POSTGRESQL: f"(CAST(? AS BIGINT) + {_NOW})"}
"""How a statement writes a moment; its parameter is what `moment` returns."""


def moment(reader: Reader, after_ms: int = 0) -> int:
    """Return the parameter that makes `MOMENT` the Unix time in milliseconds, `after_ms` from now."""
    return after_ms + _ambient.unix_ms() if reader.dialect is Dialect.SQLITE else after_ms


def now_ms(reader: Reader) -> int:
    """Return the Unix time in milliseconds by the ledger's clock."""
    if reader.dialect is Dialect.SQLITE:
        return _ambient.unix_ms()
    now: int = reader.rows(f"SELECT {_NOW}")[0][0]
    return now
