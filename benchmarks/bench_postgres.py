"""A unit of three documents on PostgreSQL, beside psycopg by hand, SQLAlchemy and DBOS on the same server.

`python -m benchmarks.bench_postgres` starts a server with durable settings and prints: the race of one connection, the
rates of 32 threads, and what a unit costs in ledgers of growing size. DBOS belongs to the dependency group `bench`; it
is left out where it is not installed.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import pytest

from benchmarks import _postgres
from benchmarks._command import options, section
from benchmarks._postgres import ByHandPostgres, ByLibraryPostgres, databases, durable_server, installed
from benchmarks._ratios import Contender, race, ratio_table, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks._postgres import PostgresWork
    from benchmarks._ratios import Result
    from tests.postgres_server import Databases

THREADS: Final = 32


def compare(made: Databases, *, rounds: int, warmup: int, seed: int) -> list[Result]:
    """Race every contender that is installed, each on a database of its own, over one connection."""
    with ExitStack() as stack:
        contenders = []
        for name, kind in installed().items():
            work = stack.enter_context(kind(made.new()))
            for _ in range(warmup):
                work()
            contenders.append(Contender(name, work))
        return race(contenders, rounds=rounds, seed=seed)


def rate(made: Databases, ours: bool, *, threads: int, seconds: float) -> float:
    """Return how many units per second `threads` connections write in `seconds`, after a warm-up."""
    with ExitStack() as stack:
        url = made.new()
        works: list[PostgresWork] = []
        if ours:
            shared = stack.enter_context(ByLibraryPostgres(url))
            works = [ByLibraryPostgres(url, f"{n}-", ledger=shared.ledger) for n in range(threads)]
        else:
            works = [stack.enter_context(ByHandPostgres(url, f"{n}-")) for n in range(threads)]
        _together(works, 0.3)
        begun = time.perf_counter()
        done = _together(works, seconds)
        return done / (time.perf_counter() - begun)


def _together(works: Sequence[Callable[[], None]], seconds: float) -> int:
    counts = [0] * len(works)
    end = time.perf_counter() + seconds

    def go(number: int) -> None:
        work = works[number]
        while time.perf_counter() < end:
            work()
            counts[number] += 1

    threads = [threading.Thread(target=go, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)
