"""Hooks: called once, in order, after the end is durable and the lock is free; a failing one harms nobody."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import InDoubtError, RecordExists, UsageError, _ambient
from memoryos_uow.engines import sqlite as engine_module
from memoryos_uow.errors import LedgerError
from tests.naming import plain_repr
from tests.processes import forked
from tests.units import MARKER, SPACE, OwnError, rows, throw

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow import Ledger, Receipt, UnitOfWork


def unit(ledger: Ledger, **options: Any) -> UnitOfWork:
    """A unit to hang hooks on."""
    return ledger.unit(space_id=SPACE, band="GREEN", **options)


def test_hooks_run_in_order_once_the_unit_is_durable(ledger: Ledger) -> None:
    """Each gets the receipt; by then a stranger sees the unit, and another unit may begin."""
    seen: list[object] = []

    def look(receipt: Receipt | None) -> None:
        assert receipt is not None
        seen.append(rows(ledger.path, "SELECT status FROM unit_of_work WHERE uow_id = ?", receipt.uow_id))
        with unit(ledger) as inner:
            inner["notes"].create("by a hook", 1)

    with unit(ledger) as uow:
        uow["notes"].create("n1", 1)
        uow.after_commit(lambda _: seen.append(uow.status))
        uow.after_commit(look)
        uow.after_commit(lambda receipt: seen.append(receipt is uow.receipt))
        uow.after_rollback(lambda _: seen.append("rolled back"))
        assert seen == []
    assert seen == ["committed", [("committed",)], True]
    assert ledger["notes"].get("by a hook", space_id=SPACE) == 1
    assert uow.hook_errors == ()


def test_a_failing_hook_stops_neither_the_others_nor_the_caller(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept in hook_errors and reported by its type; what it says goes nowhere."""
    seen: list[str] = []
    with caplog.at_level(logging.WARNING, "memoryos_uow"), unit(ledger) as uow:
        uow["notes"].create("n1", 1)
        uow.after_commit(lambda _: seen.append("first"))
        uow.after_commit(lambda _: throw(OwnError(MARKER)))
        uow.after_commit(lambda _: seen.append("last"))
    assert (seen, uow.status) == (["first", "last"], "committed")
    assert [type(error) for error in uow.hook_errors] == [OwnError]
    assert f"uow.hook_failed uow_id={uow.uow_id} error_type=OwnError" in caplog.text
    assert MARKER not in caplog.text


def test_hooks_after_a_failure_get_the_error(ledger: Ledger) -> None:
    """The caller's exception arrives unchanged, also when a hook fails; after_commit hooks are not called."""
    seen: list[object] = []
    error = OwnError("mine")
    with pytest.raises(OwnError) as caught, unit(ledger) as uow:
        uow["notes"].create("n1", 1)
        uow.after_commit(seen.append)
        uow.after_rollback(lambda _: throw(ValueError("hook")))
        uow.after_rollback(lambda given: seen.append((given, uow.status)))
        raise error
    assert caught.value is error
    assert error.__context__ is None
    assert seen == [(error, "failed")]
    assert [type(error) for error in uow.hook_errors] == [ValueError]


def test_hooks_after_a_refused_commit(ledger: Ledger) -> None:
    """What goes wrong at the block's end counts as well."""
    seen: list[object] = []
    with unit(ledger) as uow:
        uow["notes"].create("n1", 1)
    with pytest.raises(RecordExists), unit(ledger) as uow:
        uow["notes"].create("n1", 2)
        uow.after_rollback(seen.append)
    assert seen == [uow.error]


def test_hooks_after_rollback_run_at_once(ledger: Ledger) -> None:
    """A unit that is given up has no error to show; a second end does not call them again."""
    seen: list[object] = []
    with pytest.raises(OwnError), unit(ledger) as uow:
        uow["notes"].create("n1", 1)
        uow.after_rollback(lambda error: seen.append((error, uow.status)))
        uow.rollback()
        assert seen == [(None, "rolled_back")]
        with pytest.raises(UsageError, match="over"):
            uow.after_commit(print)
        raise OwnError
    assert len(seen) == 1


def test_hooks_of_a_unit_that_wrote_nothing(ledger: Ledger) -> None:
    """The block ended well, so they are called; there is no receipt."""
    seen: list[object] = []
    with unit(ledger) as uow:
        uow.after_commit(seen.append)
    assert seen == [None]


