"""The crash explorer: the same scenario again and again, each time failing somewhere else.

One exploration, in one sitting:

1.  `setup` builds the starting world once; every run gets a copy of it, always at the same path.
2.  The scenario runs undisturbed, twice, under strace: the two lists of calls must agree; the oracle must be content.
3.  For each point of the recording: the scenario runs again and is killed at that call (or is told of an error there).
4.  Then the oracle looks at the world, in a fresh process that also knows what had been acknowledged.

Each function runs in a child of its own, forked from an interpreter that has done nothing but import.
"""

from __future__ import annotations

import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from memoryos_uow.testing._calls import watched
from memoryos_uow.testing._cuts import PowerCutter
from memoryos_uow.testing._functions import ExplorerError, reference
from memoryos_uow.testing._methods import ByFaultPoints, ByStrace, refuse_trouble
from memoryos_uow.testing._points import KILL, POWER_CUTS, sample
from memoryos_uow.testing._report import Exploration, Violation
from memoryos_uow.testing._strace import StraceRefusedError, Tracing, why_no_strace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memoryos_uow.testing._children import Children, Ended
    from memoryos_uow.testing._cuts import Cuts
    from memoryos_uow.testing._functions import Function
    from memoryos_uow.testing._methods import Rehearsal
    from memoryos_uow.testing._points import Point
    from memoryos_uow.testing._worlds import Worlds

