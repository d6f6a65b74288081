"""Migrations against other processes and against SIGKILL: real files, real processes, nothing left to chance."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from memoryos_uow import _schema
from memoryos_uow._migrations import Kind, inspect, migrate_down, migrate_up
from tests.schema_files import (
    child_command,
    connect,
    contract_shape,
    fresh_shape,
    make_1_0_0,
    rows_1_0_0,
    start_child,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BASE_SHAPE: Final = fresh_shape(_schema.BASE)
CURRENT_SHAPE: Final = fresh_shape(_schema.BASE, _schema.UP)

# Everything that changes a file; a question mark lets strace pass over a call that this machine's kernel lacks.
WRITING_CALLS: Final = "pwrite64,write,fsync,fdatasync,ftruncate,?unlink,unlinkat,?rename,?renameat,renameat2"

# A few points spread over the way are tried by default; with MEMORYOS_UOW_CRASH_POINTS=all, every single one.
POINTS_MAX: Final = 10**6 if os.environ.get("MEMORYOS_UOW_CRASH_POINTS") == "all" else 16

UNITS: Final = 300

T = TypeVar("T")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a ledger."""
    return tmp_path / "memory.db"


def spread(points: Sequence[T]) -> Sequence[T]:
    """Return at most POINTS_MAX of `points`, evenly, the last one always among them."""
    step = max(1, -(-len(points) // POINTS_MAX))
    return points[::-1][::step]


def assert_whole_and_completed(path: Path, rows: list[Sequence[object]]) -> Kind:
    """Prove that `path` is wholly at one version with all its rows, and that opening it again completes it."""
    with closing(connect(path)) as conn:
        kind = inspect(conn).kind
        assert kind in (Kind.BASIC, Kind.CURRENT)
        assert contract_shape(conn) == (CURRENT_SHAPE if kind is Kind.CURRENT else BASE_SHAPE)
        assert rows_1_0_0(conn) == rows
        assert migrate_up(conn) is (kind is Kind.BASIC)
        assert contract_shape(conn) == CURRENT_SHAPE
        assert rows_1_0_0(conn) == rows
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return kind


# --- several processes at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [2, 8])
@pytest.mark.parametrize("start", ["new", "1.0.0", "1.0.0 with a write-ahead log"])
def test_processes_that_open_one_file_at_once_agree(path: Path, start: str, processes: int) -> None:
    """They start together; one migrates, the others find it done; no process fails and no row is lost."""
    if start != "new":
        make_1_0_0(path, UNITS, wal="log" in start)
    children = [start_child(path, "wait-up") for _ in range(processes)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = [child.communicate() for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert [errors for _, errors in answers] == [""] * processes
    assert sorted(output for output, _ in answers) == ["False\n"] * (processes - 1) + ["True\n"]
    with closing(connect(path)) as conn:
        assert inspect(conn).kind is Kind.CURRENT
        assert contract_shape(conn) == CURRENT_SHAPE
        assert len(rows_1_0_0(conn)) == (0 if start == "new" else 3 * UNITS)
        assert conn.execute("SELECT count(*) FROM uow_identity").fetchone() == (1,)


# --- killed at a system call -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strace() -> str:
    """The path of a strace that may trace; without one, these tests are skipped and the ones below remain."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run([found, "-qq", "-e", "trace=none", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("strace may not trace processes here")
    return found


def traced(strace: str, log: Path, command: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run `command` under strace, its writing system calls in `log`."""
    line = [
        strace,
        "-f",
        "-qq",
        "-e",
        "signal=none",
        "-e",
        f"trace={WRITING_CALLS}",
        *options,
        "-o",
        str(log),
        *command,
    ]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def points_of(log: Path) -> list[tuple[str, int]]:
    """Return each traced call as its name and its number among the calls of that name, as strace counts them."""
    counter: Counter[str] = Counter()
    points = []
    for name in re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE):
        counter[name] += 1
        points.append((name, counter[name]))
    return points


def prepared(path: Path, way: str, *, wal: bool) -> list[Sequence[object]]:
    """Make the ledger that is to be migrated up or down; return what it holds."""
    make_1_0_0(path, UNITS, wal=wal)
    with closing(connect(path)) as conn:
        if way == "down":
            migrate_up(conn)
        return rows_1_0_0(conn)


@pytest.mark.parametrize(
    ("way", "wal"),
    [("up", False), ("up", True), ("down", False), ("down", True)],
    ids=["up, rollback journal", "up, write-ahead log", "down, rollback journal", "down, write-ahead log"],
)
def test_a_kill_at_any_writing_call_leaves_one_version(tmp_path: Path, strace: str, way: str, wal: bool) -> None:
    """SIGKILL before the n-th write, sync, truncation or removal: the file is wholly old or wholly new, all rows."""
    (tmp_path / "start").mkdir()
    rows = prepared(tmp_path / "start" / "memory.db", way, wal=wal)
    log = tmp_path / "log"

    def run(place: str, *options: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
        shutil.copytree(tmp_path / "start", tmp_path / place)
        path = tmp_path / place / "memory.db"
        return path, traced(strace, log, child_command(path, way), *options)

    path, whole = run("whole")
    assert (whole.returncode, whole.stderr) == (0, "")
    points = points_of(log)
    assert {"pwrite64", "fdatasync"} <= {name for name, _ in points}
    kinds = Counter([assert_whole_and_completed(path, rows)])
    for number, (name, nth) in enumerate(spread(points)):
        path, killed = run(str(number), "-e", f"inject={name}:signal=KILL:when={nth}")
        assert killed.returncode == -signal.SIGKILL, (name, nth, killed.stderr)
        kinds[assert_whole_and_completed(path, rows)] += 1
        shutil.rmtree(path.parent)
    assert kinds[Kind.BASIC] > 0
    assert kinds[Kind.CURRENT] > 0


def test_the_backup_is_durable_before_anything_is_taken_out(path: Path, tmp_path: Path, strace: str) -> None:
    """The copy and its directory are synced before the first byte of the ledger changes."""
    prepared(path, "down", wal=True)
    log = tmp_path / "log"
    assert traced(strace, log, child_command(path, "down"), "-y").returncode == 0
    calls = log.read_text().splitlines()
    (backup,) = tmp_path.glob("memory.before-1.0.0.*.db")
    synced = [first(calls, rf" fsync\(\d+<{re.escape(str(place))}>\)") for place in (backup, tmp_path)]
    written = first(calls, rf" pwrite64\(\d+<{re.escape(str(path))}(-wal)?>")
    assert last(calls, rf" pwrite64\(\d+<{re.escape(str(backup))}>") < synced[0] < written
    assert synced[1] < written


def first(calls: Sequence[str], pattern: str) -> int:
    """Return the place of the first call that matches."""
    return next(place for place, call in enumerate(calls) if re.search(pattern, call))


def last(calls: Sequence[str], pattern: str) -> int:
    """Return the place of the last call that matches."""
    return len(calls) - 1 - first(calls[::-1], pattern)


# --- killed at an SQL statement (needs no tools) ---------------------------------------------------------------------


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_kill_at_any_statement_leaves_one_version(tmp_path: Path, way: str) -> None:
    """SIGKILL when the n-th SQL statement begins: the file is as before, all rows, and opening again completes."""
    start = tmp_path / "memory.db"
    rows = prepared(start, way, wal=False)
    before = Kind.BASIC if way == "up" else Kind.CURRENT
    copy = tmp_path / "copy.db"
    for nth in spread(range(1, count_statements(start, copy, way) + 1)):
        shutil.copyfile(start, copy)
        child = subprocess.run(child_command(copy, way, str(nth)), capture_output=True, text=True, check=False)
        assert child.returncode == -signal.SIGKILL, (nth, child.stderr)
        assert assert_whole_and_completed(copy, rows) is before or nth > count_until_commit(start, tmp_path, way)


def count_statements(start: Path, copy: Path, way: str) -> int:
    """Return how many SQL statements the whole way takes."""
    return len(list(statements_of(start, copy, way)))


def count_until_commit(start: Path, tmp_path: Path, way: str) -> int:
    """Return the number of the statement that commits."""
    return list(statements_of(start, tmp_path / "count.db", way)).index("COMMIT") + 1


def statements_of(start: Path, copy: Path, way: str) -> Iterator[str]:
    """Yield the SQL statements of a whole migration of a copy of `start`."""
    shutil.copyfile(start, copy)
    begun: list[str] = []
    with closing(connect(copy)) as conn:
        conn.set_trace_callback(begun.append)
        if way == "up":
            migrate_up(conn)
        else:
            migrate_down(conn, copy)
        conn.set_trace_callback(None)
    yield from begun
