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
from tests.simulation.stores import stage_of
from tests.simulation.world import ARCHIVE, BLOBS, DOCS, FAILED, FILES, LEASE, Unit, Violation, World

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.simulation.world import Fault, Tables

STEPS_MAX: Final = 20_000
"""A run that takes more steps hangs; usual ones take less than a hundred."""


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


class _Moods:
    """How a run inclines: each has its own, so that rare things also happen often, and together."""

    def __init__(self, rng: random.Random) -> None:
        self.brief = brief = rng.random() < 0.5
        """Few units, and soon after the first death everything is over: so what was lost is seldom written over."""
        self.units = rng.randint(1, 4) if brief else rng.randint(3, 10)
        self.workers = rng.randint(2, 3) if brief else rng.randint(1, 4)
        self.eventful = 0 if brief else rng.choice((0.03, 0.08, 0.15))
        """How likely it is at each step that something happens from outside."""
        self.lossy = rng.choice((0.5, 0.9) if brief else (0, 0, 0.15, 0.6))
        """How likely it is that a commit does not go well."""
        self.early = 0.4 if brief else 0.08
        """How likely it is that a unit holds the lock while bytes are made."""
        self.refusing = 0 if brief else rng.choice((0, 0.1, 0.3))
        self.turns = rng.choice((0, 0.03, 0.1, 0.3))
        """How likely it is at each step that another one comes first from now on; with 0 each step is anybody's."""
        self.steps = STEPS_MAX if brief else rng.choice((STEPS_MAX, rng.randrange(200)))
        """After how many steps the end is near, whatever is still to be done."""
        self.keys = "abc"[: 1 if brief else rng.randint(1, 3)]
        self.digests = [f"bytes{number}" for number in range(rng.randint(1, 3))]
        self.stores = rng.choice(
            ((FILES,), (BLOBS,), (BLOBS, FILES), (FILES, ARCHIVE), (DOCS, BLOBS, FILES, ARCHIVE), (DOCS, ARCHIVE))
        )

    def unit(self, rng: random.Random, uow: int, *, full: bool) -> Unit:
        """Return a unit as chance has it."""
        unit = Unit(uow, [self._write(rng, uow, number) for number in range(rng.choice((0, 1, 1, 2, 2, 3, 3, 4)))])
        unit.flushed_early = rng.random() < self.early
        unit.ending = rng.choice(("rollback", "raise")) if rng.random() < 0.06 else "commit"
        if rng.random() < self.refusing:
            unit.refused_by = rng.choice(("prepare", "apply"))
        if rng.random() < self.lossy:
            unit.answer = rng.choice(("gone", "fails", "dies", "dies after"))
            if full and rng.random() < 0.4:  # one that does not wait for the disk cannot fail half-way
                unit.answer = rng.choice(("there", "ghost"))
            unit.proof_fails = rng.random() < 0.3
        return unit

    def _write(self, rng: random.Random, uow: int, number: int) -> tuple[str, str, str | None]:
        store, key = rng.choice(self.stores), rng.choice(self.keys)
        if rng.random() < 0.12:
            return store, key, None
        return store, key, rng.choice(self.digests) if store == BLOBS else f"u{uow}.{number}"


