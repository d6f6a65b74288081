"""The queue of processes: served in order, never needed, and nobody who dies in it keeps the others waiting."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sqlite3
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from memoryos_uow import _ambient
from memoryos_uow.engines import _queue
from memoryos_uow.engines._queue import NAP_S, QUANTUM_NS, SEATS, ProcessQueue
from tests import processes
from tests.engines.looking import insert, is_free, rows

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from memoryos_uow.engines.sqlite import SQLiteEngine

MEMBER: Final = """
import os, sys
from pathlib import Path
from memoryos_uow.engines import _queue
queue = _queue.ProcessQueue(Path(sys.argv[1]))
queue.meet()
if not len(sys.argv) > 3: queue.leave()
queue._until_ns = 0
record = os.open(sys.argv[1] + ".order", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
print("ready", flush=True)
for line in sys.stdin:
    if line == "enter\\n":
        queue.enter(60, lambda: print("waits", flush=True))
        os.write(record, sys.argv[2].encode())
        print("in", flush=True)
    else:
        queue.leave()
        queue._until_ns = 0
        print("out", flush=True)
"""


class Member:
    """Another process in the queue of a file."""

    def __init__(self, path: Path, name: str) -> None:
        self.process: subprocess.Popen[bytes] = processes.start(MEMBER, str(path), name)
        self.expect("ready")

    def tell(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n".encode())
        self.process.stdin.flush()

    def expect(self, *said: str) -> None:
        assert self.process.stdout is not None
        for each in said:
            assert self.process.stdout.readline().decode().strip() == each, self.process.stderr

    def enter(self, *said: str) -> None:
        self.tell("enter")
        self.expect(*said)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to queue for."""
    path = tmp_path / "memory.db"
    path.touch()
    return path


@pytest.fixture
def members(file: Path) -> Iterator[list[Member]]:
    """Three processes that know each other."""
    with ExitStack() as stack:
        made = [Member(file, name) for name in "abc"]
        for member in made:
            stack.callback(member.end)
        yield made


@pytest.fixture
def queue(file: Path) -> Iterator[ProcessQueue]:
    """A queue of this process, which has met another one and holds nothing."""
    made = ProcessQueue(file)
    made.meet()
    made.leave()
    made._until_ns = 0
    yield made
    made.close()


def has_place(queue: ProcessQueue) -> bool:
    """Whether this process holds the place at the ledger: then another one cannot take it."""

    def try_it() -> bool:
        other = ProcessQueue(queue._ledger)
        other._wanted = True
        other._open()
        return other._lock(0)

    return not processes.forked(try_it)


def order(file: Path) -> str:
    """The names of those who got the place, in order."""
    return Path(f"{file}.order").read_text(encoding="utf-8")


def test_first_come_first_served(file: Path, members: list[Member], queue: ProcessQueue) -> None:
    """Processes that wait get the place in the order in which they came, round after round."""
    queue.enter(60)
    for _ in range(3):
        for member in members:
            member.enter("waits")
        queue.leave()
        for member in members:
            member.expect("in")
            member.tell("leave")
            member.expect("out")
        queue._until_ns = 0
        queue.enter(60)
    assert order(file) == "abc" * 3


def test_who_had_the_place_queues_again(file: Path, members: list[Member]) -> None:
    """A process whose time is over does not overtake one that waits, however fast it comes back."""
    first, second, _ = members
    first.enter("in")
    second.enter("waits")
    first.tell("leave\nenter")
    first.expect("out")
    second.expect("in")
    first.expect("waits")
    second.tell("leave")
    second.expect("out")
    first.expect("in")
    assert order(file) == "aba"


def test_in_its_time_a_process_comes_back_at_once(queue: ProcessQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its time is over a process takes a free place without a seat; after that it enters at the far end."""
    clock = 1_000_000_000_000
    monkeypatch.setattr(_ambient, "monotonic_ns", lambda: clock)
    taken: list[int] = []
    lock = queue._lock

    def note(byte: int) -> bool:
        taken.append(byte)
        return lock(byte)

    monkeypatch.setattr(queue, "_lock", note)
    way_up = list(range(SEATS, -1, -1))
    for after_ns, seats in ((0, way_up), (QUANTUM_NS - 1, [0]), (0, [0]), (1, way_up)):
        clock += after_ns
        taken.clear()
        queue.enter(1)
        assert taken == seats
        assert has_place(queue)
        queue.leave()
        assert not has_place(queue)


def test_a_process_that_dies_at_the_ledger(members: list[Member]) -> None:
    """The place of a killed process is free at once."""
    members[0].enter("in")
    members[1].enter("waits")
    members[0].kill()
    members[1].expect("in")


def test_a_process_that_dies_in_its_seat(file: Path, members: list[Member], queue: ProcessQueue) -> None:
    """Those behind a killed process move up."""
    queue.enter(60)
    for member in members:
        member.enter("waits")
    members[0].kill()
    members[1].kill()
    queue.leave()
    members[2].expect("in")
    assert order(file) == "c"


def test_waiting_is_bounded(members: list[Member], queue: ProcessQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited for half of its time, or until patience ends, goes on without the place, and has no seat."""
    clock = 1_000_000_000_000
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        nonlocal clock
        pauses.append(seconds)
        clock += round(seconds * 1e9)

    monkeypatch.setattr(_ambient, "monotonic_ns", lambda: clock)
    monkeypatch.setattr(_ambient, "random_fraction", lambda: 0.5)
    monkeypatch.setattr(_ambient, "sleep", pause)
    members[0].enter("in")
    waits: list[int] = []
    queue.enter(0.01, lambda: waits.append(1))
    assert pauses == [NAP_S] * 10
    assert waits == [1]
    pauses.clear()
    queue.enter(60)
    assert sum(pauses) == pytest.approx(_queue.PATIENCE_S)
    pauses.clear()
    queue.enter(0)
    assert pauses == []
    members[0].tell("leave")
    members[0].expect("out")
    members[1].enter("in")


def test_an_interrupted_wait_leaves_no_seat(
    members: list[Member], queue: ProcessQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler that raises while a process waits reaches the caller; nobody is held up by it."""
    members[0].enter("in")

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_ambient, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            queue.enter(60)
    members[1].enter("waits")
    members[0].kill()
    members[1].expect("in")


def test_a_place_is_not_inherited(queue: ProcessQueue) -> None:
    """A forked child has no part of its parent's place, and does not lose it by closing the file."""
    queue.enter(1)
    processes.forked(queue.close)
    assert has_place(queue)


# The engine


def log_files(path: Path) -> list[str]:
    """What lies beside a ledger, its own files left out."""
    return sorted(each.name for each in path.parent.iterdir() if not each.name.endswith(("-wal", "-shm")))


def test_a_process_alone_makes_no_file(engine: SQLiteEngine, path: Path) -> None:
    """As long as nobody else writes there is no queue, whatever threads do."""
    for value in range(3):
        insert(engine, value)
    assert log_files(path) == [path.name]


def hold(path: Path) -> sqlite3.Connection:
    """Take SQLite's lock as a program does that knows nothing of the queue."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_who_meets_another_writer_makes_the_queue(
    engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When SQLite's lock is taken the engine sits down at the place while it asks on; another finds the queue."""
    other = hold(path)
    monkeypatch.setattr(_ambient, "sleep", lambda _: other.execute("ROLLBACK"))
    tx = engine.begin()
    assert tx.busy_waits == 1
    assert log_files(path) == [path.name, f"{path.name}-queue"]
    assert has_place(engine._queue)
    tx.execute("INSERT INTO t VALUES (1)")
    tx.commit()
    assert not has_place(engine._queue)
    other.close()
    late = ProcessQueue(path)
    late.enter(1)
    assert has_place(late)
    late.close()


@pytest.mark.parametrize("end", ["commit", "rollback", "busy"])
def test_the_place_is_given_up_with_the_lock(engine: SQLiteEngine, path: Path, end: str) -> None:
    """However a transaction ends, or fails to begin, the place is free afterwards."""
    engine._queue.meet()
    if end == "busy":
        with closing(hold(path)), pytest.raises(Exception, match="locked"):
            engine.begin(wait_s=0)
    else:
        getattr(engine.begin(), end)()
    assert not has_place(engine._queue)
    assert is_free(engine)


@pytest.mark.parametrize("trouble", [errno.ENOLCK, errno.EACCES, errno.EIO])
def test_where_nothing_can_be_locked(
    engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch, trouble: int
) -> None:
    """On a file system without locks, or with a file that is not ours, the engine works as if there were no queue."""

    def fail(*_: object) -> None:
        raise OSError(trouble, "no")

    engine._queue.meet()
    monkeypatch.setattr(_queue, "PATIENCE_S", 0.001)  # EACCES may also mean that another process has the lock
    monkeypatch.setattr(fcntl, "lockf", fail)
    insert(engine, 1)
    monkeypatch.undo()
    insert(engine, 2)
    assert rows(path) == [1, 2]


def test_where_no_file_can_be_made(engine: SQLiteEngine, path: Path) -> None:
    """A planted link is not followed, and the engine works without a queue."""
    victim = path.with_name("victim")
    Path(f"{path}-queue").symlink_to(victim)
    engine._queue.meet()
    insert(engine, 1)
    assert rows(path) == [1]
    assert not victim.exists()


def test_without_locks_at_all(engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python has no file locks, as on Windows, there is no queue."""
    monkeypatch.setattr(_queue, "fcntl", None)
    engine._queue.meet()
    insert(engine, 1)
    assert rows(path) == [1]
    assert log_files(path) == [path.name]


def test_a_stopped_process_holds_nobody_up_for_ever(
    path: Path, engine: SQLiteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that sits at the place and does not move delays others, but SQLite's lock is free, so they write."""
    monkeypatch.setattr(_queue, "PATIENCE_S", 0.01)
    member = Member(path, "a")
    member.enter("in")
    member.process.send_signal(signal.SIGSTOP)
    try:
        engine._queue.meet()
        insert(engine, 1)
        assert rows(path) == [1]
    finally:
        member.process.send_signal(signal.SIGCONT)
        member.end()


SOAK_S: Final = float(os.environ.get("MEMORYOS_UOW_SOAK", "0"))
ROWS: Final = 8000
WRITER: Final = """
import sys, threading
from pathlib import Path
from memoryos_uow import Durability
from memoryos_uow.engines.sqlite import SQLiteEngine
engine = SQLiteEngine.open(Path(sys.argv[1]), durability=Durability.NORMAL, busy_timeout_s=60)
over = threading.Event()
print("ready", flush=True)
sys.stdin.readline()
threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
done = 0
while not over.is_set():
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (?)", (int(sys.argv[2]) + 8 * done,))
    tx.commit()
    done += 1
print(done, flush=True)
"""


@pytest.mark.parametrize("count", [2, 8] if SOAK_S else [4])
def test_nobody_starves(engine: SQLiteEngine, path: Path, count: int) -> None:
    """Of processes that write as fast as they can none falls far behind: left to SQLite, some get next to nothing.

    A second is short, and the machine may be busy, so a quarter of what the fastest has done is enough then. With
    MEMORYOS_UOW_SOAK=60 it takes a minute each with 2 and with 8 processes, and half is asked for. In what order the
    place is handed over is tested above.
    """
    children = [processes.start(WRITER, str(path), str(number)) for number in range(count)]
    for child in children:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    _tell(children, b"go\n")
    enough = _ambient.monotonic_ns() + round(SOAK_S * 1e9)
    with engine.reader() as reader:
        while _ambient.monotonic_ns() < enough or reader.rows("SELECT count(*) FROM t")[0][0] < ROWS:
            assert {child.poll() for child in children} == {None}
            _ambient.sleep(0.01)
    _tell(children, b"over\n")
    done = [int(child.communicate()[0]) for child in children]
    assert sum(done) == len(rows(path))
    sys.stdout.write(f"{count} processes: {sorted(done)}, slowest/fastest {min(done) / max(done):.2f}\n")
    assert min(done) * (2 if SOAK_S else 4) >= max(done), done


def _tell(children: list[subprocess.Popen[bytes]], what: bytes) -> None:
    for child in children:
        assert child.stdin is not None
        child.stdin.write(what)
        child.stdin.flush()