def test_a_hook_inside_an_undone_savepoint_is_dropped(ledger: Ledger) -> None:
    """Those registered before and after it stay, as do those for a rollback of the whole unit."""
    seen: list[str] = []
    with unit(ledger) as uow:
        uow["notes"].create("n1", 1)
        uow.after_commit(lambda _: seen.append("before"))
        with pytest.raises(OwnError), uow.savepoint():
            uow.after_commit(lambda _: seen.append("undone"))
            with uow.savepoint():
                uow.after_commit(lambda _: seen.append("inside the undone"))
            raise OwnError
        with uow.savepoint():
            uow.after_commit(lambda _: seen.append("kept"))
    assert seen == ["before", "kept"]
    with pytest.raises(OwnError), unit(ledger) as uow:
        with pytest.raises(OwnError), uow.savepoint():
            uow.after_rollback(lambda _: seen.append("rolled back"))
            raise OwnError
        raise OwnError
    assert seen[2:] == ["rolled back"]


def test_an_undone_savepoint_without_hooks_before_it(ledger: Ledger) -> None:
    """The first hook of a unit may be registered inside a savepoint, and go with it."""
    seen: list[object] = []
    with unit(ledger) as uow, pytest.raises(OwnError), uow.savepoint():
        uow.after_commit(seen.append)
        raise OwnError
    assert seen == []


async def a_coroutine_function(_: object) -> None:
    """Nobody would await it."""


@pytest.mark.parametrize("wrong", [None, "f", 7, a_coroutine_function], ids=plain_repr)
def test_what_cannot_be_a_hook(ledger: Ledger, wrong: Any) -> None:
    """It is refused where it is registered, with a hint, and the unit goes on."""
    with unit(ledger) as uow:
        for register in (uow.after_commit, uow.after_rollback):
            with pytest.raises(UsageError) as caught:
                register(wrong)
            assert caught.value.hint
        uow["notes"].create("n1", 1)
    assert uow.status == "committed"


def test_no_claim_is_made_while_in_doubt(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the outcome cannot be told, neither sort of hook is called."""
    seen: list[object] = []

    def doubt(*_: object, **__: object) -> None:
        raise InDoubtError("Nobody knows.")

    with pytest.raises(InDoubtError), unit(ledger) as uow:
        uow["notes"].create("n1", 1)
        uow.after_commit(seen.append)
        uow.after_rollback(seen.append)
        monkeypatch.setattr(engine_module.SQLiteEngine, "sync_log", doubt)
        lose_the_answer(uow, monkeypatch, doubt)
    assert (seen, uow.status) == ([], "pending")


def lose_the_answer(uow: UnitOfWork, monkeypatch: pytest.MonkeyPatch, then: Callable[..., None]) -> None:
    """Have the unit's commit fail so that its outcome is unknown, and its proof fail too."""
    from memoryos_uow.engines._transaction import SQLiteTransaction

    def commit(self: SQLiteTransaction) -> None:
        self.answer_lost = True
        self._end(sound=False)
        raise LedgerError("The disk failed.")

    monkeypatch.setattr(SQLiteTransaction, "commit", commit)
    assert uow._ledger is not None
    monkeypatch.setattr(uow._ledger.coordinator.transactions, "apart", then)


def test_a_hook_may_be_interrupted(ledger: Ledger) -> None:
    """What is not an Exception is not the hook's own failure, and goes on; the unit is committed all the same."""
    with pytest.raises(KeyboardInterrupt), unit(ledger) as uow:
        uow["notes"].create("n1", 1)
        uow.after_commit(lambda _: throw(KeyboardInterrupt()))
    assert uow.status == "committed"


def test_a_block_that_another_process_leaves(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, and neither ends the unit nor calls a hook: here the process only seems to be another one."""
    seen: list[object] = []
    uow = unit(ledger)
    with pytest.raises(UsageError, match="another thread, task or process"), uow:
        uow["notes"].create("n1", 1)
        uow.after_commit(seen.append)
        uow.after_rollback(seen.append)
        monkeypatch.setattr(_ambient, "process_id", lambda: -1)
    monkeypatch.undo()
    assert (seen, uow.status) == ([], "pending")
    uow.rollback()
    assert (seen, uow.status) == ([None], "rolled_back")


def test_a_forked_child_calls_no_hook_of_its_parents(ledger: Ledger) -> None:
    """A child that leaves its parent's block leaves what belongs to the unit to the parent."""
    seen: list[int] = []

    def leave(uow: UnitOfWork) -> list[int]:
        with pytest.raises(UsageError):
            uow.__exit__(None, None, None)
        return seen

    with unit(ledger) as uow:
        uow["notes"].create("n1", 1)
        uow.after_commit(lambda _: seen.append(_ambient.process_id()))
        uow.after_rollback(lambda _: seen.append(-1))
        assert forked(lambda: leave(uow)) == []
    assert seen == [_ambient.process_id()]
