"""Ledgers of every age in a PostgreSQL database, each in a schema of its own, and what is in them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _migrations_postgres, _schema
from memoryos_uow._names import Dialect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from memoryos_uow._migrations import Kind

FILES: Final = _schema.FILES[Dialect.POSTGRESQL]
TIME: Final = "2025-09-13T10:00:00.000000Z"
PLACE: Final = "postgresql://there/ledger"
RECORD: Final = next(text for text in _schema.statements(FILES.ledger) if "uow_schema (" in text)
"""The statement that makes the record of what was applied: a migration begins with it."""
MIGRATOR: Final = Path(__file__).with_name("postgres_migrator.py")
SOURCE: Final = Path(_schema.__file__).parents[1]

# What the specification's 1.0.0 is on PostgreSQL for somebody who takes it literally.
LITERAL_1_0_0: Final = """
CREATE TABLE unit_of_work (uow_id TEXT PRIMARY KEY, envelope_id TEXT, status TEXT NOT NULL, created_ts TEXT NOT NULL,
  committed_ts TEXT);
CREATE TABLE uow_writes (id INTEGER PRIMARY KEY, uow_id TEXT NOT NULL REFERENCES unit_of_work(uow_id),
  store_name TEXT NOT NULL, record_id TEXT, ts TEXT NOT NULL);
"""

_numbers = itertools.count(1)


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection in which each statement commits by itself."""
    import psycopg

    return psycopg.connect(url, autocommit=True)


def run(conn: Any, script: str) -> None:
    """Run a script, as psql would."""
    conn.execute(script.encode())


def new_schema(url: str) -> str:
    """Make a new, empty schema in the database at `url`; return the address that leads to it."""
    name = f"s{next(_numbers)}"
    with connect(url) as conn:
        run(conn, f"CREATE SCHEMA {name}")
    return with_options(url, search_path=name)


def with_options(url: str, **settings: str) -> str:
    """Return the address under which a connection has these settings."""
    words = "%20".join(f"-c{name}%3D{value}" for name, value in settings.items())
    if "options=" in url:
        return url.replace("options=", f"options={words}%20")
    return f"{url}{'&' if '?' in url else '?'}options={words}"


def make_1_0_0(conn: Any, units: int = 3, *, script: str | None = None) -> None:
    """Make a ledger of contract 1.0.0 with `units` units and twice as many writes."""
    run(conn, _schema.text(FILES.base) if script is None else script)
    conn.execute(
        "INSERT INTO unit_of_work SELECT 'u' || n, 'e' || n, 'committed', %s, %s FROM generate_series(0, %s) AS n",
        (TIME, TIME, units - 1),
    )
    conn.execute(
        "INSERT INTO uow_writes SELECT n + 1, 'u' || n / 2, 'notes', 'r' || n, %s FROM generate_series(0, %s) AS n",
        (TIME, 2 * units - 1),
    )


def rows_1_0_0(conn: Any) -> list[tuple[Any, ...]]:
    """Return everything 1.0.0 can hold."""
    units = conn.execute("SELECT uow_id, envelope_id, status, created_ts, committed_ts FROM unit_of_work ORDER BY 1")
    writes = conn.execute("SELECT id, uow_id, store_name, record_id, ts FROM uow_writes ORDER BY id")
    return [*units.fetchall(), *writes.fetchall()]


def up(conn: Any, **options: Any) -> bool:
    """Migrate up."""
    return _migrations_postgres.migrate_up(conn, place=PLACE, **options)


def kind_of(conn: Any) -> Kind:
    """Return how far the schema has come."""
    return _migrations_postgres.inspect(conn, place=PLACE).kind


def relations(conn: Any) -> set[str]:
    """Return the names of all tables, views and indexes of the schema."""
    rows = conn.execute(
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = current_schema()"
    )
    return {name for (name,) in rows.fetchall()}


def columns(conn: Any, table: str) -> list[str]:
    """Return the columns of `table`, in order."""
    rows = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        (table,),
    )
    return [name for (name,) in rows.fetchall()]


def start_migrator(mode: str) -> subprocess.Popen[str]:
    """Start `postgres_migrator`: a process group of its own, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-E", "-B", str(MIGRATOR), mode, str(SOURCE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def send(process: subprocess.Popen[str], *request: object) -> None:
    """Ask it for something."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()


@contextmanager
def migrator(mode: str) -> Iterator[Callable[..., Any]]:
    """Start `postgres_migrator` for the block; what is yielded asks it, and returns the answer."""
    with start_migrator(mode) as process:
        answers = process.stdout
        assert answers is not None

        def ask(*request: object) -> Any:
            send(process, *request)
            return json.loads(answers.readline())

        try:
            yield ask
        finally:
            process.kill()
