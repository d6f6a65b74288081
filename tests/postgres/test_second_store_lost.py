"""What is lost on the way to PostgreSQL beside the ledger: answers, servers, owners. Nobody claims what is not so."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

import pytest

from memoryos_uow import ConflictError, InDoubtError, Status, StoreError, StoreUnavailable, UnitOfWorkError
from memoryos_uow.testing._forks import stop_own_process
from tests.postgres.cutting import Cutting
from tests.postgres.second import SPACE, World, chosen, decisive, in_child, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.postgres_server import Databases, Server

COMMIT: Final = b"COMMIT\0"
PREPARE: Final = b"PREPARE TRANSACTION"
COMMIT_PREPARED: Final = b"COMMIT PREPARED"


def unit_of(world: World) -> tuple[Status, BaseException | None]:
    """How a unit ends that leaves the next number everywhere."""
    with world.open() as ledger:
        uow = ledger.unit(space_id=SPACE, band="GREEN")
        try:
            with uow:
                uow["notes"].upsert("n", {"is": world.last + 1})
                uow["orders"].upsert("n", {"is": world.last + 1})
                if (world.last + 1) % 2:
                    uow["orders"].create("odd", {"is": world.last + 1})
                else:
                    uow["orders"].delete("odd")
        except UnitOfWorkError as error:
            return uow.status, error
        return uow.status, None


@pytest.fixture
def through(tmp_path: Path, pg_databases: Databases) -> Callable[..., tuple[World, Cutting]]:
    """A world whose database is reached through a proxy."""

    def make(word: bytes, *, two_phase: bool = False, **options: bool) -> tuple[World, Cutting]:
        url = pg_databases.new()
        world = World(tmp_path, {"orders": url}, two_phase, others=False).begin()
        proxy = Cutting(url, word, **options)
        world.urls = {"orders": proxy.url}
        return world, proxy

    return make


def test_lost_answer_of_the_commit(through: Callable[..., tuple[World, Cutting]]) -> None:
    """The database has committed and its answer is lost: its marker says so, and the caller is told of no trouble."""
    world, proxy = through(COMMIT)
    with proxy:
        assert unit_of(world) == (Status.COMMITTED, None)
        assert proxy.cuts == 1
        proxy.heal()
        world.settle({2})


def test_lost_commit(through: Callable[..., tuple[World, Cutting]]) -> None:
    """The commit never reached the database: a tombstone makes sure of that, and the unit has failed."""
    world, proxy = through(COMMIT, before=True)
    with proxy:
        status, error = unit_of(world)
        assert (status, type(error)) == (Status.FAILED, StoreUnavailable)
        proxy.heal()
        assert list(world.marks().values()).count(False) == 1
        world.settle({1})


@pytest.mark.parametrize("before", [True, False], ids=["commit lost", "answer lost"])
def test_lost_and_out_of_reach(through: Callable[..., tuple[World, Cutting]], before: bool) -> None:
    """Nobody can be asked: the unit is in doubt, others are not, and recovery finds out once the server answers."""
    world, proxy = through(COMMIT, before=before, then_silent=True)
    with proxy:
        status, error = unit_of(world)
        assert (status, type(error)) == (Status.PENDING, InDoubtError)
        with world.open() as ledger:  # one undecidable unit never prevents opening
            assert len(ledger.recover().in_doubt) == 1
            with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["notes"].upsert("another", 1)
            with (
                pytest.raises(ConflictError, match="another store is deciding"),
                ledger.unit(space_id=SPACE, band="GREEN") as uow,
            ):
                uow["notes"].upsert("n", {"is": 99})
        proxy.heal()
        world.settle({1} if before else {2})


@pytest.mark.parametrize("word", [PREPARE, COMMIT_PREPARED], ids=["prepare", "commit prepared"])
@pytest.mark.parametrize("before", [True, False], ids=["statement lost", "answer lost"])
def test_lost_while_preparing(through: Callable[..., tuple[World, Cutting]], word: bytes, before: bool) -> None:
    """A lost PREPARE ends the unit and leaves nothing prepared; a lost COMMIT PREPARED is repeated by recovery."""
    world, proxy = through(word, before=before, two_phase=True)
    with proxy:
        status, error = unit_of(world)
        proxy.heal()
        if word is PREPARE:
            assert (status, type(error)) == (Status.FAILED, StoreUnavailable)
            world.settle({1})
        else:
            assert (status, error) == (Status.COMMITTED, None)
            world.settle({2})


# --- owners that come late -------------------------------------------------------------------------------------------


def end_leases(directory: Path) -> None:
    """Let every owner have been silent for too long."""
    with closing(sqlite3.connect(directory / "memory.db")) as connection, connection:
        connection.execute("UPDATE uow_coordination SET lease_until_ms = 0")


@pytest.mark.parametrize(
    ("two_phase", "stop", "blocked"),
    [
        (False, "after WITH marked", True),
        (False, "after the ledger's commit", True),
        (True, "after WITH marked", True),
        (True, "after PREPARE TRANSACTION", False),
    ],
    ids=["holding", "saved", "writing", "prepared"],
)
def test_owner_woken_after_a_takeover(
    tmp_path: Path, pg_databases: Databases, *, two_phase: bool, stop: str, blocked: bool
) -> None:
    """A paused owner that was taken over changes nothing; while its transaction is open, nobody guesses."""
    world = World(tmp_path, {"orders": pg_databases.new()}, two_phase, others=False).begin()
    steps = steps_of(lambda: world.write(world.last + 1), tmp_path / "steps")
    world.settle({2})
    at = steps.index(stop, steps.index("after WITH marked"))

    def late() -> None:
        with pytest.raises(ConflictError, match="took this unit over"):
            world.write(world.last + 1)

    owner = in_child(late, act=stop_own_process, at=at)
    assert owner.wait_until_stopped()
    end_leases(tmp_path)
    with world.open() as ledger:
        report = ledger.recover()
    if blocked:
        assert len(report.in_doubt) == 1
    owner.wake()
    _, said = owner.wait()
    assert not said, said
    world.settle({3})


# --- servers that are killed -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mortal(pg_start: Callable[..., Server]) -> Server:
    """A server that keeps what it has acknowledged."""
    return pg_start(durable=True)


@pytest.mark.parametrize("two_phase", [False, True], ids=["last resource", "two phase"])
def test_server_killed_in_each_state(mortal: Server, tmp_path: Path, *, two_phase: bool) -> None:
    """The server is killed and restarted while a unit stands at one of its steps: every store agrees afterwards."""
    mortal.rows("CREATE DATABASE two_phase" if two_phase else "CREATE DATABASE last_resource")
    world = World(tmp_path, {"orders": mortal.url("two_phase" if two_phase else "last_resource")}, two_phase)
    world.begin()
    steps = steps_of(lambda: world.write(world.last + 1), tmp_path / "steps")
    world.settle({2})
    for at in chosen(steps, decisive(steps), begin=steps.index("before WITH marked")):
        unit = in_child(lambda: _whatever_happens(world), act=stop_own_process, at=at)
        assert unit.wait_until_stopped()
        mortal.kill9()
        unit.wake()
        ended, said = unit.wait()
        mortal.restart()
        assert (ended, said) == (None, ""), said
        world.judge({world.last, world.last + 1})
    world.settle({world.last})


def _whatever_happens(world: World) -> None:
    with suppress(StoreError, InDoubtError):
        world.write(world.last + 1)
