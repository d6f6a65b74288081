"""The way down to 1.0.0 on PostgreSQL: softly as the specification says, or in full. One transaction each.

The full way:

1.  Take the five indexes away: from here on nobody else can use the table of units.
2.  Refuse what would not survive: units without a number, in doubt or at work, undelivered messages, and anything of
    the application's that is built on what goes away.
3.  Copy all that 1.0.0 cannot hold into tables of its own, ``uow_backup_<time>_<table>``.
4.  Drop the library's own tables and columns; the users' records (``stores.sql``) stay unless there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient, _schema
from memoryos_uow._migrations.judging import Kind
from memoryos_uow._migrations.words import listed, silent
from memoryos_uow._migrations_postgres import shape
from memoryos_uow._migrations_postgres.state import inspect, look_at, refuse_unfit
from memoryos_uow._migrations_postgres.waiting import DEFAULT_TIMEOUT_S, FILES, has, one_at_a_time, translated
from memoryos_uow._names import CONTRACT_VERSION
from memoryos_uow.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memoryos_uow._migrations_postgres.waiting import Connection

_DOWN_ALREADY: Final = (Kind.NEW, Kind.BASIC)
_KEYS: Final = {"unit_of_work": "uow_id", "uow_writes": "id"}

_FOR_RUNNING: Final = ("uow_blocks", "uow_durability", "uow_pending", "uow_sequencer")
"""Tables that say nothing about what was."""

# Table, what its rows are, what is to be done about them.
_UNNUMBERED: Final = (
    "uow_pending",
    "committed units that have no number in the receipt log yet",
    "Run `memoryos-uow recover` on it, then migrate down.",
)
_UNSETTLED: Final = (
    "uow_coordination",
    "units that are at work or in doubt",
    "Close the programs that use it, run recover, then migrate down.",
)
_UNDELIVERED: Final = (
    "uow_outbox",
    "messages in its outbox that are not delivered yet",
    "Deliver them with `memoryos-uow relay`, or drop them with `memoryos-uow outbox drop`, then migrate down.",
)
# Indexes, triggers and views that are not of our making; %s: tables, and columns of them (null: all).
_BUILT_ON: Final = """
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid)
FROM pg_depend d
JOIN pg_class t ON t.oid = d.refobjid AND d.refclassid = CAST('pg_class' AS regclass)
JOIN pg_namespace n ON n.oid = t.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
LEFT JOIN pg_class o ON o.oid = d.objid AND d.classid = CAST('pg_class' AS regclass)
LEFT JOIN pg_constraint c ON c.oid = d.objid AND d.classid = CAST('pg_constraint' AS regclass)
WHERE n.nspname = current_schema() AND t.relname = %s AND d.deptype IN ('n', 'a')
  AND (CAST(%s AS TEXT[]) IS NULL OR a.attname = ANY(CAST(%s AS TEXT[])))
  AND d.classid <> CAST('pg_attrdef' AS regclass)
  AND NOT (d.classid = CAST('pg_constraint' AS regclass) AND c.conrelid = t.oid
    AND (c.contype <> 'c' OR cardinality(c.conkey) = 1))
  AND NOT (d.classid = CAST('pg_class' AS regclass) AND (o.relname = ANY(%s) OR o.relkind IN ('t', 'S')
    OR EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = o.oid AND k.conrelid = t.oid)))
