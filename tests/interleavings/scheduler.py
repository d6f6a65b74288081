"""Runs threads one at a time, and changes from one to another exactly where it is told: every run can be repeated.

Wherever a thread is about to call SQLite, take or release a lock, or change a file, the next one may come first. These
points are found with `sys.setprofile`, which reports calls of C functions, so nothing of the library is replaced but
its sleep, which gives way to the others at once.

Why not frontrun 0.7.0, which explores threads too: it switches between single bytecodes, of which a unit of work takes
thousands. It tried 76 schedules of two units in 30 seconds, all but a few of them alike to the database, and has to
start the interpreter itself. Here one unit has about fifty points, and all schedules of two units with one switch take
a second.
"""

from __future__ import annotations

import sys
import threading
from itertools import chain, combinations, islice
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Worker = Callable[[], object]

_CALLS: Final = frozenset(
    {
        "execute",
        "executemany",
        "commit",
        "rollback",
        "fsync",
        "fdatasync",
        "rename",
        "replace",
        "unlink",
        "mkdir",
        "open",
    }
)
_GIVES_WAY_MAX: Final = 100
"""How often a thread gives way in vain for a lock; then it waits for it as it would without us."""
_STUCK_S: Final = 0.02
_HANGS_S: Final = 30.0


class Interleaving:
    """One run: thread 0 begins; at each of the numbered points in `switches` the next thread goes on."""

    def __init__(self, workers: Sequence[Worker], switches: Iterable[int]) -> None:
        self._workers = workers
        self._switches = frozenset(switches)
        self._wake = [threading.Semaphore(0) for _ in workers]
        self._mutex = threading.Lock()
        self._done = threading.Event()
        self._current = 0
        self._over: set[int] = set()
        self.points = 0
        """How many points the run came upon."""
        self.stuck = 0
        """How often the one that was to run waited for something that these points do not show."""
        self.errors: list[BaseException | None] = [None] * len(workers)

    def run(self) -> Interleaving:
        """Run all workers to their end."""
        threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(len(self._wake))
        ]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("memoryos_uow._ambient.sleep", self._sleep)
            for thread in threads:
                thread.start()
            self._wake[0].release()
            self._watch()
            for thread in threads:
                thread.join(_HANGS_S)
                assert not thread.is_alive(), "a thread hangs"
        return self

    def _watch(self) -> None:
        seen = -1
        for _ in range(int(_HANGS_S / _STUCK_S)):
            if self._done.wait(_STUCK_S):
                return
            with self._mutex:
                if self.points == seen:
                    self.stuck += 1
                    self._next()
                seen = self.points

    def _work(self, number: int) -> None:
        self._wake[number].acquire()
        _here.number = number

        def profile(_frame: Any, event: str, call: Any) -> None:
            if event == "c_call":
                self._look_at(number, call)

        sys.setprofile(profile)
        try:
            self._workers[number]()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.errors[number] = error
        finally:
            sys.setprofile(None)
            with self._mutex:
                self._over.add(number)
                if len(self._over) == len(self._wake):
                    self._done.set()
                elif self._current == number:
                    self._next()

    def _look_at(self, number: int, call: Any) -> None:
        name = getattr(call, "__name__", "")
        if name in _CALLS:
            self._point(number)
        elif name in ("acquire", "release") and hasattr(call.__self__, "locked"):
            self._point(number)
            for _ in range(_GIVES_WAY_MAX):
                if name == "release" or not call.__self__.locked():
                    return
                self._point(number, gives_way=True)

    def _point(self, number: int, *, gives_way: bool = False) -> None:
        with self._mutex:
            if self._current == number:
                self.points += 1
                if not gives_way and self.points not in self._switches:
                    return
                self._next()
                if self._current == number:
                    return
        self._wake[number].acquire()

    def _next(self) -> None:
        """Let the next thread go on that is not over, if there is another one."""
        size = len(self._wake)
        ahead = ((self._current + step) % size for step in range(1, size))
        self._current = next((number for number in ahead if number not in self._over), self._current)
        if self._current not in self._over:
            self._wake[self._current].release()

    def _sleep(self, _seconds: float) -> None:
        number = getattr(_here, "number", None)
        if number is not None:
            profile = sys.getprofile()
            sys.setprofile(None)  # giving way takes locks, which are none of the points
            self._point(number, gives_way=True)
            sys.setprofile(profile)


_here = threading.local()


def schedules(points: int, *, switches: int) -> Iterator[tuple[int, ...]]:
    """Yield every schedule of so many points with at most so many switches, those with fewest first."""
    yield from chain.from_iterable(combinations(range(1, points + 1), number) for number in range(switches + 1))


def explore(
    make: Callable[[], tuple[Sequence[Worker], Callable[[Interleaving], None]]], *, switches: int, limit: int | None
) -> int:
    """Run what `make` makes under every schedule, or `limit` evenly spaced ones; return how many were run.

    `make` returns the workers of one run and what judges its end.
    """

    def once(schedule: tuple[int, ...]) -> int:
        workers, judge = make()
        ran = Interleaving(workers, schedule).run()
        try:
            judge(ran)
        except AssertionError as error:
            raise AssertionError(f"with switches at {schedule}: {error}") from error
        return ran.points

    points = once(())
    every = list(schedules(points, switches=switches))[1:]
    step = max(1, len(every) // limit) if limit else 1
    return 1 + sum(1 for schedule in islice(every, 0, None, step) if once(schedule) or True)
