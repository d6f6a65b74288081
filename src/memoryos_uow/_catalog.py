"""Which tables a ledger's database has and what hangs on them, in whichever words that database answers.

Promise: reads only; names are compared exactly, and only in the schema that unqualified names mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow._names import Dialect

if TYPE_CHECKING:
    from collections.abc import Collection

    from memoryos_uow.abc import Reader

_TABLES: Final = {
    Dialect.SQLITE: "SELECT name FROM sqlite_schema WHERE name IN ({})",
    Dialect.POSTGRESQL: (
        "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_name IN ({})"
    ),
}

# On PostgreSQL a rule rewrites what is done to a table, and a policy hides rows of it: both are as good as a trigger.
_HOOKS: Final = {
    Dialect.SQLITE: (
        "SELECT 'trigger', name, tbl_name FROM sqlite_schema WHERE type = 'trigger'"
        r" AND (lower(tbl_name) IN ('unit_of_work', 'uow_writes') OR lower(tbl_name) LIKE 'uow\_%' ESCAPE '\')"
    ),
    Dialect.POSTGRESQL: r"""
        SELECT CAST(h.kind AS TEXT), CAST(h.name AS TEXT), CAST(c.relname AS TEXT)
        FROM (
          SELECT 'trigger', tgname, tgrelid FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'
          UNION ALL SELECT 'rule', rulename, ev_class FROM pg_rewrite WHERE ev_type <> '1' AND ev_enabled <> 'D'
          UNION ALL SELECT 'policy', polname, polrelid FROM pg_policy
        ) AS h(kind, name, relation)
        JOIN pg_class AS c ON c.oid = h.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = current_schema() AND (c.relname = 'unit_of_work' OR c.relname LIKE 'uow\_%')
        ORDER BY c.relname, h.name""",
}


class Hook(NamedTuple):
    """Something that a database does by itself when a table is read or written."""

    kind: str
    """``trigger``; on PostgreSQL also ``rule`` and ``policy``."""
    name: str
    table: str


def tables_among(reader: Reader, names: Collection[str]) -> set[str]:
    """Return those of `names` that are tables; SQLite counts its indexes among them."""
    marks = ", ".join("?" * len(names))
    return {str(name) for (name,) in reader.rows(_TABLES[reader.dialect].format(marks), tuple(names))}


def has_table(reader: Reader, name: str) -> bool:
    """Say whether there is a table called `name`."""
    return bool(tables_among(reader, (name,)))


def hooks(reader: Reader) -> list[Hook]:
    """Return every trigger, and the like, on a table of ours: none is of our making."""
    return [Hook(*row) for row in reader.rows(_HOOKS[reader.dialect])]
