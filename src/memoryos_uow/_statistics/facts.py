"""What of each unit goes into statistics, read from the ledger's rows.

Promise: what a unit's band withholds ends here. Rows are read in the order of their numbers, a bounded number at once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow._names import Band, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memoryos_uow.abc import Reader

WITHHELD: Final = "*"
"""The key of units whose band withholds what they are grouped by."""
NONE: Final = "-"
"""The key of units that have no such thing."""
NO_TIME: Final = "?"
"""The hour of a unit whose ``created_ts`` is none; only programs that are not ours write such rows."""

_ROWS_AT_ONCE: Final = 10_000
_IDS_AT_ONCE: Final = 500

_COLUMNS: Final = """
SELECT u.rowid, u.status, u.created_ts, u.band, u.space_id, u.actor_id, u.total_bytes_written, u.retry_count,
  u.error_type, u.failed_store, u.store_count, l.commit_seq, l.execution_us, l.commit_us, l.first_write, l.write_count,
  CASE WHEN u.store_count = 1 THEN (SELECT store_name FROM uow_writes WHERE id = l.first_write) END
FROM unit_of_work AS u LEFT JOIN uow_ledger AS l ON l.unit = u.rowid"""
_BASIC_COLUMNS: Final = (
    "SELECT u.rowid, u.status, u.created_ts, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,"
    " NULL, NULL FROM unit_of_work AS u"
)


class StoreShare(NamedTuple):
    """What a unit did in one store."""

    key: str
    writes: int
    n_bytes: int


class CountedUnit(NamedTuple):
    """What is known, and may be told, of one unit."""

    row: int
    status: str
    band: str
    """One of the four, ``-`` for none; any other counts as BLACK."""
    created: str
    hour: str
    space: str
    actor: str
    stores: tuple[StoreShare, ...]
    writes: int
    n_bytes: int
    retries: int
    """0 for a failed one: if it was tried again, the next attempt's row counts it in."""
    error: tuple[str | None, str | None] | None
    """Of a failed unit its error's type and the store."""
    execution_us: int | None
    commit_us: int | None
    final: bool
    """Whether nothing of this will change any more."""


def key_of(name: object) -> str:
    """Return the key under which a name is kept: a name that looks like a mark of ours is told from it."""
    return NONE if name is None else f"={name}"


def read(reader: Reader, *, basic: bool, after: int, until: int | None = None) -> Iterator[list[CountedUnit]]:
    """Yield the units whose row numbers are above `after`, and at most `until`, some thousands at once."""
    select = f"{_BASIC_COLUMNS if basic else _COLUMNS} WHERE u.rowid > ?1 AND u.rowid <= ?2 ORDER BY u.rowid LIMIT ?3"
    last = 2**63 - 1 if until is None else until
    while True:
        rows = reader.rows(select, (after, last, _ROWS_AT_ONCE))
        if rows:
            yield [_facts(reader, row, basic=basic) for row in rows]
        if len(rows) < _ROWS_AT_ONCE:
            return
        after = rows[-1][0]


def newest_row(reader: Reader) -> int:
    """Return the number of the newest unit's row, 0 if there is none."""
    newest: int | None = reader.rows("SELECT max(rowid) FROM unit_of_work")[0][0]
    return newest or 0


def counted(
    reader: Reader, *, basic: bool, after: int, until: int, again: Sequence[CountedUnit] = ()
) -> Iterator[CountedUnit]:
    """Yield the units of `again` as they are now, and those of a range of row numbers."""
    yield from read_again(reader, [one.row for one in again], basic=basic)
    for some in read(reader, basic=basic, after=after, until=until):
        yield from some


def read_again(reader: Reader, numbers: Sequence[int], *, basic: bool) -> Iterator[CountedUnit]:
    """Yield the units with these row numbers, as far as they are still there."""
    for begin in range(0, len(numbers), _IDS_AT_ONCE):
        some = numbers[begin : begin + _IDS_AT_ONCE]
        select = f"{_BASIC_COLUMNS if basic else _COLUMNS} WHERE u.rowid IN ({', '.join('?' * len(some))})"
        for row in reader.rows(f"{select} ORDER BY u.rowid", some):
            yield _facts(reader, row, basic=basic)


