"""A unit's deadline holds at every call, while waiting, and at the last moment before the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger, LedgerBusy, UnitTimeout, UsageError, _ambient
from memoryos_uow._deadline import check_timeout
from memoryos_uow.stores import DocumentStore
from tests.units import SPACE, four_stores, locked, rows, statuses

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from memoryos_uow.abc import Transaction, UnitFacts, Write


class Clock:
    """A monotonic clock that goes on only when it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ns = 1_000
        patch.setattr(_ambient, "monotonic_ns", lambda: self.ns)

    def go_on(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The library's clock, in our hands."""
    return Clock(monkeypatch)


class Watching(DocumentStore):
    """A store that notes how much time it is given, and takes some."""

    def __init__(self, clock: Clock, takes_s: float) -> None:
        super().__init__("notes")
        self._clock, self._takes_s = clock, takes_s
        self.given: list[float | None] = []

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        self.given.append(unit.remaining_s())
        super().apply(tx, unit, commit_seq, writes)
        self._clock.go_on(self._takes_s)


@pytest.mark.parametrize("wrong", [0, -1, "5", True, float("nan"), float("inf"), [5]], ids=repr)
def test_wrong_timeouts(ledger: Ledger, wrong: Any) -> None:
    """A timeout that is no time is refused before the unit begins."""
    with pytest.raises(UsageError) as caught:
        ledger.unit(space_id=SPACE, band="GREEN", timeout=wrong)
    assert caught.value.hint


def test_right_timeouts() -> None:
    """Whole numbers serve, and None means that there is no deadline."""
    assert (check_timeout(5), check_timeout(0.5), check_timeout(None)) == (5.0, 0.5, None)


def test_a_unit_in_time(ledger: Ledger, clock: Clock) -> None:
    """A unit that ends before its deadline is committed."""
    with ledger.unit(space_id=SPACE, band="GREEN", timeout=1) as uow:
        uow["notes"].create("n1", 1)
        clock.go_on(0.999)
    assert uow.status == "committed"


def test_a_unit_past_its_deadline_cannot_commit(ledger: Ledger, clock: Clock) -> None:
    """Nothing is written, the row says why, and the error says whether to try again."""
    with (
        pytest.raises(UnitTimeout, match="deadline of 1 s has passed") as caught,
        ledger.unit(space_id=SPACE, band="GREEN", timeout=1) as uow,
    ):
        uow["notes"].create("n1", 1)
        clock.go_on(1)
    assert (caught.value.uow_id, caught.value.retryable, bool(caught.value.hint)) == (uow.uow_id, True, True)
    assert ledger["notes"].get("n1", space_id=SPACE) is None
    assert ledger.get(uow.uow_id).error_type == "UnitTimeout"


def test_every_call_after_the_deadline_is_refused_but_rollback(ledger: Ledger, clock: Clock) -> None:
    """A loop inside the block ends soon; the unit can be given up at any time."""
    with ledger.unit(space_id=SPACE, band="GREEN", timeout=1) as uow:
        notes = uow["notes"]
        notes.create("n1", 1)
        clock.go_on(2)
        for use in (
            lambda: notes.create("n2", 2),
            lambda: notes.get("n1"),
            lambda: uow.sql("SELECT 1"),
            lambda: uow["notes"],
            lambda: uow.publish("t", 1),
            lambda: uow.after_commit(print),
            lambda: uow.savepoint().__enter__(),
        ):
            with pytest.raises(UnitTimeout):
                use()
        uow.rollback()
    assert uow.status == "rolled_back"


def test_the_last_look_is_right_before_the_commit(tmp_path: Path, clock: Clock) -> None:
    """Time that goes by while the unit is written under the lock counts too."""
    store = Watching(clock, takes_s=1)
    with Ledger.open(tmp_path / "memory.db", stores=[store]) as ledger:
        with pytest.raises(UnitTimeout), ledger.unit(space_id=SPACE, band="GREEN", timeout=0.75) as uow:
            clock.go_on(0.25)
            uow["notes"].create("n1", 1)
        assert store.given == [0.5]
        assert (ledger["notes"].get("n1", space_id=SPACE), uow.status) == (None, "failed")
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("n1", 1)
        assert store.given == [0.5, None]


def test_waiting_for_the_lock_ends_with_the_deadline(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked ledger is waited for until the deadline, not for the busy timeout; once it is free all works."""
    monkeypatch.setattr(_ambient, "sleep", clock.go_on)
    with locked(ledger.path):
        with pytest.raises(UnitTimeout) as caught, ledger.unit(space_id=SPACE, band="GREEN", timeout=0.02) as uow:
            uow["notes"].create("n1", 1)
        assert isinstance(caught.value.__context__, LedgerBusy)
        with pytest.raises(UnitTimeout), ledger.unit(space_id=SPACE, band="GREEN", timeout=0.02) as other:
            other.sql("SELECT 1")
    assert (uow.status, other.status) == ("failed", "failed")
    with ledger.unit(space_id=SPACE, band="GREEN", timeout=30) as uow:
        uow["notes"].create("n1", 1)
    assert statuses(ledger).count("committed") == 1


def test_a_busy_timeout_before_the_deadline_is_a_busy_ledger(tmp_path: Path) -> None:
    """Who has time left is told that the ledger is busy, as without a deadline."""
    with Ledger.open(tmp_path / "memory.db", busy_timeout=0.01) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("n1", 1)
        with (
            locked(ledger.path),
            pytest.raises(LedgerBusy),
            ledger.unit(space_id=SPACE, band="GREEN", timeout=60) as uow,
        ):
            uow["notes"].create("n2", 1)


def test_nothing_is_made_outside_after_the_deadline(tmp_path: Path, clock: Clock) -> None:
    """A unit that is late before its files are made makes none."""
    with Ledger.open(tmp_path / "memory.db", stores=four_stores()) as ledger:
        with pytest.raises(UnitTimeout), ledger.unit(space_id=SPACE, band="GREEN", timeout=1) as uow:
            uow["photos"].create("p", b"x" * 100)
            clock.go_on(1)
        assert [path for path in (tmp_path / "photos").rglob("*") if path.is_file() and path.suffix != ".json"] == []
        assert rows(ledger.path, "SELECT * FROM uow_coordination") == []


def test_a_unit_without_writes_has_its_deadline_too(ledger: Ledger, clock: Clock) -> None:
    """The deadline is one of the whole block, whatever it does."""
    with pytest.raises(UnitTimeout), ledger.unit(space_id=SPACE, band="GREEN", timeout=1) as uow:
        clock.go_on(1)
    assert uow.status == "failed"
