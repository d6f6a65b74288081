"""A signed ledger, killed, cut off from power and told of errors: what was acknowledged is signed, and provable.

Each test takes a few points, evenly spaced; ``make explore`` takes more, ``pytest --explore-limit 0`` all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow.testing import why_no_strace
from tests.crash import batches, signed
from tests.memory_dir import memory_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _memoryos_uow_pytest import CrashExplorer

pytest.importorskip("cryptography")
pytestmark = pytest.mark.skipif(why_no_strace() is not None, reason=f"{why_no_strace()}")

CUTS = ("power-cut", "power-cut-ordered")


@pytest.mark.parametrize(
    ("setup", "oracle", "points"),
    [
        (signed.key_only, signed.judge, {"kinds": ["kill"], "limit": 3}),
        (signed.one_unit, signed.judge, {"kinds": ["kill"], "limit": 3}),
        (signed.one_unit_normal, signed.judge, {"kinds": ["kill"], "limit": 3}),
        (signed.one_unit, signed.judge, {"kinds": CUTS, "limit": 2}),
        (signed.one_unit_normal, signed.judge_relaxed, {"kinds": CUTS, "limit": 2}),
        (signed.one_unit, signed.judge, {"kinds": ["EIO", "ENOSPC+"], "limit": 2}),
    ],
)
def test_signed_units_are_whole(
    crash_explorer: CrashExplorer,
    tmp_path: Path,
    setup: Callable[..., None],
    oracle: Callable[..., None],
    points: dict[str, Any],
) -> None:
    """Wherever it fails: signatures and receipts hold, the head is not ahead, and nothing looks like a rollback."""
    with memory_dir(tmp_path / "work") as place:
        crash_explorer(signed.units, oracle, setup=setup, work_dir=place, **points)


def test_signed_batches_are_whole(crash_explorer: CrashExplorer, tmp_path: Path) -> None:
    """The same for units of four threads that share a transaction and its signature."""
    with memory_dir(tmp_path / "work") as place:
        crash_explorer(
            batches.batches,
            batches.whole_and_signed,
            setup=batches.prepared_signed,
            work_dir=place,
            kinds=["kill"],
            limit=8,
        )
