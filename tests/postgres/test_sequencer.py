"""Who has units numbered on PostgreSQL: threads, processes that end, and trouble that passes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from memoryos_uow import LedgerBusy, LedgerRollback, UsageError
from memoryos_uow._numbering import Numbering
from memoryos_uow.errors import LedgerError
from tests.postgres.numbers import numbers, opened, paused, put, receipt, rows, run_python, sequencer
from tests.processes import forked


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions about a ledger whose units cannot be numbered do not wait long."""
    monkeypatch.setattr("memoryos_uow._sequencer.SETTLE_S", 0.02)


def test_units_of_the_dead_are_numbered_by_whoever_comes_next(pg_url: str) -> None:
    """By opening the ledger, or by `recover`."""
    code = """
        import os, sys
        from tests.postgres.numbers import opened, put, sequencer
        ledger = opened(sys.argv[1])
        sequencer(ledger)._turning.acquire()
        put(ledger, "a")
        os._exit(0)
    """
    run_python(code, pg_url)
    assert rows(pg_url, "SELECT count(*) FROM uow_pending") == [(1,)]
    with opened(pg_url, recover=False) as ledger:
        ledger.recover()
        numbers(pg_url)
    run_python(code, pg_url)
    with opened(pg_url) as ledger:
        sequencer(ledger).expect(rows(pg_url, "SELECT uow_id FROM uow_pending")[0][0])(20)
        assert sequencer(ledger)._waiting == {}
    assert len(numbers(pg_url)) == 2


def test_numbers_of_a_process_that_others_gave_come_with_their_times(pg_url: str) -> None:
    """How long a unit took only its own process knows; it writes that as soon as the unit has its number."""
    with opened(pg_url) as ledger, opened(pg_url) as other:
        with paused(ledger):
            uow = put(ledger, "a")
            sequencer(other).number_all()
            assert rows(pg_url, "SELECT execution_us, commit_us FROM uow_ledger") == [(None, None)]
        assert sequencer(ledger).settle(20)
        record = ledger.get(uow.uow_id)
        assert record.commit_us is not None
        assert record.commit_time_ms == (record.commit_us + 500) // 1000
    assert len(numbers(pg_url)) == 1


def test_a_unit_that_is_gone_is_said_to_be(pg_url: str) -> None:
    """Nobody waits for ever for a unit that an older state of the database does not have."""
    with opened(pg_url) as ledger:
        with paused(ledger):
            lost = receipt(put(ledger, "a"))
            for table in ("uow_pending", "uow_writes", "unit_of_work"):
                rows(pg_url, f"DELETE FROM {table}")
        with pytest.raises(LedgerRollback, match="not in the ledger any more"):
            lost.wait(10)


