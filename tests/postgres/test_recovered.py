"""Recovery on a ledger that many machines share: leases by the database's clock, one owner at a time, no zombies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from memoryos_uow import _ambient, _coordination, _leases
from memoryos_uow._describe import abandoned_record
from memoryos_uow._names import Dialect
from memoryos_uow.errors import ConflictError, StoreError
from tests.both import rows
from tests.postgres.worlds import open_world
from tests.processes import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow import Ledger

_ELSEWHERE = json.dumps(["another host", "", 1, 1])
_HOUR_MS = 3_600_000
_UNIT = {
    "created_ts": "2026-11-22T19:20:31.110000Z",
    "space_id": "s",
    "band": "GREEN",
    **dict.fromkeys(("envelope_id", "actor_id", "device_id", "correlation_id")),
}

_STOPPING = """
import os, signal, sys
from pathlib import Path
from memoryos_uow.stores import FileStore
from tests.postgres.worlds import open_world
prepare = FileStore.prepare
def stopped(self, unit, writes):
    prepare(self, unit, writes)
    os.kill(os.getpid(), signal.SIGSTOP)
FileStore.prepare = stopped
with open_world(sys.argv[1], Path(sys.argv[2])) as ledger:
    try:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("n", {"n": 1})
            uow["files"].create("n", b"1")
    except Exception as error:
        print(type(error).__name__, uow.status)
"""


@pytest.fixture
def ledger(pg_url: str, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with stores outside it."""
    with open_world(pg_url, tmp_path) as opened:
        yield opened


def abandoned(ledger: Ledger, number: int, *, owner: str = _ELSEWHERE, left_ms: int = 0) -> list[str]:
    """Leave intents of units whose owner had `left_ms` of its lease left; return their ids."""
    ids = [_ambient.new_unit_id() for _ in range(number)]

    def write(tx: Any) -> None:
        for uow_id in ids:
            _coordination.insert(tx, uow_id, decided=False, unit=_UNIT, plan={})
        tx.execute(
            "UPDATE uow_coordination SET owner = ?, lease_until_ms = lease_until_ms - 60000 + ?",
            (owner, left_ms),
        )

    ledger._opened.coordinator.transactions.apart(write)
    return ids


def test_owners_elsewhere_are_left_alone_until_their_lease_ends(ledger: Ledger) -> None:
    """Whether they live, nobody here can see."""
    (uow_id,) = abandoned(ledger, 1, left_ms=30_000)
    assert ledger.recover().rolled_back == ()
    ledger._opened.coordinator.transactions.apart(
        lambda tx: tx.execute("UPDATE uow_coordination SET lease_until_ms = lease_until_ms - 31000")
    )
    assert ledger.recover().rolled_back == (uow_id,)
    record = ledger.get(uow_id)
    assert record is not None
    assert (record.status, record.recovery_attempted) == ("failed", 1)


@pytest.mark.parametrize("skew_ms", [-_HOUR_MS, _HOUR_MS])
def test_the_clocks_of_clients_count_for_nothing(ledger: Ledger, skew_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is an hour wrong takes nobody's unit before its time, and its own leases end when they should."""
    (uow_id,) = abandoned(ledger, 1, left_ms=30_000)
    true_ms = _ambient.unix_ms
    monkeypatch.setattr(_ambient, "unix_ms", lambda: true_ms() + skew_ms)
    assert ledger.recover().rolled_back == ()
    with ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].upsert("n", {"n": 1})
        uow["archive"].upsert("n", {"n": 1})
    with ledger._opened.engine.reader() as reader:
        assert abs(_leases.now_ms(reader) - true_ms()) < _HOUR_MS / 2
    own = abandoned(ledger, 1, left_ms=60_000)[0]
    ends = rows_of(ledger, "SELECT lease_until_ms FROM uow_coordination WHERE uow_id = ?", own)
    assert 0 < ends[0][0] - true_ms() < _HOUR_MS / 2
    run = [ledger.run(lambda _: 7, space_id="s", band="GREEN", idempotency_key="k") for _ in range(2)]
    assert [outcome.replayed for outcome in run] == [False, True]
    assert uow_id != own


