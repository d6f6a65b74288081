"""The explored programs: units on a ledger, one per step, as `steps` tells; and the worlds that they start from.

A unit that committed is acknowledged as "committed N"; one that was refused with an error that leaves no doubt as
"refused N". Where there is doubt nothing is said. A program goes on after an error, as a server would.

Marks in a world say how its ledger is opened: ``six`` with all six stores, ``normal`` with that durability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow import Ledger, UnitOfWorkError
from memoryos_uow.testing import acknowledge
from tests import schema_files
from tests.crash.steps import SPACE, START, STEPS, four_stores, six_stores, value

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow import UnitOfWork
    from tests.crash.steps import Step

OLD_UNITS: Final = 200


class WantedError(Exception):
    """What `failing` lets out of a block."""


# Opening


def store_names(world: Path) -> list[str]:
    """Return the names of the stores that a world has."""
    return [store.name for store in (six_stores() if (world / "six").exists() else four_stores())]


def open_ledger(world: Path) -> Ledger:
    """Open the world's ledger as its marks say."""
    return Ledger.open(
        world / "memory.db",
        stores=six_stores() if (world / "six").exists() else four_stores(),
        durability="normal" if (world / "normal").exists() else "full",
    )


def _open_again(world: Path) -> Ledger:
    """Open the ledger; once more if the first time was refused."""
    try:
        return open_ledger(world)
    except UnitOfWorkError:
        acknowledge("refused open")
        return open_ledger(world)


# Units


def _run(world: Path, name: str) -> int:
    """Run the units of a program; return how many were refused that should have been committed."""
    names = store_names(world)
    with _open_again(world) as ledger:
        return sum(not _attempt(ledger, names, number, step) for number, step in enumerate(STEPS[name], 1))


def _attempt(ledger: Ledger, names: list[str], number: int, step: Step) -> bool:
    """Run one unit; return whether it ended as it was meant to."""
    try:
        _commit(ledger, names, number, step)
    except WantedError:
        acknowledge(f"refused {number}")
    except UnitOfWorkError as error:
        if not error.in_doubt:
            acknowledge(f"refused {number}")
        return step.end != "commit"
    else:
        acknowledge(f"{'committed' if step.end == 'commit' else 'refused'} {number}")
    return True


def _commit(ledger: Ledger, names: list[str], number: int, step: Step) -> None:
    there = set(ledger["notes"].keys(space_id=SPACE))
    with ledger.unit(space_id=SPACE, band="GREEN", correlation_id=str(number)) as uow:
        for key, version in step.changes.items():
            for name in names:
                _change(uow, name, key, version, new=key not in there)
        if step.end == "rollback":
            uow.rollback()
        if step.end == "raise":
            raise WantedError
        if step.end == "refuse":
            uow[names[-1]].delete("nowhere")


def _change(uow: UnitOfWork, name: str, key: str, version: int | None, *, new: bool) -> None:
    if version is None:
        uow[name].delete(key)
    elif new:
        uow[name].create(key, value(name, key, version))
    else:
        uow[name].update(key, value(name, key, version))


# The programs


def create(world: Path) -> None:
    """Two units that create records."""
    _run(world, "create")


def update(world: Path) -> None:
    """Two units that update the same record."""
    _run(world, "update")


def delete(world: Path) -> None:
    """Two units that delete records."""
    _run(world, "delete")


def mixed(world: Path) -> None:
    """Two units that create, update and delete."""
    _run(world, "mixed")


def mixed_but_once(world: Path) -> None:
    """The same, for failures that happen once: they may cost one unit, and the next one works."""
    assert _run(world, "mixed") <= 1, "one failure, and two units refused"


def rollback(world: Path) -> None:
    """A unit that is rolled back, between two that commit."""
    _run(world, "rollback")


def failing(world: Path) -> None:
    """A unit that a store refuses at the commit, and one whose block raises, between two that commit."""
    _run(world, "failing")


def reopen(world: Path) -> None:
    """A unit, the ledger closed and opened again, recovery and sweep asked for, another unit."""
    names = store_names(world)
    for number, step in enumerate(STEPS["reopen"], 1):
        with _open_again(world) as ledger:
            ledger.recover()
            _attempt(ledger, names, number, step)


def first_open(world: Path) -> None:
    """A new ledger, and a unit."""
    _run(world, "first_open")


def migrate(world: Path) -> None:
    """A ledger of 1.0.0 with rows, opened for the first time, and a unit."""
    _run(world, "first_open")


def recover(world: Path) -> None:
    """What a program does after a crash: open the ledger, which recovers, and sweep."""
    with open_ledger(world) as ledger:
        ledger.recover()


# The worlds


def four(world: Path) -> None:
    """A ledger with four stores and three records in each."""
    with open_ledger(world) as ledger:
        _commit(ledger, store_names(world), 0, START)


def six(world: Path) -> None:
    """The same with all six stores."""
    (world / "six").touch()
    four(world)


def four_normal(world: Path) -> None:
    """Four stores, relaxed durability."""
    (world / "normal").touch()
    four(world)


def six_normal(world: Path) -> None:
    """Six stores, relaxed durability."""
    (world / "normal").touch()
    six(world)


def nothing(_world: Path) -> None:
    """An empty directory."""


def nothing_for_six(world: Path) -> None:
    """An empty directory, in which a ledger with six stores is to be made."""
    (world / "six").touch()


def nothing_for_six_normal(world: Path) -> None:
    """The same with relaxed durability."""
    (world / "normal").touch()
    nothing_for_six(world)


def old_ledger(world: Path) -> None:
    """A ledger of contract 1.0.0 with rows."""
    schema_files.make_1_0_0(world / "memory.db", OLD_UNITS)
