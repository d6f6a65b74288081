"""Batches of units get their numbers in order, without gaps, each once, whoever dies, pauses or loses an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import LedgerBusy
from memoryos_uow._numbering import _NOW_MS, Numbering
from memoryos_uow.errors import LedgerError
from tests.postgres.numbers import numbers, opened, paused, put, receipt, rows, sequencer
from tests.processes import forked

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions about a ledger whose units cannot be numbered do not wait long."""
    monkeypatch.setattr("memoryos_uow._sequencer.SETTLE_S", 0.02)


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
