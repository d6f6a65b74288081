"""One run of the simulation from one seed: what chance does to the processes, and what must hold all the time.

Everything is drawn from one `random.Random(seed)`, and nothing depends on time, on hashes or on the order of a set: the
same seed gives the same run to the byte, on every machine.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from memoryos_uow._protocol import State
from tests.simulation.process import Actor, Process
from tests.simulation.world import ARCHIVE, BLOBS, DOCS, FAILED, FILES, LEASE, Unit, Violation, World

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.simulation.world import Fault

STEPS_MAX: Final = 20_000
"""A run that takes more steps hangs; usual ones take a few hundred."""
_UNITS_MAX: Final = 10
_EVENTS: Final = ("crash", "cut", "pause", "silence", "recover", "thread", "checkpoint", "jump")


@dataclass(slots=True)
class Outcome:
    """What came of one run."""

    seed: int
    violation: str | None = None
    steps: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    trace: list[str] | None = None

    def digest(self) -> str:
        """Return what tells this run's trace from any other."""
        return hashlib.sha256("\n".join(self.trace or ()).encode()).hexdigest()


def run(seed: int, fault: Fault | None = None, *, trace: bool = False) -> Outcome:
    """Run the world of `seed` to its end; `trace` keeps what happened, line by line."""
    return _Run(seed, fault, trace=trace).to_the_end()


