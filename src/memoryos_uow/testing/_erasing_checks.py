"""What a store owes when a record is erased: it is gone, the others stay, and what is written anew is another record.

Each check gets the subject and an empty directory, and raises `BrokenError` for the first obligation that is broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memoryos_uow.abc import Erasable
from memoryos_uow.testing._bench import OTHER_SPACE, SPACE, duty
from memoryos_uow.testing._obligations import ERASE, demand
from memoryos_uow.testing._unit_checks import begin

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow.testing._bench import Subject


def erasing(subject: Subject, directory: Path) -> None:
    """An erased record is gone, also when its store is asked twice; a newer one of the same key is not touched."""
    world = begin(subject, directory / "start")
    a, b, *_ = subject.values
    with duty(ERASE, "erasing a record"), world.open() as ledger:
        with ledger.unit(space_id=OTHER_SPACE, band="GREEN") as uow:
            uow[world.name].upsert("k1", a)
        done = ledger.erase(space_id=SPACE, store=world.name, key="k1")
        records = ledger[world.name]
        demand(ERASE, done.complete, "an erasure was not finished although nothing stood in its way")
        demand(ERASE, records.get("k1", space_id=SPACE) is None, "an erased record can still be read")
        demand(ERASE, records.get("k2", space_id=SPACE) is not None, "erasing a record took another one away")
        demand(
            ERASE,
            records.get("k1", space_id=OTHER_SPACE) == subject.as_read(OTHER_SPACE, "k1", a),
            "erasing a record took that of another space away",
        )
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow[world.name].create("k1", b)
        store = ledger._opened.store(world.name)  # noqa: SLF001 - the store as the ledger has it
        if isinstance(store, Erasable):
            store.erase_outside(SPACE, "k1", ledger.get(done.uow_id).commit_seq or 0)
        demand(
            ERASE,
            records.get("k1", space_id=SPACE) == subject.as_read(SPACE, "k1", b),
            "erasing once more took a newer record away",
        )
