"""Units on PostgreSQL get their numbers after their commits: in order, without gaps, each once, whatever happens."""

from __future__ import annotations

import copy
import pickle
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import DuplicateUnit, LedgerBusy, LedgerRollback, Limits, UsageError
from memoryos_uow import _sequencer as sequencer_module
from memoryos_uow._numbering import _NOW_MS, Numbering
from memoryos_uow.errors import LedgerError
from tests.postgres.numbers import numbers, opened, paused, put, receipt, rows, run_python, sequencer
from tests.processes import forked
from tests.units import OwnError, throw

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions about a ledger whose units cannot be numbered do not wait long."""
    monkeypatch.setattr(sequencer_module, "SETTLE_S", 0.02)


def test_a_receipt_is_pending_and_then_is_not(pg_url: str) -> None:
    """A unit is committed without its number; who asks for what depends on that waits, and gets what the rows say."""
    with opened(pg_url) as ledger:
        with paused(ledger):
            first = receipt(put(ledger, "a"))
            assert first.pending
            assert repr(first) == f"<Receipt of {first.uow_id}, pending>"
            assert rows(pg_url, "SELECT receipt_hash, commit_time_ms FROM unit_of_work") == [(None, None)]
            with pytest.raises(LedgerBusy, match="has no number in the receipt log yet"):
                first.wait(0)
        assert first.wait() is first
        assert not first.pending
        assert (first.space_seq, first.prev, first.signature) == (1, None, None)
        assert rows(pg_url, "SELECT receipt FROM uow_receipts") == [(first.canonical().decode(),)]
        record = ledger.get(first.uow_id)
        assert record.receipt_hash == first.hash
        assert record.commit_us is not None
        assert first.proof().startswith("c2sp.org/tlog-proof@v1")
        second = receipt(put(ledger, "a"))
        sequencer(ledger).settle(10)
        assert not second.pending  # without having been asked for anything
        assert (second.prev, second.space_seq) == (first.hash, 2)
    assert numbers(pg_url) == [first.uow_id, second.uow_id]


@pytest.mark.parametrize(
    "ask", [pickle.dumps, copy.copy, hash, lambda one: one != copy.copy(one), lambda one: one.proof()]
)
def test_whatever_needs_the_whole_receipt_waits(pg_url: str, ask: Callable[[Any], object]) -> None:
    """Copies, pickles, comparisons and proofs are of the whole receipt."""
    with opened(pg_url) as ledger:
        with paused(ledger):
            pending = receipt(put(ledger, "a"))
        ask(pending)
        assert not pending.pending
        assert pickle.loads(pickle.dumps(pending)) == copy.deepcopy(pending) == pending  # noqa: S301 - our own


def test_the_receipt_of_a_unit_that_waits_can_be_asked_for(pg_url: str) -> None:
    """From another ledger object, as from another process: pending, complete when asked, and able to prove itself."""
    with opened(pg_url) as ledger, opened(pg_url) as other:
        with paused(ledger), paused(other):
            uow = put(ledger, "a")
            found = other.receipt(uow.uow_id)
            assert found.pending
            assert [write.record_id for write in other.get(uow.uow_id).writes] == ["a"]
        assert found.hash == receipt(uow).hash == other.receipt(uow.uow_id).hash
        assert found.proof() == other.receipt(uow.uow_id).proof()


def test_an_answer_under_an_idempotency_key_may_be_pending(pg_url: str) -> None:
    """`Outcome` and `DuplicateUnit` carry the receipt of a unit that has no number yet."""

    def note(uow: Any) -> int:
        uow["notes"].upsert("a", {})
        return 7

    with opened(pg_url) as ledger, opened(pg_url) as other:
        with paused(ledger), paused(other):
            done = ledger.run(note, space_id="s", band="GREEN", idempotency_key="k")
            again = other.run(note, space_id="s", band="GREEN", idempotency_key="k")
            assert again.replayed
            assert done.receipt is not None
            assert again.receipt is not None
            assert (done.value, again.value) == (7, 7)
            assert done.receipt.pending
            assert again.receipt.pending
            with (
                pytest.raises(DuplicateUnit) as duplicate,
                other.unit(space_id="s", band="GREEN", idempotency_key="k"),
            ):
                pass
        assert duplicate.value.receipt is not None
        assert done.receipt.hash == again.receipt.hash == duplicate.value.receipt.hash


def test_a_unit_that_saw_what_another_wrote_comes_after_it(pg_url: str) -> None:
    """Whatever the clocks of processes say: one that read, wrote over or wrote again has the later number."""
    with opened(pg_url) as ledger, opened(pg_url) as behind:
        engine: Any = behind._opened.engine
        expected = []
        with paused(ledger), paused(behind):
            for turn in range(4):
                engine.stamps._server_us -= 10_000_000  # ten more seconds slow
                engine.stamps._last = 0
                expected.append(put(ledger, f"a{turn}").uow_id)
                with behind.unit(space_id="s", band="GREEN") as uow:
                    assert uow["notes"].get(f"a{turn}") is not None
                    uow["notes"].create(f"b{turn}", {})
                expected.append(uow.uow_id)
                with ledger.unit(space_id="t", band="GREEN") as uow:
                    uow["notes"].upsert("c", {"turn": turn})
                    assert uow["notes"].get("c") == {"turn": turn}
                expected.append(uow.uow_id)
        assert ledger.checkpoint() == behind.checkpoint()
    assert numbers(pg_url) == expected


def test_a_batch_takes_the_same_number_of_round_trips_however_many_units_it_has(pg_url: str) -> None:
    """Reading and writing a batch is a fixed number of messages to the server."""
    with opened(pg_url) as ledger:
        taken = []
        for units in (1, 40):
            with paused(ledger):
                for number in range(units):
                    put(ledger, f"{number}", space_id=f"s{number}")
                sent = _count_sent()
                sequencer(ledger).number_all()
                taken.append(sent())
        assert taken[0] == taken[1] < 12
    assert len(numbers(pg_url)) == 41


def _count_sent() -> Callable[[], int]:
    """Count what transactions and readers send, until the answer is asked for."""
    from memoryos_uow.engines._pg_transaction import PostgresReader

    original, sent = PostgresReader._send, [0]

    def counting(self: Any, *arguments: Any) -> Any:
        sent[0] += 1
        return original(self, *arguments)

    PostgresReader._send = counting  # type: ignore[method-assign,assignment]

    def end() -> int:
        PostgresReader._send = original  # type: ignore[method-assign]
        return sent[0]

    return end


def test_many_units_are_several_batches_under_one_lease(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch goes on where the one before ended, and the last one gives the lease back."""
    monkeypatch.setattr("memoryos_uow._numbering.BATCH_MAX", 2)
    with opened(pg_url) as ledger, paused(ledger):
        expected = [put(ledger, f"{number}", space_id=f"s{number % 2}").uow_id for number in range(5)]
        (epoch,) = rows(pg_url, "SELECT epoch FROM uow_sequencer")[0]
        sequencer(ledger).number_all()
        assert rows(pg_url, "SELECT epoch, owner FROM uow_sequencer") == [(epoch + 1, None)]
    assert numbers(pg_url) == expected