def test_two_ledger_objects_and_many_threads_number_each_unit_once(pg_url: str) -> None:
    """Whoever comes first numbers the units of all."""
    with opened(pg_url) as ledger, opened(pg_url) as other:

        def write(one: Any, name: str) -> None:
            for number in range(15):
                put(one, f"{name}-{number}", space_id=name)

        threads = [threading.Thread(target=write, args=((ledger, other)[n % 2], f"s{n % 3}-{n}")) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(numbers(pg_url)) == 90


def test_a_forked_child_does_not_wait(pg_url: str) -> None:
    """It has no thread that would number anything, and no connection: it is told so at once."""
    with opened(pg_url) as ledger:
        with paused(ledger):
            pending = receipt(put(ledger, "a"))

            def ask() -> str:
                with pytest.raises(UsageError, match="forked") as raised:
                    pending.wait()
                return str(raised.value)

            assert forked(ask)
        known = pending.hash
        assert forked(lambda: pending.hash) == known


def test_close_numbers_what_was_committed(pg_url: str) -> None:
    """Also where no thread can be had, and without waiting for the thread's moment."""
    with opened(pg_url) as ledger:
        with paused(ledger):
            uow = put(ledger, "a")
        put(ledger, "b")
    assert uow.uow_id in numbers(pg_url)
    with pytest.raises(UsageError, match="closed"):
        sequencer(ledger).expect("nothing")(None)


def test_close_does_not_wait_for_ever(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody else has the lease, or nothing can be numbered, units stay pending and it is said so."""
    monkeypatch.setattr("memoryos_uow._sequencer.CLOSE_S", 0.05)
    said: list[str] = []
    monkeypatch.setattr("memoryos_uow._log.warn", lambda event, **_: said.append(event))
    with opened(pg_url) as ledger:
        rows(pg_url, "UPDATE uow_sequencer SET owner = 'elsewhere/0123', lease_until_ms = 9e15")
        pending = receipt(put(ledger, "a"))
    assert said == ["uow.numbering_left"]
    with pytest.raises(UsageError, match="closed"):
        pending.wait()
    rows(pg_url, "UPDATE uow_sequencer SET lease_until_ms = 0")
    with opened(pg_url) as ledger:
        sequencer(ledger).number_all()
    assert len(numbers(pg_url)) == 1


def test_an_exiting_interpreter_numbers_what_it_committed(pg_url: str) -> None:
    """Nobody has to close the ledger, and units may be committed while the interpreter is ending."""
    code = """
        import atexit, sys
        from tests.postgres.numbers import opened, put
        ledger = opened(sys.argv[1])
        atexit.register(put, ledger, "at the end")
        put(ledger, "a")
    """
    run_python(code, pg_url)
    assert len(numbers(pg_url)) == 2


def test_without_a_thread_whoever_waits_does_the_work(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more threads can be had: a receipt is made all the same."""
    with opened(pg_url) as ledger:

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert receipt(put(ledger, "a")).space_seq == 1
        put(ledger, "b")
        assert not sequencer(ledger).settle(0)
    assert len(numbers(pg_url)) == 2


def test_the_thread_ends_when_there_is_nothing_to_do(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back with the next unit, and nothing is kept of units that have their numbers."""
    monkeypatch.setattr("memoryos_uow._sequencer._IDLE_S", 0.01)
    with opened(pg_url) as ledger:
        for number in range(2):
            assert receipt(put(ledger, "a")).space_seq == number + 1
            thread = sequencer(ledger)._thread
            if thread is not None:
                thread.join(10)
                assert not thread.is_alive()
        assert sequencer(ledger)._waiting == {}


def test_trouble_is_said_once_and_passes(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that fails is tried again; meanwhile questions about the ledger do not wait."""
    said: list[str] = []
    monkeypatch.setattr("memoryos_uow._log.warn", lambda event, **_: said.append(event))
    with opened(pg_url) as ledger:

        def fail(*_: object) -> bool:
            raise LedgerError("No.")

        original = Numbering.run
        monkeypatch.setattr(Numbering, "run", fail)
        pending = receipt(put(ledger, "a"))
        with pytest.raises(LedgerBusy) as raised:
            pending.wait(0.2)
        assert isinstance(raised.value.__cause__, LedgerError)
        with pytest.raises(LedgerBusy, match="Ask for the checkpoint again"):
            ledger.checkpoint()
        monkeypatch.setattr(Numbering, "run", original)
        assert pending.wait(10).space_seq == 1
        assert said == ["uow.numbering_delayed"]


def test_the_thread_does_not_end_as_long_as_somebody_waits(pg_url: str) -> None:
    """A unit that comes at the last moment is not forgotten."""
    with opened(pg_url) as ledger:
        one = sequencer(ledger)
        with paused(ledger):
            put(ledger, "a")
            one._wanted.clear()
            assert not one._may_end()
            assert one._wanted.is_set()
    assert len(numbers(pg_url)) == 1


def test_close_leaves_a_thread_that_hangs(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with the process; nothing else of it may be touched meanwhile."""
    hangs, over = threading.Event(), threading.Event()

    def hang(*_: object) -> bool:
        hangs.set()
        return over.wait(20)

    with opened(pg_url) as ledger:
        monkeypatch.setattr(Numbering, "run", hang)
        put(ledger, "a")
        assert hangs.wait(20)
        thread = sequencer(ledger)._thread
        sequencer(ledger).close(0.05)
        monkeypatch.undo()
        over.set()
        assert thread is not None
        thread.join(20)
    with opened(pg_url) as ledger:
        sequencer(ledger).number_all()
    assert len(numbers(pg_url)) == 1
