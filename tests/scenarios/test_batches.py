"""Batches, and undoing, that went wrong elsewhere: each is a public issue of another project; not here."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import StoreError
from memoryos_uow.stores import DocumentStore, VectorStore
from memoryos_uow.testing import fault_points
from memoryos_uow.testing._forks import fork
from tests.scenarios.kit import SPACE, agreed, embed, killed_on_the_way, open_memory, remember, unit
from tests.units import rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from memoryos_uow import Ledger
    from memoryos_uow.abc import Store, Transaction, UnitFacts, Write

ITEMS: Final = 1_000
SIZE: Final = 50


# AS-8


def small_stores() -> list[Store]:
    """Facts and vectors."""
    return [DocumentStore("facts", search=["text"]), VectorStore("vectors", dimensions=4)]


def ingest(ledger: Ledger, paid: Path) -> None:
    """Write every item that is not there yet, so many in a unit; what the model says of one costs money."""
    there = set(ledger["facts"].keys(space_id=SPACE))
    todo = [key for key in (f"i{number:04}" for number in range(ITEMS)) if key not in there]
    for start in range(0, len(todo), SIZE):
        with unit(ledger) as uow:
            for key in todo[start : start + SIZE]:
                with paid.open("a") as bill:
                    bill.write(f"{key}\n")
                uow["facts"].create(key, {"text": f"memory {key}"})
                uow["vectors"].create(key, embed(key))


def test_as8_cognee_rs_pr160_a_batch_that_is_killed(tmp_path: Path) -> None:
    """AS-8, topoteretes/cognee-rs#160: no artefact without its unit, and going on costs only what was not done."""
    paid = tmp_path / "paid"
    open_memory(tmp_path, stores=small_stores()).close()

    def work() -> None:
        with open_memory(tmp_path, stores=small_stores()) as ledger, fault_points(die_at=300):
            ingest(ledger, paid)

    assert fork(work).wait() == (signal.SIGKILL, "")
    with open_memory(tmp_path, stores=small_stores()) as ledger:
        facts, vectors = (set(ledger[store].keys(space_id=SPACE)) for store in ("facts", "vectors"))
        owned = {key for (key,) in rows(tmp_path / "memory.db", "SELECT record_id FROM uow_writes")}
        assert facts == vectors == owned
        assert 0 < len(facts) < ITEMS
        ingest(ledger, paid)
        assert len(list(ledger["vectors"].keys(space_id=SPACE))) == ITEMS
    twice = [key for key, times in Counter(paid.read_text().split()).items() if times > 1]
    assert len(twice) <= SIZE


# AS-11


def test_as11_openloomi_535_killed_while_undoing(tmp_path: Path) -> None:
    """AS-11, melandlabs/openloomi#535: a process is killed while it undoes a unit; whoever recovers finishes that."""
    start = tmp_path / "start"
    start.mkdir()
    with open_memory(start) as ledger, unit(ledger) as uow:
        remember(uow, "k", "memory 1")

    def work(world: Path) -> None:
        with open_memory(world) as ledger, pytest.raises(StoreError), unit(ledger) as uow:
            remember(uow, "k", "memory 2")
            remember(uow, "new", "memory 3")
            uow["archive"].delete("nowhere")

    for world in killed_on_the_way(start, work, kills=7):
        with open_memory(world) as ledger:
            ledger.recover()
            assert (agreed(ledger, "k"), agreed(ledger, "new")) == ("memory 1", None)
            assert ledger.recover().in_doubt == ()


# AS-12


class Breaks(DocumentStore):
    """Applies some of the writes, then fails."""

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        """Apply the first two."""
        super().apply(tx, unit, commit_seq, writes[:2])
        if len(writes) > 2:
            raise ConnectionResetError


@pytest.mark.parametrize("flushed", [False, True])
def test_as12_verath_pr123_a_store_that_fails_half_way(tmp_path: Path, flushed: bool) -> None:
    """AS-12, Chetan0e/Verath#123: what a store had applied before it failed is undone with the rest."""
    stores: list[Any] = [DocumentStore("facts"), Breaks("other")]
    with open_memory(tmp_path, stores=stores) as ledger:
        with unit(ledger) as uow:
            uow["facts"].create("old", 1)
            uow["other"].create("old", 1)
        with pytest.raises(StoreError) as caught, unit(ledger) as uow:
            uow["facts"].update("old", 2)
            for key in "abcde":
                uow["other"].create(key, key)
            if flushed:
                uow.sql("SELECT 1")
        assert (caught.value.store, ledger.get(uow.uow_id).failed_store) == ("other", "other")
        for store in ("facts", "other"):
            assert {key: ledger[store].get(key, space_id=SPACE) for key in ledger[store].keys(space_id=SPACE)} == {
                "old": 1
            }
