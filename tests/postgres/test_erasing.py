"""Erasing a record from a ledger in a database: sealed rows that still verify, and tables that are vacuumed."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from memoryos_uow import ConflictError, RecordMissing
from memoryos_uow._scrubbing import LEDGER
from memoryos_uow.engines import _pg_vacuum
from tests.postgres.numbers import numbers, opened, paused, put, receipt, rows, sequencer

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = b"k" * 32
MARK = "wORd-that-must-go"


def _everything(url: str) -> str:
    """Every row of every table, as text."""
    names = rows(url, "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()")
    return "\n".join(str(row) for (name,) in names for row in rows(url, f'SELECT * FROM "{name}"'))


@pytest.mark.parametrize("band", ["GREEN", "AMBER", "BLACK"])
def test_nothing_says_anything_of_the_record(pg_url: str, band: str) -> None:
    """Its value, its key and who wrote it are gone; receipts, chains and the log verify as before."""
    with opened(pg_url, content_key=KEY) as ledger:
        proofs = []
        for number in range(2):
            with ledger.unit(space_id="s", band=band, actor_id=f"{MARK} actor") as uow:
                uow["notes"].upsert(f"{MARK} key", {"text": f"{MARK} {number}"})
                if number:
                    uow["notes"].create("another", {})
            proofs.append((uow, receipt(uow).wait().hash))
        with pytest.raises(ValueError, match=MARK), ledger.unit(space_id="s", band="GREEN"):
            raise ValueError(f"{MARK} key is wrong")
        done = ledger.erase(
            space_id="s", store="notes", key=f"{MARK} key", forget_unit_ids=True, forget_context=True, actor_id="office"
        )
        assert (done.sealed, done.forgotten, done.kept, done.remaining) == (2, 1, 1, ())
        assert done.complete
        assert MARK not in _everything(pg_url)
        assert rows(pg_url, "SELECT count(*) FROM uow_erasing") == [(0,)]
        report = ledger.verify()
        assert (report.rules, report.erased) == ({}, 2)
        assert ledger.receipt(proofs[1][0].uow_id).hash == proofs[1][1]
        assert rows(pg_url, "SELECT receipt_hash FROM unit_of_work WHERE uow_id LIKE 'forgotten-%'") == [
            (proofs[0][1],)
        ]
        with pytest.raises(RecordMissing):
            ledger.erase(space_id="s", store="notes", key=f"{MARK} key")
        put(ledger, "after")
        assert ledger.verify().ok


def test_a_tombstone_that_seals_more_is_found(pg_url: str) -> None:
    """Sealing a row by hand, or leaving what it said, does not go unnoticed."""
    with opened(pg_url) as ledger:
        put(ledger, "a")
        put(ledger, "b")
        done = ledger.erase(space_id="s", store="notes", key="a")
        done.receipt.wait()
        rows(pg_url, "INSERT INTO uow_sealed SELECT id, 'x', %s FROM uow_writes WHERE record_id = 'b'", done.uow_id)
        assert ledger.verify().rules["erasure"] == 2


def test_tables_of_the_application_follow_a_forgotten_unit(pg_url: str) -> None:
    """Whatever refers to a unit by a foreign key that can wait, or follows by itself, names the new id."""
    with opened(pg_url) as ledger:
        uow = put(ledger, "a")
        receipt(uow).wait()
        for name, rule in (("later", "DEFERRABLE"), ("follows", "ON UPDATE CASCADE")):
            rows(pg_url, f'CREATE TABLE "{name} it" (u TEXT COLLATE "C" REFERENCES unit_of_work(uow_id) {rule})')
            rows(pg_url, f'INSERT INTO "{name} it" VALUES (%s)', uow.uow_id)
        ledger.erase(space_id="s", store="notes", key="a", forget_unit_ids=True)
        assert rows(pg_url, 'SELECT DISTINCT left(l.u, 10), l.u = f.u FROM "later it" l, "follows it" f') == [
            ("forgotten-", True)
        ]
        assert ledger.verify().ok


def test_units_without_a_number_are_numbered_first(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also another process's, and one that commits in between; what cannot be numbered is not erased by halves."""
    monkeypatch.setattr("memoryos_uow._sequencer.SETTLE_S", 0.02)
    with opened(pg_url) as ledger, opened(pg_url) as other, paused(ledger), paused(other):
        put(other, "a")
        original: Callable[[], None] = sequencer(ledger).number_all
        turns: list[int] = []

        def late() -> None:
            original()
            turns.append(1)
            if len(turns) == 1:
                put(other, "a")

        monkeypatch.setattr(sequencer(ledger), "number_all", late)
        done = ledger.erase(space_id="s", store="notes", key="a")
        assert (done.sealed, len(turns)) == (2, 2)
        put(other, "a")
        monkeypatch.setattr(sequencer(ledger), "number_all", lambda: None)
        with pytest.raises(ConflictError, match="have no number"):
            ledger.erase(space_id="s", store="notes", key="a")
        assert rows(pg_url, "SELECT count(*) FROM uow_documents") == [(1,)]
        monkeypatch.undo()
    numbers(pg_url)


def test_who_may_still_see_what_was_deleted_is_waited_for(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as an older transaction is open the erasure is not complete; `recover` finishes it."""
    with opened(pg_url, busy_timeout=0.1) as ledger:
        put(ledger, "a")
        with closing(psycopg.connect(pg_url)) as old:
            old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            old.execute("SELECT count(*) FROM uow_documents")
            done = ledger.erase(space_id="s", store="notes", key="a")
            assert done.remaining == (LEDGER,)
            assert ledger.verify().rules == {"erasing": 1}
        assert ledger.recover().in_doubt == ()
        assert ledger.verify().ok
        monkeypatch.setattr(_pg_vacuum, "_TABLES", "SELECT 'unit_of_work', FALSE WHERE CAST(? AS TEXT[]) IS NOT NULL")
        put(ledger, "b")
        assert ledger.erase(space_id="s", store="notes", key="b").remaining == (LEDGER,)


def test_an_erasure_that_died_is_finished_at_the_next_opening(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decision stands, and whoever comes next goes on."""
    with opened(pg_url) as ledger:
        put(ledger, "a")
        with monkeypatch.context() as dying:
            failing: Any = _failing
            dying.setattr("memoryos_uow._erasing._finish", failing)
            with pytest.raises(KeyboardInterrupt):
                ledger.erase(space_id="s", store="notes", key="a")
    assert rows(pg_url, "SELECT count(*) FROM uow_erasing") == [(1,)]
    with opened(pg_url) as ledger:
        assert rows(pg_url, "SELECT count(*) FROM uow_erasing") == [(0,)]
        assert ledger.verify().ok


def _failing(*_: object) -> None:
    raise KeyboardInterrupt
