"""Whether a database is a ledger, or one that is still being copied there (`_copying`).

Promise: a ledger of which a part may be missing is never taken for a whole one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow import _catalog
from memoryos_uow.errors import LedgerError

if TYPE_CHECKING:
    from memoryos_uow.abc import Reader

MARKER: Final = "uow_copying"
"""The table that is there as long as the copy is not whole."""


def refuse_unfinished(reader: Reader, place: str) -> None:
    """Refuse a database to which a ledger is being copied.

    Raises:
        LedgerError: it is one.
    """
    if _catalog.has_table(reader, MARKER):
        raise LedgerError(
            f"{place} holds an unfinished copy of a ledger.",
            hint="Nothing was changed. Run `memoryos-uow copy` again: it goes on where it was.",
        )
