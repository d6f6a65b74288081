"""A store in real units on a real ledger: killed, refused, stopped and taken over at each of its calls.

Each check gets the subject and an empty directory, and raises `BrokenError` for the first obligation that is broken.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow.abc import Capability
from memoryos_uow.errors import ConflictError, InDoubtError, StoreError
from memoryos_uow.ledger import Ledger
from memoryos_uow.stores import DocumentStore
from memoryos_uow.testing._bench import BESIDE, LEDGER, SPACE, duty, tree
from memoryos_uow.testing._forks import fork, kill_own_process, stop_own_process
from memoryos_uow.testing._obligations import ABANDON, APPLY, OF_METHOD, PREPARE, PUBLISH, BrokenError, demand
from memoryos_uow.testing._watched import CHANGING, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow.testing._bench import Subject
    from memoryos_uow.testing._watched import Hook

OLD, NEW, NEWER = "old", "new", "newer"
_BEFORE_DECISION: Final = frozenset({"attach", "setup", "encode", "plan", "prepare", "apply", "redo", "hold"})


class World:
    """A directory with a ledger in which the store and a document store hold the same state."""

    def __init__(self, subject: Subject, directory: Path) -> None:
        self.subject = subject
        self.directory = directory
        self.name = subject.make().name
        a, b, c = subject.values[:3]
        self.states: dict[str, dict[str, Any]] = {
            OLD: {"k1": a, "k2": b},
            NEW: {"k1": b, "k3": c},
            NEWER: {"k1": c, "k2": a, "k3": a},
        }

    def open(self, hook: Hook | None = None) -> Ledger:
        """Open the ledger, with `hook` watching the store."""
        store = self.subject.make()
        return Ledger.open(
            self.directory / LEDGER,
            stores=[store if hook is None else watched(store, hook), DocumentStore(BESIDE)],
            durability="normal",
        )

    def copy(self, directory: Path) -> World:
        """Return a world that begins like this one."""
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(self.directory, directory, symlinks=True)
        if self.subject.copied is not None:
            self.subject.copied(self.directory, directory)
        return World(self.subject, directory)

    def write(self, ledger: Ledger, state: str) -> None:
        """Bring both stores from whatever they hold to `state`, in one unit."""
        there = list(ledger[self.name].keys(space_id=SPACE))
        with ledger.unit(space_id=SPACE, band="GREEN", correlation_id=state) as uow:
            for key, value in self.states[state].items():
                if key in there:
                    uow[self.name].update(key, value)
                else:
                    uow[self.name].create(key, value)
            for key in set(there) - self.states[state].keys():
                uow[self.name].delete(key)
            uow[BESIDE].upsert("state", {"is": state})

    def judge(self, obligation: int, when: str, allowed: set[str]) -> str:
        """Recover; demand that both stores agree on one of the `allowed` states, and that the next unit works."""
        with duty(obligation, f"{when}: opening and recovering"), self.open() as ledger:
            report = ledger.recover()
            demand(obligation, not report.in_doubt, f"{when}: recovery leaves the unit in doubt")
            state = self._agreed(ledger, obligation, when)
            demand(obligation, state in allowed, f"{when}: the stores hold {state!r}")
            if state == OLD:
                demand(obligation, tree(self.directory) == self.before, f"{when}: something of the unit is left")
            with duty(obligation, f"{when}: the next unit"):
                self.write(ledger, NEWER)
            demand(obligation, self._agreed(ledger, obligation, when) == NEWER, f"{when}: the next unit went wrong")
        return state

    def _agreed(self, ledger: Ledger, obligation: int, when: str) -> str:
        state = str(ledger[BESIDE].get("state", space_id=SPACE)["is"])
        wanted = {key: self.subject.as_read(SPACE, key, value) for key, value in self.states[state].items()}
        found = {key: ledger[self.name].get(key, space_id=SPACE) for key in ledger[self.name].keys(space_id=SPACE)}
        demand(
            obligation, found == wanted, f"{when}: the unit is half there: documents say {state!r}, the store does not"
        )
        return state

    before: dict[str, str]
    """The files of the state OLD."""


def begin(subject: Subject, directory: Path) -> World:
    """Return a world in the state OLD that has seen a few units already."""
    directory.mkdir()
    world = World(subject, directory)
    with duty(APPLY, "three ordinary units"), world.open() as ledger:
        for state in (NEWER, NEW, OLD):
            world.write(ledger, state)
        ledger.recover()
    World.before = tree(directory)
    return world


@dataclass
class _Counter:
    """Notes the calls that pass and does something at the n-th."""

    act: Callable[[], object] | None = None
    at: int = -1
    passed: int = 0

    def __post_init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def __call__(self, method: str, when: str) -> None:
        if method in CHANGING:
            self.calls.append((method, when))
            if self.act is not None and len(self.calls) - 1 == self.at:
                self.act()


def _calls(world: World, scratch: Path, do: Callable[[World, Hook], None]) -> list[tuple[str, str]]:
    counter = _Counter()
    do(world.copy(scratch), counter)
    return counter.calls


def _unit(world: World, hook: Hook) -> None:
    with world.open(hook) as ledger:
        world.write(ledger, NEW)


def _recover(world: World, hook: Hook) -> None:
    with world.open(hook) as ledger:
        ledger.recover()


def _kill(world: World, at: int, do: Callable[[World, Hook], None]) -> None:
    """Run `do` in a child that kills itself at call number `at`."""
    ended, said = fork(lambda: do(world, _Counter(kill_own_process, at))).wait()
    if said or ended != signal.SIGKILL:
        raise BrokenError(PREPARE, f"the child that was to be killed ended otherwise: {said}")


def killed(subject: Subject, directory: Path) -> Iterator[int]:
    """Killed before and after each call: all of the unit or nothing of it, and recovery can be killed as well."""
    start = begin(subject, directory / "start")
    calls = _calls(start, directory / "run", _unit)
    for at, (method, when) in enumerate(calls):
        world = start.copy(directory / "run")
        _kill(world, at, _unit)
        yield 1
        allowed = {OLD} if method in _BEFORE_DECISION or (method, when) == ("decide", "before") else {NEW}
        if _is_turn(calls, at):
            again = _Dying(start, world, at, directory / "again")
            yield from _killed_again(again, f"killed {when} {method}", method, allowed)
        world.judge(OF_METHOD[method], f"killed {when} {method}", allowed)


def _is_turn(calls: list[tuple[str, str]], at: int) -> bool:
    """Say whether something outside may be left to recover: after `prepare` and around `publish`."""
    return calls[at] in {("prepare", "after"), ("publish", "before"), ("publish", "after"), ("decide", "after")}


@dataclass(frozen=True)
class _Dying:
    """A world whose unit was killed, as often as it is wanted."""

    start: World
    dead: World
    at: int
    scratch: Path

    def once_more(self) -> World:
        """Return another one like it: a copy, or killed anew where not all of it can be copied."""
        if self.dead.subject.copied is None:
            return self.dead.copy(self.scratch)
        world = self.start.copy(self.scratch)
        _kill(world, self.at, _unit)
        return world


def _killed_again(dead: _Dying, first: str, method: str, allowed: set[str]) -> Iterator[int]:
    counter = _Counter()
    _recover(dead.once_more(), counter)
    for at, (inner, when) in enumerate(counter.calls):
        world = dead.once_more()
        _kill(world, at, _recover)
        yield 1
        world.judge(OF_METHOD[inner], f"{first}, and recovery killed {when} {inner}", allowed)
    world = dead.once_more()
    recoverers = [fork(lambda: _recover(world, _Counter())) for _ in range(2)]
    for recoverer in recoverers:
        _, said = recoverer.wait()
        demand(OF_METHOD[method], not said, f"{first}, two recover at once: {said}")
    world.judge(OF_METHOD[method], f"{first}, then two recovered at once", allowed)


def refused(subject: Subject, directory: Path) -> None:
    """An error after each call ends the unit and leaves nothing; after the decision it leaves it to recovery."""
    start = begin(subject, directory / "start")
    for at, (method, when) in enumerate(_calls(start, directory / "run", _unit)):
        if when == "before" or method == "setup":
            continue
        world = start.copy(directory / "run")
        shown = f"an error after {method}"
        decided = method in ("publish", "decide")
        act = _lose_the_answer if method == "decide" else _refuse
        with duty(OF_METHOD[method], shown), world.open(_Counter(act, at)) as ledger:
            try:
                world.write(ledger, NEW)
            except StoreError:
                demand(OF_METHOD[method], not decided, f"{shown} reached the caller of a committed unit")
            else:
                demand(OF_METHOD[method], decided, f"{shown} did not reach the caller")
        world.judge(OF_METHOD[method], shown, {NEW} if decided else {OLD})


def _refuse() -> None:
    raise StoreError("The check refuses here.")


def _lose_the_answer() -> None:
    raise InDoubtError("The check loses the answer here.")


def late(subject: Subject, directory: Path) -> None:
    """An owner that was stopped, taken over and woken changes nothing, before the decision and after it."""
    start = begin(subject, directory / "start")
    calls = _calls(start, directory / "run", _unit)
    for stop, obligation in ((("prepare", "after"), ABANDON), (("publish", "before"), PUBLISH)):
        if stop in calls:
            _stopped(start.copy(directory / "run"), calls.index(stop), stop[0], obligation)


def _stopped(world: World, at: int, method: str, obligation: int) -> None:
    when = f"its owner stopped at {method}, taken over and woken"

    def work() -> None:
        with suppress(ConflictError):
            _unit(world, _Counter(stop_own_process, at))
            if method == "prepare":
                raise BrokenError(APPLY, "the woken owner committed a unit that was taken over")

    owner = fork(work)
    demand(obligation, owner.wait_until_stopped(), f"{when}: it ended instead")
    try:
        _end_leases(world.directory)
        with duty(obligation, when), world.open() as ledger:
            ledger.recover()
            world.write(ledger, NEWER)
    finally:
        owner.wake()
        _, said = owner.wait()
    demand(obligation, not said, f"{when}: {said}")
    world.judge(obligation, when, {NEWER})


def _end_leases(directory: Path) -> None:
    with closing(sqlite3.connect(directory / LEDGER)) as connection, connection:
        connection.execute("UPDATE uow_coordination SET lease_until_ms = 0")


def savepoints(subject: Subject, directory: Path) -> None:
    """A savepoint undoes what came after it, whether its writes still wait or were applied; a unit sees its own."""
    world = begin(subject, directory / "start")
    a, b, c = subject.values[:3]
    # A unit that another store decides cannot have taken the ledger's lock before.
    decides = subject.make().capability is Capability.LAST_RESOURCE
    for flush in (False,) if decides else (False, True):
        inside = world.copy(directory / "run")
        with duty(APPLY, "a unit with savepoints"), inside.open() as ledger:
            uow = ledger.unit(space_id=SPACE, band="GREEN")
            with uow:
                store = uow[world.name]
                store.update("k1", b)
                with suppress(_BackError), uow.savepoint():
                    store.delete("k1")
                    store.create("k3", a)
                    if flush:
                        uow.sql("SELECT 1")
                    demand(APPLY, store.get("k1") is None, "a unit does not see its own delete")
                    demand(
                        APPLY, store.get("k3") == subject.as_read(SPACE, "k3", a), "a unit does not see its own write"
                    )
                    raise _BackError
                demand(
                    APPLY,
                    store.get("k1") == subject.as_read(SPACE, "k1", b),
                    "going back to a savepoint undid too much",
                )
                demand(APPLY, store.get("k3") is None, "going back to a savepoint undid too little")
                store.create("k3", c)
                store.delete("k2")
                uow[BESIDE].upsert("state", {"is": NEW})
        inside.judge(APPLY, f"after savepoints, {'applied' if flush else 'waiting'}", {NEW})


class _BackError(Exception):
    """Leaves a savepoint."""
