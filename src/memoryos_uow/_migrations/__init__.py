"""The ledger's schema over time: what a file holds, and the way up to 1.1.0 and back down to 1.0.0.

Promises

1.  A file is wholly at its old version or wholly at the new one, whatever is killed when: each way is one
    transaction.
2.  Any number of processes may open, and so migrate, one file at once: one does it, the others find it done.
3.  Going up keeps every row and everything in the file that is not ours; going down, everything 1.0.0 can hold.
4.  `inspect` costs two small queries on a current ledger and writes nothing: a read-only file can be opened.
5.  ``user_version`` and ``application_id`` are the application's and never touched.

All functions take a plain ``sqlite3.Connection``, made with ``isolation_level=None``, outside any transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memoryos_uow._migrations.state import Kind, SchemaState, inspect
from memoryos_uow._migrations.up import migrate_up, refuse_unfit

if TYPE_CHECKING:
    from memoryos_uow._migrations.down import migrate_down

__all__ = ["Kind", "SchemaState", "inspect", "migrate_down", "migrate_up", "refuse_unfit"]


def __getattr__(name: str) -> Any:
    """Load the way down for who asks for it: opening a ledger never does."""
    if name != "migrate_down":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from memoryos_uow._migrations.down import migrate_down  # noqa: PLC0415

    return migrate_down