class _Run:
    def __init__(self, seed: int, fault: Fault | None, *, trace: bool) -> None:
        self.rng = rng = random.Random(seed)
        self.world = world = World(rng, fault, trace=trace)
        self.outcome = Outcome(seed, counts=world.counts, trace=world.trace)
        # Each run has moods of its own, so that rare things also happen often, and together.
        world.full = rng.random() < 0.8
        world.deaths_are_seen = rng.random() < 0.7
        self.weights = {event: rng.choice((0, 1, 1, 4)) for event in _EVENTS}
        self.left = {event: rng.randrange(6) for event in _EVENTS}
        self.left["cut"] = rng.choice((0, 0, 1, 3))
        self.eventful = rng.choice((0.03, 0.08, 0.15))
        self.lossy = rng.choice((0, 0, 0.15, 0.6))
        self.refusing = rng.choice((0, 0.1, 0.3))
        self.keys = "abc"[: rng.randint(1, 3)]
        self.digests = [f"bytes{number}" for number in range(rng.randint(1, 3))]
        self.shares = rng.choice(((DOCS, BLOBS, FILES, ARCHIVE), (FILES, ARCHIVE), (BLOBS,), (BLOBS, FILES), (ARCHIVE,)))
        world.units = [self._unit(uow) for uow in range(rng.randint(3, _UNITS_MAX))]
        self.waiting = list(world.units)
        self.workers = rng.randint(1, 4)
        self.cut_at = -1
        """At which step the power fails, if that was decided before."""
        self.steps = rng.choice((STEPS_MAX, rng.randrange(200)))

    def _unit(self, uow: int) -> Unit:
        rng = self.rng
        unit = Unit(uow, [self._write(uow, number) for number in range(rng.choice((0, 1, 1, 2, 2, 3, 3, 4)))])
        unit.flushed_early = rng.random() < 0.08
        unit.ending = rng.choice(("rollback", "raise")) if rng.random() < 0.06 else "commit"
        if rng.random() < self.refusing:
            unit.refused_by = rng.choice(("prepare", "apply"))
        if rng.random() < self.lossy:
            # A commit that does not wait for the disk cannot fail half-way.
            full = ("there", "gone", "ghost", "fails", "dies", "dies")
            unit.answer = rng.choice(full if self.world.full else ("gone", "fails", "dies"))
            unit.proof_fails = rng.random() < 0.3
        return unit

    def _write(self, uow: int, number: int) -> tuple[str, str, str | None]:
        store, key = self.rng.choice(self.shares), self.rng.choice(self.keys)
        if self.rng.random() < 0.2:
            return store, key, None
        return store, key, self.rng.choice(self.digests) if store == BLOBS else f"u{uow}.{number}"

    # Processes

    def _start(self, what: str) -> None:
        world = self.world
        if not any(process.alive for process in world.processes) and world.ledger.read_anew():
            world.counts["ghost_read_from_the_log"] += 1
            world.say(None, "a lost commit is found in the log")
            world.changed = True
        process = Process(world, len(world.processes))
        world.processes.append(process)
        self._add(process, what)

    def _add(self, process: Process, what: str) -> None:
        actor = Actor(process, len(self.world.actors))
        actor.steps = self._work(actor) if what == "work" else actor.recover()
        self.world.actors.append(actor)
        actor.say(f"starts to {what}")

    def _work(self, actor: Actor) -> Generator[None, None, None]:
        yield from actor.open()
        while self.waiting:
            unit = self.waiting.pop(0)
            yield
            yield from actor.run_unit(unit)
        if self.rng.random() < 0.5:
            yield from actor.settle()

    def _kill(self, process: Process) -> None:
        world, ledger = self.world, self.world.ledger
        world.say(None, f"process {process.number} dies")
        process.alive = False
        for actor in [actor for actor in world.actors if actor.process is process]:
            world.actors.remove(actor)
            if actor.committing is not None and self.rng.random() < 0.5:
                ledger.leave_ghost(actor.committing)
                world.counts["killed_in_commit"] += 1
            if ledger.lock is actor:
                ledger.lock = None
            if world.publishing is actor:
                world.publishing = None
                world.counts["killed_publishing"] += 1
            if actor.recovers:
                world.counts["killed_in_recovery"] += 1

    # What chance does

    def _event(self) -> None:
        weights = [self.weights[event] if self.left[event] else 0 for event in _EVENTS]
        if any(weights):
            event = self.rng.choices(_EVENTS, weights)[0]
            self.left[event] -= 1
            getattr(self, f"_{event}")()

    def _alive(self) -> list[Process]:
        return [process for process in self.world.processes if process.alive]

    def _crash(self) -> None:
        # Somebody in the middle of a commit is rare to be met, and worth meeting.
        committing = [actor.process for actor in self.world.actors if actor.committing is not None]
        if alive := committing or self._alive():
            self.world.counts["crash"] += 1
            self._kill(self.rng.choice(alive))
            self._aftermath()

    def _aftermath(self) -> None:
        """After a process has died: often somebody recovers at once, and sometimes the power fails in the middle."""
        if self.rng.random() < 0.5:
            self._start("recover")
            if self.left["cut"] and self.rng.random() < 0.5:
                self.left["cut"] -= 1
                self.cut_at = self.outcome.steps + self.rng.randrange(5, 40)

    def _cut(self) -> None:
        world = self.world
        world.counts["power_cut"] += 1
        if any(actor.recovers for actor in world.actors):
            world.counts["power_cut_in_recovery"] += 1
        for process in self._alive():
            self._kill(process)
        before = world.ledger.now.units
        if world.ledger.cut(self.rng):
            world.counts["ghost_back_after_the_cut"] += 1
        world.disk.cut(self.rng)
        world.archive.cut()
        world.say(None, f"power cut: {len(before)} units, then {len(world.ledger.now.units)}")
        for unit in world.units:
            if before.get(unit.uow, FAILED) > 0 and world.ledger.now.units.get(unit.uow, FAILED) <= 0:
                world.counts["decision_lost"] += 1
                if unit.told == "committed" and world.full:
                    raise world.break_promise(f"unit {unit.uow} was told committed and is lost")
                unit.told = ""
        world.changed = True

    def _pause(self) -> None:
        """A lease goes by in which a process does nothing, and often somebody comes to recover at that moment."""
        world, rng = self.world, self.rng
        asking = [actor.process for actor in world.actors if actor.unit and actor.unit.state is State.IN_DOUBT]
        if alive := asking or self._alive():
            process = rng.choice(alive)
            world.now += LEASE
            process.wakes_at = world.now + rng.randrange(LEASE)
            world.counts["pause"] += 1
            world.say(None, f"process {process.number} is paused until {process.wakes_at}")
            if rng.random() < 0.5:
                self._start("recover")

    def _silence(self) -> None:
        store = self.rng.choice((FILES, ARCHIVE))
        self.world.silent_until[store] = self.world.now + self.rng.randrange(10, 2 * LEASE)
        self.world.say(None, f"{store} is silent until {self.world.silent_until[store]}")

    def _recover(self) -> None:
        self._start("recover")

    def _thread(self) -> None:
        if alive := self._alive():
            self._add(self.rng.choice(alive), self.rng.choice(("recover", "work")))

    def _checkpoint(self) -> None:
        self.world.ledger.sync()

    def _jump(self) -> None:
        self.world.now = max(0, self.world.now + self.rng.randrange(-LEASE, 2 * LEASE))
        self.world.say(None, "the clock jumps")

    # The run

    def to_the_end(self) -> Outcome:
        try:
            for _ in range(self.workers):
                self._start("work")
            self._until_at_rest(eventful=self.eventful, steps=self.steps)
            self._end()
        except Violation as violation:
            self.outcome.violation = str(violation)
        return self.outcome

    def _until_at_rest(self, *, eventful: float, steps: int = STEPS_MAX) -> None:
        """Let everybody go on until nobody has anything to do, or for so many steps."""
        world, rng = self.world, self.rng
        last = self.outcome.steps + steps + 1
        while self.outcome.steps < last:
            if eventful and rng.random() < eventful:
                self._event()
            if self.outcome.steps == self.cut_at:
                self.cut_at = -1
                self._cut()
            actors = world.actors
            awake = [actor for actor in actors if actor.process.wakes_at <= world.now]
            if not awake:
                if actors:
                    world.now = min(actor.process.wakes_at for actor in actors)
                    continue
                if not self.waiting:
                    break
                self._start("work")
                continue
            self._step(awake[int(rng.random() * len(awake))])
        self._check()

    def _step(self, actor: Actor) -> None:
        world = self.world
        self.outcome.steps += 1
        if self.outcome.steps > STEPS_MAX:
            raise world.break_promise("the run does not come to an end")
        world.now += 1
        assert actor.steps is not None
        if next(actor.steps, self) is self and actor in world.actors:
            world.actors.remove(actor)
        if actor.dies:
            self._kill(actor.process)
            self._aftermath()
        if world.changed or world.disk.changed:
            world.changed = world.disk.changed = False
            self._check()

    def _end(self) -> None:
        """Let all stores answer, end everything, and recover once: then everything must be in its place."""
        world, rng = self.world, self.rng
        world.silent_until = {FILES: 0, ARCHIVE: 0}
        self._stop(rng.choice(("let", "one", "all", "cut")))
        for _ in range(rng.randrange(3)):  # recoveries that do not come to their end
            world.now += rng.choice((1, LEASE))
            self._start("recover")
            self._until_at_rest(eventful=0, steps=rng.randrange(30))
            self._stop(rng.choice(("let", "one", "all", "cut", "cut")))
        self.waiting.clear()
        for process in world.processes:
            process.wakes_at = 0
        self._until_at_rest(eventful=0)
        world.now += 3 * LEASE
        world.say(None, "the last recovery")
        self._start("recover")
        self._until_at_rest(eventful=0)
        self._check_rest()

    def _stop(self, how: str) -> None:
        if how == "cut":
            self._cut()
        elif how == "one":
            self._crash()
        elif how == "all":
            for process in self._alive():
                self._kill(process)

    # What must hold

    def _check(self) -> None:
        """What must hold at every moment."""
        world, now = self.world, self.world.ledger.now
        for unit in world.units:
            if unit.told == "committed":
                if now.units.get(unit.uow, FAILED) <= 0:
                    raise world.break_promise(f"unit {unit.uow} was told committed and is not")
            elif unit.told == "failed" and now.units.get(unit.uow, FAILED) > 0:
                raise world.break_promise(f"unit {unit.uow} was told failed and is committed")
        blobs = world.disk.names(BLOBS)
        for key, (_, digest) in now.refs.items():
            if digest not in blobs:
                raise world.break_promise(f"{BLOBS}/{key} refers to bytes that are not there")
        owed: dict[tuple[str, str], int] = {}
        for (_, store), entries in now.redo.items():
            for entry in entries:
                owed[store, entry.key] = max(owed.get((store, entry.key), 0), entry.commit_seq)
        files, archive = world.disk.names(FILES), world.archive.now
        for (store, key), (version, content) in now.heads.items():
            if store == FILES:
                there = files.get(key) == content
                if not there and owed.get((store, key), 0) >= version:
                    uow = next(uow for uow, seq in now.units.items() if seq == version)
                    there = content in world.disk.names(f"stage/{uow}")
            else:
                there = archive.get(key) == (version, content) or owed.get((store, key), 0) >= version
            if not there:
                raise world.break_promise(f"{store}/{key} of version {version} cannot be read")
        for key in files:
            if (FILES, key) not in now.heads and (FILES, key) not in owed:
                raise world.break_promise(f"{FILES}/{key} is there and no unit owns it")

    def _check_rest(self) -> None:
        """What must hold when everything is over and recovery has run once."""
        world, now, disk = self.world, self.world.ledger.now, self.world.disk
        if now.rows or now.redo:
            raise world.break_promise(f"units {sorted(now.rows)} are not settled in the end")
        left = {name: names for name, names in disk.now.items() if names and name not in (BLOBS, FILES)}
        if left:
            raise world.break_promise(f"left over in the end: {left}")
        wanted = self._replay()
        held = {
            DOCS: {key: content for key, (_, content) in now.docs.items()},
            BLOBS: {key: digest for key, (_, digest) in now.refs.items()},
            FILES: disk.names(FILES),
            ARCHIVE: {key: content for key, (_, content) in world.archive.now.items() if content is not None},
        }
        for store, records in wanted.items():
            if held[store] != records:
                raise world.break_promise(f"{store} holds {held[store]} and should hold {records}")
        if set(disk.names(BLOBS)) != set(held[BLOBS].values()):
            raise world.break_promise(f"bytes left over in the end: {sorted(disk.names(BLOBS))}")

    def _replay(self) -> dict[str, dict[str, str]]:
        """Return what each store should hold: all of every decided unit, in the order of decisions, and no more."""
        units = self.world.ledger.now.units
        wanted: dict[str, dict[str, str]] = {DOCS: {}, BLOBS: {}, FILES: {}, ARCHIVE: {}}
        for uow in sorted((uow for uow, seq in units.items() if seq > 0), key=units.__getitem__):
            for store, key, content in self.world.units[uow].writes:
                if content is None:
                    del wanted[store][key]
                else:
                    wanted[store][key] = content
        return wanted