# Whoever numbers may die, pause, or lose an answer


@pytest.mark.parametrize("numbered", [True, False])
def test_a_process_that_was_paused_changes_nothing(
    pg_url: str, monkeypatch: pytest.MonkeyPatch, *, numbered: bool
) -> None:
    """Between its lease and its transaction others take over: it writes nothing, and every unit has one number."""
    with opened(pg_url) as ledger, opened(pg_url) as other:
        with paused(ledger), paused(other):
            for number in range(3):
                put(ledger, f"{number}")
            original = Numbering._write
            results = []

            def late(self: Numbering, *arguments: Any, **options: Any) -> bool:
                monkeypatch.setattr(Numbering, "_write", original)
                rows(pg_url, "UPDATE uow_sequencer SET lease_until_ms = 0")
                if numbered:
                    sequencer(other).number_all()
                else:
                    assert sequencer(other)._numbering._take_lease() is not None
                before = [rows(pg_url, f"SELECT * FROM {table}") for table in ("uow_ledger", "uow_sequencer")]
                results.append(self._write(*arguments, **options))
                assert [rows(pg_url, f"SELECT * FROM {table}") for table in ("uow_ledger", "uow_sequencer")] == before
                return results[0]

            monkeypatch.setattr(Numbering, "_write", late)
            sequencer(ledger).number_all()
            assert results == [False]
            sequencer(other).number_all()
        put(ledger, "after")
    assert len(numbers(pg_url)) == 4


