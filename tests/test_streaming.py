"""Units of very many writes: they leave memory early, and nobody can tell from what was committed."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from memoryos_uow import Ledger, LedgerBusy, Limits, RecordExists, UsageError
from memoryos_uow.receipts import ReceiptWrite, writes_root
from tests.both import both, sqlite_only
from tests.units import SPACE, four_stores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow import UnitOfWork

pytestmark = both

TIGHT = Limits(waiting_writes=10, waiting_bytes=1_000)


@pytest.fixture
def tight(place: Path | str, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger whose units hold ten writes in memory."""
    stores = four_stores(tmp_path if isinstance(place, str) else None)
    with Ledger.open(place, stores=stores, limits=TIGHT) as opened:
        yield opened


def in_memory(uow: UnitOfWork) -> int:
    """How many writes the unit keeps."""
    assert uow._state is not None
    return len(uow._state.buffer.writes)


def check_receipt(ledger: Ledger, uow: UnitOfWork, keys: list[tuple[str, str | None]]) -> None:
    """The committed unit's rows are those writes in that order, and its receipt is over exactly these rows."""
    record = ledger.get(uow.uow_id)
    assert [(write.store_name, write.record_id) for write in record.writes] == keys
    assert [write.id - record.writes[0].id for write in record.writes] == list(range(len(keys)))
    assert uow.receipt is not None
    assert uow.receipt == ledger.receipt(uow.uow_id)
    assert uow.receipt.hash == record.receipt_hash
    assert uow.receipt.write_count == len(keys)
    assert uow.receipt.store_count == record.store_count == len({store for store, _ in keys})
    assert uow.receipt.total_bytes_written == sum(write.bytes_written or 0 for write in record.writes)
    assert (record.status, record.error_type, record.committed_ts) == ("committed", None, uow.receipt.committed_ts)
    leaves = (
        ReceiptWrite(
            seq,
            write.store_name,
            write.record_id,
            str(write.operation_type),
            write.bytes_written or 0,
            write.checksum,
            write.ts,
        )
        for seq, write in enumerate(record.writes)
    )
    assert uow.receipt.writes_root == writes_root(leaves)
    assert ledger.validate() == []


def test_a_streamed_unit_verifies(tight: Ledger) -> None:
    """`Ledger.verify` recomputes receipts of streamed units of every band, and finds the stores as they say."""
    for band in ("GREEN", "AMBER"):
        with tight.unit(space_id=band, band=band) as uow:
            for number in range(25):
                uow["notes"].create(f"k{number}", number)
                uow["photos"].create(f"k{number}", b"p" * 30)
            uow["notes"].delete("k3")
    found = tight.verify()
    assert found.ok, found


def test_a_unit_of_many_writes_is_like_any_other(tight: Ledger) -> None:
    """Rows, receipt and records are the same as if all writes had waited; memory holds some of them at most."""
    seen = []
    with tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("first", 1)
        for number in range(95):
            uow["orders" if number % 3 else "notes"].create(f"k{number}", {"n": number})
            seen.append(in_memory(uow))
    assert max(seen) == 9  # the tenth write takes the others along
    expected = [("notes", "first"), *(("orders" if n % 3 else "notes", f"k{n}") for n in range(95))]
    check_receipt(tight, uow, list(expected))
    assert tight["notes"].get("k93", space_id=SPACE) == {"n": 93}
    assert tight["orders"].get("k94", space_id=SPACE)["n"] == 94


def test_bytes_count_as_well(tight: Ledger) -> None:
    """A few large records leave memory as early as many small ones."""
    with tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("a", "x" * 600)
        assert in_memory(uow) == 1
        uow["notes"].create("b", "x" * 600)
        assert in_memory(uow) == 0
    check_receipt(tight, uow, [("notes", "a"), ("notes", "b")])


