"""Units that commit together, killed, cut off from power and told of errors at every call of their leader.

As in `test_crashes`, the suite takes a few points; ``make explore`` takes all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memoryos_uow.testing import why_no_strace
from tests.crash import batches
from tests.memory_dir import memory_dir

if TYPE_CHECKING:
    from pathlib import Path

    from _memoryos_uow_pytest import CrashExplorer

pytestmark = pytest.mark.skipif(why_no_strace() is not None, reason=f"{why_no_strace()}")


@pytest.mark.parametrize(("kinds", "limit"), [(["kill"], 10), (["power-cut"], 6), (["EIO", "ENOSPC"], 2)])
def test_batches_are_whole(crash_explorer: CrashExplorer, tmp_path: Path, kinds: list[str], limit: int) -> None:
    """Wherever it fails: what was acknowledged is there, no unit is half there, and the next one works."""
    with memory_dir(tmp_path / "work") as place:
        crash_explorer(batches.batches, batches.whole, setup=batches.prepared, work_dir=place, kinds=kinds, limit=limit)
