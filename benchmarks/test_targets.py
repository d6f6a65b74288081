"""The table of targets: each row can be measured, and what is missed is said to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import targets
from benchmarks.counts import why_no_strace
from benchmarks.targets import ROWS, SLOW, Found, Scale

if TYPE_CHECKING:
    from pathlib import Path

TINY = Scale(0)
ELSEWHERE = (targets.threads, targets.processes)  # take seconds; bench_threads and bench_processes run them themselves


@pytest.mark.parametrize(
    "measure", [each for row in ROWS.values() for each in row if each not in ELSEWHERE], ids=lambda each: each.__name__
)
def test_each_row_can_be_measured(tmp_path: Path, measure: targets.Measure) -> None:
    """Every measurement of the table runs, in a tiny form, and finds figures."""
    assert all(found.value > 0 for found in measure(tmp_path, TINY))


def test_a_slow_disk_is_emulated_in_a_child() -> None:
    """What is measured on a slow disk comes back from a process of its own."""
    if why_no_strace() is not None:
        pytest.skip("strace cannot be used here")
    [found] = targets.measured(SLOW["unit_full_slow"], TINY)
    assert found.target == 1.1


def test_missed_targets_are_named() -> None:
    """A figure on the wrong side of its target is called missed, on either side; one on it holds."""
    assert [Found("w", value, 2.0).row("F0")[-1] for value in (1.9, 2.0, 2.1)] == ["pass", "pass", "MISSED"]
    assert [Found("w", value, 2.0, at_least=True).row("F0")[-1] for value in (1.9, 2.0)] == ["MISSED", "pass"]


def test_a_row_of_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the machine, and for each figure its target and whether it holds."""
    targets.main(["F9", "--size", "1"])
    printed = capsys.readouterr().out
    assert "| F9 " in printed
    assert "<= 2 x" in printed
