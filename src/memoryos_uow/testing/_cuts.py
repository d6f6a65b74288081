"""Power cuts of a scenario, and of the recovery from its death: recorded once, then laid down state by state.

A recovery is where un-synced changes hide best: a process died before it could sync what it wrote, the next one reads
it all the same (it is in the system's memory), acts on it, and syncs only what it wrote itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memoryos_uow.testing._calls import watched
from memoryos_uow.testing._disk import Disk
from memoryos_uow.testing._methods import refuse_trouble
from memoryos_uow.testing._points import POWER_CUTS, Recording
from memoryos_uow.testing._power_cut import choose, cut_states, lay_down
from memoryos_uow.testing._replay import Replay
from memoryos_uow.testing._strace import Injection, Tracing
from memoryos_uow.testing._trace import parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from memoryos_uow.testing._children import Children, Ended
    from memoryos_uow.testing._functions import Function
    from memoryos_uow.testing._points import Point
    from memoryos_uow.testing._power_cut import CutState
    from memoryos_uow.testing._worlds import Worlds


@dataclass
class Cuts:
    """The states in which power cuts may leave one world."""

    states: list[CutState]
    """Every choice of changes, some of which may leave the same."""
    _replay: Replay
    _worlds: Worlds

    def choose(self, places: Sequence[int], limit: int | None) -> list[int]:
        """Return at most `limit` of the `places` in `states`, of which no two leave the same."""
        return choose(self.states, self._replay.disk, places, limit)

    def lay_down(self, state: CutState) -> None:
        """Make the world what the disk holds in `state`."""
        lay_down(self._replay.disk, state, self._worlds.world)

    def describe(self, state: CutState) -> str:
        """Say when the power was cut, and how much was lost."""
        when = "before the first call"
        if state.moment > self._replay.first_moment:
            done = self._replay.calls[self._replay.first_moment + 1 : state.moment + 1]
            when = f"after {done[-1].name} number {Counter(call.name for call in done)[done[-1].name]}"
        return f"{when}, {state.lost} changes lost"


class PowerCutter:
    """Records runs with their data and works out what a power cut would leave."""

    def __init__(self, children: Children, worlds: Worlds, *, seed: int) -> None:
        self._children, self._worlds, self._seed = children, worlds, seed

    def cuts(self, kind: str, base: Path, scenario: Function) -> Cuts:
        """Return the states for power cuts while `scenario` runs."""
        replay = self._begin(kind, base)
        refuse_trouble(scenario, self._play(replay, scenario))
        return self._cuts(replay)

    def cuts_in_recovery(self, kind: str, base: Path, scenario: Function, death: Point, recover: Function) -> Cuts:
        """Return the states for power cuts while `recover` runs, after `scenario` was killed at `death`.

        Raises:
            ExplorerError: the recovery failed by itself.
        """
        replay = self._begin(kind, base)
        self._play(replay, scenario, Injection(death.call, "signal=KILL", death.number))
        refuse_trouble(recover, self._play(replay, recover))
        return self._cuts(replay)

    def _begin(self, kind: str, base: Path) -> Replay:
        self._worlds.begin(base)
        return Replay(Disk.of(base, ordered=kind == POWER_CUTS[1]))

    def _play(self, replay: Replay, function: Function, *injections: Injection) -> Ended:
        calls = watched(reading=True, following=True)
        tracing = Tracing(self._worlds.log, calls, injections, with_data=True)
        ended = self._children.run(function, self._worlds.world, tracing=tracing)
        world = str(self._worlds.world)
        with self._worlds.log.open(encoding="ascii") as lines:
            replay.play(Recording(parse(lines, world), world, self._children.channel_fd, not ended.killed))
        return ended

    def _cuts(self, replay: Replay) -> Cuts:
        return Cuts(list(cut_states(replay, self._seed)), replay, self._worlds)
