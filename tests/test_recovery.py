"""Recovery: whoever opens the ledger finishes what dead processes left, and nobody else's work is disturbed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import (
    ConflictError,
    Ledger,
    LedgerBusy,
    StoreError,
    StoreUnavailable,
    UnitOfWorkError,
    _ambient,
    _wal,
)
from memoryos_uow._open_ledger import OpenLedger
from memoryos_uow.stores import DocumentStore
from memoryos_uow.testing import fault_points
from memoryos_uow.testing._forks import fork
from memoryos_uow.testing._watched import watched
from tests.leftovers import (
    EFFECTS,
    NOBODY,
    at_effect,
    begun,
    change,
    dies,
    leave,
    open_ledger,
    stops,
    stores,
    unsettled,
    versions,
    write,
)
from tests.units import SPACE, four_stores, locked, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are killed and stopped by signals")


def by_opening(directory: Path) -> None:
    """Recover as every program does that opens the ledger."""
    open_ledger(directory).close()


def by_another_process(directory: Path) -> None:
    """Recover in a process of its own."""
    _, said = fork(lambda: by_opening(directory)).wait()
    assert said == ""


def by_asking(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Recover when asked to, after an opening that had no time for it."""
    with patch.context() as patched:
        patched.setattr("memoryos_uow._open_ledger.RECOVERY_BUDGET_S", 0.0)
        ledger = open_ledger(directory)
    with ledger:
        ledger.recover()


# Killed at each step


