"""Removing from a PostgreSQL database what deleted rows have left in its tables.

Promise: `empty` says so only where no version of a row that was there before an erasure can be seen by anybody, or is
left in a table. The write-ahead log, replicas, backups and what the disk itself keeps are out of reach, and of a page
that was tidied up bytes may remain until it is filled again (https://www.postgresql.org/docs/current/sql-vacuum.html).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient
from memoryos_uow._backoff import delay_s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memoryos_uow.engines._contract import EngineReader

_LONGEST_S: Final = 0.25

# A transaction that is at least as old as the newest erasure may still read what that one deleted.
_WATCHED: Final = """
SELECT 1 FROM (
  SELECT backend_xmin AS oldest FROM pg_stat_activity WHERE pid <> pg_backend_pid()
    AND (datname = current_database() OR datname IS NULL)
  UNION ALL SELECT xmin FROM pg_replication_slots
  UNION ALL SELECT transaction FROM pg_prepared_xacts WHERE database = current_database()
) AS others
WHERE oldest IS NOT NULL AND age(oldest) >= (SELECT min(age(xmin)) FROM uow_erasing) LIMIT 1
"""
_TABLES: Final = r"""
SELECT quote_ident(c.relname), pg_has_role(c.relowner, 'USAGE') FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')
AND (c.relname = 'unit_of_work' OR c.relname LIKE 'uow\_%' OR c.relname = ANY(CAST(? AS TEXT[])))
"""


def empty(reader: EngineReader, stores: Iterable[str], *, wait_s: float) -> bool:
    """Vacuum the ledger's tables, and those called like these stores; return whether nothing is left in them.

    Waits at most `wait_s` seconds for transactions that may still see what was deleted.
    """
    if not _wait_for_others(reader, wait_s):
        return False
    tables: list[tuple[Any, ...]] = reader.rows(_TABLES, (list(stores),))
    ours = [name for name, is_owner in tables if is_owner]
    if ours:
        reader.connection.execute(f"VACUUM {', '.join(ours)}")
    return len(ours) == len(tables)


def _wait_for_others(reader: EngineReader, wait_s: float) -> bool:
    begun, attempt = _ambient.monotonic_ns(), 0
    while reader.rows(_WATCHED):
        left_s = wait_s - (_ambient.monotonic_ns() - begun) / 1e9
        if left_s <= 0:
            return False
        attempt += 1
        _ambient.sleep(min(left_s, delay_s(attempt, 1.0, first_s=0.005, largest_s=_LONGEST_S)))
    return True
