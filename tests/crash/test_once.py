"""A request under an idempotency key, killed and cut off from power anywhere: once done it stays done, and once only.

Each test takes a few points, evenly spaced; ``pytest --explore-limit 0`` takes all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger
from memoryos_uow.stores import BlobStore, DocumentStore
from memoryos_uow.testing import acknowledge, why_no_strace
from tests.memory_dir import memory_dir

if TYPE_CHECKING:
    from pathlib import Path

    from _memoryos_uow_pytest import CrashExplorer
    from memoryos_uow import Outcome, UnitOfWork

pytestmark = pytest.mark.skipif(why_no_strace() is not None, reason=f"{why_no_strace()}")


def open_ledger(world: Path) -> Ledger:
    """The ledger of a world: one store in its file and one outside."""
    return Ledger.open(world / "memory.db", stores=[DocumentStore("notes"), BlobStore("photos", "photos")])


def setup(world: Path) -> None:
    """A ledger with a counter."""
    with open_ledger(world) as ledger, ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("count", 0)


def count(uow: UnitOfWork) -> int:
    """What must not be done twice."""
    done = int(uow["notes"].get("count")) + 1
    uow["notes"].update("count", done)
    uow["photos"].create(f"photo-{done}", b"x" * 70_000)
    return done


def once(ledger: Ledger) -> Outcome[int]:
    """Do it under its key."""
    return ledger.run(count, space_id="s", band="GREEN", idempotency_key="k")


def scenario(world: Path) -> None:
    """The request comes, and comes again; before that, one that fails."""
    with open_ledger(world) as ledger:
        try:
            ledger.run(lambda uow: 1 / uow["notes"].get("count"), space_id="s", band="GREEN", idempotency_key="k")
        except ZeroDivisionError:
            acknowledge("failed")
        first = once(ledger)
        acknowledge("done")
        assert (once(ledger).receipt, once(ledger).replayed) == (first.receipt, True)


def oracle(world: Path, acknowledged: list[str]) -> None:
    """Whoever asks again after the death gets the one answer; the counter was raised once, with its photo."""
    with open_ledger(world) as ledger:
        before = ledger["notes"].get("count", space_id="s")
        assert before == 1 or (before == 0 and "done" not in acknowledged), "lost, or done twice"
        outcome = once(ledger)
        assert (outcome.value, outcome.replayed) == (1, before == 1), "not the one answer"
        assert outcome.receipt is not None
        assert ledger["notes"].get("count", space_id="s") == 1, "done twice"
        assert list(ledger["photos"].keys(space_id="s")) == ["photo-1"]
        assert len(ledger.units(status="committed")) == 2


@pytest.mark.parametrize("kinds", [("kill",), ("power-cut", "power-cut-ordered"), ("EIO", "ENOSPC+")], ids="/".join)
def test_once_done_it_stays_done_and_once_only(
    crash_explorer: CrashExplorer, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    """Wherever the process ends, and whatever the disk answers."""
    options: dict[str, Any] = {"setup": setup, "kinds": kinds, "limit": 5}
    with memory_dir(tmp_path / "work") as place:
        crash_explorer(scenario, oracle, work_dir=place, **options)