@pytest.mark.parametrize("how", ["open", "ask", "another process"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_killed_at_each_effect(
    tmp_path: Path, effect: str, after: bool, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the decision nothing of the unit remains, after it all of it does; its row and its intent say so."""
    place = begun(tmp_path / "ledger")
    dies(place, effect, after=after)
    if how == "ask":
        by_asking(place, monkeypatch)
    else:
        {"open": by_opening, "another process": by_another_process}[how](place)
    decided = (EFFECTS.index(effect), after) >= (EFFECTS.index("DECIDE"), True)
    intended = decided or (EFFECTS.index(effect), after) >= (EFFECTS.index("RECORD_INTENT"), True)
    assert unsettled(place) == []
    with open_ledger(place) as ledger:
        assert versions(ledger) == {2 if decided else 1}
        found = ledger.units(correlation_id="2")
        assert [one.status for one in found] == ([] if not intended else ["committed" if decided else "failed"])
        if intended and not decided:
            record = found[0]
            assert (record.error_type, record.recovery_attempted, record.committed_ts) == ("OwnerDied", 1, None)
        if decided:
            assert ledger.receipt(found[0].uow_id).hash == found[0].receipt_hash
            assert (found[0].recovery_attempted, found[0].error_type) == (1, None)
        assert ledger.validate() == []
        write(ledger, 3)
        assert versions(ledger) == {3}
        assert ledger.recover().rolled_forward == ()
    assert not list((place / "files" / ".uow" / "stage").iterdir())


@pytest.mark.parametrize("effect", ["DECIDE", "PUBLISH"])
def test_recovery_killed_at_each_fault_point(tmp_path: Path, effect: str) -> None:
    """However often recovery is killed, and wherever, the next one brings it to the same end."""
    dead = begun(tmp_path / "ledger")
    dies(dead, effect, after=False)

    def recover(die_at: int | None) -> Callable[[], None]:
        def act() -> None:
            with fault_points(die_at=die_at) as points:
                by_opening(tmp_path / "copy")
            (tmp_path / "points").write_text(str(len(points.names)))

        return act

    def copy() -> None:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(dead, tmp_path / "copy")

    copy()
    assert fork(recover(None)).wait() == (None, "")
    points = int((tmp_path / "points").read_text())
    assert points > 30
    for number in range(1, points + 1):
        copy()
        for die_at in (number, number + 1):
            assert fork(recover(die_at)).wait()[1] == ""
        with open_ledger(tmp_path / "copy") as ledger:
            assert versions(ledger) == {2 if effect == "PUBLISH" else 1}, number
            assert ledger.recover().in_doubt == ()
        assert unsettled(tmp_path / "copy") == []


# Several at once


@pytest.mark.parametrize("count", [2, 8])
def test_several_recoverers_share_the_work(tmp_path: Path, count: int) -> None:
    """Each leftover unit is recovered by exactly one of them, and every store holds it once."""
    place = begun(tmp_path / "ledger")
    leave(place, 300, decided=True)
    reading, writing = os.pipe()

    def recover(name: int) -> Callable[[], None]:
        def act() -> None:
            os.close(writing)
            os.read(reading, 1)  # until the parent closes its end: all begin together
            with open_without_recovery(place) as ledger:
                report = ledger.recover()
            (tmp_path / f"report-{name}").write_text(json.dumps([report.rolled_forward, report.in_doubt]))

        return act

    children = [fork(recover(name)) for name in range(count)]
    os.close(writing)
    os.close(reading)
    assert [child.wait() for child in children] == [(None, "")] * count
    reports = [json.loads((tmp_path / f"report-{name}").read_text()) for name in range(count)]
    forward = [uow_id for report in reports for uow_id in report[0]]
    assert len(forward) == len(set(forward)) == 300
    assert [report[1] for report in reports] == [[]] * count
    assert unsettled(place) == []
    with open_ledger(place) as ledger:
        assert len(list(ledger["archive"].keys(space_id=SPACE))) == 301
        assert all(ledger["archive"].get(f"r{n}", space_id=SPACE) == {"n": 1} for n in range(300))


def open_without_recovery(place: Path) -> Ledger:
    """A ledger whose opening leaves everything to `recover`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OpenLedger, "_recover_leftovers", lambda _self: None)
        return open_ledger(place)


# Owners


@pytest.mark.parametrize("effect", ["PREPARE", "DECIDE", "PUBLISH"])
def test_a_live_owner_is_left_alone(tmp_path: Path, effect: str) -> None:
    """While its process lives and its lease runs, nobody touches a unit; it ends as if nobody had come by."""
    place = begun(tmp_path / "ledger")
    owner = stops(place, effect)
    with open_ledger(place) as ledger:
        report = ledger.recover()
        assert (report.rolled_forward, report.rolled_back, report.in_doubt) == ((), (), ())
        assert [epoch for _, _, epoch, _ in unsettled(place)] == [1]
        assert versions(ledger) == {2 if effect == "PUBLISH" else 1}
    owner.wake()
    assert owner.wait() == (None, "")
    with open_ledger(place) as ledger:
        assert versions(ledger) == {2}


@pytest.mark.parametrize("effect", ["PREPARE", "DECIDE"])
def test_a_paused_owner_is_fenced_before_the_decision(tmp_path: Path, effect: str) -> None:
    """Taken over after its lease and woken, it changes nothing, and its caller is told to run the block again."""
    place = begun(tmp_path / "ledger")
    owner = stops(place, effect)
    change(place, "UPDATE uow_coordination SET lease_until_ms = 1")
    with open_ledger(place) as ledger:
        write(ledger, 3)
        (taken,) = ledger.units(status="failed")
    owner.wake()
    _, said = owner.wait()
    assert ConflictError.__name__ in said
    assert "Run the whole block again" in said
    with open_ledger(place) as ledger:
        assert versions(ledger) == {3}
        assert ledger.get(taken.uow_id) == taken
        ledger.recover()
    assert unsettled(place) == []
    assert not list((place / "files" / ".uow" / "stage").iterdir())
    assert len([path for path in (place / "photos").rglob("*") if path.is_file()]) == 1


def test_a_paused_owner_is_fenced_after_the_decision(tmp_path: Path) -> None:
    """Woken late, it finds its unit published by others and a newer one after it, and puts nothing back."""
    place = begun(tmp_path / "ledger")
    owner = stops(place, "PUBLISH")
    change(place, "UPDATE uow_coordination SET lease_until_ms = 1")
    with open_ledger(place) as ledger:
        assert versions(ledger) == {2}
        write(ledger, 3)
    owner.wake()
    assert owner.wait() == (None, "")
    with open_ledger(place) as ledger:
        assert versions(ledger) == {3}
    assert (place / "files" / "shared%3Ahousehold" / "k").read_bytes() == b"3"
    assert unsettled(place) == []


def test_an_owner_that_cannot_be_seen_has_its_lease(tmp_path: Path) -> None:
    """A unit of another boot, machine or container is left alone until its lease is over, and taken over then."""
    place = begun(tmp_path / "ledger")
    dies(place, "PUBLISH", after=False)
    change(place, "UPDATE uow_coordination SET owner = ?", NOBODY)
    with open_ledger(place) as ledger:
        assert ledger.recover().rolled_forward == ()
        assert unsettled(place)[0][3] == NOBODY
        change(place, "UPDATE uow_coordination SET lease_until_ms = 1")
        assert len(ledger.recover().rolled_forward) == 1
    assert unsettled(place) == []


@pytest.mark.parametrize("owner", ["", "null", "[]", "not json", '["a"]', '{"pid": 1}'])
def test_an_owner_that_makes_no_sense_has_its_lease(tmp_path: Path, owner: str) -> None:
    """Whatever stands in the column, recovery goes on; the unit is taken over when its lease is over."""
    place = begun(tmp_path / "ledger")
    dies(place, "PUBLISH", after=False)
    change(place, "UPDATE uow_coordination SET owner = ?", owner)
    with open_ledger(place) as ledger:
        assert ledger.recover().rolled_forward == ()
        change(place, "UPDATE uow_coordination SET lease_until_ms = 1")
        assert len(ledger.recover().rolled_forward) == 1


def test_a_unit_at_work_in_this_process_is_left_alone(tmp_path: Path) -> None:
    """Recovery asked for while a unit of the same process is between intent and decision does not take it over."""
    place = begun(tmp_path / "ledger")
    reports = []
    with open_ledger(place) as ledger:
        at_effect(ledger, EFFECTS.index("DECIDE"), lambda: reports.append(ledger.recover()), after=False)
        write(ledger, 2)
        assert versions(ledger) == {2}
    assert [(report.rolled_back, report.in_doubt) for report in reports] == [((), ())]


def test_a_forked_child_does_not_take_over_its_parents_unit(tmp_path: Path) -> None:
    """A child of the owner that opens the ledger for itself is another process like any other."""
    place = begun(tmp_path / "ledger")

    def visit() -> None:
        def look() -> None:
            with open_ledger(place) as other:
                assert other.recover().rolled_back == ()

        assert fork(look).wait() == (None, "")

    with open_ledger(place) as ledger:
        at_effect(ledger, EFFECTS.index("PREPARE"), visit, after=True)
        write(ledger, 2)
        assert versions(ledger) == {2}


# Stores that do not answer


class Moody:
    """A hook that lets publishing fail as long as it is in the mood."""

    def __init__(self) -> None:
        self.silent = True
        self.calls = 0

    def __call__(self, method: str, when: str) -> None:
        if (method, when) == ("publish", "before"):
            self.calls += 1
            if self.silent:
                raise StoreUnavailable("The archive is out of reach.")


def with_moody_archive(mood: Moody) -> list[Any]:
    """The four stores, of which the archive has moods."""
    return [watched(store, mood) if store.name == "archive" else store for store in stores()]


def test_a_store_that_is_silent_after_the_decision(tmp_path: Path) -> None:
    """The unit is committed and its records are seen; it is listed in doubt until the store answers."""
    place, mood = begun(tmp_path / "ledger"), Moody()
    with open_ledger(place, stores=with_moody_archive(mood)) as ledger:
        uow_id = write(ledger, 2)
        record = ledger.get(uow_id)
        assert (record.status, record.error_type, record.failed_store) == ("committed", "StoreUnavailable", "archive")
        assert record.error_ts is not None
        assert record.recovery_attempted == 1
        assert versions(ledger) == {2}
        assert ledger.validate() == []
        for _ in range(3):
            assert ledger.recover().in_doubt == (uow_id,)
        mood.silent = False
        assert ledger.recover().rolled_forward == (uow_id,)
        assert versions(ledger) == {2}
        healed = ledger.get(uow_id)
        assert (healed.status, healed.recovery_attempted) == ("committed", 1)
        assert ledger.receipt(uow_id).hash == record.receipt_hash == healed.receipt_hash
        assert ledger.recover() == type(ledger.recover())()
    assert unsettled(place) == []


def test_a_silent_store_blocks_nobody(tmp_path: Path) -> None:
    """Units of other stores, later units on the same record, and opening go on; the newest value stands."""
    place, mood = begun(tmp_path / "ledger"), Moody()
    with open_ledger(place, stores=with_moody_archive(mood)) as ledger:
        first, second = write(ledger, 2), write(ledger, 3)
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("other", {"n": 1})
        assert uow.in_doubt == ()
        assert versions(ledger) == {3}
        assert (place / "files" / "shared%3Ahousehold" / "k").read_bytes() == b"3"
        assert ledger.recover().in_doubt == (first, second)
    with open_ledger(place) as ledger:  # the owner lives, and recovers its own
        assert versions(ledger) == {3}
        assert rows(place / "archive.db", "SELECT version, value FROM uow_records WHERE key = 'k'")[0][1] == '{"n":3}'
    assert unsettled(place) == []


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("odd"), StoreError("never")])
def test_whatever_a_store_raises_after_the_decision_stays_inside(tmp_path: Path, error: Exception) -> None:
    """A foreign exception of a store does not reach the caller of a committed unit, nor whoever recovers."""
    place = begun(tmp_path / "ledger")

    def refuse(method: str, when: str) -> None:
        if (method, when) == ("publish", "after"):
            raise error

    stubborn = [watched(store, refuse) if store.name == "files" else store for store in stores()]
    with open_ledger(place, stores=stubborn) as ledger:
        uow_id = write(ledger, 2)
        assert versions(ledger) == {2}
        assert ledger.recover().in_doubt == (uow_id,)


