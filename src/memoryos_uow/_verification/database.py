"""Verification of a ledger in a PostgreSQL database: the same steps, with what differs there.

- The snapshot is one REPEATABLE READ transaction that only reads.
- There is no counterpart of SQLite's check of pages and indexes; the report says so.
- Types and keys are the database's, so that some damage cannot be: of what is left every row is compared as in a file.
- Ids of writes rise within a unit, not along the log. So writes are read unit by unit, under numbers that do rise: the
  place that each would have if all ids had been given in the order of the log. What is in no unit's range is looked for
  apart.
- Units that have no number yet are checked after those that have one, and what they wrote counts as newer.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._verification.rows import (
    LOGGED_COLUMNS,
    UNIT_FORM,
    WRITE_COLUMNS,
    LoggedRow,
    VerifierRows,
    WriteRow,
    rising,
)
from memoryos_uow._verification.rows import UnloggedRow as Unlogged
from memoryos_uow._verification.run import Verifying

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from memoryos_uow.abc import Reader
    from memoryos_uow.engines._contract import Engine

# However damaged a count is, adding it up must not fail.
_COUNTED: Final = "CASE WHEN write_count BETWEEN 0 AND 1000000000000 THEN write_count ELSE 0 END"
_BEFORE: Final = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
_IN_RANGE: Final = "w.id >= {0}.first_write AND w.id < {0}.first_write + {0}.write_count"

_LOG: Final = (
    f"(SELECT *, CAST(coalesce(sum({_COUNTED}) OVER (ORDER BY commit_seq {_BEFORE}), 0) AS BIGINT) + 1"  # noqa: S608
    " AS place FROM uow_ledger) AS l"
)
_LOGGED: Final = (
    f"SELECT {LOGGED_COLUMNS.replace('l.first_write', 'l.place')}"  # noqa: S608
    f" FROM {_LOG} LEFT JOIN unit_of_work AS u ON u.uow_id = l.unit"
    " LEFT JOIN uow_forgotten AS c ON c.commit_seq = l.commit_seq AND c.what = 'context'"
    " LEFT JOIN uow_forgotten AS f ON f.commit_seq = l.commit_seq AND f.what = 'unit' ORDER BY l.commit_seq"
)
_WRITES: Final = (
    f"SELECT l.place + (w.id - l.first_write), {WRITE_COLUMNS} FROM {_LOG}"  # noqa: S608
    f" JOIN uow_writes AS w ON {_IN_RANGE.format('l')} LEFT JOIN uow_nonces AS n ON n.write_id = w.id"
    " LEFT JOIN uow_sealed AS s ON s.write_id = w.id ORDER BY l.commit_seq, w.id"
)

_WAITING: Final = (
    "(SELECT *, row_number() OVER (ORDER BY stamp, uow_id) AS commit_seq,"  # noqa: S608
    f" (SELECT coalesce(CAST(sum({_COUNTED}) AS BIGINT), 0) FROM uow_ledger)"
    f" + CAST(coalesce(sum({_COUNTED}) OVER (ORDER BY stamp, uow_id {_BEFORE}), 0) AS BIGINT) + 1 AS place,"
    " uow_id AS unit, CAST(NULL AS BIGINT) AS space_seq, CAST(NULL AS BYTEA) AS prev,"
    " CAST(NULL AS BIGINT) AS execution_us, CAST(NULL AS BIGINT) AS commit_us, CAST(NULL AS BYTEA) AS nodes"
    " FROM uow_pending) AS l"
)
_PENDING: Final = (
    "SELECT "  # noqa: S608
    + LOGGED_COLUMNS.replace("l.first_write", "l.place").replace("c.commit_seq IS NOT NULL, f.leaf", "FALSE, NULL")
    + f" FROM {_WAITING} LEFT JOIN unit_of_work AS u ON u.uow_id = l.unit ORDER BY l.commit_seq"
)
_PENDING_WRITES: Final = _WRITES.replace(_LOG, _WAITING)

_STRAYS: Final = f"""
SELECT w.id, w.uow_id FROM uow_writes AS w LEFT JOIN unit_of_work AS u ON u.uow_id = w.uow_id
LEFT JOIN uow_ledger AS l ON l.unit = w.uow_id LEFT JOIN uow_pending AS p ON p.uow_id = w.uow_id
WHERE u.uow_id IS NULL OR NOT coalesce({_IN_RANGE.format("l")}, {_IN_RANGE.format("p")}, TRUE)
"""  # noqa: S608
_UNLOGGED: Final = (
    f"SELECT u.created_ts, u.uow_id, u.band, u.receipt_hash, u.receipt_signature, u.created_ts, {UNIT_FORM}"  # noqa: S608
    " FROM unit_of_work AS u LEFT JOIN uow_ledger AS l ON l.unit = u.uow_id"
    " LEFT JOIN uow_pending AS p ON p.uow_id = u.uow_id"
    " WHERE l.unit IS NULL AND p.uow_id IS NULL ORDER BY u.uow_id"
)
_BEGINNING: Final = """
SELECT u.created_ts FROM uow_ledger AS l JOIN unit_of_work AS u ON u.uow_id = l.unit
WHERE NOT EXISTS (SELECT 1 FROM uow_forgotten AS f WHERE f.commit_seq = l.commit_seq AND f.what = 'unit')
ORDER BY l.commit_seq LIMIT 1
"""
_OLD_RECORDS: Final = """
SELECT DISTINCT w.store_name, w.record_id FROM uow_writes AS w LEFT JOIN uow_ledger AS l ON l.unit = w.uow_id
LEFT JOIN uow_pending AS p ON p.uow_id = w.uow_id
WHERE l.unit IS NULL AND p.uow_id IS NULL AND w.record_id IS NOT NULL
"""
_SINCE: Final = f"""
SELECT 1 FROM (SELECT first_write, write_count FROM uow_ledger WHERE commit_seq > ?1
  UNION ALL SELECT first_write, write_count FROM uow_pending) AS l JOIN uow_writes AS w ON {_IN_RANGE.format("l")}
