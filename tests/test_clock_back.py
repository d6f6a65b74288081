"""A clock that goes back: times are data, never a decision; order comes from sequences, and nothing waits for ever."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import _ambient
from tests.leftovers import NOBODY, begun, change, dies, open_ledger, unsettled, versions, write
from tests.units import SPACE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow import Ledger

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Sets the wall clock to so much before, or after, now; what takes no time on it takes no time at all."""
    begun_at = datetime.now(UTC)

    def set_it(by: timedelta) -> None:
        now = begun_at + by
        monkeypatch.setattr(_ambient, "now_text", lambda: now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        monkeypatch.setattr(_ambient, "unix_ms", lambda: int(now.timestamp() * 1000))
        monkeypatch.setattr("time.time_ns", lambda: int(now.timestamp() * 1_000_000) * 1000)

    set_it(timedelta())
    return set_it


def test_in_the_middle_of_a_unit(ledger: Ledger, set_clock: Callable[[timedelta], None]) -> None:
    """A unit is not committed before it was created, takes no negative time, and its row passes validation."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("k", 1)
        set_clock(-timedelta(hours=2))
        uow["notes"].create("l", 2)
    record = ledger.get(uow.uow_id)
    assert record.status == "committed"
    assert record.committed_ts is not None
    assert record.committed_ts >= record.created_ts
    assert (record.total_execution_time_ms or 0) >= 0
    assert (record.commit_time_ms or 0) >= 0
    assert ledger.receipt(uow.uow_id).hash == record.receipt_hash
    assert ledger.validate() == []


def test_in_a_unit_that_fails(ledger: Ledger, set_clock: Callable[[timedelta], None]) -> None:
    """A failed unit's row is as sound as any."""
    with pytest.raises(ZeroDivisionError), ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("k", 1)
        set_clock(-timedelta(days=400))
        raise ZeroDivisionError
    assert ledger.get(uow.uow_id).status == "failed"
    assert ledger.validate() == []


def test_between_units(ledger: Ledger, set_clock: Callable[[timedelta], None]) -> None:
    """Ids go on increasing, the chain of receipts is in the order of commits, and the newest write is what is read."""
    ids = []
    for number, back in enumerate((0, 1, 3_000, 2, 0)):
        set_clock(-timedelta(hours=back))
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].upsert("k", number)
        ids.append(uow.uow_id)
        assert ledger["notes"].get("k", space_id=SPACE) == number
    assert ids == sorted(ids)
    receipts = [ledger.receipt(uow_id) for uow_id in ids]
    assert [receipt.space_seq for receipt in receipts] == [1, 2, 3, 4, 5]
    assert all(later.prev == earlier.hash for earlier, later in pairwise(receipts))
    assert ledger.validate() == []


@pytest.mark.parametrize(("effect", "version"), [("DECIDE", 1), ("PUBLISH", 2)])
@pytest.mark.parametrize("back", [timedelta(seconds=30), timedelta(days=400)])
def test_recovery_of_a_dead_owner(
    tmp_path: Path, effect: str, version: int, back: timedelta, set_clock: Callable[[timedelta], None]
) -> None:
    """An owner that is seen to be dead is taken over at once, whatever its lease says."""
    place = begun(tmp_path / "ledger")
    dies(place, effect, after=False)
    set_clock(-back)
    with open_ledger(place) as ledger:
        assert versions(ledger) == {version}
        assert unsettled(place) == []
        write(ledger, 3)
        assert versions(ledger) == {3}
        assert ledger.validate() == []


def test_a_lease_of_the_future_ends(tmp_path: Path, set_clock: Callable[[timedelta], None]) -> None:
    """A unit of an owner that cannot be seen is not locked for the years that the clock was wrong by."""
    place = begun(tmp_path / "ledger")
    dies(place, "PUBLISH", after=False)
    change(place, "UPDATE uow_coordination SET owner = ?", NOBODY)
    with open_ledger(place) as ledger:
        set_clock(-timedelta(seconds=30))
        assert ledger.recover().rolled_forward == ()
        set_clock(-timedelta(days=400))
        assert len(ledger.recover().rolled_forward) == 1
        assert versions(ledger) == {2}
