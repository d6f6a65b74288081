"""The library, killed, cut off from power and told of errors everywhere: all of each unit is there, or nothing.

Each test takes a few points, evenly spaced. ``make explore`` takes all of them; docs/reliability.md has the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow.testing import why_no_strace
from tests.crash import oracles, programs
from tests.memory_dir import memory_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from _memoryos_uow_pytest import CrashExplorer

pytestmark = pytest.mark.skipif(why_no_strace() is not None, reason=f"{why_no_strace()}")

PROGRAMS = [
    ("create", programs.six),
    ("update", programs.six),
    ("delete", programs.six),
    ("mixed", programs.six),
    ("mixed", programs.four),
    ("rollback", programs.six),
    ("failing", programs.six),
    ("reopen", programs.six),
    ("first_open", programs.nothing_for_six),
    ("migrate", programs.old_ledger),
]
RELAXED = [
    ("mixed", programs.six_normal),
    ("reopen", programs.six_normal),
    ("first_open", programs.nothing_for_six_normal),
]
IN_RECOVERY = [
    ("mixed", programs.six),
    ("delete", programs.four),
    ("reopen", programs.six_normal),
    ("first_open", programs.nothing_for_six),
]
ONCE = ("EIO", "ENOSPC", "EDQUOT", "EACCES", "EROFS", "EMFILE", "EINTR", "short-write")
FOR_GOOD = ("EIO+", "ENOSPC+", "EDQUOT+", "EACCES+", "EROFS+", "EMFILE+")
CUTS = ("power-cut", "power-cut-ordered")


@pytest.fixture
def explored(crash_explorer: CrashExplorer, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Explores a program by name, with its oracle, in a directory in memory."""
    with memory_dir(tmp_path / "work") as place:

        def explore(name: str, setup: Callable[[Path], None], **options: Any) -> None:
            scenario, oracle = getattr(programs, name), getattr(oracles, name.removesuffix("_but_once"))
            crash_explorer(scenario, oracle, setup=setup, work_dir=place, **options)

        yield explore


@pytest.mark.parametrize(("name", "setup"), [*PROGRAMS, *RELAXED])
def test_kill_at_any_call_leaves_all_or_nothing(
    name: str, setup: Callable[[Path], None], explored: Callable[..., None]
) -> None:
    """After SIGKILL at any state-changing call: nothing lost, nothing half, receipts valid, the next unit works."""
    explored(name, setup, limit=9)


@pytest.mark.parametrize(
    ("name", "setup"), [("mixed", programs.six), ("failing", programs.six), ("migrate", programs.old_ledger)]
)
def test_kill_in_recovery_leaves_all_or_nothing(
    name: str, setup: Callable[[Path], None], explored: Callable[..., None]
) -> None:
    """The recovery from a crash may itself be killed at any of its calls; the next one finishes its work."""
    explored(name, setup, depth=2, recover=programs.recover, limit=4)


@pytest.mark.parametrize(("name", "setup"), IN_RECOVERY)
def test_power_cut_in_recovery_takes_nothing(
    name: str, setup: Callable[[Path], None], explored: Callable[..., None]
) -> None:
    """What a process wrote and was killed before it could sync is not built upon before it is synced."""
    options = {"kinds": ["power-cut"], "depth": 2, "recover": programs.recover, "calls": ["fdatasync"]}
    explored(name, setup, limit=15, **options)


@pytest.mark.parametrize("kind", ONCE)
def test_one_error_costs_one_unit_at_most(kind: str, explored: Callable[..., None]) -> None:
    """An error at any call is a typed one, with the state whole; the next unit of the same process works."""
    explored("mixed_but_once", programs.six, kinds=[kind], limit=5)


@pytest.mark.parametrize("kind", FOR_GOOD)
def test_disk_that_stays_broken_breaks_no_promise(kind: str, explored: Callable[..., None]) -> None:
    """From any call on everything fails: typed errors, no doubt hidden; once the disk is sound all is whole."""
    explored("mixed", programs.six, kinds=[kind], limit=3)


@pytest.mark.parametrize(
    ("name", "setup"), [("first_open", programs.nothing_for_six), ("migrate", programs.old_ledger)]
)
def test_errors_while_a_ledger_is_made(name: str, setup: Callable[[Path], None], explored: Callable[..., None]) -> None:
    """A first open that an error cuts short leaves something that the next one can begin from."""
    explored(name, setup, kinds=["EIO", "ENOSPC+"], limit=4)


@pytest.mark.parametrize(("name", "setup"), PROGRAMS)
def test_power_cut_takes_nothing_that_was_acknowledged(
    name: str, setup: Callable[[Path], None], explored: Callable[..., None]
) -> None:
    """Whatever part of the un-synced changes reaches the disk: nothing acknowledged is lost, nothing is half."""
    explored(name, setup, kinds=CUTS, limit=3)


@pytest.mark.parametrize(("name", "setup"), RELAXED)
def test_power_cut_takes_only_the_last_units_under_relaxed_durability(
    name: str, setup: Callable[[Path], None], explored: Callable[..., None]
) -> None:
    """With durability="normal" the last units may be lost, each as a whole, and none from the middle."""
    explored(name, setup, kinds=CUTS, limit=6)
