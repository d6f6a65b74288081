"""An explored program whose units commit in batches, four of four threads each time; and what must hold after it died.

All calls that write are made by one thread, the leader, so that they come in the same order each time it is run: its
own unit waits, inside the transaction, until the others wait for it.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import Ledger, UnitOfWorkError, _group_commit
from memoryos_uow.stores import DocumentStore
from memoryos_uow.testing import acknowledge
from tests.crash import signed
from tests.units import four_stores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from memoryos_uow import UnitOfWork

SPACE: Final = "s"
BATCHES: Final = 2
SIZE: Final = 4
STORES: Final = ("notes", "orders", "embeddings", "photos")


class Gate(DocumentStore):
    """A store whose writes wait, inside the ledger's transaction, until something is so."""

    opens: Callable[[], bool]

    def apply(self, *arguments: Any) -> None:
        while not self.opens():
            time.sleep(0.002)
        super().apply(*arguments)


def open_ledger(world: Path) -> Ledger:
    """Open the world's ledger, with its key if it has one."""
    stores = [*four_stores(), Gate("gate")]
    if (world / "key.pem").exists():
        return signed.open_signed(world, stores)
    return Ledger.open(world / "memory.db", stores=stores)


def prepared(world: Path) -> None:
    """A ledger with one unit in it."""
    with open_ledger(world) as ledger:
        gate = ledger._opened.store("gate")
        assert isinstance(gate, Gate)
        gate.opens = lambda: True
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            write(uow, "start")
            uow["gate"].create("start", {})


def prepared_signed(world: Path) -> None:
    """The same, signed."""
    signed.key_only(world)
    prepared(world)


def write(uow: UnitOfWork, name: str) -> None:
    """What each unit writes."""
    uow["notes"].create(name, {"text": name})
    uow["orders"].create(name, {"n": 1, "what": name})
    uow["embeddings"].create(name, [1, len(name)])
    uow["photos"].create(name, name.encode())


def batches(world: Path) -> None:
    """Commit the batches, one after the other."""
    leader = threading.Thread(target=_lead_all, args=(world,))
    leader.start()
    leader.join()


def _lead_all(world: Path) -> None:
    _group_commit.BATCH_NS = 60_000_000_000  # type: ignore[misc] # traced, everything takes long
    with open_ledger(world) as ledger:
        for number in range(BATCHES):
            _batch(ledger, number)


def _batch(ledger: Ledger, number: int) -> None:
    group = ledger._opened.coordinator._group
    gate = ledger._opened.store("gate")
    assert isinstance(gate, Gate)
    followers: list[threading.Thread] = []
    done: set[str] = set()

    def commit(name: str, *more: str) -> None:
        with suppress(UnitOfWorkError), ledger.unit(space_id=SPACE, band="GREEN", correlation_id=name) as uow:
            for store in more:
                uow[store].create(name, {})
            write(uow, name)
        if uow.status == "committed":
            done.add(name)

    def open_when_all_wait() -> bool:
        if not followers:
            followers.extend(threading.Thread(target=commit, args=(f"{number}-{one}",)) for one in range(1, SIZE))
            for thread in followers:
                thread.start()
        all_wait = len(group._waiting) == SIZE - 1
        if all_wait:
            gate.opens = lambda: True  # also if the leader has to try again
        return all_wait

    gate.opens = open_when_all_wait
    commit(f"{number}-0", "gate")
    for thread in followers:
        thread.join()
    for name in sorted(done):
        acknowledge(name)


def whole(world: Path, acknowledged: Sequence[str]) -> None:
    """What was acknowledged is there, each unit is in all its stores or in none, and the history has no gap."""
    with open_ledger(world) as ledger:
        records = ledger.units(limit=1000)
        committed = {str(record.correlation_id) for record in records if record.status == "committed"}
        assert set(acknowledged) <= committed, "an acknowledged unit is lost"
        wanted = {"start"} | (committed - {"None"})
        for store in STORES:
            assert set(ledger[store].keys(space_id=SPACE)) == wanted, f"{store} holds something else than the units"
        for record in records:
            if record.status == "committed":
                assert ledger.receipt(record.uow_id).hash == record.receipt_hash
        assert ledger.validate() == []
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            write(uow, "next")
    with open_ledger(world) as ledger, ledger._opened.engine.reader() as reader:
        assert reader.rows("PRAGMA integrity_check") == [("ok",)]


def whole_and_signed(world: Path, acknowledged: Sequence[str]) -> None:
    """And the head beside the ledger is never ahead of it; every unit is signed, and proves itself under the key."""
    signed.head_is_of_the_ledger(world)
    with open_ledger(world) as ledger:
        ids = {unit.correlation_id: unit.uow_id for unit in ledger.units(status="committed", limit=1000)}
        assert set(acknowledged) <= ids.keys(), "an acknowledged unit is lost"
        signed.signed_and_provable(ledger, world, [ids[name] for name in acknowledged])
    whole(world, acknowledged)