def rows_of(ledger: Ledger, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """What a query on the ledger answers."""
    with ledger._opened.engine.reader() as reader:
        return reader.rows(sql, parameters)


def test_eight_recoverers_at_once(pg_url: str, tmp_path: Path) -> None:
    """Each unit is finished by exactly one of them, and none waits for another for ever."""
    ledgers = [open_world(pg_url, tmp_path) for _ in range(8)]
    ids = abandoned(ledgers[0], 200)
    found: list[str] = []
    barrier = threading.Barrier(8)

    def recover(ledger: Ledger) -> None:
        barrier.wait()
        found.extend(ledger.recover().rolled_back)

    threads = [threading.Thread(target=recover, args=(one,)) for one in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert sorted(found) == sorted(ids)
        assert rows_of(ledgers[0], "SELECT count(*) FROM uow_coordination") == [(0,)]
        assert rows_of(ledgers[0], "SELECT count(*) FROM unit_of_work WHERE status = 'failed'") == [(200,)]
    finally:
        for ledger in ledgers:
            ledger.close()


def test_a_takeover_counts_once(ledger: Ledger) -> None:
    """Of two who saw the same units, the second gets none: their epoch has risen. One decided since is nobody's."""
    ids = abandoned(ledger, 3)
    with ledger._opened.engine.reader() as reader:
        seen = _coordination.unsettled(reader)
    taken: list[list[str]] = []

    def take(tx: Any) -> None:
        taken.append([one.uow_id for one in _coordination.take_over(tx, seen)])

    apart = ledger._opened.coordinator.transactions.apart
    apart(lambda tx: tx.execute("UPDATE uow_coordination SET state = 'committed' WHERE uow_id = ?", (ids[1],)))
    for _ in range(2):
        apart(take)
    assert taken == [[ids[0], ids[2]], []]
    apart(lambda tx: _coordination.forget(tx, ids))


def test_what_somebody_else_is_taking_over_is_skipped(ledger: Ledger, pg_url: str) -> None:
    """Nobody waits for a row that is being worked on."""
    one, other = sorted(abandoned(ledger, 2))
    with psycopg.connect(pg_url) as stranger:
        stranger.execute("SELECT 1 FROM uow_coordination WHERE uow_id = %s FOR UPDATE", (one,))
        assert ledger.recover().rolled_back == (other,)
        stranger.rollback()
    assert ledger.recover().rolled_back == (one,)


def test_a_zombie_changes_nothing(ledger: Ledger, pg_url: str, tmp_path: Path) -> None:
    """Stopped before its decision, taken over, and woken up: it is told, and nothing of its unit is anywhere."""
    command = [sys.executable, "-c", _STOPPING, pg_url, str(tmp_path)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as child:
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        assert ledger.recover().rolled_back == ()  # it lives, as far as can be seen, and has its lease
        rows(pg_url, "UPDATE uow_coordination SET lease_until_ms = 1")
        (uow_id,) = ledger.recover().rolled_back
        child.send_signal(signal.SIGCONT)
        said, _ = child.communicate()
    assert said.split() == [ConflictError.__name__, "failed"]
    assert ledger["notes"].get("n", space_id="s") is None
    assert ledger["files"].get("n", space_id="s") is None
    assert ledger.get(uow_id).status == "failed"
    assert ledger.recover() == ledger.recover()
    assert rows(pg_url, "SELECT count(*) FROM uow_coordination") == [(0,)]


def test_a_sweep_waits_for_those_who_make_something_outside(ledger: Ledger, pg_url: str) -> None:
    """A unit whose transaction is open, and so records no intent, keeps sweepers off until it ends; so do intents."""
    swept: list[object] = []
    with ledger.unit(space_id="s", band="GREEN") as uow:
        uow["files"].create("n", b"1")
        uow.sql("SELECT 1")
        state = uow._state
        assert state is not None
        assert state.tx is not None
        _coordination.take_part(state.tx)  # as it does before it makes anything
        thread = threading.Thread(target=lambda: swept.append(ledger._opened.recovery.sweep()))
        thread.start()
        with psycopg.connect(pg_url, autocommit=True) as stranger:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'uow_coordination'::regclass"
            while stranger.execute(waiting).fetchone() != (1,):
                assert thread.is_alive()
        assert swept == []
    thread.join()
    assert swept == [0]
    assert ledger["files"].get("n", space_id="s") == b"1"


def test_a_moment_is_said_by_the_ledgers_clock(ledger: Ledger) -> None:
    """In the statement itself: the database's on PostgreSQL, this machine's for a file."""
    with ledger._opened.engine.reader() as reader:
        said = reader.rows(f"SELECT {_leases.MOMENT[Dialect.POSTGRESQL]}", (_leases.moment(reader, 5_000),))[0][0]
        assert 0 <= _leases.now_ms(reader) + 5_000 - said < _HOUR_MS


def test_a_recoverer_that_was_overtaken(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody wrote the unit's end between its look and its own row: it looks again, and nothing is there twice."""
    (uow_id,) = abandoned(ledger, 1)
    opened = ledger._opened
    truth, looks = opened.rows.exists, [0]

    def late(tx: Any, wanted: str) -> bool:
        looks[0] += 1
        if looks[0] > 1:
            return truth(tx, wanted)
        opened.coordinator.transactions.apart(
            lambda other: opened.rows.insert_unit(other, abandoned_record(wanted, _UNIT))
        )
        return False

    monkeypatch.setattr(opened.rows, "exists", late)
    assert ledger.recover().rolled_back == (uow_id,)
    assert looks == [2]
    assert rows_of(ledger, "SELECT count(*) FROM unit_of_work") == [(1,)]


def test_a_row_that_cannot_be_written_is_said(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After many tries on a server, at once on a file."""
    from memoryos_uow import Ledger as Files

    with Files.open(tmp_path / "memory.db") as file:
        for one in (ledger, file):
            (uow_id,) = abandoned(one, 1)
            monkeypatch.setattr(one._opened.rows, "exists", lambda *_: False)
            insert = partial(one._opened.rows.insert_unit, record=abandoned_record(uow_id, _UNIT))
            one._opened.coordinator.transactions.apart(insert)
            with pytest.raises(StoreError):
                one.recover()
            monkeypatch.undo()
            assert one.recover().rolled_back == (uow_id,)