class _Run:
    def __init__(self, seed: int, fault: Fault | None, *, trace: bool) -> None:
        self.rng = rng = random.Random(seed)
        self.world = world = World(fault, trace=trace)
        self.outcome = Outcome(seed, counts=world.counts, trace=world.trace)
        world.full = rng.random() < 0.7
        world.deaths_are_seen = rng.random() < 0.7
        world.sync_steps = 1 if world.full else rng.choice((1, 10))
        self.moods = moods = _Moods(rng)
        self.do: dict[str, Callable[[], None]] = {
            "crash": self._crash,
            "cut": self._cut,
            "pause": self._pause,
            "silence": self._silence,
            "recover": self._recover,
            "thread": self._thread,
            "checkpoint": self._checkpoint,
            "jump": self._jump,
        }
        self.weights = {event: rng.choice((0, 1, 1, 4)) for event in self.do}
        self.left = {event: 0 if moods.brief else rng.randrange(6) for event in self.do}
        """How often each event may still happen."""
        self.left["cut"] = 1 if moods.brief else rng.choice((0, 0, 1, 3))
        world.units = [moods.unit(rng, uow, full=world.full) for uow in range(moods.units)]
        self.waiting = list(world.units)
        self.stop_at = rng.randrange(10, 70) if moods.brief and rng.random() < 0.5 else -1
        """At which step all processes die, if that was decided before."""
        self.cut_at = -1
        """At which step the power is cut because something rare has happened."""
        self.calm = False
        """Nothing more happens from outside: the last recovery is to come to its end."""
        self.actors = 0

    # Processes

    def _start(self, what: str) -> None:
        world = self.world
        if not self._alive() and world.ledger.read_anew():
            world.counts["ghost_read_from_the_log"] += 1
            world.say(None, "a lost commit is found in the log")
            world.changed = True
        process = Process(world, len(world.processes))
        world.processes.append(process)
        self._add(process, what)

    def _add(self, process: Process, what: str) -> None:
        """Add a thread, now and then with a ledger of its own, so that it knows of no unit at work."""
        actor = Actor(process, self.actors, shares=self.rng.random() < 0.8)
        self.actors += 1
        actor.steps = self._work(actor) if what == "work" else actor.recover()
        self.world.actors.insert(self.rng.randrange(len(self.world.actors) + 1), actor)
        actor.say(f"starts to {what}")

    def _work(self, actor: Actor) -> Generator[None, None, None]:
        yield from actor.open()
        while self.waiting:
            unit = self.waiting.pop(0)
            yield
            yield from actor.run_unit(unit)
        if self.rng.random() < 0.5:
            yield from actor.settle()
            if not [one for one in self.world.actors if one.process is actor.process and one is not actor]:
                self._exit(actor.process)

    def _exit(self, process: Process) -> None:
        """End a process well; the last one to close the ledger copies its log into the file and removes it."""
        process.alive = False
        self.world.say(None, f"process {process.number} ends")
        if not self._alive():
            self.world.ledger.close()
            self.world.counts["last_to_close"] += 1

    def _kill(self, process: Process) -> None:
        world, ledger = self.world, self.world.ledger
        world.say(None, f"process {process.number} dies")
        process.alive = False
        for actor in [actor for actor in world.actors if actor.process is process]:
            world.actors.remove(actor)
            if actor.committing is not None and self.rng.random() < 0.7:
                ledger.leave_ghost(actor.committing)
                world.counts["killed_in_commit"] += 1
            if ledger.lock is actor:
                ledger.lock = None
            if world.publishing is actor:
                world.publishing = None
                world.counts["killed_publishing"] += 1
            if actor.recovers:
                world.counts["killed_in_recovery"] += 1

    def _alive(self) -> list[Process]:
        return [process for process in self.world.processes if process.alive]

    # What chance does

    def _event(self) -> None:
        weights = [self.weights[event] if self.left[event] else 0 for event in self.do]
        if any(weights):
            event = self.rng.choices(list(self.do), weights)[0]
            self.left[event] -= 1
            self.do[event]()

    def _crash(self) -> None:
        # Somebody in the middle of a commit is rare to be met, and worth meeting.
        committing = [actor.process for actor in self.world.actors if actor.committing is not None]
        if alive := committing or self._alive():
            self.world.counts["crash"] += 1
            self._kill(self.rng.choice(alive))
            self._aftermath()

    def _aftermath(self) -> None:
        """After a process has died: often somebody recovers at once, and sometimes that one does not come far."""
        rng, brief = self.rng, self.moods.brief
        if brief or rng.random() < 0.5:
            self._start("recover")
            if self.left["cut"] and (brief or rng.random() < 0.5):
                self.left["cut"] -= 1
                self.stop_at = self.outcome.steps + rng.randrange(3, 20 if brief else 40)

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
        world.archive.cut(self.rng)
        for store, key in world.shown:
            if store == ARCHIVE:  # the ledger, which has the rest, shows it again
                world.shown[store, key] = world.archive.now.get(key, (0, None))[0]
        after = world.ledger.now.units
        world.say(None, f"power cut: before {before}, after {after}")
        for unit in world.units:
            if before.get(unit.uow, FAILED) > FAILED >= after.get(unit.uow, FAILED):
                world.counts["decision_lost"] += 1
                if unit.told == "committed" and world.full:
                    raise world.break_promise(f"unit {unit.uow} was told committed and is lost")
                unit.told = ""
        world.changed = True

    def _pause(self) -> None:
        """A lease goes by in which one process does nothing, and often another one comes to recover just then."""
        world, rng = self.world, self.rng
        in_doubt = [actor.process for actor in world.actors if actor.unit and actor.unit.state is State.IN_DOUBT]
        if alive := in_doubt or self._alive():
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

    def _stop(self, how: str) -> None:
        if how == "cut":
            self._cut()
        elif how == "one":
            self._crash()
        elif how == "all":
            for process in self._alive():
                self._kill(process)

    # The run

    def to_the_end(self) -> Outcome:
        try:
            for _ in range(self.moods.workers):
                self._start("work")
            self._go_on(eventful=self.moods.eventful, steps=self.moods.steps)
            self._end()
        except Violation as violation:
            self.outcome.violation = str(violation)
        return self.outcome

    def _go_on(self, *, eventful: float = 0, steps: int = STEPS_MAX) -> None:
        """Let everybody go on until nobody has anything to do, or for so many steps."""
        world, rng, turns = self.world, self.rng, self.moods.turns
        last = self.outcome.steps + steps
        while self.outcome.steps <= last:
            if eventful and rng.random() < eventful:
                self._event()
            if self.outcome.steps == self.stop_at:
                self.stop_at = -1
                self._stop(rng.choice(("all", "cut")))
            elif self.outcome.steps == self.cut_at:
                self.cut_at = -1
                self._cut()
            awake = [actor for actor in world.actors if actor.process.wakes_at <= world.now]
            if awake:
                self._step(awake[0] if turns else awake[int(rng.random() * len(awake))])
            elif world.actors:
                world.now = min(actor.process.wakes_at for actor in world.actors)
            elif self.waiting:
                self._start("work")
            else:
                break
        self._check()

    def _step(self, actor: Actor) -> None:
        world = self.world
        self.outcome.steps += 1
        if self.outcome.steps > STEPS_MAX:
            raise world.break_promise("the run does not come to an end")
        world.now += 1
        over = next(actor.steps, self) is self
        if over or (self.moods.turns and (actor.waits or self.rng.random() < self.moods.turns)):
            world.actors.remove(actor)
            if not over:
                world.actors.append(actor)
        if actor.dies:
            self._kill(actor.process)
            self._aftermath()
        if world.eventful and not self.calm:
            world.eventful = False
            self.cut_at = self.outcome.steps + self.rng.randrange(1, 4)
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
            self._go_on(steps=rng.randrange(30))
            self._stop(rng.choice(("let", "one", "all", "cut", "cut")))
        self.waiting.clear()
        self._go_on(steps=max(0, self.stop_at - self.outcome.steps))
        self.calm, self.stop_at, self.cut_at, self.left["cut"] = True, -1, -1, 0
        for process in world.processes:
            process.wakes_at = 0
        self._go_on()
        world.now += 3 * LEASE
        world.say(None, "the last recovery")
        self._start("recover")
        self._go_on()
        self._check_rest()

    # What must hold

    def _check(self) -> None:
        """What must hold at every moment."""
        world, now = self.world, self.world.ledger.now
        for unit in world.units:
            if unit.told == "committed":
                if now.units.get(unit.uow, FAILED) <= FAILED:
                    raise world.break_promise(f"unit {unit.uow} was told committed and is not")
            elif unit.told == "failed" and now.units.get(unit.uow, FAILED) > FAILED:
                raise world.break_promise(f"unit {unit.uow} was told failed and is committed")
        blobs = world.disk.names(BLOBS)
        for key, (_, digest) in now.refs.items():
            if digest not in blobs:
                raise world.break_promise(f"{BLOBS}/{key} refers to bytes that are not there")
        self._check_outside(now)

    def _check_outside(self, now: Tables) -> None:
        """What was decided can be read at once, here or there; and no named file belongs to nobody."""
        world = self.world
        owed: dict[tuple[str, str], int] = {}
        for (_, store), entries in now.redo.items():
            for entry in entries:
                owed[store, entry.key] = max(owed.get((store, entry.key), 0), entry.commit_seq)
        files, archive = world.disk.names(FILES), world.archive.now
        for (store, key), (version, content) in now.heads.items():
            waiting = owed.get((store, key), 0) >= version
            if store == ARCHIVE:
                there = waiting or archive.get(key) == (version, content)
            else:
                there = files.get(key) == content
                if waiting and not there:
                    uow = next(uow for uow, commit_seq in now.units.items() if commit_seq == version)
                    there = content in world.disk.names(stage_of(uow))
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
        held = {
            DOCS: {key: content for key, (_, content) in now.docs.items()},
            BLOBS: {key: digest for key, (_, digest) in now.refs.items()},
            FILES: disk.names(FILES),
            ARCHIVE: {key: content for key, (_, content) in world.archive.now.items() if content is not None},
        }
        for store, records in self._replay(now).items():
            if held[store] != records:
                raise world.break_promise(f"{store} holds {held[store]} and should hold {records}")
        if disk.names(BLOBS).keys() != set(held[BLOBS].values()):
            raise world.break_promise(f"bytes left over in the end: {sorted(disk.names(BLOBS))}")

    def _replay(self, now: Tables) -> dict[str, dict[str, str]]:
        """Return what each store should hold: all of every decided unit, in the order of decisions, and no more."""
        wanted: dict[str, dict[str, str]] = {DOCS: {}, BLOBS: {}, FILES: {}, ARCHIVE: {}}
        decided = [uow for uow, commit_seq in now.units.items() if commit_seq > FAILED]
        for uow in sorted(decided, key=now.units.__getitem__):
            for store, key, content in self.world.units[uow].writes:
                if content is None:
                    del wanted[store][key]
                else:
                    wanted[store][key] = content
        return wanted
