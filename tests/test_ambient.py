"""Clock, ids, randomness, process identity: the one module that takes them from the surroundings."""

from __future__ import annotations

import ast
import os
import re
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import memoryos_uow
from memoryos_uow import _ambient
from memoryos_uow._ambient import _UnitIds, new_unit_id
from tests import processes

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_795_375_231_110  # 2026-11-22T19:20:31.110Z


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the wall clock to a number of milliseconds."""

    def set_clock(ms: int) -> None:
        monkeypatch.setattr("time.time_ns", lambda: ms * 1_000_000 + 999_999)

    return set_clock


def milliseconds_of(unit_id: str) -> int:
    """The first 48 bits of an id."""
    return uuid.UUID(unit_id).int >> 80


def test_unit_id_is_a_uuid_of_version_7(at: Callable[[int], None]) -> None:
    """An id has the text, version and variant of RFC 9562, and begins with the Unix milliseconds."""
    at(MS)
    unit_id = _UnitIds()()
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", unit_id)
    parsed = uuid.UUID(unit_id)
    assert str(parsed) == unit_id
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert milliseconds_of(unit_id) == MS
    assert datetime.fromtimestamp(MS / 1000, UTC).isoformat(timespec="milliseconds") == "2026-11-22T19:20:31.110+00:00"


def test_ids_increase_within_one_millisecond(at: Callable[[int], None]) -> None:
    """10,000 ids of one millisecond are strictly increasing; past 4,096 they borrow the next millisecond."""
    at(MS)
    new_id = _UnitIds()
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert [milliseconds_of(ids[n]) - MS for n in (0, 4095, 4096, 8191, 8192)] == [0, 0, 1, 1, 2]


def test_ids_increase_when_the_clock_goes_back(at: Callable[[int], None]) -> None:
    """Ids made after the clock was set back sort behind those made before, and follow the clock when it catches up."""
    new_id = _UnitIds()
    ids = []
    for ms in (MS, MS - 3_600_000, 0, MS, MS + 1):
        at(ms)
        ids.append(new_id())
    assert ids == sorted(set(ids))
    assert [milliseconds_of(each) - MS for each in ids] == [0, 0, 0, 0, 1]


def test_ids_increase_in_every_thread() -> None:
    """Ids that four threads make at once are all different, and increase in each thread."""
    start = threading.Barrier(4)
    made: list[list[str]] = []

    def make() -> None:
        start.wait()
        made.append([new_unit_id() for _ in range(2_000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ids == sorted(ids) for ids in made)
    assert len({unit_id[:18] for ids in made for unit_id in ids}) == 8_000


def test_ids_differ_by_62_random_bits(at: Callable[[int], None]) -> None:
    """Two processes that make an id in the same instant still make different ones."""
    at(MS)
    one, two = _UnitIds()(), _UnitIds()()
    assert one[:18] == two[:18]
    assert one[18:] != two[18:]


def test_a_fork_beside_a_thread_that_makes_an_id_does_not_block_the_child() -> None:
    """A child forked in the very moment in which another thread makes an id can make ids of its own."""
    with new_unit_id._lock:  # as that other thread holds it
        child_id = processes.forked(new_unit_id)
    assert uuid.UUID(child_id).version == 7
    held = new_unit_id._lock
    new_unit_id._renew_lock()
    assert new_unit_id._lock is not held


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (1_767_323_045_000_000_000, "2026-01-02T03:04:05.000000Z"),
        (1_767_323_045_000_999_999, "2026-01-02T03:04:05.000999Z"),
        (1_767_323_045_999_999_999, "2026-01-02T03:04:05.999999Z"),
        (1_767_323_046_000_000_000, "2026-01-02T03:04:06.000000Z"),
        (951_782_400_000_001_000, "2000-02-29T00:00:00.000001Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_now_is_text_of_one_length(monkeypatch: pytest.MonkeyPatch, nanoseconds: int, text: str) -> None:
    """A time is RFC 3339 UTC text with six decimals, also when they are all zero, so that times sort as text."""
    monkeypatch.setattr("time.time_ns", lambda: nanoseconds)
    assert _ambient.now_text() == text


def test_now_is_now() -> None:
    """The time is a UTC time that the standard library reads, and no more than a day from what it says itself."""
    assert abs((datetime.fromisoformat(_ambient.now_text()) - datetime.now(UTC)).days) <= 1


def test_milliseconds_of_now(at: Callable[[int], None]) -> None:
    """The Unix time in milliseconds is the wall clock's, rounded down."""
    at(MS)
    assert _ambient.unix_ms() == MS


@pytest.mark.parametrize("n_bytes", [1, 16, 32])
def test_random_hex(n_bytes: int) -> None:
    """Random bytes come as two lower-case hex digits each, and not twice the same."""
    assert re.fullmatch(rf"[0-9a-f]{{{2 * n_bytes}}}", _ambient.random_hex(n_bytes))
    assert len({_ambient.random_hex() for _ in range(100)}) == 100


@pytest.mark.parametrize(("drawn", "fraction"), [(b"\0\0\0\0", 0), (b"\x80\0\0\0", 0.5), (b"\xff" * 4, 1 - 2**-32)])
def test_random_fraction_stays_below_one(drawn: bytes, fraction: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random fraction covers 0 to just below 1."""
    monkeypatch.setattr("os.urandom", lambda _n: drawn)
    assert _ambient.random_fraction() == fraction


def test_process_id_is_asked_each_time() -> None:
    """A forked child sees its own process id, not its parent's."""
    assert _ambient.process_id() == os.getpid()
    assert processes.forked(_ambient.process_id) != os.getpid()


def test_monotonic_clock_never_goes_back() -> None:
    """Readings of the monotonic clock never decrease."""
    readings = [_ambient.monotonic_ns() for _ in range(1_000)]
    assert readings == sorted(readings)


CLOCKS = {"time", "random", "secrets", "uuid"}
READINGS = {("os", "urandom"), ("os", "getpid"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")}
PACKAGE = Path(memoryos_uow.__file__).parent
NOT_THE_LIBRARY = {"cli", "_demo", "testing"}


def readings_of(tree: ast.AST) -> list[str]:
    """Where a module imports a clock or random source, or reads one through os or datetime."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in CLOCKS]
        elif isinstance(node, ast.ImportFrom) and node.module in CLOCKS:
            found += [node.module for alias in node.names if alias.name != "UUID"]  # it reads text, and no clock
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [node.attr] if (node.value.id, node.attr) in READINGS else []
    return found


def test_nothing_else_reads_clock_or_randomness() -> None:
    """No other module of the library reads a clock, the random source or the process id by itself."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in NOT_THE_LIBRARY]
    assert len(modules) > 30
    by_itself = {path.name: set(readings_of(ast.parse(path.read_text(encoding="utf-8")))) for path in modules}
    found = {name: readings for name, readings in by_itself.items() if readings}
    assert found == {"_ambient.py": {"time", "urandom", "getpid"}}
