"""Several threads and processes on one file: waiting is counted and bounded, and nothing is lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Durability, Ledger, UsageError, _ambient
from memoryos_uow.errors import LedgerBusy, LedgerError
from tests import processes
from tests.engines.looking import PATIENT_S, insert, is_free, rows, thread, watch_turn

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from memoryos_uow.engines.sqlite import SQLiteEngine
    from tests.engines.conftest import Opener

OTHER_PROCESS = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    other.execute(line)
    print("done", flush=True)
"""


def let(other: subprocess.Popen[bytes], sql: str) -> None:
    """Have the other process run a statement, and wait until it has."""
    assert other.stdin is not None
    assert other.stdout is not None
    other.stdin.write(f"{sql}\n".encode())
    other.stdin.flush()
    assert other.stdout.readline() == b"done\n"


def test_waiting_for_another_thread_is_counted(engine: SQLiteEngine, path: Path) -> None:
    """A transaction that another thread's made wait begins when that one ends, and says that it waited once."""
    waited_for = watch_turn(engine)
    first = engine.begin()
    first.execute("INSERT INTO t VALUES (1)")
    waits: list[int] = []

    def second() -> None:
        tx = engine.begin()
        waits.append(tx.busy_waits)
        tx.execute("INSERT INTO t VALUES (2)")
        tx.commit()

    with thread(second) as raised:
        assert waited_for.wait(PATIENT_S)
        first.commit()
    assert (raised, waits, first.busy_waits) == ([], [1], 0)
    assert rows(path) == [1, 2]


