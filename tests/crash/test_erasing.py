"""An erasure that is killed, cut off from power or told of errors anywhere: it never was, or nothing is left.

Each test takes a few points, evenly spaced. ``make explore`` takes more of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow.testing import why_no_strace
from tests import erased
from tests.memory_dir import memory_dir

if TYPE_CHECKING:
    from pathlib import Path

    from _memoryos_uow_pytest import CrashExplorer

pytestmark = pytest.mark.skipif(why_no_strace() is not None, reason=f"{why_no_strace()}")


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 10},
        {"limit": 2, "depth": 2, "recover": erased.reopened},
        {"limit": 2, "kinds": ["power-cut", "EIO"]},
    ],
    ids=["killed", "killed in recovery", "power cut and errors"],
)
def test_wherever_it_ends_an_erasure_is_finished_or_never_was(
    crash_explorer: CrashExplorer, tmp_path: Path, options: dict[str, Any]
) -> None:
    """After the next opening and recovery: not erased, or gone from stores, free pages and logs without a trace."""
    with memory_dir(tmp_path / "work") as place:
        crash_explorer(erased.erase_some, erased.gone_or_not_erased, setup=erased.begun, work_dir=place, **options)