@sqlite_only("there no unit holds a lock that others need")
def test_the_lock_is_held_from_the_first_chunk_on(tight: Ledger, tmp_path: Path) -> None:
    """Nobody waits for a unit that buffers; once it streams, others wait until it ends."""
    with (
        Ledger.open(tmp_path / "memory.db", busy_timeout=0, limits=TIGHT) as other,
        tight.unit(space_id=SPACE, band="GREEN") as uow,
    ):
        uow["notes"].create_many((f"k{number}", number) for number in range(9))
        with other.unit(space_id=SPACE, band="GREEN") as quick:
            quick["notes"].create("quick", 1)
        uow["notes"].create("k9", 9)
        with pytest.raises(LedgerBusy), other.unit(space_id=SPACE, band="GREEN") as late:
            late["notes"].create("late", 1)
    assert uow.status == "committed"


def test_reads_see_what_has_left_memory(tight: Ledger) -> None:
    """`get`, `search` and SQL answer for writes that wait, were applied, or have left memory."""
    with tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create_many((f"k{number}", number) for number in range(25))
        uow["notes"].update("k3", "three")
        uow["notes"].delete("k4")
        assert [uow["notes"].get(key) for key in ("k0", "k3", "k4", "k24")] == [0, "three", None, 24]
        uow["notes"].create_many((f"l{number}", number) for number in range(12))
        assert [uow["notes"].get(key) for key in ("k0", "k3", "k4", "k24", "l11")] == [0, "three", None, 24, 11]
        assert uow.sql("SELECT count(*) FROM uow_documents") == [(36,)]


def test_an_error_undoes_everything(tight: Ledger) -> None:
    """What had left memory is undone with the unit; its row says failed, and names no writes."""
    with pytest.raises(ZeroDivisionError), tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create_many((f"k{number}", number) for number in range(25))
        raise ZeroDivisionError
    record = tight.get(uow.uow_id)
    assert (record.status, record.writes, record.store_count) == ("failed", (), 1)
    assert list(tight["notes"].keys(space_id=SPACE)) == []


def test_what_only_the_store_can_tell_comes_later(tight: Ledger) -> None:
    """A key that is taken is noticed when its chunk is applied; the unit ends, and nothing is left of it."""
    with tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("k2", "taken")
    with pytest.raises(RecordExists) as refused, tight.unit(space_id=SPACE, band="GREEN") as uow:
        for number in itertools.count():
            uow["notes"].create(f"k{number}", number)
            assert number < 9
    assert refused.value.store == "notes"
    assert list(tight["notes"].keys(space_id=SPACE)) == ["k2"]


def test_a_refused_chunk_can_be_undone_by_a_savepoint(tight: Ledger) -> None:
    """The savepoint takes back the chunk, and with it the write that was refused; the unit goes on and commits."""
    with tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("k2", "taken")
    with tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create_many((f"a{number}", number) for number in range(12))
        with pytest.raises(RecordExists), uow.savepoint():
            uow["notes"].create_many((f"k{number}", number) for number in range(30))
        uow["notes"].create("z", 1)
    check_receipt(tight, uow, [*(("notes", f"a{number}") for number in range(12)), ("notes", "z")])


