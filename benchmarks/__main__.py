"""Prints every table, one after the other; that takes some minutes. Names choose some of them.

`python -m benchmarks --write docs/performance.md` also puts each table into a page, between the lines
`<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import io
import re
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import (
    bench_growth,
    bench_migration,
    bench_opening,
    bench_peers,
    bench_postgres,
    bench_processes,
    bench_profile,
    bench_queries,
    bench_receipts,
    bench_recovery,
    bench_stats,
    bench_storage,
    bench_stores,
    bench_streaming,
    bench_telemetry,
    bench_threads,
    bench_three,
    bench_unit,
    bench_verify,
    counts,
    targets,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TABLES: Final[dict[str, Callable[[], None]]] = {
    "targets": partial(targets.main, []),
    "unit": partial(bench_unit.main, []),
    "slow-disk": partial(bench_unit.main, ["--slow", "2000", "--rounds", "1000", "--warmup", "3000"]),
    "peers": partial(bench_peers.main, []),
    "three": partial(bench_three.main, []),
    "stores": partial(bench_stores.main, []),
    "threads": partial(bench_threads.main, []),
    "threads-slow-disk": partial(bench_threads.main, ["--slow", "2000", "--rounds", "8"]),
    "processes": partial(bench_processes.main, []),
    "growth": partial(bench_growth.main, []),
    "profile": partial(bench_profile.main, []),
    "queries": partial(bench_queries.main, []),
    "migration": partial(bench_migration.main, []),
    "stats": partial(bench_stats.main, []),
    "storage": partial(bench_storage.main, []),
    "receipts": partial(bench_receipts.main, []),
    "recovery": partial(bench_recovery.main, []),
    "opening": partial(bench_opening.main, []),
    "streaming": partial(bench_streaming.main, []),
    "telemetry": partial(bench_telemetry.main, []),
    "postgres": partial(bench_postgres.main, []),
    "verify": partial(bench_verify.main, []),
    "counts": partial(counts.main, []),
}


def put_in(page: str, name: str, printed: str) -> str:
    """Return `page` with what was `printed`, its title left out, between the marks of the table called `name`."""
    body = re.sub(r"^## .*\n+", "", printed).strip()
    marked = re.compile(rf"(?<=<!-- table: {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)
    return marked.sub(lambda _: f"\n{body}\n\n", page, count=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(TABLES)}; default: all")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a Markdown file to put the tables into")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - TABLES.keys():
        parser.error(f"there is no table called {min(unknown)}")
    for name in given.names or TABLES:
        with redirect_stdout(io.StringIO()) as printed:
            TABLES[name]()
        print(printed.getvalue(), flush=True)
        if given.write:
            page = given.write.read_text(encoding="utf-8")
            given.write.write_text(put_in(page, name, printed.getvalue()), encoding="utf-8")


if __name__ == "__main__":
    main()