@pytest.mark.parametrize("error", [OSError("gone"), StoreUnavailable("not now")])
def test_a_store_that_cannot_abandon(tmp_path: Path, error: Exception) -> None:
    """Its unit stays in doubt, the ledger opens, other units are recovered; later it is rolled back."""
    place = begun(tmp_path / "ledger")
    dies(place, "DECIDE", after=False)
    leave(place, 3, decided=True)

    def refuse(method: str, when: str) -> None:
        if (method, when) == ("abandon", "before"):
            raise error

    stubborn = [watched(store, refuse) if store.name == "files" else store for store in stores()]
    with open_ledger(place, stores=stubborn) as ledger:
        (left,) = unsettled(place)
        assert ledger.recover().in_doubt == (left[0],)
        assert len(list(ledger["archive"].keys(space_id=SPACE))) == 4
        with pytest.raises(UnitOfWorkError, match="no unit"):
            ledger.get(left[0])
    with open_ledger(place) as ledger:
        assert ledger.get(left[0]).status == "failed"
        assert versions(ledger) == {1}


def test_a_failing_abandon_does_not_hide_the_callers_error(tmp_path: Path) -> None:
    """When a unit fails and a store cannot clean up after it, the caller still gets what made it fail."""
    place = begun(tmp_path / "ledger")

    def refuse(method: str, when: str) -> None:
        if (method, when) == ("abandon", "before"):
            raise OSError("gone")

    stubborn = [watched(store, refuse) if store.name == "photos" else store for store in stores()]
    with open_ledger(place, stores=stubborn) as ledger:
        with pytest.raises(UnitOfWorkError, match="already"), ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["photos"].create("new", b"x" * 100)
            uow["notes"].create("k", {})
        assert ledger.get(uow.uow_id).failed_store == "notes"
        assert versions(ledger) == {1}
        assert unsettled(place)[0][:2] == (uow.uow_id, "preparing")
    with open_ledger(place) as ledger:
        assert unsettled(place) == []
        assert ledger.get(uow.uow_id).error_type == "RecordExists"


