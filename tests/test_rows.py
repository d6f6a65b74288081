"""The ledger's own rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    with ledger._opened.engine.setup_connection() as connection:
        connection.execute("INSERT INTO unit_of_work (uow_id, status, created_ts) VALUES ('theirs', 'committed', 'x')")
        connection.execute("INSERT INTO uow_writes (id, uow_id, store_name, ts) VALUES (77, 'theirs', 'x', 'x')")
    with ledger.unit(space_id=SPACE, band="GREEN") as second:
        second["notes"].create_many({"c": 1, "d": 2})
    assert [write.id for write in ledger.get(first.uow_id).writes] == [1, 2]
    assert [write.id for write in ledger.get(second.uow_id).writes] == [78, 79]
    assert [write.id for write in ledger.get("theirs").writes] == [77]
