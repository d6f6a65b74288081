"""Two ways to let a run fail at a point: system calls through strace, and named fault points without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from memoryos_uow.testing._calls import watched
from memoryos_uow.testing._functions import ExplorerError
from memoryos_uow.testing._points import KILL, Point, Recording, injections, points_of
from memoryos_uow.testing._strace import Tracing
from memoryos_uow.testing._trace import parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from memoryos_uow.testing._children import Children, Ended
    from memoryos_uow.testing._functions import Function
    from memoryos_uow.testing._worlds import Worlds


@dataclass(frozen=True, slots=True)
class Failed:
    """What came of a run that was to fail."""

    ended: Ended
    happened: bool
    """The failure came about."""
    drifted: bool
    """The calls before it were not the recorded ones."""


class Rehearsal(Protocol):
    """What one function does when left alone, and how to disturb it; made by one of the two classes below."""

    @property
    def tally(self) -> dict[str, int]:
        """How often each state-changing call, or fault point, occurs."""
        ...

    def points(self, kind: str) -> tuple[list[Point], int]:
        """Return the points of a kind, and how many of other threads cannot be reached."""
        ...

    def fail(self, start: Path, point: Point) -> Failed:
        """Run the function from `start` and let it fail at `point`."""
        ...


class ByStrace:
    """System calls, one by one, by strace."""

    name: Final = "strace"

    def __init__(
        self, children: Children, worlds: Worlds, function: Function, start: Path, raises: Sequence[Function]
    ) -> None:
        """Record the calls of `function`, started from `start`, twice.

        Raises:
            ExplorerError: it failed by itself, or the two lists differ.
        """
        self._children, self._worlds, self._function, self._raises = children, worlds, function, raises
        self._recording = self._record(start)
        again = self._record(start)
        refuse_differing(function, self._recording.signature(), again.signature())

    def _record(self, start: Path) -> Recording:
        ended = self._run(start, Tracing(self._worlds.log, watched(reading=True, following=False)))
        refuse_trouble(self._function, ended)
        return self._read()

    def _run(self, start: Path, tracing: Tracing) -> Ended:
        return self._children.run(self._function, self._worlds.begin(start), allowed=self._raises, tracing=tracing)

    def _read(self, *, complete: bool = True) -> Recording:
        with self._worlds.log.open(encoding="ascii") as lines:
            calls = parse(lines, str(self._worlds.world))
        return Recording(calls, str(self._worlds.world), self._children.channel_fd, complete)

    @property
    def tally(self) -> dict[str, int]:
        """How often each state-changing call on the world occurs."""
        return self._recording.tally

    def points(self, kind: str) -> tuple[list[Point], int]:
        """Return the points of a kind, and how many of other threads cannot be reached."""
        return points_of(kind, self._recording)

    def fail(self, start: Path, point: Point) -> Failed:
        """Run the function from `start` and let it fail at `point`."""
        tracing = Tracing(
            self._worlds.log,
            watched(reading=True, following=False),
            injections(point, self._recording),
            only_paths=tuple(sorted(self._recording.paths)) if point.lasting else (),
        )
        ended = self._run(start, tracing)
        happened, drifted = self._compare(point, ended)
        return Failed(ended, happened, drifted)

    def _compare(self, point: Point, ended: Ended) -> tuple[bool, bool]:
        done = self._read(complete=not ended.killed)
        if point.kind == KILL:
            happened = ended.killed
            at = next((position for position, call in enumerate(done.calls) if call.result is None), None)
        else:
            at = next((position for position, call in enumerate(done.calls) if call.injected), None)
            happened = at is not None
        if not happened or point.lasting:  # with -P the log holds a part only
            return happened, False
        return happened, done.signature(at) != self._recording.signature(point.position)


class ByFaultPoints:
    """Calls of C functions from Python, by `fault_points`: knows only of being killed."""

    name: Final = "fault points"

    def __init__(
        self, children: Children, worlds: Worlds, function: Function, start: Path, raises: Sequence[Function]
    ) -> None:
        """Count the fault points of `function`, started from `start`, twice.

        Raises:
            ExplorerError: it failed by itself, or the two lists differ.
        """
        self._children, self._worlds, self._function, self._raises = children, worlds, function, raises
        self._names = self._record(start)
        refuse_differing(function, self._names, self._record(start))

    def _record(self, start: Path) -> list[str]:
        ended = self._run(start, die_at=0)
        refuse_trouble(self._function, ended)
        return ended.points

    def _run(self, start: Path, *, die_at: int) -> Ended:
        return self._children.run(self._function, self._worlds.begin(start), allowed=self._raises, die_at=die_at)

    @property
    def tally(self) -> dict[str, int]:
        """How often each fault point occurs."""
        return {name: self._names.count(name) for name in sorted(set(self._names))}

    def points(self, kind: str) -> tuple[list[Point], int]:
        """Return the points: named after the function, numbered among its calls."""
        if kind != KILL:
            return [], 0
        return [
            Point(KILL, name, self._names[: position + 1].count(name), position=position)
            for position, name in enumerate(self._names)
        ], 0

    def fail(self, start: Path, point: Point) -> Failed:
        """Run the function from `start` and kill it before the point."""
        ended = self._run(start, die_at=point.position + 1)
        return Failed(ended, ended.killed, drifted=False)


def refuse_trouble(function: Function, ended: Ended) -> None:
    """Raise ExplorerError if an undisturbed run did not end well."""
    if ended.trouble is None:
        return
    said = ended.error["traceback"] if ended.error else ended.output
    raise ExplorerError(f"{function} fails without any disturbance: {ended.trouble}\n{said}")


def refuse_differing(function: Function, first: Sequence[object], second: Sequence[object]) -> None:
    """Raise ExplorerError if two undisturbed runs made different calls."""
    if first == second:
        return
    place = next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    shown = [repr(calls[place]) if place < len(calls) else "the end" for calls in (first, second)]
    raise ExplorerError(
        f"{function} does not repeat itself: call {place + 1} is {shown[0]} in one run and {shown[1]} in the next.",
        hint="Nothing was explored. Take time, randomness and threads that race out of it.",
    )
