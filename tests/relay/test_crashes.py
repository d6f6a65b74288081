"""The outbox, killed anywhere: nothing is lost, repetitions have their dedup key, and keys keep their order."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger
from memoryos_uow.testing import why_no_strace
from tests.both import both
from tests.memory_dir import memory_dir
from tests.relay import program
from tests.relay.kit import publish
from tests.relay.server import receiver
from tests.units import start

if TYPE_CHECKING:
    from pathlib import Path

    from _memoryos_uow_pytest import CrashExplorer

RELAY = """
import sys
from memoryos_uow import Ledger
from memoryos_uow.sinks import HttpSink
with Ledger.open(sys.argv[1]) as ledger:
    print(ledger.relay(HttpSink(sys.argv[2]), until_empty=True).left)
"""


@pytest.mark.skipif(why_no_strace() is not None, reason=f"{why_no_strace()}")
@pytest.mark.parametrize(
    ("setup", "kinds", "limit"),
    [
        (program.setup, ["kill"], 24),
        (program.setup, ["power-cut"], 4),
        (program.setup_normal, ["kill", "power-cut"], 5),
        (program.setup, ["EIO"], 5),
    ],
)
def test_a_crash_anywhere_loses_nothing(
    setup: Any, kinds: list[str], limit: int, crash_explorer: CrashExplorer, tmp_path: Path
) -> None:
    """SIGKILL, a power cut or a disk error at any call of publishing, delivering and acknowledging."""
    with memory_dir(tmp_path / "work") as place:
        crash_explorer(program.relaying, program.oracle, setup=setup, work_dir=place, kinds=kinds, limit=limit)


def assert_in_order(events: list[dict[str, Any]], published: dict[str, list[str]]) -> None:
    """Each key's events came for the first time in the order in which they were published, all of them."""
    for key, ids in published.items():
        seen = [event["id"] for event in events if event.get("partitionkey") == key]
        assert list(dict.fromkeys(seen)) == ids


@both
def test_relays_killed_between_receiving_and_acknowledging(place: Path | str) -> None:
    """A real receiver kills the relay at every third event, before it answers: the next relay repeats from there."""
    published: dict[str, list[str]] = {}
    with Ledger.open(place) as ledger:
        for number in range(9):
            key = f"k{number % 2}"
            published.setdefault(key, []).append(f"{publish(ledger, 't', key=key)}:0")
    running: list[int] = []
    received: list[str] = []

    def answer(event: dict[str, Any]) -> int:
        received.append(event["id"])
        if len(received) % 3 == 0:
            os.kill(running[-1], signal.SIGKILL)
        return 204

    with receiver(answer) as there:
        while True:
            with start(RELAY, place, there.url) as child:
                running.append(child.pid)
                out, err = child.communicate()
            if child.returncode == 0:
                break
            assert child.returncode == -signal.SIGKILL, err
    assert out == "0\n"
    assert len(running) > 2, "no relay was killed"
    assert_in_order(there.events, published)
    assert set(there.ids) == {one for ids in published.values() for one in ids}
    assert len({(event["id"], str(event["data"]), event["type"]) for event in there.events}) == 9


@both
def test_two_relays_share_the_work(place: Path | str) -> None:
    """Two processes at once: everything arrives exactly once, and never are two events of one key on their way."""
    published: dict[str, list[str]] = {}
    with Ledger.open(place) as ledger:
        for number in range(60):
            key = f"k{number % 7}"
            published.setdefault(key, []).append(f"{publish(ledger, 't', key=key)}:0")
    on_their_way: Counter[str] = Counter()
    problems: list[str] = []
    lock = threading.Lock()

    def answer(event: dict[str, Any]) -> int:
        key = event["partitionkey"]
        with lock:
            on_their_way[key] += 1
            if on_their_way[key] > 1:
                problems.append(key)
        with lock:
            on_their_way[key] -= 1
        return 204

    with receiver(answer) as there:
        children = [start(RELAY, place, there.url) for _ in range(2)]
        for child in children:
            _, err = child.communicate()
            assert child.returncode == 0, err
        with start(RELAY, place, there.url) as last:  # one may have ended while the other had the rest
            assert last.communicate()[0] == "0\n"
    assert problems == []
    assert_in_order(there.events, published)
    assert len(there.ids) == 60
