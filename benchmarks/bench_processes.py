"""Processes that write to one ledger at once: how much they get done, and how evenly.

`python -m benchmarks.bench_processes` prints units a second for 2, 4 and 8 processes at durability="full". The floor is
the same three rows by hand, each process with its own `sqlite3` connection and a busy timeout; beside the units of work
stand the same without the queue of processes, which is switched off for that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Self

from benchmarks._command import options, section, workplace
from benchmarks._rates import Shift, compare, rate_table
from benchmarks.bench_threads import OneLedger, OwnConnections
from memoryos_uow.engines import _queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._rates import Rates

PROCESSES: Final = (2, 4, 8)
HAND: Final = "by hand"
UNQUEUED: Final = "units of work, without the queue"
QUEUED: Final = "units of work"
_ROOT: Final = Path(__file__).parents[1]


class Processes:
    """So many child processes, each of which does units of one kind on the same file."""

    def __init__(self, path: Path, name: str, count: int) -> None:
        self.name = name
        kind = OwnConnections if name == HAND else OneLedger
        kind(path, 1).close()
        source = str(Path(_queue.__file__).parents[2])
        surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join((source, str(_ROOT)))}
        self._children: list[subprocess.Popen[str]] = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.bench_processes", "--child", str(path), name, str(number)],
                cwd=_ROOT,
                env=surroundings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]
        for child in self._children:
            _answer(child)

    def work(self, seconds: float) -> Shift:
        """Have all of them do units for so long; whatever was begun in time counts."""
        begun = perf_counter()
        for child in self._children:
            assert child.stdin is not None
            child.stdin.write(f"{seconds}\n")
            child.stdin.flush()
        latencies = tuple(tuple(_answer(child)) for child in self._children)
        return Shift(perf_counter() - begun, latencies)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.communicate()


def _answer(child: subprocess.Popen[str]) -> Any:
    assert child.stdout is not None
    return json.loads(child.stdout.readline())


def _be_child(path: str, name: str, number: str) -> None:
    """Do units whenever told to for how long."""
    if name == UNQUEUED:
        _queue.ProcessQueue.enter = lambda *_: None  # type: ignore[method-assign]
    kind = OwnConnections if name == HAND else OneLedger
    with kind(Path(path), 1, writer=f"{number}-") as worker:
        print("[]", flush=True)
        for line in sys.stdin:
            shift = worker.work(float(line))
            print(json.dumps([round(latency, 6) for latency in shift.latencies_s[0]]), flush=True)


def race(folder: Path, count: int, *, rounds: int, milliseconds: int, seed: int) -> list[Rates]:
    """Compare the contenders with so many processes, each kind on a file of its own in `folder`."""
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(Processes(folder / f"{count}-{number}.db", name, count))
            for number, name in enumerate((HAND, UNQUEUED, QUEUED))
        ]
        return compare(contenders, rounds=rounds, seconds=milliseconds / 1000, seed=seed)


def test_the_comparison_runs(tmp_path: Path) -> None:
    """Every contender gets units done in processes of its own."""
    results = race(tmp_path, 2, rounds=1, milliseconds=20, seed=1)
    assert [rates.name for rates in results] == [HAND, UNQUEUED, QUEUED]
    assert all(shift.rate > 0 for rates in results for shift in rates.shifts)
    assert rate_table(results).count("\n") == 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each number of processes."""
    given = options(__doc__, arguments, rounds=6, milliseconds=700, seed=1)
    with workplace("Processes that write at once") as folder:
        for count in PROCESSES:
            results = race(folder, count, rounds=given.rounds, milliseconds=given.milliseconds, seed=given.seed)
            section(f'{count} processes, durability="full"', rate_table(results))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _be_child(*sys.argv[2:])
    else:
        main()
