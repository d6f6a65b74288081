"""The crash explorer: the same scenario again and again, each time failing somewhere else.

One exploration, in one sitting:

1.  `setup` builds the starting world once; every run gets a copy of it, always at the same path.
2.  The scenario runs undisturbed, twice, under strace. The two lists of calls must agree, and the oracle must be content.
3.  For each point of the recording: the scenario runs again and is killed at that call (or is told of an error there).
4.  Then the oracle looks at the world, in a fresh process that also knows what had been acknowledged.

Each function runs in a child of its own, forked from an interpreter that has done nothing but import.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from memoryos_uow.errors import UnitOfWorkError
from memoryos_uow.testing._calls import watched
from memoryos_uow.testing._children import Children
from memoryos_uow.testing._disk import Disk
from memoryos_uow.testing._functions import ExplorerError, Function, reference
from memoryos_uow.testing._methods import ByFaultPoints, ByStrace, refuse_trouble
from memoryos_uow.testing._points import KILL, POWER_CUTS, Recording, check_kind, sample, spaced
from memoryos_uow.testing._power_cut import cut_states, lay_down
from memoryos_uow.testing._replay import Replay
from memoryos_uow.testing._report import Exploration, Violation
from memoryos_uow.testing._strace import StraceRefusedError, Tracing, why_no_strace
from memoryos_uow.testing._trace import parse
from memoryos_uow.testing._worlds import Worlds

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from memoryos_uow.testing._children import Ended
    from memoryos_uow.testing._functions import Reference
    from memoryos_uow.testing._methods import Rehearsal
    from memoryos_uow.testing._points import Point

IN_RECOVERY: Final = "kill in recovery"
UNDISTURBED: Final = "undisturbed"


def explore(
    scenario: Reference,
    oracle: Reference,
    *,
    work_dir: str | os.PathLike[str],
    setup: Reference | None = None,
    recover: Reference | None = None,
    kinds: Sequence[str] = (KILL,),
    depth: Literal[1, 2] = 1,
    limit: int | None = None,
    raises: Sequence[Reference] = (UnitOfWorkError,),
    timeout_s: float = 60.0,
    seed: int = 0,
    method: Literal["auto", "strace", "fault points"] = "auto",
    at: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Exploration:
    """Let `scenario` fail at each of its state-changing system calls, and ask `oracle` each time whether all is well.

    The four functions stand at the top of importable modules (or are named, ``"package.module:function"``); each gets
    the directory that it works in, the *world*, as a `Path`, which is also its working directory.

    Args:
        scenario: what a program does: ``scenario(world)``. It calls `acknowledge` where it would answer its user. It
            has to make the same calls each time it is run.
        oracle: ``oracle(world, acknowledged)`` opens everything anew and raises AssertionError, or returns problems
            (a text or a list of them), if a promise is broken; `acknowledged` are the texts in their order.
        work_dir: an empty directory for the explorer; worlds of the first violations stay there as ``kept-1``...
        setup: ``setup(world)`` builds the world that each run starts from, once; default: an empty directory.
        recover: ``recover(world)`` does what a program does first after a crash; needed for `depth` 2.
        kinds: what is to happen. ``"kill"``: SIGKILL at the call, which then does not run. An error such as
            ``"ENOSPC"``: the call fails once and the scenario goes on; ``"ENOSPC+"``: it and all calls that can fail
            so fail from then on. ``"short-write"``: a write takes nothing and says so. ``"power-cut"``: only what was
            synced is certain to be there (see below); ``"power-cut-ordered"`` the same on a file system that keeps the
            order of names, as ext4 does.
        depth: 2 explores crashes in the recovery from each crash as well.
        limit: at most so many points of each kind, evenly spaced; at depth 2 also for each recovery.
        raises: exceptions that a scenario may end with after an error; any other is a violation.
        timeout_s: a run that takes longer hangs, which is a violation.
        seed: for the random part of the states of a power cut.
        method: ``"strace"``, ``"fault points"`` (only for ``"kill"``), or whichever works.
        at: explore this point only, such as ``"kill@fdatasync#2"``: what a violation's replay command passes.
        progress: told the kind, how many are done and how many there are.

    A death is a SIGKILL: what was written stays, synced or not, and shared memory too. After a power cut only what was
    synced is certain, and any subset of the rest may be there: a bounded and documented choice of subsets is tried (see
    `memoryos_uow.testing._power_cut`). SQLite's ``-shm`` files, which are written through shared memory where no
    system call shows, are lost at a power cut, as on a real machine.

    Calls are counted per thread and name, as strace does; a call of a second thread is reached only if no earlier call
    has its name and number (`Exploration.unreachable` counts the others). Processes that the scenario starts are traced
    and can be the ones to die; they are ended with it.

    Without strace ``"kill"`` falls back to named fault points (`fault_points`) and other kinds are skipped;
    `Exploration.method` and `Exploration.skipped` say so.

    Raises:
        ExplorerError: a function cannot be found, fails undisturbed, or does not repeat itself.
    """
    plan = _Plan(
        scenario=reference(scenario),
        oracle=reference(oracle),
        setup=reference(setup) if setup is not None else None,
        recover=reference(recover) if recover is not None else None,
        kinds=tuple(check_kind(kind) for kind in kinds),
        depth=depth,
        limit=limit,
        raises=tuple(reference(one) for one in raises),
        seed=seed,
        at=tuple(at.split()) if at else None,
    )
    if depth > 1 and recover is None:
        raise ExplorerError("Depth 2 needs to know how the program recovers.", hint="Pass recover=.")
    begun = time.monotonic()
    worlds = Worlds(Path(work_dir))
    functions = [one for one in (plan.setup, plan.scenario, plan.recover, plan.oracle, *plan.raises) if one]
    with Children(functions, worlds.output, timeout_s=timeout_s) as children:
        explorer = _Explorer(plan, worlds, children, progress or _silent)
        found = explorer.explore(method)
    found.seconds = time.monotonic() - begun
    worlds.clear()
    return found


def _silent(_kind: str, _done: int, _of: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Plan:
    scenario: Function
    oracle: Function
    setup: Function | None
    recover: Function | None
    kinds: tuple[str, ...]
    depth: int
    limit: int | None
    raises: tuple[Function, ...]
    seed: int
    at: tuple[str, ...] | None

    def command(self, point: str) -> str:
        """Return the command line that explores `point` only."""
        words = [Path(sys.executable).name, "-m", "memoryos_uow.testing", self.scenario.spelled, self.oracle.spelled]
        for option, function in (("--setup", self.setup), ("--recover", self.recover)):
            if function is not None:
                words += [option, function.spelled]
        for function in self.raises:
            words += ["--raises", function.spelled]
        return shlex.join([*words, "--at", point])


class _Explorer:
    """One exploration under way."""

    def __init__(
        self, plan: _Plan, worlds: Worlds, children: Children, progress: Callable[[str, int, int], None]
    ) -> None:
        self._plan, self._worlds, self._children, self._progress = plan, worlds, children, progress
        self._method: type[ByStrace | ByFaultPoints] = ByStrace
        self._found = Exploration(str(plan.scenario), str(plan.setup or ""), "")

    def explore(self, method: str) -> Exploration:
        """Explore every kind; return what was found."""
        if self._plan.setup is not None:
            refuse_trouble(self._plan.setup, self._children.run(self._plan.setup, self._worlds.world))
        base = self._worlds.save(self._worlds.base.name)
        self._choose(method)
        rehearsal = self._rehearse(self._plan.scenario, base)
        self._found.method, self._found.calls = self._method.name, rehearsal.tally
        self._undisturbed(base)
        for kind in self._plan.kinds:
            if kind in self._found.skipped:
                continue
            if kind in POWER_CUTS:
                self._cut_power(kind, base)
            else:
                self._fail_everywhere(kind, base, self._plan.scenario, [], (), self._plan.depth)
        return self._found

    def _choose(self, method: str) -> None:
        why_not = "it was not asked for" if method == "fault points" else why_no_strace() or self._why_no_tracing()
        if why_not is None:
            return
        if method == "strace":
            raise ExplorerError(f"System calls cannot be traced here: {why_not}.")
        self._method = ByFaultPoints
        self._found.skipped = {kind: f"needs strace, and {why_not}" for kind in self._plan.kinds if kind != KILL}

    def _why_no_tracing(self) -> str | None:
        """Say why strace, though installed, does not work."""
        try:
            tracing = Tracing(self._worlds.log, watched(reading=False, following=False))
            self._children.run(reference(_nothing), self._worlds.world, tracing=tracing)
        except StraceRefusedError as refusal:
            return refusal.message.rstrip(".")
        return None

    def _rehearse(self, function: Function, start: Path) -> Rehearsal:
        return self._method(self._children, self._worlds, function, start, self._plan.raises)

    def _undisturbed(self, base: Path) -> None:
        ended = self._children.run(self._plan.scenario, self._worlds.begin(base))
        refuse_trouble(self._plan.scenario, ended)
        self._judge([UNDISTURBED], ended.acknowledged)

    # Deaths and errors

    def _fail_everywhere(  # noqa: PLR0917 - what changes from one level to the next
        self, kind: str, start: Path, function: Function, way: list[str], acknowledged: Sequence[str], depth: int
    ) -> None:
        """Let `function` fail at each point; `way` says what has happened before it."""
        try:
            rehearsal = self._rehearse(function, start)
        except ExplorerError as problem:
            if not way:
                raise
            self._worlds.begin(start)
            self._judge(way, acknowledged, problem.message)
            return
        points, unreachable = rehearsal.points(kind)
        counted = IN_RECOVERY if way else kind
        self._found.unreachable += unreachable
        self._count(counted, len(points))
        chosen = [point for point in points if self._is_wanted(len(way), str(point))]
        chosen = sample(chosen, self._plan.limit)
        for done, point in enumerate(chosen, 1):
            self._fail_at(point, rehearsal, start, way, acknowledged, depth)
            self._found.explored[counted] += 1
            if not way:
                self._progress(kind, done, len(chosen))

    def _is_wanted(self, level: int, point: str) -> bool:
        return self._plan.at is None or (level < len(self._plan.at) and self._plan.at[level] == point)

    def _count(self, kind: str, possible: int) -> None:
        self._found.possible[kind] = self._found.possible.get(kind, 0) + possible
        self._found.explored.setdefault(kind, 0)

    def _fail_at(  # noqa: PLR0917 - as above
        self,
        point: Point,
        rehearsal: Rehearsal,
        start: Path,
        way: list[str],
        acknowledged: Sequence[str],
        depth: int,
    ) -> None:
        failed = rehearsal.fail(start, point)
        here = [*way, str(point)]
        known = [*acknowledged, *failed.ended.acknowledged]
        if not failed.happened:
            self._found.missed.append(" ".join(here))
        if failed.drifted:
            self._found.drifted.append(" ".join(here))
        death = self._worlds.save(f"death-{len(here)}") if depth > 1 and point.kind == KILL else None
        self._judge(here, known, self._trouble(point, failed.ended))
        if death is not None and self._plan.recover is not None:
            self._fail_everywhere(KILL, death, self._plan.recover, here, known, depth - 1)

    @staticmethod
    def _trouble(point: Point, ended: Ended) -> str | None:
        """Say what was wrong with how a disturbed run ended."""
        if ended.trouble is None or (point.kind == KILL and ended.killed):
            return None
        if ended.error is not None and ended.error["expected"] and not ended.hung and ended.status == 0:
            return None
        return f"the scenario ended badly: {_told(ended)}"

    # Power cuts

    def _cut_power(self, kind: str, base: Path) -> None:
        disk = Disk.of(base, ordered=kind == POWER_CUTS[1])
        tracing = Tracing(self._worlds.log, watched(reading=True, following=True), with_data=True)
        ended = self._children.run(self._plan.scenario, self._worlds.begin(base), tracing=tracing)
        refuse_trouble(self._plan.scenario, ended)
        world = str(self._worlds.world)
        with self._worlds.log.open(encoding="ascii") as lines:
            recording = Recording(parse(lines, world), world, self._children.channel_fd)
        states = cut_states(Replay(recording, disk), seed=self._plan.seed)
        self._count(kind, len(states))
        chosen = [place for place in range(len(states)) if self._is_wanted(0, f"{kind}#{place}")]
        chosen = [chosen[place] for place in spaced(len(chosen), self._plan.limit)]
        for done, place in enumerate(chosen, 1):
            lay_down(disk, states[place], self._worlds.world)
            about = f"{_after(recording, states[place].moment)}, {states[place].lost} changes lost: "
            self._judge([f"{kind}#{place}"], states[place].acknowledged, about=about)
            self._found.explored[kind] += 1
            self._progress(kind, done, len(chosen))

    # Judging

    def _judge(self, here: list[str], acknowledged: Sequence[str], *problems: str | None, about: str = "") -> None:
        """Ask the oracle; note a violation if it or anything before it found `problems`."""
        self._worlds.find()
        ended = self._children.run(self._plan.oracle, self._worlds.world, acknowledged=acknowledged)
        found = [problem for problem in problems if problem]
        found += ended.problems or ()
        if ended.error is not None and ended.error["asserted"] and ended.error["message"]:
            found.append(ended.error["message"])
        elif ended.trouble is not None:
            found.append(f"the oracle ended badly: {_told(ended)}")
        if found:
            point = " ".join(here)
            replay = "" if here == [UNDISTURBED] else self._plan.command(point)
            kind = IN_RECOVERY if len(here) > 1 else here[0].partition("@")[0].partition("#")[0]
            violation = Violation(
                kind, point, about + "\n".join(found), tuple(acknowledged), self._worlds.keep(), replay
            )
            self._found.violations.append(violation)


def _told(ended: Ended) -> str:
    """Return what is known of a bad end."""
    return f"{ended.trouble}\n{ended.error['traceback'] if ended.error else ended.output}".rstrip()


def _after(recording: Recording, moment: int) -> str:
    if moment < 0:
        return "before the first call"
    call = recording.calls[moment]
    number = Counter(done.name for done in recording.calls[: moment + 1])[call.name]
    return f"after {call.name} number {number}"


def _nothing(_world: Path) -> None:
    pass
