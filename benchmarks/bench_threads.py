"""Threads that write at once: one ledger for all, beside raw connections of their own.

`python -m benchmarks.bench_threads` prints units a second for 8 and 32 threads at durability="full"; the floor is the
same three rows by hand, each thread with its own `sqlite3` connection and a busy timeout. `--slow 2000` makes every
sync of the disk take 2,000 us longer, by running itself under strace.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Self

from benchmarks._command import options, section, workplace
from benchmarks._rates import Shift, compare, rate_table
from benchmarks._work import CONTEXT, SPACE, ByHand, connect, documents
from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks._rates import Rates

THREADS: Final = (8, 32)
_PATIENCE_S: Final = 60


class Threads:
    """So many threads, each of which does units of its own kind."""

    name = ""

    def __init__(self, path: Path, count: int, *, writer: str = "") -> None:
        self.path = path
        self.count = count
        self.writer = writer  # before the keys of this process
        self._numbers = [0] * count

    def work(self, seconds: float) -> Shift:
        """Have all of them do units for so long; whatever was begun in time counts."""
        ready = threading.Barrier(self.count + 1)
        begun: list[float] = []
        latencies: list[tuple[float, ...]] = [()] * self.count

        def run(worker: int) -> None:
            once = self._unit(worker)
            ready.wait()
            taken, now = [], begun[0] if begun else perf_counter()
            until = now + seconds
            while now < until:
                self._numbers[worker] += 1
                once(self._numbers[worker])
                before, now = now, perf_counter()
                taken.append(now - before)
            latencies[worker] = tuple(taken)

        threads = [threading.Thread(target=run, args=(worker,)) for worker in range(self.count)]
        for thread in threads:
            thread.start()
        begun.append(perf_counter())
        ready.wait()
        for thread in threads:
            thread.join()
        return Shift(perf_counter() - begun[0], tuple(latencies))

    def _unit(self, worker: int) -> Callable[[int], None]:
        """Return what does one unit, by its number."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OwnConnections(Threads):
    """By hand: each thread has a connection of its own and leaves the waiting to SQLite."""

    name = "by hand, own connections"

    def __init__(self, path: Path, count: int, *, writer: str = "") -> None:
        super().__init__(path, count, writer=writer)
        ByHand(path, "full").close()
        self._connections = [connect(path, "full", timeout_s=_PATIENCE_S) for _ in range(count)]

    def _unit(self, worker: int) -> Callable[[int], None]:
        connection = self._connections[worker]

        def once(number: int) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(ByHand.INSERT, ByHand.rows(number, f"{self.writer}{worker}-"))
            connection.execute("COMMIT")

        return once

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class OneConnection(Threads):
    """By hand: one connection for all, behind a lock."""

    name = "by hand, one connection and a lock"

    def __init__(self, path: Path, count: int, *, writer: str = "") -> None:
        super().__init__(path, count, writer=writer)
        ByHand(path, "full").close()
        self._connection = connect(path, "full")
        self._lock = threading.Lock()

    def _unit(self, worker: int) -> Callable[[int], None]:
        def once(number: int) -> None:
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(ByHand.INSERT, ByHand.rows(number, f"{self.writer}{worker}-"))
                self._connection.execute("COMMIT")

        return once

    def close(self) -> None:
        self._connection.close()


class OneLedger(Threads):
    """Units of work of all threads on one open ledger."""

    name = "units of work, one ledger"

    def __init__(self, path: Path, count: int, *, writer: str = "") -> None:
        super().__init__(path, count, writer=writer)
        self.ledger = Ledger.open(path, stores=[DocumentStore("notes")], busy_timeout=_PATIENCE_S)

    def _unit(self, worker: int) -> Callable[[int], None]:
        context: dict[str, Any] = {**CONTEXT, "space_id": SPACE}

        def once(number: int) -> None:
            with self.ledger.unit(**context, correlation_id=f"req-{worker}-{number:08d}") as uow:
                notes = uow["notes"]
                for key, value in documents(number):
                    notes.create(f"{self.writer}{worker}-{key}", value)

        return once

    def close(self) -> None:
        self.ledger.close()


CONTENDERS: Final = (OwnConnections, OneConnection, OneLedger)


def race(folder: Path, count: int, *, rounds: int, milliseconds: int, seed: int) -> list[Rates]:
    """Compare the contenders with so many threads, each on a file of its own in `folder`."""
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(kind(folder / f"{count}-{number}.db", count)) for number, kind in enumerate(CONTENDERS)
        ]
        return compare(contenders, rounds=rounds, seconds=milliseconds / 1000, seed=seed)


def test_the_comparison_runs(tmp_path: Path) -> None:
    """Every contender gets units done, and the floor is compared with itself."""
    results = race(tmp_path, 2, rounds=1, milliseconds=5, seed=1)
    assert [rates.name for rates in results] == [kind.name for kind in CONTENDERS]
    assert all(shift.rate > 0 for rates in results for shift in rates.shifts)
    assert results[0].ratios == [1.0]
    assert rate_table(results).count("\n") == 1 + len(CONTENDERS)


def _run_slowly(given: Any) -> None:
    """Run the comparison in a child process whose syncs return later."""
    injected = f"inject=fsync,fdatasync:delay_exit={given.slow}"
    strace = ("strace", "--seccomp-bpf", "-f", "-qq", "-o", os.devnull, "-e", "trace=fsync,fdatasync", "-e", injected)
    numbers = {"rounds": given.rounds, "milliseconds": given.milliseconds, "seed": given.seed}
    command = [sys.executable, "-m", "benchmarks.bench_threads", *(f"--{name}={n}" for name, n in numbers.items())]
    sys.stdout.flush()
    done = subprocess.run([*strace, *command], stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, end="")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each number of threads."""
    given = options(__doc__, arguments, rounds=12, milliseconds=700, seed=1, slow=0)
    if given.slow:
        _run_slowly(given)
        return
    with workplace("Threads that write at once") as folder:
        for count in THREADS:
            results = race(folder, count, rounds=given.rounds, milliseconds=given.milliseconds, seed=given.seed)
            section(f'{count} threads, durability="full"', rate_table(results))


if __name__ == "__main__":
    main()
