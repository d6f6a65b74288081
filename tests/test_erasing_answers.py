"""What an erasure does to answers under idempotency keys, and to messages, of the units that wrote the record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import DuplicateUnit, Ledger
from memoryos_uow.stores import DocumentStore
from tests.erased import MARK, OTHER, SPACE
from tests.units import rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow import Outcome, UnitOfWork

pytestmark = pytest.mark.both


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in which two requests have each written a record, and told of it in result, arguments and message."""
    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as opened:
        for name in (MARK, OTHER):
            ask(opened, name)
        yield opened


def ask(ledger: Ledger, name: str, *, key: str | None = None, value: Any = None) -> Outcome[Any]:
    """The request about the record `name`."""

    def work(uow: UnitOfWork, name: str) -> Any:
        uow["notes"].create(name, {"of": name})
        uow.publish("written", {"name": name})
        return {"name": name} if value is None else value[0]

    return ledger.run(work, space_id=SPACE, band="GREEN", idempotency_key=key or f"k{len(name)}", args=(name,))


def test_a_result_goes_with_the_record_and_nothing_is_run_again(ledger: Ledger) -> None:
    """The repeated request is told what happened, with its receipt; no file holds its result or arguments."""
    before = ask(ledger, MARK)
    assert (before.value, before.replayed) == ({"name": MARK}, True)
    done = ledger.erase(space_id=SPACE, store="notes", key=MARK)
    assert (done.sealed, done.messages, done.complete) == (1, 1, True)
    for _ in range(2):
        with pytest.raises(DuplicateUnit, match="its result was erased") as caught:
            ask(ledger, MARK)
        assert caught.value.receipt == before.receipt
    with pytest.raises(DuplicateUnit), ledger.unit(space_id=SPACE, band="GREEN", idempotency_key=f"k{len(MARK)}"):
        pass
    assert ledger["notes"].get(MARK, space_id=SPACE) is None
    kept = rows(ledger.path, "SELECT arguments, result FROM uow_idempotency WHERE key = ?", f"k{len(MARK)}")
    assert kept == [(None, "erased")]
    assert ledger.verify().ok


def test_answers_of_other_units_stay(ledger: Ledger) -> None:
    """A unit that did not write the record answers as before, also to what was asked with other arguments."""
    ledger.erase(space_id=SPACE, store="notes", key=MARK)
    again = ask(ledger, OTHER)
    assert (again.value, again.replayed) == ({"name": OTHER}, True)


def test_a_result_that_tells_nothing_stays(ledger: Ledger) -> None:
    """A request that returned None is answered as before: there was nothing to erase."""
    first = ask(ledger, "plain", key="none", value=[None])
    ledger.erase(space_id=SPACE, store="notes", key="plain")
    again = ask(ledger, "plain", key="none", value=[None])
    assert (again.value, again.receipt, again.replayed) == (None, first.receipt, True)


def test_answers_of_units_whose_id_is_forgotten_go_too(ledger: Ledger) -> None:
    """The unit that loses its id keeps the key, under its new id."""
    receipt = ask(ledger, MARK).receipt
    done = ledger.erase(space_id=SPACE, store="notes", key=MARK, forget_unit_ids=True, forget_context=True)
    assert done.kept == 1  # its message is a write that was not erased
    with pytest.raises(DuplicateUnit) as caught:
        ask(ledger, MARK)
    assert caught.value.receipt is not None
    assert caught.value.receipt == receipt
