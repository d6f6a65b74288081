"""The way up to 1.1.0 on PostgreSQL, from nothing, from 1.0.0 and from anything in between.

One transaction, idempotent. The steps, all inside it, while no other migrator is at it:

1.  Look again: another process may have been faster.
2.  Create the tables of 1.0.0 that are missing; give the others the types that this library writes.
3.  Run the specification's forward migration, which leaves out what is there.
4.  Create the library's own tables and the view, and those of the built-in stores: whoever opens the ledger later
    needs no right to create anything.
5.  Compare what is there now with what should be; refuse what does not fit.
6.  Write down who this ledger is, what was applied, and from which number on ids are free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient, _schema
from memoryos_uow._migrations.judging import Kind
from memoryos_uow._migrations.words import listed, silent
from memoryos_uow._migrations_postgres import shape
from memoryos_uow._migrations_postgres.state import foreign, inspect, look_at, refuse_unfit
from memoryos_uow._migrations_postgres.waiting import DEFAULT_TIMEOUT_S, FILES, one_at_a_time, translated
from memoryos_uow.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._migrations_postgres.waiting import Connection

# Types that hold what ours hold, with fewer values or another order: what PostgreSQL casts by itself.
_NARROWER: Final = {"smallint": "bigint", "integer": "bigint", "character varying": "text", "text": "text"}
_STREAMS_FROM: Final = 2**62
"""Ids of writes from here on belong to units that took a large block, because they did not know how many they need."""
_FREE: Final = {
    "writes": f"SELECT coalesce(max(id), 0) + 1 FROM uow_writes WHERE id < {_STREAMS_FROM}",  # noqa: S608 - a number
    "streams": f"SELECT greatest(coalesce(max(id), 0) + 1, {_STREAMS_FROM}) FROM uow_writes",  # noqa: S608 - a number
    "outbox": "SELECT coalesce(max(id), 0) + 1 FROM uow_outbox",
}
"""The first free number of each kind that the rows leave: of those of a ledger that was down and is up again."""
_OUR_KEY: Final = """
SELECT c.conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = current_schema() AND t.relname = 'uow_writes' AND c.contype = 'f' AND c.confupdtype <> 'c'
  AND c.confrelid = to_regclass('unit_of_work') AND pg_get_constraintdef(c.oid) LIKE 'FOREIGN KEY (uow\\_id) %'
"""


def migrate_up(
    conn: Connection,
    *,
    place: str,
    origin: str | None = None,
    busy_timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Callable[[str], None] | None = None,
) -> bool:
    """Bring the database of `conn`, called `place` in messages, to 1.1.0; return whether anything was done.

    `origin` names a ledger that has no name yet; by default its name is made from its random id. `progress` is told
    in a few words what is being done. Each lock is waited for for at most `busy_timeout_s` seconds.

    Raises:
        SchemaTooNew: a later version of this library wrote it.
        MigrationError: something is in the way, or the role may not change it; nothing was changed.
        LedgerBusy: others held a lock for too long.
        LedgerError: the server is out of reach.
    """
    state = inspect(conn, place=place)
    if state.kind is Kind.CURRENT:
        return False
    refuse_unfit(state, place=place)
    tell = progress or silent
    tell("waiting for other migrators")
    with translated(place):
        done = one_at_a_time(conn, lambda: _migrate(conn, place, origin, tell), busy_timeout_s=busy_timeout_s)
    return done is not None


def _migrate(conn: Connection, place: str, origin: str | None, tell: Callable[[str], None]) -> bool | None:
    state = look_at(conn, place)
    if state.kind is Kind.CURRENT:
        return None
    refuse_unfit(state, place=place)
    tell("creating tables")
    conn.execute(_schema.text(FILES.base))
    have = shape.found(conn)
    _refuse_foreign(conn, have, place)
    _widen(conn, have)
    tell("adding columns and indexes")
    for name in (FILES.up, FILES.ledger, FILES.stores):
        conn.execute(_schema.text(name))
    found = shape.problems(conn)
    if found:
        raise MigrationError(
            f"{place} cannot become a ledger of 1.1.0: {listed(found)}.",
            hint="Nothing was changed. Change or remove that by hand, then open it again.",
        )
    _record(conn, origin)
    tell("committing")
    return True


def _refuse_foreign(conn: Connection, have: shape.Shape, place: str) -> None:
    """Refuse a database that cannot hold our texts, or in which a table of the application's has a name of ours."""
    encoding = conn.execute("SELECT current_setting('server_encoding')").fetchall()[0][0]
    if encoding != "UTF8":
        raise MigrationError(
            f"{place} keeps text as {encoding}, in which not every text can be written.",
            hint="Nothing was changed. Create a database for the ledger with ENCODING 'UTF8'.",
        )
    own = [table for table in shape.expected().tables if table not in _schema.CONTRACT_TABLES]
    missing = shape.lacking(have, (*own, "uow_receipts"))
    if missing:
        raise foreign(place, missing)


def _widen(conn: Connection, have: shape.Shape) -> None:
    """Give the contract's columns, where somebody else made them, the types that can hold what this library writes."""
    for table in _schema.CONTRACT_TABLES:
        wanted = shape.expected().tables[table]
        changes = [
            f"ALTER COLUMN {name} TYPE {wanted[name].kind}"
            for name, column in have.tables[table].items()
            if name in wanted
            and column.kind != wanted[name].kind
            and _NARROWER.get(column.type.partition("(")[0]) == wanted[name].type
        ]
        if changes:
            conn.execute(f"ALTER TABLE {table} {', '.join(changes)}")
    for (name,) in conn.execute(_OUR_KEY).fetchall():
        key = '"' + name.replace('"', '""') + '"'
        conn.execute(
            f"ALTER TABLE uow_writes DROP CONSTRAINT {key}, ADD CONSTRAINT {key}"
            " FOREIGN KEY (uow_id) REFERENCES unit_of_work(uow_id) ON UPDATE CASCADE"
        )


def _record(conn: Connection, origin: str | None) -> None:
    ledger_id, now = _ambient.random_hex(), _ambient.now_text()
    conn.execute(
        "INSERT INTO uow_identity (id, ledger_id, origin, created_ts) VALUES (1, %s, %s, %s) ON CONFLICT DO NOTHING",
        (ledger_id, origin or f"memoryos-uow/{ledger_id[:16]}", now),
    )
    for version, name in FILES.layers.items():
        conn.execute(
            "INSERT INTO uow_schema (version, applied_ts, checksum) VALUES (%s, %s, %s) ON CONFLICT (version)"
            " DO UPDATE SET applied_ts = excluded.applied_ts, checksum = excluded.checksum"
            " WHERE uow_schema.checksum <> excluded.checksum",
            (version, now, _schema.checksum(name)),
        )
    for name, free in _FREE.items():
        conn.execute(
            f"INSERT INTO uow_blocks (name, next) VALUES ('{name}', ({free})) ON CONFLICT (name)"  # noqa: S608 - from above
            " DO UPDATE SET next = greatest(uow_blocks.next, excluded.next)"
        )
    conn.execute("INSERT INTO uow_sequencer (id, epoch, lease_until_ms) VALUES (1, 0, 0) ON CONFLICT DO NOTHING")
