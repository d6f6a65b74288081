"""From a recording to the points at which a run can be made to fail.

A point is a kind of failure, a call's name and its number: ``kill@fdatasync#2`` is a death at the second fdatasync,
which then does not run; ``EIO@write#1`` lets the first write fail once; ``EIO+@write#1`` lets it and everything that
can fail like this fail from then on; ``short-write@write#3`` lets a write take nothing and say so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from memoryos_uow.testing._calls import ACKNOWLEDGING, applies, is_errno
from memoryos_uow.testing._functions import ExplorerError
from memoryos_uow.testing._strace import Injection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memoryos_uow.testing._trace import Call

KILL: Final = "kill"
SHORT_WRITE: Final = "short-write"
POWER_CUTS: Final = ("power-cut", "power-cut-ordered")
_SHORTENED: Final = frozenset({"write", "pwrite64"})


@dataclass(frozen=True, slots=True)
class Point:
    """One failure that can be brought about."""

    kind: str
    call: str
    number: int
    path: str = ""
    """What the call was about, relative to the world; for people."""
    position: int = 0
    """Where in the recording it stands."""

    def __str__(self) -> str:
        return f"{self.kind}@{self.call}#{self.number}"

    @property
    def lasting(self) -> bool:
        """Whether the failure stays, rather than happening once."""
        return self.kind.endswith("+")


def check_kind(kind: str) -> str:
    """Return `kind` if it is one that can be explored.

    Raises:
        ExplorerError: it is not.
    """
    if kind in (KILL, SHORT_WRITE, *POWER_CUTS) or is_errno(kind.removesuffix("+")):
        return kind
    raise ExplorerError(
        f"{kind!r} is no kind of failure.",
        hint=f"Known are {KILL}, {', '.join(POWER_CUTS)}, {SHORT_WRITE}, and errors: EIO (once), EIO+ (for good).",
    )


@dataclass(frozen=True)
class Recording:
    """The calls that one run made."""

    calls: Sequence[Call]
    world: str
    channel_fd: int
    complete: bool = True
    """The run came to its end."""

    def matters(self, call: Call) -> bool:
        """Say whether `call` is about the world and ended well, or is an acknowledgement."""
        if call.name == ACKNOWLEDGING:
            return call.descriptor(0) == self.channel_fd and call is not self._last_word
        return call.ok and call.within(self.world)

    @cached_property
    def _last_word(self) -> Call | None:
        """How the explorer's own child told that the function had ended: nobody's acknowledgement."""
        said = (call for call in reversed(self.calls) if call.name == ACKNOWLEDGING and self.complete)
        return next((call for call in said if call.descriptor(0) == self.channel_fd), None)

    @cached_property
    def tally(self) -> dict[str, int]:
        """How often each state-changing call occurs."""
        found = Counter(call.name for call in self.calls if call.changes and self.matters(call))
        return dict(sorted(found.items()))

    def signature(self, before: int | None = None) -> list[tuple[int, str]]:
        """Return thread and name of every call that matters, of those at positions below `before`."""
        return [(call.thread, call.name) for call in self.calls[:before] if self.matters(call)]

    @cached_property
    def paths(self) -> frozenset[str]:
        """Every absolute path in the world that the run passed to a call or had open."""
        found = (path for call in self.calls for path in (*call.fd_paths, *call.path_arguments))
        return frozenset(path for path in found if path == self.world or path.startswith(self.world + "/"))


def points_of(kind: str, recording: Recording) -> tuple[list[Point], int]:
    """Return the points of one kind in the order of the recording, and how many calls of threads cannot be reached."""
    points: dict[tuple[str, int], Point] = {}
    unreachable = 0
    for position, call in enumerate(recording.calls):
        if not (_fits(kind, call) and recording.matters(call)):
            continue
        key = (call.name, call.number)
        if key in points:
            unreachable += 1
        else:
            path = call.paths[0].removeprefix(recording.world).lstrip("/") if call.paths else ""
            points[key] = Point(kind, call.name, call.number, path, position)
    return list(points.values()), unreachable


def _fits(kind: str, call: Call) -> bool:
    if kind == KILL:
        return call.changes or call.name == ACKNOWLEDGING
    if kind == SHORT_WRITE:
        return call.name in _SHORTENED
    return call.name != ACKNOWLEDGING and applies(kind.removesuffix("+"), call.name, changes=call.changes)


def injections(point: Point, recording: Recording) -> tuple[Injection, ...]:
    """Return what strace has to do to bring `point` about."""
    if point.kind == KILL:
        return (Injection(point.call, "signal=KILL", point.number),)
    if point.kind == SHORT_WRITE:
        return (Injection(point.call, "retval=0", point.number),)
    if not point.lasting:
        return (Injection(point.call, f"error={point.kind}", point.number),)
    return tuple(_lasting(point, recording))


def _lasting(point: Point, recording: Recording) -> Iterator[Injection]:
    """Let every call that can meet the error meet it, each counted from the point on.

    strace counts by name only, so an open that merely reads fails along with one that creates.
    """
    names = {call.name for call in recording.calls if _fits(point.kind, call)}
    before = Counter(call.name for call in recording.calls[: point.position] if _seen(call, recording.paths))
    for name in sorted(names):
        yield Injection(name, f"error={point.kind.removesuffix('+')}", before[name] + 1, onwards=True)


def _seen(call: Call, paths: frozenset[str]) -> bool:
    """Say whether strace's ``-P`` takes `call` for one about `paths`: it compares what was passed, letter by letter."""
    return any(path in paths for path in (*call.fd_paths, *call.path_arguments))


def sample(points: Sequence[Point], limit: int | None) -> list[Point]:
    """Return at most `limit` points, evenly spaced, the first and the last among them."""
    return [points[place] for place in spaced(len(points), limit)]


def spaced(amount: int, limit: int | None) -> list[int]:
    """Return at most `limit` whole numbers below `amount`, evenly spaced, the first and the last among them."""
    if limit is None or amount <= limit:
        return list(range(amount))
    if limit <= 1:
        return list(range(amount))[:limit]
    return sorted({round(step * (amount - 1) / (limit - 1)) for step in range(limit)})