def test_a_store_that_is_not_registered(tmp_path: Path) -> None:
    """What it owes is kept and listed; stores that are there are served; with it the unit is settled."""
    place = begun(tmp_path / "ledger")
    dies(place, "PUBLISH", after=False)
    with open_ledger(place, stores=[store for store in stores() if store.name != "archive"]) as ledger:
        ((uow_id, state, _, _),) = unsettled(place)
        assert state == "committed"
        assert ledger.get(uow_id).failed_store == "archive"
        assert ledger["files"].get("k", space_id=SPACE) == b"2"
        assert ledger.recover().in_doubt == (uow_id,)
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["files"].update("k", b"3")
    with open_ledger(place, stores="recorded") as ledger:
        assert ledger["archive"].get("k", space_id=SPACE) == {"n": 2}
        assert ledger["files"].get("k", space_id=SPACE) == b"3"
    assert unsettled(place) == []


def test_an_undecided_unit_of_a_store_that_is_not_registered(tmp_path: Path) -> None:
    """What it made before the decision cannot be removed yet: the unit waits for a ledger with that store."""
    place = begun(tmp_path / "ledger")
    dies(place, "DECIDE", after=False)
    with open_ledger(place, stores=[DocumentStore("notes")]) as ledger:
        ((uow_id, _, _, _),) = unsettled(place)
        assert ledger.recover().in_doubt == (uow_id,)
    with open_ledger(place) as ledger:
        assert ledger.get(uow_id).error_type == "OwnerDied"
    assert unsettled(place) == []


