"""What a store owes that can be compared with receipts: it says of every record what lies there now.

Each check gets the subject and an empty directory, and raises `BrokenError` for the first obligation that is broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memoryos_uow.abc import Auditable
from memoryos_uow.testing._bench import OTHER_SPACE, SPACE, Bench, duty
from memoryos_uow.testing._obligations import CONTENTS, demand

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow.testing._bench import Subject, Unit


def contents(subject: Subject, directory: Path) -> None:
    """Every record of every space is there with the content that its newest write had, published or not."""
    a, b, *_ = subject.values
    if not isinstance(subject.make(), Auditable):
        return  # nobody owes this
    with Bench(subject, directory).ready() as bench:
        wanted: dict[tuple[str, str], Any] = {}
        _note(wanted, bench.commit(("create", "k", a), ("create", "x", a), ("create", "gone", b)), SPACE)
        _note(wanted, bench.commit(("create", "k", b), space=OTHER_SPACE), OTHER_SPACE)
        _note(wanted, bench.commit(("update", "k", b), ("delete", "gone", None)), SPACE)
        before = bench.tree()
        for when in ("after three units", "when asked again"):
            _same(bench, wanted, when)
        demand(CONTENTS, bench.tree() == before, "contents changed something outside the ledger")
        waiting = bench.decide(bench.prepare(bench.unit(("update", "k", a), ("delete", "x", None), ("create", "y", b))))
        _note(wanted, waiting, SPACE)
        _same(bench, wanted, "after a decision that is not published yet")
        bench.publish(waiting)
        bench.forget(waiting)
        _same(bench, wanted, "after it was published")


def _note(wanted: dict[tuple[str, str], Any], unit: Unit, space: str) -> None:
    """Take in what a unit's writes leave behind."""
    for write in unit.writes:
        wanted[space, str(write.key)] = write.content
        if write.content is None:
            del wanted[space, str(write.key)]


def _same(bench: Bench, wanted: dict[tuple[str, str], Any], when: str) -> None:
    store = bench.store
    if not isinstance(store, Auditable):
        return
    with duty(CONTENTS, "contents"), bench.engine.reader() as reader:
        held = list(store.contents(reader))
    problems = [one.problem for one in held if one.problem is not None]
    demand(CONTENTS, not problems, f"{when} contents has a problem where there is none: {problems[:1]}")
    found = {(one.space_id, one.key): one.content for one in held}
    demand(CONTENTS, len(found) == len(held), f"{when} contents has a record twice")
    if store.shares_keys:
        demand(CONTENTS, all(space is None for space, _ in found), "spaces share keys, and a record has a space")
        return
    missing, strange = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    demand(CONTENTS, not missing, f"{when} contents lacks a record that was written")
    demand(CONTENTS, not strange, f"{when} contents has a record that was not written, or was deleted")
    demand(CONTENTS, found == wanted, f"{when} contents measures another content than was written")
