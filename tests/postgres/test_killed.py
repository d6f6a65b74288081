"""A ledger in PostgreSQL survives the death of its client, its connection and its server at any message.

Each test takes a few points, evenly spaced; ``pytest --explore-limit N`` takes so many, 0 all of them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.postgres.killing import KINDS, Point, a_world, spaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.postgres.killing import World
    from tests.postgres_server import Server

_A_FEW = 2
_FAILOVERS = 12


@pytest.fixture(scope="module")
def world(pg_start: Callable[..., Server]) -> Iterator[World]:
    """A durable server of this module's own, with a ledger on it."""
    server = pg_start(durable=True)
    with a_world(server) as made:
        yield made
    server.stop()


@pytest.fixture(scope="module")
def messages(world: World) -> int:
    """How many messages the program sends."""
    return world.messages()


@pytest.fixture(scope="module")
def report(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    """The rows of a table of what was explored, shown at the end where more than a few points were."""
    rows: list[str] = []
    yield rows
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    if pytestconfig.getoption("--explore-limit") is not None:
        with capture.global_and_fixture_disabled():
            sys.stdout.write("\n".join(["", *rows, ""]))


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_dies_at_whichever_message(
    world: World, messages: int, kind: str, report: list[str], pytestconfig: pytest.Config
) -> None:
    """Nothing acknowledged is lost, nothing refused is there, nothing is half; the next unit works."""
    wanted = pytestconfig.getoption("--explore-limit")
    limit = _A_FEW if wanted is None else wanted or None
    points = spaced(messages, limit)
    reached = sum(world.explore(Point(kind, number)) for number in points)
    report.append(f"| {kind} | {reached:,} | {messages:,} | 0 |")
    assert reached >= len(points) // 2  # the last ones not always: what goes on beside the program says more or less


def test_a_failover(pg_start: Callable[..., Server], pytestconfig: pytest.Config) -> None:
    """The primary dies, its synchronous replica is promoted: acknowledged units are there, none is half."""
    wanted = pytestconfig.getoption("--explore-limit")
    for number in (350,) if wanted is None else spaced(600, min(wanted or _FAILOVERS, _FAILOVERS)):
        primary = pg_start(durable=True)
        with a_world(primary) as world:
            world.fail_over(number)
