"""What is put into blocks comes out of them, whatever the numbers are and however the units came in."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow import Ledger
from memoryos_uow._statistics import columns
from memoryos_uow._statistics.columns import NEVER, Blocks, pack, unpack
from memoryos_uow._statistics.facts import CountedUnit, StoreShare, microseconds
from tests.statistics.rows import Unit, make, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

numbers = st.integers(min_value=-(2**63), max_value=2**63 - 1)
small = st.integers(min_value=0, max_value=2**33)


@given(st.lists(st.one_of(numbers, small), max_size=50))
def test_packed_numbers_come_back(given_numbers: list[int]) -> None:
    """Whatever width is chosen."""
    assert list(unpack(pack(given_numbers))) == given_numbers


def test_the_width_is_the_least_that_holds_all() -> None:
    """One, two, four or eight bytes each; eight for negative ones."""
    assert [len(pack([0, top])) - 1 for top in (255, 256, 65_535, 65_536, 2**32 - 1, 2**32)] == [2, 4, 4, 8, 8, 16]
    assert len(pack([-1, 0])) - 1 == 16
    assert list(unpack(pack([]))) == []


def test_times_are_microseconds_since_1970() -> None:
    """Before as well as after."""
    assert microseconds("1970-01-01T00:00:00.000001Z") == 1
    assert microseconds("1969-12-31T23:59:59.999999Z") == -1
    assert microseconds("2026-11-22T19:20:31.110000Z") == 1_795_375_231_110_000


def counted(
    row: int, *, created: str = "2026-11-22T19:20:31.110000Z", stores: tuple[str, ...] = ("=n",)
) -> CountedUnit:
    """One unit."""
    return CountedUnit(
        row=row,
        status="committed",
        band="GREEN",
        created=created,
        hour=created[:13],
        space=f"={row % 3}",
        actor="-",
        stores=tuple(StoreShare(name, row, 2 * row) for name in stores),
        writes=row,
        n_bytes=row,
        retries=0,
        error=None,
        execution_us=row,
        commit_us=None,
        final=True,
    )


def blocks() -> Iterator[Blocks]:
    """Blocks in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as side:
        for statement in columns.TABLES.split(";\n"):
            side.execute(statement)
        yield Blocks(side)


def test_units_that_come_one_by_one_fill_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last block is filled up before a new one begins; the shares of stores stay with their units."""
    monkeypatch.setattr(columns, "_BLOCK_UNITS", 4)
    names = (*columns.UNIT_COLUMNS, *columns.SHARE_COLUMNS)
    for some in blocks():
        for begin, end in ((1, 2), (2, 4), (4, 9), (9, 10)):
            some.add([counted(row, stores=("=a", "=b")[: row % 3]) for row in range(begin, end)])
        found = [some.select(number, {}, names) for number in some.all()]
        assert [list(block["row"]) for block in found] == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]
        assert [list(block["share_of"]) for block in found] == [[0, 1, 1, 3], [0, 0, 2, 3, 3], []]
        assert [some.name(code) for code in found[0]["share_store"]] == ["=a", "=a", "=b", "=a"]
        assert list(found[1]["share_writes"]) == [5, 5, 7, 8, 8]
        odd = some.select(2, {"row": lambda row: row % 2 == 1}, names)
        assert (odd["row"], odd["share_of"], odd["share_writes"]) == ([5, 7], [0, 0, 1], [5, 5, 7])


def test_blocks_know_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only blocks of a time are named, with whether they lie wholly inside; one with a unit of no time never does."""
    monkeypatch.setattr(columns, "_BLOCK_UNITS", 2)
    times = ["2026-11-22T19:00:00.000000Z", "2026-11-22T20:00:00.000000Z", "2026-11-22T21:00:00.000000Z", "?"]
    for some in blocks():
        some.add([counted(row, created=time) for row, time in enumerate(times)])
        first, second = microseconds(times[0]), microseconds(times[2])
        assert some.within([(None, None)]) == {1: True, 2: False}
        assert some.within([(first, second)]) == {1: True}
        assert some.within([(first + 1, second)]) == {1: False}
        assert some.within([(None, first)]) == {}
        assert some.within([(None, first + 1), (second, None)]) == {1: False, 2: False}
        assert list(some.select(2, {}, ["created"])["created"]) == [second, NEVER]
        assert some.part((first, second)) == 0.5
        assert some.share_of("=0") == 0.5
        assert some.share_of("=nobody") == 0


def test_an_empty_ledger_has_no_part_of_anything() -> None:
    """Nor does it divide by nothing."""
    for some in blocks():
        assert (some.part((None, None)), some.share_of("=0"), some.all()) == (0, 0, [])


def test_the_longest_duration_is_counted(tmp_path: Path) -> None:
    """A number that only a hand put there does not break an answer that looks through blocks."""
    path = make(tmp_path / "ledger.db")
    put(path, [Unit(us=2**63 - 1), Unit(us=5), Unit(us=7, space="bob"), Unit(us=7, space="bob")])
    with Ledger.open(path) as ledger:
        found = ledger.stats(space_id="alice", by="actor").total
    assert (found.execution.count, found.execution.p50_us) == (2, 5)
    assert found.execution.max_us is not None
    assert found.execution.max_us >= 2**63 - 2
