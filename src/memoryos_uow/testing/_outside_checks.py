"""What stores with something outside the ledger owe: plan, prepare, publish, abandon and sweep, early, late and twice.

Each check gets the subject and an empty directory, and raises `BrokenError` for the first obligation that is broken.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import permutations
from typing import TYPE_CHECKING, Final

from memoryos_uow.abc import Capability, Fate, OutsideStore, Publisher
from memoryos_uow.errors import ConflictError, StoreUnavailable
from memoryos_uow.testing._bench import DATABASE, OTHER_SPACE, SPACE, Bench, blame, duty
from memoryos_uow.testing._fault_points import fault_points
from memoryos_uow.testing._forks import fork, kill_own_process
from memoryos_uow.testing._obligations import ABANDON, HOLD, PLAN, PREPARE, PUBLISH, READ, SWEEP, BrokenError, demand

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow.testing._bench import Change, Subject, Unit

ORDERS: Final = list(permutations(range(4)))[2::3]
_SYNCS: Final = frozenset({"os.fsync", "os.fdatasync", "os.sync"})


def preparing(subject: Subject, directory: Path) -> None:
    """Plan does nothing; prepare is durable, invisible and repeatable, and survives the death of its process."""
    a, b, *_ = subject.values
    with Bench(subject, directory).ready() as bench:
        if not isinstance(bench.store, OutsideStore):
            return
        bench.commit(("create", "old", a))
        tree = bench.tree()
        unit = bench.unit(("create", "k", b), ("update", "old", b))
        with duty(PLAN, "plan"):
            tokens, again = (bench.store.plan(unit.facts, unit.writes) for _ in range(2))
        demand(PLAN, tokens == again, "plan answers differently when asked twice")
        demand(PLAN, all(isinstance(token, str) for token in tokens), "plan returned tokens that are not strings")
        demand(PLAN, bench.tree() == tree, "plan made something")
        with fault_points() as points:
            bench.prepare(unit)
        made = [path for path, digest in bench.tree().items() if path not in tree and digest != DATABASE]
        demand(PLAN, tokens or not made, "prepare made something although plan returned no token")
        synced = sum(name in _SYNCS for name in points.names)
        if made and os.name == "posix":
            demand(PREPARE, synced >= len(made), "a file was made and not synced")
            demand(PREPARE, synced > len(made), "a file was made and the directory with its name was not synced")
        bench.holds(PREPARE, {"old": a}, "after prepare and before the decision")
        bench.keeps(PREPARE, "k", None, "after prepare and before the decision")
        bench.prepare(unit, times=2)
        bench.decide(unit)
        bench.publish(unit)
        bench.forget(unit)
        bench.holds(PREPARE, {"old": b, "k": b}, "after prepare was called three times")
    _by_a_dead_process(subject, directory)


def _by_a_dead_process(subject: Subject, directory: Path) -> None:
    """What a process prepared before it died can be decided by nobody else, but lies there when it is looked for."""
    unit: list[Unit] = []
    with Bench(subject, directory).ready() as bench:
        unit.append(bench.unit(("create", "left", subject.values[2])))

    def prepare() -> None:
        with Bench(subject, directory).ready() as mine:
            mine.prepare(unit[0])
            kill_own_process()

    _, said = fork(prepare).wait()
    demand(PREPARE, not said, said)
    with Bench(subject, directory).ready() as bench:
        if bench.decider is not None:
            with duty(HOLD, "fate of a unit whose process was killed before it decided"):
                demand(HOLD, bench.decider.fate(unit[0].facts.uow_id) is Fate.ABORTED, "it is said to be committed")
            return
        assert isinstance(bench.store, OutsideStore)  # noqa: S101 - looked at before
        with blame(PREPARE, "what a process prepared before it was killed is to be decided"):
            unit[0].tokens = bench.store.plan(unit[0].facts, unit[0].writes)
            bench.decide(unit[0])
            bench.publish(unit[0])
            bench.forget(unit[0])
            demand(PREPARE, bench.read("left") is not None, "it is not there")


def publishing(subject: Subject, directory: Path) -> None:
    """Published twice, late, in any order, in one call or several: each record ends as the newest unit left it."""
    a, b, c = subject.values[:3]
    with Bench(subject, directory).ready() as bench:
        if not isinstance(bench.store, Publisher) or bench.decider is not None:
            return
        if bench.locks:
            _apart(bench, subject)
            return
        for number, order in enumerate(ORDERS):
            key, gone = f"k{number}", f"g{number}"
            units = [
                bench.decide(bench.prepare(bench.unit(*changes)))
                for changes in (
                    [("create", key, a), ("create", gone, a)],
                    [("update", key, b), ("delete", gone, None)],
                    [("delete", key, None), ("create", gone, b)],
                    [("create", key, c), ("delete", gone, None)],
                )
            ]
            demand(
                READ,
                bench.read(key) == subject.as_read(SPACE, key, c),
                "read lags behind: it does not see what was decided",
            )
            demand(READ, bench.read(gone) is None, "read lags behind: it sees a record whose removal was decided")
            for position in order:
                bench.publish(units[position])
                demand(
                    READ,
                    bench.read(key) == subject.as_read(SPACE, key, c),
                    "read lags behind while units are published",
                )
            bench.publish(*units)
            bench.forget(*units)
            shown = ", ".join(str(position + 1) for position in order)
            demand(
                PUBLISH,
                bench.read(key) == subject.as_read(SPACE, key, c),
                f"published as {shown}, a record went backwards",
            )
            demand(PUBLISH, bench.read(gone) is None, f"published as {shown}, a deleted record is there again")
            for again in (units[0], units[2]):
                bench.publish(again)
            newest = units[3].writes[0]
            bench.keeps(PUBLISH, key, newest, f"published as {shown}, then older units again")
            bench.keeps(PUBLISH, gone, None, f"published as {shown}, then older units again")
            demand(
                PUBLISH, bench.read(key) == subject.as_read(SPACE, key, c), "older units published again: it went back"
            )
            bench.commit(("delete", key, None))
    with Bench(subject, directory).ready() as bench:
        bench.holds(PUBLISH, {}, "after the ledger was opened again")


def _apart(bench: Bench, subject: Subject) -> None:
    """The same for a store in which units lock what they prepare: each has its own records, and keeps others out."""
    a, b, *_ = subject.values
    bench.commit(*[("create", f"gone{number}", a) for number in range(4)])
    for order in ORDERS:
        units = [
            bench.decide(bench.prepare(bench.unit(("create", f"k{number}", b), ("delete", f"gone{number}", None))))
            for number in range(4)
        ]
        wanted = {f"k{number}": b for number in range(4)}
        bench.holds(READ, wanted, "decided and not published yet")
        for position in order:
            bench.publish(units[position])
            bench.holds(READ, wanted, "while units are published")
        bench.publish(*units)
        bench.forget(*units)
        for unit in units:
            bench.publish(unit)
        bench.holds(PUBLISH, wanted, "published again")
        bench.keeps(PUBLISH, "k0", units[0].writes[0], "published again")
        changes = [(("delete", f"k{number}", None), ("create", f"gone{number}", a)) for number in range(4)]
        bench.commit(*[change for pair in changes for change in pair])
    bench.commit(*[("delete", f"gone{number}", None) for number in range(4)])
    first = bench.prepare(bench.unit(("upsert", "k", a)))
    second = bench.unit(("upsert", "k", b))
    try:
        bench.prepare(second)
    except BrokenError as broken:
        demand(PREPARE, isinstance(broken.__cause__, StoreUnavailable), f"what others have prepared: {broken}")
    else:
        raise BrokenError(PREPARE, "two units have prepared the same record")
    bench.abandon(second)
    bench.decide(first)
    bench.publish(first)
    bench.forget(first)
    bench.holds(PUBLISH, {"k": a}, "after another unit was kept out")


def holding(subject: Subject, directory: Path) -> None:
    """What is held is not seen, and is there after decide; what fate says is final, also for one that comes late."""
    a, b, *_ = subject.values
    with Bench(subject, directory).ready() as bench:
        if bench.decider is None:
            return
        bench.commit(("create", "old", a))
        unit = bench.prepare(bench.unit(("create", "k", b), ("update", "old", b)))
        bench.holds(HOLD, {"old": a}, "while it is held")
        bench.decide(unit)
        bench.holds(HOLD, {"old": b, "k": b}, "after decide")
        for _ in range(2):
            with duty(HOLD, "fate of a decided unit"):
                demand(HOLD, bench.decider.fate(unit.facts.uow_id) is Fate.COMMITTED, "it is said not to be committed")
        late = bench.unit(("update", "old", a))
        for _ in range(2):
            with duty(HOLD, "fate of a unit that has not held anything"):
                demand(HOLD, bench.decider.fate(late.facts.uow_id) is Fate.ABORTED, "it is said to be committed")
        with duty(HOLD, "hold, after fate has said that the unit is not committed"), suppress(ConflictError):
            bench.decider.hold(late.facts, late.writes)
            raise BrokenError(HOLD, "a unit that was said not to be committed can be committed")
        bench.abandon(late)
        bench.holds(HOLD, {"old": b, "k": b}, "after a unit came too late")


def publishing_elsewhere(subject: Subject, directory: Path) -> None:
    """Another process can publish, two can at once, and what one had published before it was killed stays."""
    a, b, *_ = subject.values
    with Bench(subject, directory).ready() as bench:
        if not isinstance(bench.store, Publisher) or bench.decider is not None:
            return
        changes: list[Change] = [("update", "k", b), ("delete", "o", None)]
        if bench.locks:
            bench.commit(("create", "k", a), ("create", "o", a))
            first = bench.decide(bench.prepare(bench.unit(("create", "x", a))))
        else:
            first = bench.decide(bench.prepare(bench.unit(("create", "k", a), ("create", "o", a), ("create", "x", a))))
        second = bench.decide(bench.prepare(bench.unit(*changes)))
        other = bench.decide(bench.prepare(bench.unit(("create", "k", a), space=OTHER_SPACE)))

    def publish(*units: Unit) -> Callable[[], None]:
        def act() -> None:
            with Bench(subject, directory).ready() as mine:
                for _ in range(5):
                    mine.publish(*units)
                kill_own_process()

        return act

    children = [fork(publish(first)), fork(publish(first, second)), fork(publish(second, other))]
    for child in children:
        _, said = child.wait()
        if said:
            raise BrokenError(PUBLISH, f"three processes publish at once, and one says:\n{said}")
    with Bench(subject, directory).ready() as bench:
        wanted = {"k": b, "x": a}
        bench.holds(PUBLISH, wanted, "published by three killed processes at once, before anything is forgotten")
        bench.forget(first, second, other)
        bench.holds(PUBLISH, wanted, "published by three killed processes at once")
        bench.keeps(PUBLISH, "k", second.writes[0], "published by three killed processes at once")
        bench.holds(PUBLISH, {"k": a}, "published by three killed processes at once", space=OTHER_SPACE)


def abandoning(subject: Subject, directory: Path) -> None:
    """Abandon removes what a unit prepared, also twice and for nothing, and never what is decided."""
    a, b, *_ = subject.values
    with Bench(subject, directory).ready() as bench:
        if not isinstance(bench.store, OutsideStore):
            return
        bench.commit(("create", "kept", a))
        tree = bench.tree()
        unit = bench.prepare(bench.unit(("create", "k", b), ("update", "kept", b)))
        for _ in range(2):
            with duty(ABANDON, "abandon"):
                bench.store.abandon(unit.facts.uow_id, unit.tokens)
        with duty(ABANDON, "abandon of a unit that made nothing"):
            bench.store.abandon(bench.unit().facts.uow_id, unit.tokens)
        sweep(bench, planned=set())
        bench.holds(ABANDON, {"kept": a}, "after abandon")
        demand(ABANDON, bench.tree() == tree, "something of an abandoned unit is left, even after a sweep")
        if bench.locks:
            return
        # Another unit plans the very same content and is abandoned, before and after this one is decided.
        twin, late = (bench.prepare(bench.unit(("create", key, b))) for key in ("twin", "late"))
        unit = bench.prepare(bench.unit(("create", "k", b)))
        with duty(ABANDON, "abandon"):
            bench.store.abandon(twin.facts.uow_id, twin.tokens)
        bench.decide(unit)
        with duty(ABANDON, "abandon"):
            bench.store.abandon(late.facts.uow_id, late.tokens)
        bench.publish(unit)
        bench.forget(unit)
        bench.holds(ABANDON, {"kept": a, "k": b}, "after units with the same content were abandoned")


def sweeping(subject: Subject, directory: Path) -> None:
    """A sweep removes what dead units left, and neither what is decided nor what a unit at work has planned."""
    a, b, *_ = subject.values
    with Bench(subject, directory).ready() as bench:
        if not isinstance(bench.store, OutsideStore):
            return
        bench.commit(("create", "kept", a))
        sweep(bench, planned=set())
        tree = bench.tree()
        lost = bench.prepare(bench.unit(("create", "k", b)))  # its process died before the ledger knew of it
        if bench.decider is not None:
            bench.abandon(lost)
        left = bench.tree() != tree or bench.store.capability is Capability.TWO_PHASE
        removed = sweep(bench, planned=set())
        demand(SWEEP, bench.tree() == tree, "something that belongs to no unit is left after a sweep")
        demand(SWEEP, bool(removed) == left, f"a sweep says that it removed {removed} pieces")
        unit = bench.prepare(bench.unit(("create", "k", b)))
        sweep(bench, planned={unit.facts.uow_id, *unit.tokens})
        bench.decide(unit)
        sweep(bench, planned={unit.facts.uow_id, *unit.tokens})
        bench.holds(SWEEP, {"kept": a, "k": b}, "after sweeps while a unit was at work")
        bench.publish(unit)
        bench.forget(unit)
        for _ in range(2):
            sweep(bench, planned=set())
        bench.holds(SWEEP, {"kept": a, "k": b}, "after sweeps, whatever a unit at work had planned")


def sweep(bench: Bench, *, planned: set[str]) -> int:
    """Sweep inside a transaction, as recovery does."""
    assert isinstance(bench.store, OutsideStore)  # noqa: S101 - looked at before
    with duty(SWEEP, "sweep"), bench.transaction() as tx:
        return bench.store.sweep(tx, planned)
