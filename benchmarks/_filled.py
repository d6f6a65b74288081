"""Ledgers that have been in use for long: many units, written in bulk as the library writes them one by one.

Who, where and how is skewed as in real use: a few spaces and actors have most of the units, nine units of ten are
GREEN, one in a hundred failed, three share a correlation id. One space and one actor have gone quiet after the first
units. One unit begins every second. Hashes are constants: nothing here verifies them, and what they cost depends on
their length alone.
"""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from benchmarks._work import (
    DIGEST,
    INSERT_ENTRY,
    INSERT_UNIT,
    INSERT_WRITE,
    TIME,
    WRITES,
    entry_row,
    unit_id_of,
    unit_row,
    write_row,
)
from memoryos_uow import Ledger, _schema
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

INDEXES: Final = tuple(name for kind, name in _schema.created(_schema.UP) if kind == "index")
"""The names of the specification's five indexes."""

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SPACES: Final = tuple(f"space:{number:04d}" for number in range(50))
_ACTORS: Final = tuple(f"actor:{number:04d}" for number in range(200))


QUIET_SPACE: Final = "space:quiet"
QUIET_ACTOR: Final = "actor:quiet"
_QUIET_FROM: Final = 100


def time_of(number: int) -> str:
    """Return when unit `number` began."""
    return (_START + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _units(statuses: Mapping[int, str], chance: random.Random) -> Iterator[list[Any]]:
    # The n-th of many names is met with a probability of about 1/n.
    spaces = [1 / (place + 1) for place in range(len(_SPACES))]
    actors = [1 / (place + 1) for place in range(len(_ACTORS))]
    failed = {"error_type": "RecordExists", "failed_store": "notes", "error_ts": TIME, "receipt_hash": None}
    for number, status in statuses.items():
        quiet = number < _QUIET_FROM
        yield unit_row(
            number,
            status=status,
            created_ts=time_of(number),
            commit_time_ms=1,
            space_id=QUIET_SPACE if quiet else chance.choices(_SPACES, spaces)[0],
            actor_id=QUIET_ACTOR if quiet else chance.choices(_ACTORS, actors)[0],
            correlation_id=f"req-{number // 3:08d}",
            band=chance.choices(("GREEN", "AMBER", "RED", "BLACK"), (900, 80, 15, 5))[0],
            **(failed if status == "failed" else {}),
        )


def fill(path: Path, units: int, *, seed: int = 1) -> None:
    """Make a current ledger at `path` with `units` units; those that were committed have three writes each."""
    Ledger.open(path, stores=[DocumentStore("notes")], origin="example.com/benchmark").close()
    chance = random.Random(seed)
    statuses = dict(enumerate(chance.choices(("committed", "failed"), (99, 1), k=units), start=1))
    committed = [number for number, status in statuses.items() if status == "committed"]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.executemany(INSERT_UNIT, _units(statuses, chance))
        connection.executemany(INSERT_WRITE, (row for number in committed for row in writes_of(number)))
        connection.executemany(INSERT_ENTRY, map(entry_row, committed))
        connection.execute("UPDATE uow_ledger SET execution_us = 512, commit_us = 400")
        connection.executemany("INSERT INTO uow_spaces VALUES (?, ?, ?)", ((space, units, DIGEST) for space in _SPACES))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def writes_of(number: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the three writes of unit `number`."""
    for part in range(WRITES):
        yield write_row(WRITES * number + part, unit_id_of(number), number)


def fill_1_0_0(path: Path, units: int) -> None:
    """Make a ledger of contract 1.0.0 at `path` with `units` committed units of three writes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(_schema.text(_schema.BASE))
        insert_1_0_0(connection, units)


def insert_1_0_0(connection: sqlite3.Connection, units: int) -> None:
    """Write `units` units of three writes into the columns that 1.0.0 has, and no others."""
    numbers = range(1, units + 1)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO unit_of_work (uow_id, status, created_ts, committed_ts) VALUES (?, 'committed', ?, ?)",
        ((unit_id_of(number), time_of(number), time_of(number)) for number in numbers),
    )
    connection.executemany(
        "INSERT INTO uow_writes (id, uow_id, store_name, record_id, ts) VALUES (?, ?, ?, ?, ?)",
        (row[:5] for number in numbers for row in writes_of(number)),
    )
    connection.execute("COMMIT")
