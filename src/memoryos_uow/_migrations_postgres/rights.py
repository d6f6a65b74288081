"""Whether the role that opens a ledger may do what units do, asked once instead of found out in the middle of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow._migrations.words import listed
from memoryos_uow._migrations_postgres.shape import expected
from memoryos_uow._migrations_postgres.waiting import translated
from memoryos_uow.errors import LedgerError

if TYPE_CHECKING:
    from memoryos_uow._migrations_postgres.waiting import Connection

_MISSING: Final = """
SELECT CAST(c.relname AS TEXT), string_agg(p.privilege, ', ' ORDER BY p.privilege)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) AS p(privilege)
WHERE n.nspname = current_schema() AND c.relkind = 'r' AND (p.privilege = 'SELECT' OR NOT %s)
  AND NOT has_table_privilege(c.oid, p.privilege) AND c.relname = ANY(%s)
GROUP BY c.relname ORDER BY c.relname
"""


def refuse_unprivileged(conn: Connection, *, place: str, read_only: bool = False) -> None:
    """Refuse a role that may not read, or unless `read_only` write, every table of the ledger.

    Raises:
        LedgerError: something is missing; it says what.
    """
    with translated(place):
        missing = conn.execute(_MISSING, (read_only, list(expected().tables))).fetchall()
    if missing:
        raise LedgerError(
            f"The role lacks privileges in {place}: {listed([f'{what} on {table}' for table, what in missing])}.",
            hint="Nothing was changed. Have the owner run: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA"
            " ... TO ...",
        )
