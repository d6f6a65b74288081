"""A process that writes to PostgreSQL beside the ledger is killed at its steps: all of a unit is there, or none."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

import pytest

from memoryos_uow.testing._forks import kill_own_process
from tests.postgres.second import EVERY_STEP, World, chosen, crowd, decisive, in_child, steps_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres_server import Databases

KINDS: Final = {"last resource": (1, False), "two phase": (1, True), "two databases": (2, False)}


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, tmp_path: Path, pg_databases: Databases) -> World:
    """A ledger with one database that decides, one that prepares, or two."""
    number, two_phase = KINDS[request.param]
    urls = {name: pg_databases.new() for name in ("orders", "stock")[:number]}
    return World(tmp_path, urls, two_phase).begin()


def test_killed_at_each_step(world: World, tmp_path: Path) -> None:
    """Killed before and after each statement and commit: afterwards every store agrees, and the next unit works."""
    steps = steps_of(lambda: world.write(world.last + 1), tmp_path / "steps")
    world.settle({2})
    decided = decisive(steps)
    for at in chosen(steps, decided):
        ended, said = in_child(lambda: world.write(world.last + 1), act=kill_own_process, at=at).wait()
        assert ended == signal.SIGKILL, f"{steps[at]}: {said}"
        number = world.judge({world.last + (at >= decided)})
        if at in (decided - 1, decided):
            world.settle({number})
    world.settle({world.last})


def test_recovery_killed_at_each_step(world: World, tmp_path: Path) -> None:
    """A process that recovers is killed at each of its steps, too, and the next one finishes what both have left."""
    if len(world.urls) > 1 and not os.environ.get(EVERY_STEP):
        pytest.skip(f"each of two databases is recovered like one that prepares; set {EVERY_STEP} to try")
    steps = steps_of(lambda: world.write(world.last + 1), tmp_path / "steps")
    world.settle({2})
    decided = decisive(steps)
    for at in (decided - 1, decided):

        def leave_half(at: int = at) -> None:
            ended, said = in_child(lambda: world.write(world.last + 1), act=kill_own_process, at=at).wait()
            assert ended == signal.SIGKILL, said

        leave_half()
        recovery = steps_of(lambda: world.open().close(), tmp_path / "recovery")
        world.judge({world.last + (at >= decided)})
        for inner in chosen(recovery, len(recovery) - 2):
            leave_half()
            in_child(lambda: world.open().close(), act=kill_own_process, at=inner).wait()
            world.judge({world.last + (at >= decided)})
        world.settle({world.last})


def test_killed_with_the_ledger_in_a_database(tmp_path: Path, pg_databases: Databases) -> None:
    """The same with the ledger in a third place: another database of PostgreSQL's."""
    world = World(tmp_path, {"orders": pg_databases.new()}, ledger_url=pg_databases.new(), others=False).begin()
    steps = steps_of(lambda: world.write(world.last + 1), tmp_path / "steps")
    world.settle({2})
    marked = steps.index("after WITH marked")
    found = set()
    for at in [marked - 1, *range(marked, len(steps), 1 if os.environ.get(EVERY_STEP) else 2)]:
        ended, said = in_child(lambda: world.write(world.last + 1), act=kill_own_process, at=at).wait()
        assert ended == signal.SIGKILL, f"{steps[at]}: {said}"
        before = world.last
        found.add(world.judge({before, before + 1}) - before)
    assert found == {0, 1}
    world.settle({world.last})


@pytest.mark.parametrize("number", [1, 2], ids=["last resource", "two databases"])
def test_eight_recoverers_at_once(tmp_path: Path, pg_databases: Databases, number: int) -> None:
    """Units of many dead processes, recovered by eight processes at the same time: each is there, or it is not."""
    urls = {name: pg_databases.new() for name in ("orders", "stock")[:number]}
    world = World(tmp_path, urls, others=False).begin()
    crowd(world, tmp_path, processes=8)