def test_a_batch_whose_answer_was_lost_may_be_repeated(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has committed it and nobody heard so: the next turn finds it done. Or it has not: it is done then."""
    with opened(pg_url) as ledger:
        for is_done in (True, False):
            with paused(ledger):
                uow = put(ledger, f"{is_done}")
                original = Numbering._write

                def lost(self: Numbering, *arguments: Any, is_done: bool = is_done, **options: Any) -> bool:
                    monkeypatch.setattr(Numbering, "_write", original)  # noqa: B023 - undone at once
                    if is_done:
                        original(self, *arguments, **options)  # noqa: B023
                    raise LedgerError("The connection is gone.")

                monkeypatch.setattr(Numbering, "_write", lost)
                with pytest.raises(LedgerError, match="gone"):
                    sequencer(ledger).number_all()
            assert receipt(uow).wait(10).space_seq == (1 if is_done else 2)
    assert len(numbers(pg_url)) == 2


def test_a_lease_of_a_dead_process_is_taken_over_at_once(pg_url: str) -> None:
    """Of one on this machine it is known that it is dead; of any other the lease has to end by the database's clock."""
    with opened(pg_url) as ledger:
        put(ledger, "first")
        ledger.checkpoint()
        dead = forked(_own_name)
        rows(pg_url, "UPDATE uow_sequencer SET owner = %s, lease_until_ms = 9e15", f"{dead}/0123")
        assert receipt(put(ledger, "a")).wait(10).space_seq == 2
        rows(pg_url, "UPDATE uow_sequencer SET owner = 'elsewhere/0123', lease_until_ms = 9e15")
        waiting = receipt(put(ledger, "b"))
        with pytest.raises(LedgerBusy):
            waiting.wait(0.05)
        assert ledger.get(waiting.uow_id).receipt_hash is None
        rows(pg_url, "UPDATE uow_sequencer SET lease_until_ms = 0")
        assert waiting.wait(10).space_seq == 3
    assert len(numbers(pg_url)) == 3


def _own_name() -> str:
    from memoryos_uow import _owner

    return _owner.own_name()


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


# Threads, forks, ends


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
    monkeypatch.setattr("memoryos_uow._open_ledger.CLOSE_S", 0.05)
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
    monkeypatch.setattr(sequencer_module, "_IDLE_S", 0.01)
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


def test_who_finds_nothing_gives_the_lease_back(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one has numbered it all between two questions; and a replica numbers nothing."""
    with opened(pg_url) as ledger, paused(ledger):
        put(ledger, "a")
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr("memoryos_uow._pending.following", lambda *_: [])
            sequencer(ledger).number_all()
        assert rows(pg_url, "SELECT owner FROM uow_sequencer") == [(None,)]
        with monkeypatch.context() as replica:
            replica.setattr(ledger._opened.engine, "read_only", True, raising=False)
            sequencer(ledger).number_all()
        assert rows(pg_url, "SELECT count(*) FROM uow_pending") == [(1,)]
    assert len(numbers(pg_url)) == 1


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


def test_a_streamed_unit_is_numbered_like_any_other(pg_url: str) -> None:
    """Its first writes went into the transaction before its end was known."""
    limits = Limits(waiting_writes=50)
    with opened(pg_url, limits=limits) as ledger:
        with ledger.unit(space_id="s", band="AMBER") as uow:
            for number in range(200):
                uow["notes"].create(f"n{number}", {"text": "x" * 50})
        done = receipt(uow).wait()
        assert done.write_count == 200
        assert len(ledger.get(uow.uow_id).writes) == 200
        assert ledger.verify().ok
    assert len(numbers(pg_url)) == 1


def test_a_receipt_is_not_made_up(pg_url: str) -> None:
    """A failed unit has none, whether or not others wait for their numbers."""
    with opened(pg_url) as ledger:
        with pytest.raises(OwnError), ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("a", {})
            throw(OwnError("on purpose"))
        with pytest.raises(UsageError, match="has no receipt: it is failed"):
            ledger.receipt(uow.uow_id)
        with ledger.unit(space_id="s", band="GREEN", idempotency_key="k") as empty:
            pass
        assert receipt(empty).wait().write_count == 0
        assert ledger.receipt(empty.uow_id).hash == receipt(empty).hash
        assert ledger.get(empty.uow_id).writes == ()
        assert ledger.verify().ok


def test_an_interrupt_right_after_the_commit_leaves_no_wrong_receipt(
    pg_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody is asked for the number, the receipt says that it does not know it."""
    with opened(pg_url) as ledger:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as once:
            once.setattr(sequencer(ledger), "expect", interrupt)
            uow = ledger.unit(space_id="s", band="GREEN")
            with pytest.raises(KeyboardInterrupt), uow:
                uow["notes"].create("a", {})
        assert receipt(uow).pending
        with pytest.raises(LedgerBusy, match="nobody has asked for its number"):
            receipt(uow).wait()
        assert ledger.receipt(uow.uow_id).hash
    assert len(numbers(pg_url)) == 1


def test_those_who_watch_are_told_without_a_hash_that_nobody_knows(pg_url: str) -> None:
    """What is told of a unit does not wait for its number."""
    with opened(pg_url) as ledger:
        told: list[Any] = []
        ledger._opened.coordinator.telemetry = SimpleNamespace(  # type: ignore[assignment]
            tell=lambda make: told.append(make()), traceparent=lambda: None
        )
        with paused(ledger):
            put(ledger, "a")
            assert [(one.outcome, one.receipt_hash) for one in told[0].facts()] == [("committed", None)]
        ledger.checkpoint()
        assert len(told[0].facts()[0].receipt_hash) == 64  # told later, it is known


def test_a_slow_signer_gets_a_longer_lease(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else two processes would take it away from each other for ever."""
    with opened(pg_url) as ledger, paused(ledger):
        put(ledger, "a")
        monkeypatch.setattr(sequencer(ledger)._numbering, "_took_ms", 100_000)
        leases = []

        def look(*_: object) -> list[Any]:
            leases.extend(rows(pg_url, f"SELECT lease_until_ms - {_NOW_MS} FROM uow_sequencer"))
            return []

        monkeypatch.setattr("memoryos_uow._pending.following", look)
        sequencer(ledger).number_all()
        assert 290_000 < leases[0][0] <= 300_000
        monkeypatch.undo()
    assert len(numbers(pg_url)) == 1