def _facts(reader: Reader, row: tuple[Any, ...], *, basic: bool) -> CountedUnit:
    number, status, created_ts, band, space, actor, n_bytes, retries, error, failed_store, n_stores, *rest = row
    commit_seq, execution_us, commit_us, first_write, write_count, store = rest
    created = utc(created_ts)
    hour = NO_TIME if created is None else created[:13]
    error_type = _text(error)
    is_failed = status == Status.FAILED
    execution_us, commit_us, n_bytes, retries = map(_number, (execution_us, commit_us, n_bytes, retries))
    waits_for_timing = commit_seq is not None and execution_us is None and band != Band.BLACK
    final = status != Status.PENDING and not waits_for_timing
    if band in (Band.GREEN, Band.AMBER, None):
        shares: tuple[StoreShare, ...] = ()
        if store is not None:
            shares = (StoreShare(key_of(store), write_count, n_bytes or 0),)
        elif n_stores and commit_seq is not None:
            shares = _shares(reader, first_write, write_count)
        elif is_failed and failed_store is not None:
            shares = (StoreShare(key_of(_text(failed_store)), 0, 0),)
        return CountedUnit(
            number,
            str(status),
            band or NONE,
            created or NO_TIME,
            hour,
            key_of(space) if not basic else NONE,
            WITHHELD if band == Band.AMBER and actor is not None else key_of(actor),
            shares,
            write_count or 0,
            n_bytes or 0,
            0 if is_failed else retries or 0,
            (error_type, _text(failed_store)) if is_failed else None,
            execution_us,
            commit_us,
            final,
        )
    if band != Band.RED:
        execution_us = commit_us = None
    hidden = (StoreShare(WITHHELD, 0, 0),)
    told = (error_type, None) if is_failed else None
    return CountedUnit(
        number,
        str(status),
        band if band == Band.RED else Band.BLACK.value,
        created or NO_TIME,
        hour,
        WITHHELD,
        WITHHELD,
        hidden,
        0,
        0,
        0,
        told,
        execution_us,
        commit_us,
        final,
    )


def _shares(reader: Reader, first_write: int, write_count: int) -> tuple[StoreShare, ...]:
    """Return what a unit did in each of its stores; its writes have consecutive ids."""
    found = reader.rows(
        "SELECT store_name, count(*), coalesce(sum(bytes_written), 0) FROM uow_writes WHERE id >= ? AND id < ?"
        " GROUP BY store_name",
        (first_write, first_write + write_count),
    )
    return tuple(StoreShare(key_of(name), writes, n_bytes) for name, writes, n_bytes in found)


def _number(value: object) -> int | None:
    """Return a whole number, or None for what only a hand put there."""
    return value if isinstance(value, int) and value >= 0 else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def utc(text: object) -> str | None:
    """Return a time in the form in which the ledger keeps times, so that texts compare as times do, or None."""
    try:
        moment = datetime.fromisoformat(text)  # type: ignore[arg-type]
        if (
            isinstance(text, str)
            and len(text) == _OUR_LENGTH
            and text[10] == "T"
            and text[-8] == "."
            and text[-1] == "Z"
        ):
            return text
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


_OUR_LENGTH: Final = len("2026-11-22T19:20:31.110000Z")


def microseconds(text: str) -> int:
    """Return a time in our form as microseconds since 1970."""
    minute, second, us = int(text[14:16]), int(text[17:19]), int(text[20:26])
    return _hour_us(text[:13]) + (minute * 60 + second) * 1_000_000 + us


@lru_cache(maxsize=1024)
def _hour_us(text: str) -> int:
    hour = datetime.fromisoformat(f"{text}:00").replace(tzinfo=UTC)
    return (hour - _EPOCH) // timedelta(microseconds=1)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
