"""What a PostgreSQL database holds of our schema, found out without writing."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _schema
from memoryos_uow._migrations.judging import Kind, judge, wanted
from memoryos_uow._migrations.words import listed
from memoryos_uow._migrations_postgres.shape import base_columns, problems
from memoryos_uow._migrations_postgres.waiting import FILES, translated
from memoryos_uow.engines._pg_errors import state_of
from memoryos_uow.errors import LedgerError, MigrationError, SchemaTooNew

if TYPE_CHECKING:
    from memoryos_uow._migrations.judging import SchemaState, Wanted
    from memoryos_uow._migrations_postgres.waiting import Connection

# One query, because it runs at each opening of a ledger. The catalogs tell of tables that the role may not read too.
_PAIRS: Final = r"""
SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'i' THEN 'index' ELSE 'view' END, CAST(c.relname AS TEXT)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema()
  AND (c.relname = 'unit_of_work' OR c.relname LIKE 'uow\_%' OR c.relname LIKE 'idx\_uow\_%')
UNION ALL
SELECT CAST(c.relname AS TEXT), CAST(a.attname AS TEXT)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = current_schema() AND c.relname IN ('unit_of_work', 'uow_writes', 'uow_schema')
UNION ALL SELECT 'here', CAST(current_schema() AS TEXT)
UNION ALL SELECT 'elsewhere', CAST(n.nspname AS TEXT)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass('unit_of_work') AND n.nspname IS DISTINCT FROM current_schema()
"""
_VERSIONS: Final = "SELECT version, checksum FROM uow_schema WHERE version <> ''"
_NO_SUCH_TABLE: Final = "42P01"
_LOOKS: Final = 5


@cache
def _wanted() -> Wanted:
    return wanted(FILES, base_columns)


def inspect(conn: Connection, *, place: str) -> SchemaState:
    """Return what the database holds of our schema. Reads only: two small queries when it is current.

    Raises:
        MigrationError: the connection's ``search_path`` names no schema, or leads to two.
        LedgerError: the server is out of reach.
    """
    with translated(place):
        for look in range(_LOOKS):
            try:
                return look_at(conn, place)
            except Exception as error:
                # Between the two queries somebody took the ledger down: the record is gone.
                if state_of(error) != _NO_SUCH_TABLE or look == _LOOKS - 1:
                    raise
    raise AssertionError  # pragma: no cover - the loop returns or raises


def look_at(conn: Connection, place: str) -> SchemaState:
    """Return the same, with the driver's own errors: the two queries may see two states, of which none is made up."""
    found: set[Any] = set(conn.execute(_PAIRS).fetchall())
    schemas = {which: name for which, name in found if which in ("here", "elsewhere")}
    if schemas["here"] is None:
        raise MigrationError(
            f"The role may use no schema in {place}: search_path names none, or none that it has USAGE on.",
            hint="Nothing was changed. Have the owner grant it, or name a schema in the address"
            " (?options=-csearch_path%3Dname).",
        )
    if "elsewhere" in schemas:
        raise MigrationError(
            f"{place} has a table unit_of_work in the schema {schemas['elsewhere']}, and new tables would go to"
            f" {schemas['here']}.",
            hint="Nothing was changed. Put the ledger's schema first in search_path"
            " (in the address: ?options=-csearch_path%3Dname).",
        )
    return judge(found, _wanted(), lambda: conn.execute(_VERSIONS).fetchall(), lambda: problems(conn))


def refuse_unfit(state: SchemaState, *, place: str) -> None:
    """Raise for a database that can be migrated neither up nor down.

    Raises:
        SchemaTooNew: a later version of this library wrote it.
        MigrationError: it is not a ledger's.
    """
    if state.kind is Kind.TOO_NEW:
        raise SchemaTooNew(
            f"The schema of {place} is {state.version}; this library ends at {_schema.LEDGER_LAYOUT}.",
            hint="Nothing was changed. Install the version of memoryos-uow that wrote it, or a later one.",
        )
    if state.kind is Kind.FOREIGN:
        raise foreign(place, state.missing)


def foreign(place: str, missing: tuple[str, ...]) -> MigrationError:
    """Return what is to be said of a table of our name that is none of ours."""
    return MigrationError(
        f"{place} has a table with the name of a ledger's that is none: it lacks {listed(missing)}.",
        hint="Nothing was changed. Give the ledger a schema or database of its own, or rename that table.",
    )


def refuse_unmigrated(state: SchemaState, *, place: str) -> None:
    """Raise for a database that is no ledger of 1.1.0 and may not become one: on PostgreSQL there is no basic mode.

    Raises:
        LedgerError: it is none.
    """
    if state.kind is Kind.CURRENT:
        return
    if state.kind is Kind.NEW:
        raise LedgerError(
            f"{place} holds no ledger, and migrate=False forbids to make one.",
            hint="Nothing was changed. Open it with migrate=True.",
        )
    raise LedgerError(
        f"{place} is a ledger of {state.version}, and on PostgreSQL only one of 1.1.0 can be used.",
        hint="Nothing was changed. Open it with migrate=True, or run `memoryos-uow migrate` on it.",
    )