"""


def migrate_down(
    conn: Connection,
    *,
    place: str,
    soft: bool = False,
    busy_timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Callable[[str], None] | None = None,
) -> tuple[str, ...]:
    """Take the database of `conn`, called `place` in messages, down to 1.0.0; return the names of the backup tables.

    `soft` gives up the contents of the columns of 1.1.0, keeps the columns, the library's own tables and every
    record, and makes no backup. The full way restores the tables of 1.0.0 and drops the library's bookkeeping; what it
    held goes to new tables ``uow_backup_<time>_<table>``, which nothing reads and whoever needs them no more may drop.
    A ledger that is down already stays as it is, and nothing is returned.

    Raises:
        SchemaTooNew: a later version of this library wrote it.
        MigrationError: something is in the way, or the role may not change it; nothing was changed.
        LedgerBusy: others held a lock for too long.
        LedgerError: the server is out of reach.
    """
    state = inspect(conn, place=place)
    refuse_unfit(state, place=place)
    if state.kind in _DOWN_ALREADY or (soft and state.kind is Kind.SOFT):
        return ()
    tell = progress or silent
    tell("waiting for other migrators")
    way = _give_up if soft else _take_away
    with translated(place):
        return one_at_a_time(conn, lambda: way(conn, place, tell), busy_timeout_s=busy_timeout_s) or ()


def _give_up(conn: Connection, place: str, tell: Callable[[str], None]) -> tuple[str, ...] | None:
    state = look_at(conn, place)
    refuse_unfit(state, place=place)
    if state.kind in (*_DOWN_ALREADY, Kind.SOFT):
        return None
    columns = {f"{added.table}.{added.column}" for added in _schema.added_columns(FILES.up)}
    if lacking := sorted(columns.intersection(state.missing)):
        raise MigrationError(
            f"{place} holds only a part of 1.1.0, without {listed(lacking)}: nothing to give up softly.",
            hint="Nothing was changed. Migrate it up first, or down without --soft.",
        )
    _close_units(conn)
    _refuse_rows(conn, place, [_UNNUMBERED])
    tell("emptying the columns of 1.1.0")
    conn.execute(_schema.text(FILES.down))
    conn.execute("DELETE FROM uow_schema WHERE version = %s", (CONTRACT_VERSION,))
    return ()


def _take_away(conn: Connection, place: str, tell: Callable[[str], None]) -> tuple[str, ...] | None:
    state = look_at(conn, place)
    refuse_unfit(state, place=place)
    if state.kind in _DOWN_ALREADY:
        return None
    _close_units(conn)
    _refuse_rows(conn, place, [_UNNUMBERED, _UNSETTLED, _UNDELIVERED])
    have = shape.found(conn).tables
    added = {
        table: [
            one.column for one in _schema.added_columns(FILES.up) if one.table == table and one.column in have[table]
        ]
        for table in _schema.CONTRACT_TABLES
        if table in have
    }
    ours = [one.name for one in _schema.created(FILES.ledger) if one.kind == "table" and one.name in have]
    conn.execute("DROP VIEW IF EXISTS uow_receipts")
    for name in ("uow_units_by_space", "uow_units_by_actor", "uow_units_by_band"):
        conn.execute(f"DROP INDEX IF EXISTS {name}")
    _refuse_dependents(conn, place, added, ours)
    tell("copying what 1.0.0 cannot hold")
    backups = _back_up(conn, added, ours)
    tell("removing columns and tables")
    for table in ours:
        conn.execute(f"DROP TABLE {table}")
    for table, columns in added.items():
        if columns:
            conn.execute(f"ALTER TABLE {table} {', '.join(f'DROP COLUMN {column}' for column in columns)}")
    conn.execute("ALTER TABLE unit_of_work RESET (fillfactor)")
    _drop_empty_stores(conn, have)
    tell("committing")
    return backups


def _close_units(conn: Connection) -> None:
    """Take the indexes of 1.1.0 away, which waits for every transaction on units and keeps out new ones."""
    for one in _schema.created(FILES.up):
        conn.execute(f"DROP INDEX IF EXISTS {one.name}")


def _refuse_rows(conn: Connection, place: str, tables: Sequence[tuple[str, str, str]]) -> None:
    """Refuse a ledger with rows that programs of 1.0.0 could not finish."""
    for table, what, hint in tables:
        count = conn.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] if has(conn, table) else 0  # noqa: S608
        if count:
            raise MigrationError(f"{place} has {count:,} {what}.", hint=f"Nothing was changed. {hint}")


def _built_on(conn: Connection, table: str, columns: Sequence[str] | None) -> list[str]:
    """Return what the application built on `table`, or on those of its `columns`, in words."""
    ours = list(shape.expected().indexes)
    rows = conn.execute(_BUILT_ON, (table, columns, columns, ours)).fetchall()
    return sorted(row[0].removeprefix("rule _RETURN on ") for row in rows)


def _refuse_dependents(conn: Connection, place: str, added: dict[str, list[str]], ours: Sequence[str]) -> None:
    """Refuse what the application built on things that go: PostgreSQL would drop its indexes and triggers silently."""
    found = [what for table, columns in added.items() for what in _built_on(conn, table, columns)]
    found += [what for table in ours for what in _built_on(conn, table, None)]
    if found:
        raise MigrationError(
            f"In {place} something of the application's needs 1.1.0: {listed(found)}.",
            hint="Nothing was changed. Drop or change it first, or migrate down softly.",
        )


def _back_up(conn: Connection, added: dict[str, list[str]], ours: Sequence[str]) -> tuple[str, ...]:
    """Copy what goes into new tables, as far as it tells anything; return their names."""
    prefix = "uow_backup_" + "".join(filter(str.isdigit, _ambient.now_text()))
    sources = {table: f"{', '.join((_KEYS[table], *names))} FROM {table}" for table, names in added.items() if names}
    sources |= {table: f"* FROM {table}" for table in ours if table not in _FOR_RUNNING}
    sources["uow_schema"] += " WHERE version <> ''"  # the migrators' lock, which is always there
    made = []
    for table, source in sources.items():
        if conn.execute(f"SELECT EXISTS (SELECT {source})").fetchall()[0][0]:
            made.append(f"{prefix}_{table}")
            conn.execute(f"CREATE TABLE {made[-1]} AS SELECT {source}")
    return tuple(made)


def _drop_empty_stores(conn: Connection, have: Mapping[str, object]) -> None:
    """Drop the tables of the users' records if none holds a row and nothing is built on them."""
    tables = [one.name for one in _schema.created(FILES.stores) if one.kind == "table" and one.name in have]
    used = any(
        conn.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchall()[0][0] or _built_on(conn, table, None)  # noqa: S608
        for table in tables
    )
    if not used:
        for table in tables:
            conn.execute(f"DROP TABLE {table}")
