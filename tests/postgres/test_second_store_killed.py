"""A process that writes to PostgreSQL beside the ledger is killed at each of its steps: all of a unit is there, or none."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import pytest

from memoryos_uow.testing._forks import kill_own_process
from tests.postgres.second import World, crowd, decisive, in_child, steps_of

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
    for at, name in enumerate(steps):
        ended, said = in_child(lambda: world.write(world.last + 1), act=kill_own_process, at=at).wait()
        assert ended == signal.SIGKILL, f"{name}: {said}"
        number = world.last + 1
        assert world.settle({number} if at >= decided else {number - 1}) in (number, number - 1), name


def test_recovery_killed_at_each_step(world: World, tmp_path: Path) -> None:
    """A process that recovers is killed at each of its steps, too, and the next one finishes what both have left."""
    steps = steps_of(lambda: world.write(world.last + 1), tmp_path / "steps")
    world.settle({2})
    decided = decisive(steps)
    for at in (decided - 1, decided):

        def leave_half(at: int = at) -> None:
            ended, said = in_child(lambda: world.write(world.last + 1), act=kill_own_process, at=at).wait()
            assert ended == signal.SIGKILL, said

        leave_half()
        recovery = steps_of(lambda: world.open().close(), tmp_path / "recovery")
        for inner in range(0, len(recovery), 2):  # between two statements nothing happens
            world.settle({world.last + (at >= decided)} if inner == 0 else {world.last, world.last + 1})
            leave_half()
            in_child(lambda: world.open().close(), act=kill_own_process, at=inner).wait()
            world.judge({world.last + (at >= decided)})
        world.settle({world.last})


def test_eight_recoverers_at_once(tmp_path: Path, pg_databases: Databases) -> None:
    """Units of many dead processes, recovered by eight processes at the same time: each is there, or it is not."""
    world = World(tmp_path, {"orders": pg_databases.new(), "stock": pg_databases.new()}, others=False).begin()
    crowd(world, tmp_path, processes=8)
