"""A unit of three documents on PostgreSQL, beside psycopg by hand, SQLAlchemy and DBOS on the same server.

`python -m benchmarks.bench_postgres` starts servers with durable settings and prints: the race over one connection, on
this disk and on one whose sync takes 2 ms; the rates of 32 connections; and what a unit costs in ledgers of growing
size. DBOS belongs to the dependency group `bench`; it is left out where it is not installed. `--sizes 0` leaves out the
last part, which fills a ledger of a million units first.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from benchmarks import _postgres
from benchmarks._command import options, section, workplace
from benchmarks._filled_postgres import fill
from benchmarks._plot import plot
from benchmarks._postgres import ByHandPostgres, ByLibraryPostgres, databases, durable_server, installed
from benchmarks._ratios import Contender, race, ratio_table, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks._postgres import PostgresWork
    from benchmarks._ratios import Result
    from tests.postgres_server import Databases

THREADS: Final = 32
SLOW_US: Final = 2_000
SIZES: Final = (10_000, 100_000, 1_000_000)
PLOT: Final = Path(__file__).parents[1] / "docs" / "plots" / "postgresql.svg"


def compare(
    made: Databases, kinds: Mapping[str, type[PostgresWork]], *, rounds: int, warmup: int, seed: int
) -> list[Result]:
    """Race `kinds`, each on a database of its own, over one connection."""
    with ExitStack() as stack:
        contenders = []
        for name, kind in kinds.items():
            work = stack.enter_context(kind(made.new()))
            for _ in range(warmup):
                work()
            contenders.append(Contender(name, work))
        return race(contenders, rounds=rounds, seed=seed)


# Many connections


def rates(made: Databases, *, rounds: int, seconds: float, seed: int) -> dict[str, list[float]]:
    """Return how many units per second 32 connections write, by hand and through the library, in each round."""
    order = random.Random(seed)
    with ExitStack() as stack:
        hand, url = made.new(), made.new()
        shared = stack.enter_context(ByLibraryPostgres(url))
        works: dict[str, list[PostgresWork]] = {
            "by hand, psycopg": [stack.enter_context(ByHandPostgres(hand, f"{n}-")) for n in range(THREADS)],
            "unit of work": [ByLibraryPostgres(url, f"{n}-", ledger=shared.ledger) for n in range(THREADS)],
        }
        found: dict[str, list[float]] = {name: [] for name in works}
        for work in works.values():
            together(work, 0.5)
        for _ in range(rounds):
            for name in order.sample(sorted(works), len(works)):
                begun = time.perf_counter()
                done = together(works[name], seconds)
                found[name].append(done / (time.perf_counter() - begun))
        return found


def together(works: Sequence[Callable[[], None]], seconds: float) -> int:
    """Do every work again and again in a thread of its own; return how often in all."""
    counts = [0] * len(works)
    end = time.perf_counter() + seconds

    def go(number: int) -> None:
        while time.perf_counter() < end:
            works[number]()
            counts[number] += 1

    threads = [threading.Thread(target=go, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def _rate_table(found: dict[str, list[float]]) -> str:
    floor, *_ = found.values()
    rows = []
    for name, per_second in found.items():
        ratios = [rate / least for rate, least in zip(per_second, floor, strict=True)]
        rows.append((name, f"{median(per_second):,.0f}", f"{median(ratios):.2f}"))
    return table(("32 connections", "units/s", "x by hand"), rows)


# Size


def by_size(made: Databases, sizes: Sequence[int], *, rounds: int, warmup: int, seed: int) -> list[Result]:
    """Race units of the library in ledgers of so many units, each filled by SQL first."""
    with ExitStack() as stack:
        contenders = []
        for size in sizes:
            url = made.new()
            work = stack.enter_context(ByLibraryPostgres(url))
            with psycopg.connect(url, autocommit=True) as connection:
                fill(connection, size)
            for _ in range(warmup):
                work()
            contenders.append(Contender(f"{size:,} units", work))
        return race(contenders, rounds=rounds, seed=seed)


def _picture(sizes: Sequence[int], results: Sequence[Result]) -> str:
    points = [(float(size), result.median_us) for size, result in zip(sizes, results, strict=True)]
    return plot(
        "A unit of three documents on PostgreSQL, by the size of its ledger",
        {"unit of work": points},
        across="units in the ledger before",
        up="median microseconds",
    )


@pytest.fixture(scope="module")
def made() -> Iterator[Databases]:
    """Makes databases on a server of its own."""
    why_not = _postgres.reason_without()
    if why_not is not None:
        pytest.skip(why_not)
    with durable_server() as server, databases(server) as found:
        yield found


def test_every_contender_does_the_same_work(made: Databases) -> None:
    """Each has written three documents for each unit, where anybody can read them."""
    for name, kind in installed().items():
        url = made.new()
        with kind(url) as work:
            work()
            work()
        records = "uow_documents" if kind is ByLibraryPostgres else "documents"
        with psycopg.connect(url) as connection:
            assert connection.execute(f"SELECT count(*) FROM {records}".encode()).fetchone() == (6,), name


def test_the_comparisons_run(made: Databases) -> None:
    """Rates are of both sides, and a ledger that was filled by SQL takes units and numbers them."""
    assert {name: len(found) for name, found in rates(made, rounds=1, seconds=0.05, seed=1).items()} == {
        "by hand, psycopg": 1,
        "unit of work": 1,
    }
    results = by_size(made, (3, 70), rounds=2, warmup=1, seed=1)
    assert [result.name for result in results] == ["3 units", "70 units"]
    assert _picture((3, 70), results).startswith("<svg")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print every table; put the picture into the page's folder."""
    given = options(__doc__, arguments, rounds=400, warmup=200, seed=1, seconds=3, sizes=len(SIZES))
    why_not = _postgres.reason_without()
    with workplace("A unit of three documents on PostgreSQL"):
        if why_not is not None:
            print(f"Not measured: {why_not}.")
            return
        for sync_us in (0, SLOW_US):
            disk = f"on a disk whose sync takes {sync_us / 1000:.0f} ms more" if sync_us else "on this disk"
            with durable_server(sync_us=sync_us) as server, databases(server) as made:
                everybody = installed()
                two = dict(list(everybody.items())[:2])
                # DBOS has threads of its own, which take the interpreter from whoever else is measured.
                for kinds, where in ((two, disk), (everybody, f"beside other libraries, {disk}")):
                    results = compare(made, kinds, rounds=given.rounds, warmup=given.warmup, seed=given.seed)
                    section(f"one connection, {where}", ratio_table(results))
                found = rates(made, rounds=5, seconds=given.seconds, seed=given.seed)
                section(f"32 connections of one process, {disk}", _rate_table(found))
        sizes = SIZES[: given.sizes]
        if sizes:
            with durable_server() as server, databases(server) as made:
                results = by_size(made, sizes, rounds=given.rounds, warmup=given.warmup, seed=given.seed)
            section("by the size of the ledger; x the smallest", ratio_table(results))
            PLOT.write_text(_picture(sizes, results), encoding="utf-8")


if __name__ == "__main__":
    main()
