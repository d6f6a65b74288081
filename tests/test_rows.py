"""The ledger's own rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow import StoreUnavailable
from memoryos_uow._rows import LedgerRows, milliseconds
from tests.units import SPACE, rows

if TYPE_CHECKING:
    from memoryos_uow import Ledger


@given(st.integers(0, 10**15))
def test_milliseconds_are_rounded_half_up(microseconds: int) -> None:
    """Milliseconds are within half a millisecond of the truth, and a half goes up."""
    rounded = milliseconds(microseconds)
    assert -500 < rounded * 1000 - microseconds <= 500


@pytest.mark.parametrize(("microseconds", "expected"), [(0, 0), (499, 0), (500, 1), (1499, 1), (1500, 2), (2500, 3)])
def test_some_milliseconds(microseconds: int, expected: int) -> None:
    """The borders lie where they should."""
    assert milliseconds(microseconds) == expected


def test_the_columns_are_the_specifications(ledger: Ledger) -> None:
    """What is read and written are the columns of the file, in its order; a 1.0.0 ledger has the first five."""
    current = LedgerRows(basic=False)
    for table, columns in (("unit_of_work", current._unit_columns), ("uow_writes", current._write_columns)):
        assert rows(ledger.path, f"SELECT name FROM pragma_table_info('{table}')") == [(name,) for name in columns]
    assert LedgerRows(basic=True)._unit_columns == ("uow_id", "envelope_id", "status", "created_ts", "committed_ts")
    assert LedgerRows(basic=True)._write_columns == ("id", "uow_id", "store_name", "record_id", "ts")


def test_writes_of_a_unit_have_consecutive_ids(ledger: Ledger) -> None:
    """The ids of a unit's writes follow each other, and rows that somebody else wrote in between are skipped."""
    with ledger.unit(space_id=SPACE, band="GREEN") as first:
        first["notes"].create_many({"a": 1, "b": 2})
    with ledger._opened.file.setup_connection() as connection:
        connection.execute("INSERT INTO unit_of_work (uow_id, status, created_ts) VALUES ('theirs', 'committed', 'x')")
        connection.execute("INSERT INTO uow_writes (id, uow_id, store_name, ts) VALUES (77, 'theirs', 'x', 'x')")
    with ledger.unit(space_id=SPACE, band="GREEN") as second:
        second["notes"].create_many({"c": 1, "d": 2})
    assert [write.id for write in ledger.get(first.uow_id).writes] == [1, 2]
    assert [write.id for write in ledger.get(second.uow_id).writes] == [78, 79]
    assert [write.id for write in ledger.get("theirs").writes] == [77]


@pytest.mark.parametrize(
    ("filters", "sorted_by_time"),
    [
        ({"status": "committed"}, True),
        ({"status": "failed"}, True),
        ({"status": "failed", "space_id": SPACE}, True),
        ({"status": "committed", "space_id": SPACE}, False),
        ({"status": "failed", "correlation_id": "c"}, False),
        ({"space_id": SPACE}, False),
        ({}, False),
    ],
)
def test_no_question_sorts(ledger: Ledger, filters: dict[str, str], sorted_by_time: bool) -> None:
    """Whatever narrows the search, an index gives the newest first: by time for a status, else by row number."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("a", 1)
    asked: list[str] = []

    class Explaining:
        """A reader that explains each query before it runs it."""

        def __init__(self, reader: Any) -> None:
            self.reader = reader

        def rows(self, sql: str, parameters: Any = ()) -> Any:
            asked.append(sql)
            asked.extend(row[3] for row in self.reader.rows(f"EXPLAIN QUERY PLAN {sql}", parameters))
            return self.reader.rows(sql, parameters)

    with ledger._opened.engine.reader() as reader:
        LedgerRows(basic=False).units(Explaining(reader), filters, since=None, limit=50)  # type: ignore[arg-type]
    query, *plan = asked
    assert ("ORDER BY u.created_ts DESC, u.rowid DESC" in query) is sorted_by_time
    assert not [step for step in plan if "TEMP B-TREE" in step]


def test_units_of_a_status_are_in_the_order_of_time(ledger: Ledger) -> None:
    """The newest of a status come first, also where somebody recorded an older one later; ties by row number."""
    with ledger._opened.file.setup_connection() as connection:
        for name, ts in (("b", "2026-01-02"), ("c", "2026-01-02"), ("a", "2026-01-01")):
            connection.execute(
                "INSERT INTO unit_of_work (uow_id, status, created_ts) VALUES (?, 'failed', ?)", (name, ts)
            )
    assert [unit.uow_id for unit in ledger.units(status="failed")] == ["c", "b", "a"]


def test_a_ledger_of_1_0_0_has_no_place_for_notes_of_recovery(ledger: Ledger) -> None:
    """In basic mode neither a silent store nor a recovery is noted on a unit: 1.0.0 has no such columns."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
    before = rows(ledger.path, "SELECT * FROM unit_of_work")
    tx = ledger._opened.engine.begin()
    basic = LedgerRows(basic=True)
    basic.record_silence(tx, uow.uow_id, {"archive": StoreUnavailable("It is away.")})
    basic.record_recovery(tx, [uow.uow_id])
    tx.commit()
    assert [row[10:] for row in rows(ledger.path, "SELECT * FROM unit_of_work")] == [row[10:] for row in before]
