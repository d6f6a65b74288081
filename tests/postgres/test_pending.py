"""A unit on PostgreSQL is committed before it has its number: its receipt is pending, and nothing wrong is told."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import DuplicateUnit, LedgerBusy, Limits, UsageError
from tests.postgres.numbers import numbers, opened, paused, put, receipt, rows, sequencer
from tests.units import OwnError, throw

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions about a ledger whose units cannot be numbered do not wait long."""
    monkeypatch.setattr("memoryos_uow._sequencer.SETTLE_S", 0.02)


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
