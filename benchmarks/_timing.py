"""How the plain timings use pytest-benchmark: it measures under `make bench` and runs once under `make test`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture


def measure(
    benchmark: BenchmarkFixture,
    once: Callable[[], object],
    *,
    rounds: int,
    warmup: int = 0,
    before: Callable[[], object] | None = None,
) -> None:
    """Time `once` in `rounds` rounds after `warmup` others; `before` runs ahead of each and is not timed."""
    benchmark.pedantic(once, setup=before, rounds=rounds, warmup_rounds=warmup)  # type: ignore[no-untyped-call]
