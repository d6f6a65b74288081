"""The schema of a ledger on PostgreSQL over time: what a database holds, the way up to 1.1.0 and back down to 1.0.0.

Promises

1.  A database is wholly at its old version or wholly at the new one, whatever is killed when: each way is one
    transaction.
2.  Any number of processes on any machines may open, and so migrate, one database at once: one does it, the others
    find it done.
3.  Going up keeps every row and everything in the database that is not ours; going down, everything 1.0.0 can hold,
    and what it cannot hold stays in tables of its own.
4.  `inspect` costs two small queries on a current ledger and writes nothing.
5.  Everything is in one schema, the first of the connection's ``search_path`` (``current_schema``).

There is no basic mode: a ledger of 1.0.0 is migrated or refused. All functions take a connection in autocommit mode,
outside any transaction.
"""

from __future__ import annotations

from memoryos_uow._migrations_postgres.down import migrate_down
from memoryos_uow._migrations_postgres.rights import refuse_unprivileged
from memoryos_uow._migrations_postgres.state import inspect, refuse_unfit, refuse_unmigrated
from memoryos_uow._migrations_postgres.up import migrate_up

__all__ = ["inspect", "migrate_down", "migrate_up", "refuse_unfit", "refuse_unmigrated", "refuse_unprivileged"]