IN_RECOVERY: Final = " in recovery"
UNDISTURBED: Final = "undisturbed"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be explored."""

    scenario: Function
    oracle: Function
    setup: Function | None
    recover: Function | None
    kinds: tuple[str, ...]
    depth: int
    limit: int | None
    calls: frozenset[str] | None
    raises: tuple[Function, ...]
    seed: int
    at: tuple[str, ...] | None

    @property
    def limit_within(self) -> int | None:
        """How many deaths are gone on from, and how many points each of their recoveries has."""
        return None if self.limit is None else math.ceil(math.sqrt(self.limit))

    def command(self, point: str) -> str:
        """Return the command line that explores `point` only."""
        words = [Path(sys.executable).name, "-m", "memoryos_uow.testing", self.scenario.spelled, self.oracle.spelled]
        for option, function in (("--setup", self.setup), ("--recover", self.recover)):
            if function is not None:
                words += [option, function.spelled]
        for function in self.raises:
            words += ["--raises", function.spelled]
        return shlex.join([*words, "--at", point])


class Explorer:
    """One exploration under way."""

    def __init__(
        self, plan: Plan, worlds: Worlds, children: Children, progress: Callable[[str, int, int], None]
    ) -> None:
        self._plan, self._worlds, self._children, self._progress = plan, worlds, children, progress
        self._method: type[ByStrace | ByFaultPoints] = ByStrace
        self._found = Exploration(str(plan.scenario), str(plan.setup or ""), "")

    def explore(self, method: str) -> Exploration:
        """Explore every kind; return what was found."""
        if self._plan.setup is not None:
            refuse_trouble(self._plan.setup, self._children.run(self._plan.setup, self._worlds.world))
        base = self._worlds.save(self._worlds.base.name)
        self._choose_method(method)
        rehearsal = self._rehearse(self._plan.scenario, base)
        self._found.method, self._found.calls = self._method.name, rehearsal.tally
        self._undisturbed(base)
        for kind in self._plan.kinds:
            if kind in self._found.skipped:
                continue
            if kind in POWER_CUTS:
                self._cut_power(kind, base)
            else:
                self._fail_everywhere(kind, base)
        return self._found

    def _choose_method(self, method: str) -> None:
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

    def _fail_everywhere(self, kind: str, base: Path) -> None:
        """Let the scenario fail at each point; at depth 2 the recovery from some of its deaths as well."""
        rehearsal = self._rehearse(self._plan.scenario, base)
        chosen = self._choose(kind, rehearsal, 0, self._plan.limit)
        deeper = self._deaths(kind, chosen)
        for done, point in enumerate(chosen, 1):
            failed = self._fail_at(point, rehearsal, base)
            death = self._worlds.save("death") if point in deeper else None
            self._judge([str(point)], failed.acknowledged, self._trouble(point, failed))
            if death is not None:
                self._fail_in_recovery(death, str(point), failed.acknowledged)
            self._found.explored[kind] += 1
            self._progress(kind, done, len(chosen))

    def _deaths(self, kind: str, points: Sequence[Point]) -> list[Point]:
        """Return the deaths whose recoveries are to be explored."""
        if self._plan.depth == 1 or kind != KILL or self._plan.recover is None:
            return []
        return sample(points, self._plan.limit_within)

    def _fail_in_recovery(self, death: Path, way: str, acknowledged: Sequence[str]) -> None:
        """Kill the recovery from a death at each of its points."""
        assert self._plan.recover is not None  # noqa: S101 - else there are no deaths to go on from
        try:
            rehearsal = self._rehearse(self._plan.recover, death)
        except ExplorerError as problem:
            self._worlds.begin(death)
            self._judge([way], acknowledged, problem.message)
            return
        for point in self._choose(KILL, rehearsal, 1, self._plan.limit_within):
            failed = self._fail_at(point, rehearsal, death, way)
            known = [*acknowledged, *failed.acknowledged]
            self._judge([way, str(point)], known, self._trouble(point, failed))
            self._found.explored[KILL + IN_RECOVERY] += 1

    def _choose(self, kind: str, rehearsal: Rehearsal, level: int, limit: int | None) -> list[Point]:
        """Return the points to be explored, and count how many there are."""
        points, unreachable = rehearsal.points(kind)
        self._found.unreachable += unreachable
        self._count(kind + (IN_RECOVERY if level else ""), len(points))
        return sample(self._wanted(level, points), limit)

    def _wanted(self, level: int, points: Sequence[Point]) -> list[Point]:
        calls = self._plan.calls if level == 0 else None
        return [p for p in points if (calls is None or p.call in calls) and self._is_wanted(level, str(p))]

    def _is_wanted(self, level: int, point: str) -> bool:
        return self._plan.at is None or (level < len(self._plan.at) and self._plan.at[level] == point)

    def _count(self, kind: str, possible: int) -> None:
        self._found.possible[kind] = self._found.possible.get(kind, 0) + possible
        self._found.explored.setdefault(kind, 0)

    def _fail_at(self, point: Point, rehearsal: Rehearsal, start: Path, *way: str) -> Ended:
        failed = rehearsal.fail(start, point)
        here = " ".join((*way, str(point)))
        if not failed.happened:
            self._found.missed.append(here)
        if failed.drifted:
            self._found.drifted.append(here)
        return failed.ended

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
        cutter = PowerCutter(self._children, self._worlds, seed=self._plan.seed)
        if self._plan.at is None or len(self._plan.at) == 1:
            self._try_states(kind, cutter.cuts(kind, base, self._plan.scenario))
        recover = self._plan.recover
        if self._plan.depth == 1 or recover is None:
            return
        deaths = self._wanted(0, self._rehearse(self._plan.scenario, base).points(KILL)[0])
        for death in sample(deaths, self._plan.limit_within):
            cuts = cutter.cuts_in_recovery(kind, base, self._plan.scenario, death, recover)
            self._try_states(kind, cuts, str(death))

    def _try_states(self, kind: str, cuts: Cuts, *way: str) -> None:
        counted = kind + (IN_RECOVERY if way else "")
        self._count(counted, len(cuts.states))
        wanted = [place for place in range(len(cuts.states)) if self._is_wanted(len(way), f"{kind}#{place}")]
        chosen = cuts.choose(wanted, self._plan.limit_within if way else self._plan.limit)
        for done, place in enumerate(chosen, 1):
            state = cuts.states[place]
            cuts.lay_down(state)
            self._judge([*way, f"{kind}#{place}"], state.acknowledged, about=f"{cuts.describe(state)}: ")
            self._found.explored[counted] += 1
            if not way:
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
            kind = here[-1].partition("@")[0].partition("#")[0] + (IN_RECOVERY if len(here) > 1 else "")
            violation = Violation(
                kind, point, about + "\n".join(found), tuple(acknowledged), self._worlds.keep(), replay
            )
            self._found.violations.append(violation)


def _told(ended: Ended) -> str:
    """Return what is known of a bad end."""
    return f"{ended.trouble}\n{ended.error['traceback'] if ended.error else ended.output}".rstrip()


def _nothing(_world: Path) -> None:
    pass
