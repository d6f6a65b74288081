"""One transaction for a migration: one migrator at a time, all or nothing, PostgreSQL's errors in our words."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from memoryos_uow import _ambient, _schema
from memoryos_uow._backoff import delay_s
from memoryos_uow._names import Dialect
from memoryos_uow.engines._pg_errors import SERIALIZATION, is_lost, state_of, unreachable
from memoryos_uow.errors import LedgerBusy, MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memoryos_uow.errors import LedgerError

T = TypeVar("T")

FILES: Final = _schema.FILES[Dialect.POSTGRESQL]
DEFAULT_TIMEOUT_S: Final = 30.0

# Two sessions that create the same table at once: the later one is told that a name is taken, in a system catalog or by
# a table, sometimes in words for which there is no code (https://www.postgresql.org/message-id/flat/8926.1289598532).
_TAKEN: Final = ("23505", "42P07", "42710", "XX000")
_AGAIN: Final = (*SERIALIZATION, *_TAKEN)
_ATTEMPTS: Final = 5
_WAITED: Final = ("55P03", "57014")
_READ_ONLY: Final = "25006"
_PRIVILEGE: Final = "42501"
_DEPENDENT: Final = ("2BP01", "0A000")
_FULL: Final = ("53100", "53200")

# No row of uow_schema has this version; it is written first and removed last, and whoever writes it too has to wait for
# the end of the first transaction: a lock of which nothing is ever seen, on every database that has primary keys.
_LOCK: Final = "INSERT INTO uow_schema (version, applied_ts, checksum) VALUES ('', '', '')"
_UNLOCK: Final = "DELETE FROM uow_schema WHERE version = ''"


class Cursor(Protocol):
    """What a statement answers."""

    def fetchall(self) -> list[Any]:
        """Return all rows."""
        ...


class Connection(Protocol):
    """What a migration needs of a connection: psycopg's has it."""

    def execute(self, query: str, params: Sequence[object] | None = None, /) -> Cursor:
        """Run one statement with ``%s`` for parameters; without parameters also a script of several."""
        ...


def one_at_a_time(conn: Connection, work: Callable[[], T | None], *, busy_timeout_s: float) -> T | None:
    """Return what `work` returns, run in one transaction while no other migrator is at it.

    Committed if it ends well, without trace if it fails or returns None: nothing to do. Whoever lost a race for a name
    begins anew.
    """
    attempt = 0
    while True:
        try:
            return _attempt(conn, work, busy_timeout_s)
        except Exception as error:
            attempt += 1
            if state_of(error) not in _AGAIN or attempt >= _ATTEMPTS:
                raise
        _ambient.sleep(delay_s(attempt, _ambient.random_fraction()))


def _attempt(conn: Connection, work: Callable[[], T | None], busy_timeout_s: float) -> T | None:
    # Each statement sees what was committed before it: also what another migrator did while this one waited.
    conn.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    try:
        conn.execute(f"SET LOCAL lock_timeout = {max(1, int(busy_timeout_s * 1000))}")
        conn.execute("SET LOCAL statement_timeout = 0")  # one for queries must not end a migration in the middle
        conn.execute(next(text for text in _schema.statements(FILES.ledger) if "uow_schema (" in text))
        conn.execute(_LOCK)
        result = work()
        if result is not None and has(conn, "uow_schema"):
            conn.execute(_UNLOCK)
        conn.execute("ROLLBACK" if result is None else "COMMIT")
    except BaseException:
        # The first error tells more; and the server undoes it anyway once the connection is gone.
        with suppress(Exception):
            conn.execute("ROLLBACK")
        raise
    return result


def has(conn: Connection, table: str) -> bool:
    """Say whether there is such a table."""
    return bool(conn.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchall()[0][0])


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn what the driver raises inside the block into an error of ours, the original chained."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "sqlstate"):  # every exception of psycopg's has one, perhaps None
            raise
        raise _translate(error, place) from error


def _translate(error: Exception, place: str) -> LedgerError:
    state, words = state_of(error), _words(error)
    if state in _WAITED or state in SERIALIZATION:
        return LedgerBusy(
            f"Others kept {place} locked while its schema was to be looked at or migrated.",
            hint="Nothing was changed. Open it again, or allow more busy_timeout.",
        )
    if is_lost(error):
        return unreachable(place)
    if state == _PRIVILEGE:
        return MigrationError(
            f"The role lacks a privilege to look at or migrate the schema of {place}: {words}.",
            hint="Nothing was changed. Have the owner grant it, or open the ledger once as the owner of its tables.",
        )
    if state == _READ_ONLY:
        return MigrationError(
            f"The schema of {place} has to be migrated, and it can only be read: a replica, or set to read-only.",
            hint="Nothing was changed. Open the primary server once.",
        )
    if state in _FULL:
        return MigrationError(
            f"The server of {place} is out of space, so its schema was not migrated: {words}.",
            hint="Nothing was changed. Free some space, then open it again.",
        )
    hint = "Nothing was changed: the database is as it was before."
    if state in _DEPENDENT:
        hint = "Nothing was changed. Drop or change what the application built on it first."
    return MigrationError(f"PostgreSQL refused a step of the migration of {place}: {words}.", hint=hint)


def _words(error: Exception) -> str:
    """Return the server's main sentence, which holds names but no values of rows."""
    diagnosis = getattr(error, "diag", None)
    return str(getattr(diagnosis, "message_primary", None) or type(error).__name__).rstrip(".")
