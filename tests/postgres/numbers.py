"""What tests of the receipt log on PostgreSQL share: units, a stranger's look at the rows, what must hold of them."""

from __future__ import annotations

import hashlib
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg

from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore
from tests.units import environment, python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow import UnitOfWork
    from memoryos_uow._sequencer import Sequencer
    from memoryos_uow.receipts import Receipt

ORIGIN: Final = "example.com/tests"


def opened(url: str, **options: Any) -> Ledger:
    """The ledger in the database at `url`, made if need be."""
    return Ledger.open(url, **{"stores": [DocumentStore("notes")], "origin": ORIGIN, "durability": "normal", **options})


def put(ledger: Ledger, key: str, *, space_id: str = "s", band: str = "GREEN") -> UnitOfWork:
    """Commit a unit of one document."""
    with ledger.unit(space_id=space_id, band=band) as uow:
        uow["notes"].upsert(key, {"text": key})
    return uow


def receipt(uow: UnitOfWork) -> Receipt:
    """The receipt of a committed unit."""
    assert uow.receipt is not None
    return uow.receipt


def sequencer(ledger: Ledger) -> Sequencer:
    """Who numbers the ledger's units."""
    found = ledger._opened.coordinator.sequencer
    assert found is not None
    return found


@contextmanager
def paused(ledger: Ledger) -> Iterator[None]:
    """Have this ledger object number nothing."""
    with sequencer(ledger).pause():
        yield


def run_python(code: str, *arguments: object) -> None:
    """Run `code` in a second process to its end."""
    done = subprocess.run(
        python(code, *arguments), env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def rows(url: str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """What a stranger with psql reads, or changes."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def numbers(url: str) -> list[str]:
    """Ids of the units in the log, in its order; each once and without gaps, nothing waiting, and hashes that fit."""
    log = rows(
        url,
        "SELECT l.commit_seq, l.unit, u.status, u.receipt_hash, r.receipt, u.space_id, l.space_seq, l.prev"
        " FROM uow_ledger AS l LEFT JOIN unit_of_work AS u ON u.uow_id = l.unit"
        " LEFT JOIN uow_receipts AS r ON r.uow_id = l.unit ORDER BY l.commit_seq",
    )
    assert [row[0] for row in log] == list(range(1, len(log) + 1))
    assert {row[2] for row in log} <= {"committed"}
    assert [row[3] for row in log] == [hashlib.sha256(row[4].encode()).hexdigest() for row in log]
    ends: dict[str, tuple[int, str]] = {}
    for _, _, _, receipt_hash, _, space, space_seq, prev in log:
        seq, before = ends.get(space, (0, None))
        assert (space_seq, prev and prev.hex()) == (seq + 1, before)
        ends[space] = (space_seq, receipt_hash)
    recorded = rows(url, "SELECT space_id, space_seq, head FROM uow_spaces")
    assert {space: (seq, head.hex()) for space, seq, head in recorded} == ends
    ids = [row[1] for row in log]
    committed = rows(url, "SELECT uow_id FROM unit_of_work WHERE status = 'committed'")
    assert sorted(ids) == sorted(uow_id for (uow_id,) in committed)
    assert rows(url, "SELECT count(*) FROM uow_pending") == [(0,)]
    return ids
