"""Database files in every state a schema can be in, and what to compare of them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import memoryos_uow
from memoryos_uow import _schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TIME: Final = "2025-09-13T10:00:00Z"
UNIT_COLUMNS: Final = "uow_id, envelope_id, status, created_ts, committed_ts"
WRITE_COLUMNS: Final = "id, uow_id, store_name, record_id, ts"
CHILD: Final = Path(__file__).with_name("schema_child.py")
SOURCE: Final = Path(memoryos_uow.__file__).parents[1]


def connect(path: Path | str) -> sqlite3.Connection:
    """Return a connection as the engine makes them: no implicit transactions, no waiting inside SQLite."""
    return sqlite3.connect(path, isolation_level=None, timeout=0)


def run_script(conn: sqlite3.Connection, name: str) -> None:
    """Run a whole schema file, as a stranger with the sqlite3 command line would."""
    conn.executescript(_schema.text(name))


def make_1_0_0(path: Path, units: int = 3, *, wal: bool = False) -> None:
    """Make a ledger of contract 1.0.0 with `units` units and twice as many writes."""
    with closing(connect(path)) as conn:
        if wal:
            conn.execute("PRAGMA journal_mode = WAL")
        run_script(conn, _schema.BASE)
        fill_1_0_0(conn, units)


def fill_1_0_0(conn: sqlite3.Connection, units: int) -> None:
    """Write `units` committed units of 1.0.0, two writes each, in one transaction."""
    conn.execute("BEGIN")
    conn.executemany(
        f"INSERT INTO unit_of_work ({UNIT_COLUMNS}) VALUES (?, ?, 'committed', ?, ?)",
        ((f"u{n}", f"e{n}", TIME, TIME) for n in range(units)),
    )
    conn.executemany(
        f"INSERT INTO uow_writes ({WRITE_COLUMNS}) VALUES (?, ?, 'notes', ?, ?)",
        ((n + 1, f"u{n // 2}", f"r{n}", TIME) for n in range(2 * units)),
    )
    conn.execute("COMMIT")


def rows_1_0_0(conn: sqlite3.Connection) -> list[Sequence[Any]]:
    """Return everything 1.0.0 can hold, with the row numbers."""
    units = conn.execute(f"SELECT rowid, {UNIT_COLUMNS} FROM unit_of_work ORDER BY rowid").fetchall()
    return [*units, *conn.execute(f"SELECT {WRITE_COLUMNS} FROM uow_writes ORDER BY id").fetchall()]


def contract_shape(conn: sqlite3.Connection) -> dict[str, list[Any]]:
    """Return what ``PRAGMA table_info`` and the index list say of the contract's tables."""
    shape: dict[str, list[Any]] = {}
    for table in _schema.CONTRACT_TABLES:
        shape[table] = conn.execute(f"PRAGMA table_info({table})").fetchall()
        indexes = conn.execute(f"PRAGMA index_list({table})").fetchall()
        shape[f"indexes of {table}"] = sorted(
            (name, unique, origin, partial, [row[2] for row in conn.execute(f"PRAGMA index_info({name})")])
            for _, name, unique, origin, partial in indexes
        )
    return shape


def objects(conn: sqlite3.Connection, *, besides: Iterable[str] = ()) -> set[tuple[Any, ...]]:
    """Return the rows of sqlite_schema, without their places in the file, `besides` some names."""
    rows = conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    return {row for row in rows if row[1] not in set(besides)}


def fresh_shape(*names: str) -> dict[str, list[Any]]:
    """Return the contract's shape as the schema files `names` make it in an empty database."""
    with closing(connect(":memory:")) as conn:
        for name in names:
            run_script(conn, name)
        return contract_shape(conn)


def child_command(path: Path, way: str, *flags: str) -> list[str]:
    """Return the command of a second process that migrates `path`.

    The real interpreter and no site-packages: the library's schema code must need nothing else, and a traced child
    should make few system calls of its own.
    """
    return [os.path.realpath(sys.executable), "-S", "-E", "-B", str(CHILD), str(SOURCE), str(path), way, *flags]


def start_child(path: Path, way: str, *flags: str) -> subprocess.Popen[str]:
    """Start such a process with pipes in all directions."""
    pipe = subprocess.PIPE
    return subprocess.Popen(child_command(path, way, *flags), stdin=pipe, stdout=pipe, stderr=pipe, text=True)