WHERE w.store_name = ?2 AND (w.record_id = ?3 OR w.record_id IS NULL OR w.record_id LIKE 'p:%') LIMIT 1
"""  # noqa: S608


class DatabaseRows(VerifierRows):
    """Reads the rows of a ledger in a database."""

    def logged(self) -> Iterator[LoggedRow]:
        """Yield the receipt log with its units; ``first_write`` is the place of the first write."""
        return rising(self.reader.stream(_LOGGED), LoggedRow, "uow_ledger")

    def writes(self) -> Iterator[WriteRow]:
        """Yield every write of a unit in the log with its nonce, in the order of the log; its id is its place there."""
        return rising(self.reader.stream(_WRITES), WriteRow, "uow_writes")

    def pending(self) -> VerifierRows | None:
        """Return the same questions about units that have no number in the log yet."""
        return _PendingRows(self.reader)

    def strays(self) -> Iterator[tuple[Any, ...]]:
        """Yield id and unit of writes in no unit's range."""
        return self.reader.stream(_STRAYS)

    def beginning(self) -> tuple[Any, Any] | None:
        """Return where receipts begin: the time at which the first unit with one began."""
        found = self.reader.rows(_BEGINNING)
        return (found[0][0], 0) if found else None

    def unlogged(self) -> Iterator[Unlogged]:
        """Yield the units that are neither in the log nor waiting for it; in the place of the row number their time."""
        return map(Unlogged._make, self.reader.stream(_UNLOGGED))

    def newest_write(self) -> int:
        """Return the number of the newest unit in the log of this snapshot."""
        newest: int = self.reader.rows("SELECT coalesce(max(commit_seq), 0) FROM uow_ledger")[0][0]
        return newest

    def written_since(self, newest: int, store: str, key: str) -> bool:
        """Say whether a unit has written the record, or one whose key it does not tell, after the unit `newest`."""
        return bool(self.reader.rows(_SINCE, (newest, store, key)))

    def old_orphans(self, before: int) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        """Yield nothing: these are among `strays`."""
        return iter(())

    def old_records(self, before: int) -> Iterator[tuple[Any, ...]]:  # noqa: ARG002
        """Yield store and key of what was written before there were receipts."""
        return self.reader.stream(_OLD_RECORDS)


class _PendingRows(VerifierRows):
    """Reads units that have no number yet, in the order in which they will get them."""

    def logged(self) -> Iterator[LoggedRow]:
        return rising(self.reader.stream(_PENDING), LoggedRow, "uow_pending")

    def writes(self) -> Iterator[WriteRow]:
        return rising(self.reader.stream(_PENDING_WRITES), WriteRow, "uow_writes")


class DatabaseVerifier(Verifying):
    """One verification of a ledger in a database."""

    def __init__(self, engine: Engine, head: Path | None, **asked: Any) -> None:
        """Verify the ledger of `engine`; `head` is beside what its released head is kept, if it is."""
        super().__init__(**asked)
        self._engine = engine
        self._head = head

    @contextmanager
    def _snapshot(self, *, lenient: bool) -> Iterator[VerifierRows]:  # noqa: ARG002 - every text is UTF-8
        # As long as the first query is not read to its end, the others see what it sees.
        with self._engine.reader() as reader, closing(_held(reader)) as first:
            next(first)
            reader.rows("SET LOCAL idle_in_transaction_session_timeout = 0")  # a large ledger takes its time
            yield DatabaseRows(reader)

    def _kept_beside(self) -> Path | None:
        return self._head

    def _directory(self) -> Path | None:
        return None


def _held(reader: Reader) -> Generator[tuple[Any, ...]]:
    yield from reader.stream("SELECT 1")
