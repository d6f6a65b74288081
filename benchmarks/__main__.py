"""`python -m benchmarks` prints every table, one after the other; it takes a few minutes."""

from __future__ import annotations

from benchmarks import (
    bench_migration,
    bench_opening,
    bench_profile,
    bench_queries,
    bench_storage,
    bench_stores,
    bench_unit,
    counts,
)


def main() -> None:
    """Print all tables with their default numbers."""
    for one in (bench_unit, bench_stores, bench_profile, bench_queries, bench_migration, bench_storage, bench_opening):
        one.main([])
    counts.main([])


if __name__ == "__main__":
    main()