# How much


def test_opening_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its time is over, opening leaves the rest to `recover`; what is begun is finished."""
    place = begun(tmp_path / "ledger")
    leave(place, 25, decided=True)
    monkeypatch.setattr("memoryos_uow._recovery._BATCH", 10)
    ticks = iter(range(0, 10**15, 4 * 10**9))  # every look at the clock takes four seconds
    with monkeypatch.context() as patched:
        patched.setattr("memoryos_uow._recovery._ambient.monotonic_ns", lambda: next(ticks))
        ledger = open_ledger(place)
    with ledger:
        left = len(unsettled(place))
        assert left in (5, 15)
        assert len(ledger.recover().rolled_forward) == left


def test_a_hundred_thousand_leftovers(tmp_path: Path) -> None:
    """Decided or not, they are recovered in one go, each with its row and its record."""
    place = begun(tmp_path / "ledger")
    leave(place, 60_000, decided=True)
    with open_ledger(place) as ledger:
        ledger.recover()  # what opening had no time for
        assert unsettled(place) == []
    assert rows(place / "archive.db", "SELECT count(*) FROM uow_records") == [(60_001,)]
    with open_ledger(place) as ledger:
        change(place, "UPDATE unit_of_work SET uow_id = 'x' || uow_id WHERE rowid > 1")
        leave(place, 40_000, decided=False)
        assert len(ledger.recover().rolled_back) == 40_000
    assert rows(place / "memory.db", "SELECT count(*) FROM unit_of_work WHERE error_type = 'OwnerDied'") == [(40_000,)]


def test_a_ledger_at_rest_costs_one_query(tmp_path: Path) -> None:
    """Whether anything is to be recovered is found out with one look at an empty table."""
    with open_ledger(begun(tmp_path / "ledger")) as ledger:
        ledger.recover()
        seen: list[str] = []
        with ledger._opened.engine.reader() as reader:
            reader.connection.set_trace_callback(seen.append)
        assert not ledger._opened.recovery.is_needed()
        assert seen == ["SELECT 1 FROM uow_coordination LIMIT 1"]


def test_killed_before_anything_outside(tmp_path: Path) -> None:
    """A process killed by a signal in the middle of its block leaves neither row nor rubbish."""
    place = begun(tmp_path / "ledger")

    def work() -> None:
        with open_ledger(place) as ledger, ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["files"].update("k", b"2")
            uow.sql("SELECT 1")
            os.kill(os.getpid(), signal.SIGKILL)

    assert fork(work).wait() == (signal.SIGKILL, "")
    with open_ledger(place) as ledger:
        assert versions(ledger) == {1}
        assert len(ledger.units()) == 1
        assert unsettled(place) == []


def put_aside(ledger: Ledger, key: str) -> Path:
    """Bytes in the blob store's directory that belong to no unit, made by writing and deleting a large blob."""
    large = b"x" * 100_000
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["photos"].create(key, large)
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["photos"].delete(key)
    (left,) = (path for path in ledger.path.parent.rglob("*") if path.is_file() and path.stat().st_size == len(large))
    return left


def test_nothing_is_swept_while_the_log_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A commit that the log may hide could refer to the bytes: they stay until a later sweep, and the log says so."""

    def unreadable(*_: object) -> bool:
        raise OSError

    with Ledger.open(tmp_path / "memory.db", stores=four_stores()) as ledger:
        left = put_aside(ledger, "p")
        with monkeypatch.context() as patched:
            patched.setattr(_wal, "goes_on_after", unreadable)
            patched.setattr(_ambient, "sleep", lambda _: None)
            ledger.recover()
        assert left.exists()
        assert "reason=LogUnreadable" in caplog.text
        ledger.recover()
        assert not left.exists()


def test_a_sweep_that_finds_the_ledger_locked(tmp_path: Path) -> None:
    """It says so, and removes nothing."""
    with Ledger.open(tmp_path / "memory.db", stores=four_stores(), busy_timeout=0) as ledger:
        left = put_aside(ledger, "p")
        with locked(ledger.path), pytest.raises(LedgerBusy):
            ledger._opened.recovery.sweep()
        assert left.exists()