def test_lock_of_another_process_is_busy_at_once_without_patience(engine: SQLiteEngine, path: Path) -> None:
    """With no time allowed the lock of another process is LedgerBusy at the first attempt, and nothing is held."""
    with processes.start(OTHER_PROCESS, str(path)) as other:
        let(other, "BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusy, match="Other writers kept") as busy:
            engine.begin(wait_s=0)
        assert (busy.value.busy_waits, busy.value.retryable) == (0, True)
        let(other, "ROLLBACK")
        assert is_free(engine)
        other.communicate()


def test_waiting_for_another_process_is_counted(
    engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction asks again until another process has ended its own, and says how often it asked in vain."""
    with processes.start(OTHER_PROCESS, str(path)) as other:
        let(other, "BEGIN IMMEDIATE")
        let(other, "INSERT INTO t VALUES (1)")
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                let(other, "COMMIT")

        monkeypatch.setattr(_ambient, "sleep", pause)
        tx = engine.begin()
        assert (tx.busy_waits, len(pauses)) == (3, 3)
        assert tx.rows("SELECT x FROM t") == [(1,)]
        tx.rollback()
        other.communicate()


def test_patience_ends(engine: SQLiteEngine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time allowed the lock counts as busy, its attempts counted; the pauses are the backoff's."""
    clock = 0
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        nonlocal clock
        pauses.append(seconds)
        clock += 1_000_000_000

    monkeypatch.setattr(_ambient, "monotonic_ns", lambda: clock)
    monkeypatch.setattr(_ambient, "random_fraction", lambda: 1.0)
    monkeypatch.setattr(_ambient, "sleep", pause)
    with processes.start(OTHER_PROCESS, str(path)) as other:
        let(other, "BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusy) as busy:
            engine.begin(wait_s=9)
        other.communicate()
    assert busy.value.busy_waits == 9
    assert pauses == [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.05, 0.05, 0.05]


def test_an_open_reader_elsewhere_keeps_nobody_from_writing(engine: SQLiteEngine, path: Path) -> None:
    """Another process's long read neither holds up a commit nor sees it."""
    insert(engine, 1)
    with processes.start(OTHER_PROCESS, str(path)) as other:
        let(other, "BEGIN")
        let(other, "SELECT * FROM t")
        tx = engine.begin(wait_s=0)
        tx.execute("INSERT INTO t VALUES (2)")
        tx.commit()
        other.communicate()
    assert rows(path) == [1, 2]


WRITER = """
import sys
from pathlib import Path
from memoryos_uow import Durability
from memoryos_uow.engines.sqlite import SQLiteEngine
for number, line in enumerate(sys.stdin):
    engine = SQLiteEngine.open(Path(line.strip()), durability=Durability.NORMAL, busy_timeout_s=60)
    with engine.reader() as reader:
        mode = reader.rows("PRAGMA journal_mode")[0][0]
    engine.close()
    print(mode, flush=True)
"""


def test_processes_that_make_a_file_at_once_all_get_a_log(tmp_path: Path) -> None:
    """Four processes that open and close the same new file at the same moment all get it in WAL mode, each time."""
    children = [processes.start(WRITER) for _ in range(4)]
    try:
        for number in range(8):
            for child in children:
                assert child.stdin is not None
                child.stdin.write(f"{tmp_path}/{number}.db\n".encode())
            for child in children:
                assert child.stdin is not None
                child.stdin.flush()
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == b"wal\n", child.communicate()[1].decode()
    finally:
        for child in children:
            child.communicate()


COUNTER = """
import sys, threading
from pathlib import Path
from memoryos_uow import Durability
from memoryos_uow.engines.sqlite import SQLiteEngine
engine = SQLiteEngine.open(Path(sys.argv[1]), durability=Durability.NORMAL, busy_timeout_s=60)
waits = []
def count():
    for _ in range(15):
        tx = engine.begin()
        waits.append(tx.busy_waits)
        n = tx.rows("SELECT max(x) FROM t")[0][0]
        tx.execute("INSERT INTO t VALUES (?)", (n + 1,))
        tx.commit()
threads = [threading.Thread(target=count) for _ in range(3)]
sys.stdin.readline()
for thread in threads: thread.start()
for thread in threads: thread.join()
engine.close()
print(len(waits), sum(waits))
"""


def test_threads_of_two_processes_count_together(engine: SQLiteEngine, path: Path) -> None:
    """Six threads of two processes that add one to the last number each time reach exactly the sum."""
    insert(engine, 0)
    engine.close()
    children = [processes.start(COUNTER, str(path)) for _ in range(2)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        child.stdin.flush()
    answers = [child.communicate() for child in children]
    assert [err for _, err in answers] == [b"", b""]
    assert [int(out.split()[0]) for out, _ in answers] == [45, 45]
    assert rows(path) == list(range(91))


def test_threads_lend_the_writer_one_after_the_other(path: Path, open_engine: Opener) -> None:
    """Eight threads of one process share one writer: each sees all that was committed before it, none fails."""
    engine = open_engine(path, durability=Durability.NORMAL)
    tx = engine.begin()
    tx.execute("CREATE TABLE t (x)")
    tx.execute("INSERT INTO t VALUES (0)")
    tx.commit()
    start = threading.Barrier(8)
    raised: list[BaseException] = []

    def count() -> None:
        try:
            start.wait()
            for _ in range(20):
                tx = engine.begin()
                tx.execute("UPDATE t SET x = x + 1")
                tx.commit()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test wants to see it
            raised.append(error)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert raised == []
    assert rows(path) == [160]


def test_a_thread_does_not_wait_for_its_own_lock(path: Path) -> None:
    """A unit inside one of another Ledger object on the same file is refused at once, and its row is written later."""
    with Ledger.open(path, busy_timeout=60) as outer, Ledger.open(path, busy_timeout=60) as inner:
        with outer.unit(space_id="s", band="GREEN") as first:
            first.sql("SELECT 1")  # from here it holds the lock
            with (
                pytest.raises(UsageError, match="through another Ledger object"),
                inner.unit(space_id="s", band="GREEN", nested="independent") as second,
            ):
                second["notes"].create("k", 1)
            first["notes"].create("k", 2)
        with inner.unit(space_id="s", band="GREEN") as third:
            third["notes"].update("k", 3)
        assert [outer.get(unit.uow_id).status for unit in (first, second, third)] == [
            "committed",
            "failed",
            "committed",
        ]


@pytest.mark.parametrize("comes_back", [False, True], ids=["removed", "replaced"])
def test_a_file_that_is_not_there_any_more_takes_no_unit(path: Path, comes_back: bool) -> None:
    """SQLite writes on into a file without a name, or beside the new one: that is noticed, and nothing is pretended."""
    with Ledger.open(path) as ledger:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("k", 1)
        for each in path.parent.glob(f"{path.name}*"):
            each.rename(each.with_name(f"moved-{each.name}"))
        if comes_back:
            Ledger.open(path).close()
        for _ in range(2):
            with (
                pytest.raises(LedgerError, match=r"removed or replaced|cannot be opened"),
                ledger.unit(space_id="s", band="GREEN") as lost,
            ):
                lost["notes"].create("l", 2)
            assert lost.status == "failed"
    if comes_back:
        with Ledger.open(path) as ledger:
            assert ledger.units() == []
            assert list(ledger["notes"].keys(space_id="s")) == []