Act = tuple[str, int]
ACTS = st.lists(
    st.tuples(st.sampled_from(["write", "open", "keep", "undo", "read"]), st.integers(1, 40)), min_size=1, max_size=12
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
@example(acts=[("write", 40), ("open", 1), ("write", 40), ("undo", 1), ("write", 40)])
@example(
    acts=[("write", 7), ("open", 1), ("write", 7), ("open", 1), ("write", 40), ("undo", 1), ("write", 40), ("undo", 1)]
)
@example(
    acts=[("open", 1), ("write", 4), ("read", 2), ("open", 1), ("write", 40), ("keep", 1), ("undo", 1), ("write", 9)]
)
@sqlite_only("many examples")
def test_savepoints_cut_what_has_left_memory(tight: Ledger, acts: list[Act]) -> None:
    """However savepoints and chunks lie across each other, what is committed is what was not undone, in its order."""
    fresh = itertools.count()
    blocks: list[Any] = []
    lengths: list[int] = []
    expected: list[tuple[str, str | None]] = []
    with tight.unit(space_id=f"space {next(_spaces)}", band="GREEN") as uow:
        for act, amount in acts:
            if act == "write":
                for number in itertools.islice(fresh, amount):
                    store = ("notes", "orders", "photos")[number % 3]
                    value = {"notes": number, "orders": {"n": number}, "photos": b"x" * number}[store]
                    uow[store].create(f"k{number}", value)
                    expected.append((store, f"k{number}"))
            elif act == "open":
                blocks.append(uow.savepoint())
                blocks[-1].__enter__()
                lengths.append(len(expected))
            elif act == "read":
                for store, key in expected[-amount:]:
                    assert uow[store].get(str(key)) is not None
                uow.sql("SELECT 1")
            elif blocks and act == "keep":
                blocks.pop().__exit__(None, None, None)
                lengths.pop()
            elif blocks:
                problem = ZeroDivisionError()
                assert not blocks.pop().__exit__(ZeroDivisionError, problem, None)
                del expected[lengths.pop() :]
        while blocks:
            blocks.pop().__exit__(None, None, None)
        uow["notes"].create("last", 1)
    check_receipt(tight, uow, [*expected, ("notes", "last")])


_spaces = itertools.count()


def test_nonces_stay_with_their_writes(tight: Ledger) -> None:
    """From AMBER on each write has a nonce, also where its row was written early."""
    with tight.unit(space_id=SPACE, band="AMBER") as uow:
        uow["notes"].create_many((f"k{number}", number) for number in range(25))
    first = tight.get(uow.uow_id).writes[0].id
    with tight._opened.engine.reader() as reader:
        nonces = reader.rows("SELECT write_id, nonce FROM uow_nonces ORDER BY write_id")
    assert [row[0] for row in nonces] == list(range(first, first + 25))
    assert len({row[1] for row in nonces}) == 25


def test_statements_and_messages_stream_too(tight: Ledger) -> None:
    """`uow.sql`, its statements that run at once, and published messages leave memory like records."""
    with tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow.sql("CREATE TABLE audit (what INTEGER)")
        for number in range(12):
            uow.sql("INSERT INTO audit VALUES (?)", (number,))
            assert in_memory(uow) < 10
        for number in range(12):
            assert uow.sql("INSERT INTO audit VALUES (?) RETURNING what", (number,)) == [(number,)]
            assert in_memory(uow) < 10
        for number in range(12):
            uow.publish("topic", number)
            assert in_memory(uow) < 10
    assert uow.receipt is not None
    assert (uow.receipt.write_count, uow.receipt.store_count) == (37, 2)


def test_large_blobs_wait_in_memory_and_are_bounded(tmp_path: Path) -> None:
    """Writes to stores outside the ledger stay until the decision; more than the limits say are refused at once."""
    limits = Limits(waiting_writes=10, outside_writes_per_unit=12, outside_bytes_per_unit=1_000_000)
    with Ledger.open(tmp_path / "memory.db", stores=four_stores(), limits=limits) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            for number in range(12):
                uow["photos"].create(f"p{number}", b"p" * 70_000)
                uow["notes"].create(f"n{number}", number)
            assert uow["photos"].get("p0") == b"p" * 70_000
            with pytest.raises(UsageError, match="12 writes at most to stores outside"):
                uow["photos"].create("p12", b"p")
            uow["notes"].create("n12", 1)
        keys = [(store, f"{store[0]}{number}") for number in range(12) for store in ("photos", "notes")]
        check_receipt(ledger, uow, [*keys, ("notes", "n12")])
        assert all(ledger["photos"].get(f"p{n}", space_id=SPACE) == b"p" * 70_000 for n in range(12))
        with (
            pytest.raises(UsageError, match="1,000,000 bytes at most to stores outside"),
            ledger.unit(space_id=SPACE, band="GREEN") as uow,
        ):
            uow["photos"].create_many((f"q{number}", b"q" * 300_000) for number in range(4))


def test_a_streaming_unit_can_be_killed_at_any_time(tmp_path: Path) -> None:
    """A process that dies in the middle leaves nothing of it: not one record, row or write."""
    program = f"""
import os
from memoryos_uow import Ledger, Limits
ledger = Ledger.open({str(tmp_path / "memory.db")!r}, limits=Limits(waiting_writes=10))
with ledger.unit(space_id="s", band="GREEN") as uow:
    uow["notes"].create_many((f"k{{n}}", n) for n in range(55))
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    with Ledger.open(tmp_path / "memory.db") as ledger:
        assert list(ledger["notes"].keys(space_id="s")) == []
        assert ledger.units() == []
        with ledger._opened.engine.reader() as reader:
            assert reader.rows("SELECT count(*) FROM uow_writes") == [(0,)]


@pytest.mark.parametrize(("items", "told"), [(0, [0]), (3, [3]), (1000, [1000]), (2500, [1000, 2000, 2500])])
def test_progress_is_told(tight: Ledger, items: int, told: list[int]) -> None:
    """After every thousand and at the end; each number once."""
    heard: list[int] = []
    with tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create_many(((f"k{number}", number) for number in range(items)), progress=heard.append)
        assert heard == told
        heard.clear()
        uow["notes"].update_many({f"k{number}": -number for number in range(items)}, progress=heard.append)
        uow["notes"].upsert_many({"other": 1}, progress=None)
        assert heard == told
        heard.clear()
        uow["notes"].delete_many((f"k{number}" for number in range(items)), progress=heard.append)
        assert heard == told
    assert list(tight["notes"].keys(space_id=SPACE)) == ["other"]


def test_an_iterable_that_raises_ends_the_unit(tight: Ledger) -> None:
    """The caller's exception arrives unchanged, and what was written before it is undone."""

    def broken() -> Iterator[tuple[str, object]]:
        yield from ((f"k{number}", number) for number in range(25))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create_many(broken())
    assert tight.get(uow.uow_id).error_type == "ZeroDivisionError"
    assert list(tight["notes"].keys(space_id=SPACE)) == []


@sqlite_only("the disk is full in SQLite's way")
def test_a_full_disk_leaves_the_chunk_in_memory(tight: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows of writes cannot be written, nothing has left memory, and going on is possible."""
    rows = tight._opened.rows
    with tight.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create_many((f"k{number}", number) for number in range(9))
        with monkeypatch.context() as patched:
            patched.setattr(rows, "insert_writes", _raise)
            with pytest.raises(OSError, match="no room"):
                uow["notes"].create("k9", 9)
        assert in_memory(uow) == 10
        uow["notes"].create("k10", 10)
        assert in_memory(uow) == 0
    check_receipt(tight, uow, [("notes", f"k{number}") for number in range(11)])


def _raise(*_: object) -> None:
    raise OSError("no room")


def test_threads_stream_one_after_the_other(tight: Ledger) -> None:
    """Two threads whose units both stream: one waits for the other, and both commit."""

    def work(name: str) -> None:
        with tight.unit(space_id=name, band="GREEN") as uow:
            uow["notes"].create_many((f"k{number}", number) for number in range(60))
        check_receipt(tight, uow, [("notes", f"k{number}") for number in range(60)])
        done.append(name)

    done: list[str] = []
    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["one", "two"]


def test_memory_is_flat(tmp_path: Path) -> None:
    """Six times as many writes take no more memory, within a tenth."""
    program = """
import sys, tracemalloc
from memoryos_uow import Ledger, Limits
ledger = Ledger.open(sys.argv[1], limits=Limits(waiting_writes=1000), durability="normal")
peaks = []
for number in (2_000, 12_000):
    tracemalloc.start()
    with ledger.unit(space_id=str(number), band="GREEN") as uow:
        uow["notes"].create_many((f"k{n}", {"text": "x" * 50, "n": n}) for n in range(number))
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
print(*peaks)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "memory.db")], check=True, capture_output=True, text=True
    )
    few, many = map(int, done.stdout.split())
    assert many < 1.1 * few
