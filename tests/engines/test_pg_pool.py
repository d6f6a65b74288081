"""The pool of connections: how many, for whom, and what may come back."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import _ambient
from memoryos_uow.engines import _pg_pool as pool
from memoryos_uow.errors import LedgerBusy, LedgerError, UsageError
from tests.engines.pg_engines import behind_proxy, engine_at, insert, others, values
from tests.processes import ChildError, forked

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow.engines.postgres import PostgresEngine


def small(url: str, number: int = 2) -> str:
    """The address with fewer connections."""
    return f"{url}{'&' if '?' in url else '?'}uow_connections={number}"


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Call it in another thread; what it returns or raises is in the list."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(call())
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came


def test_connections_are_used_again(pg_url: str) -> None:
    """One after the other: one connection; at once: as many as there are transactions."""
    with engine_at(pg_url) as engine:
        for number in range(5):
            insert(engine, number)
        assert len(engine._pool._idle) == 1
        open_ones = [engine.begin() for _ in range(3)]
        for tx in open_ones:
            tx.rows("SELECT 1")
            tx.rollback()
        assert len(engine._pool._idle) == 3


def test_there_are_so_many_at_most(pg_url: str) -> None:
    """Whoever comes then waits, in the order of coming, and is busy if that takes too long."""
    with engine_at(small(pg_url)) as engine:
        held = [engine.begin(), engine.begin()]
        thread, came = in_thread(lambda: engine.begin(wait_s=0))
        thread.join()
        assert isinstance(came[0], LedgerBusy)
        assert came[0].retryable
        order: list[int] = []
        threads = []
        for number in range(3):

            def take(number: int = number) -> None:
                tx = engine.begin()
                order.append(number)
                tx.rollback()

            threads.append(in_thread(take)[0])
            while len(engine._pool._waiting) <= number:
                pass
        held.pop().rollback()
        for thread in threads:
            thread.join()
        assert order == [0, 1, 2]
        held.pop().rollback()


def test_a_thread_does_not_wait_for_itself(pg_url: str) -> None:
    """It gets one more than there are, else nobody could ever go on."""
    with engine_at(small(pg_url)) as engine:
        held = [engine.begin() for _ in range(3)]
        with engine.reader() as reader:
            assert reader.rows("SELECT 1") == [(1,)]
        for tx in held:
            tx.rollback()


def test_a_loan_that_was_lost_is_over(pg_url: str) -> None:
    """Nobody refers to it: its place is free, its connection closed, and whoever waits finds out."""
    with engine_at(small(pg_url)) as engine:
        lost = [engine._pool.lend(1), engine._pool.lend(1)]
        thread, came = in_thread(lambda: values(engine))
        lost.clear()
        gc.collect()
        thread.join()
        assert came == [[]]


def test_what_is_not_sound_does_not_come_back(pg_url: str) -> None:
    """A connection in a transaction of somebody's making is closed."""
    with engine_at(pg_url) as engine:
        with engine.reader() as reader:
            reader.connection.execute("BEGIN")
        assert engine._pool._idle == []
        with engine.reader() as reader:
            reader.connection.close()
        assert engine._pool._idle == []
        assert others(engine) == 0


def test_what_the_server_says_meanwhile_is_read(pg_url: str) -> None:
    """A notice or a changed setting is no reason to give a connection up; one that never ends is."""
    with engine_at(pg_url) as engine:
        with engine.reader() as reader:
            pid = reader.connection.info.backend_pid
            reader.connection.execute("SET statement_timeout = 0")
            reader.connection.execute("LISTEN news")
        with engine_at(pg_url) as other, other.reader() as reader:
            reader.connection.execute("NOTIFY news")
        with engine.reader() as reader:
            assert reader.connection.info.backend_pid == pid
            reader.connection.execute("LISTEN news")
        with engine_at(pg_url) as other, other.reader() as reader:
            reader.connection.execute("NOTIFY news")

        always = pytest.MonkeyPatch()
        always.setattr(pool, "_readable", lambda _: True)
        with engine.reader() as reader:
            assert reader.connection.info.backend_pid != pid
        always.undo()


def test_every_idle_one_is_replaced_after_a_restart(pg_url: str) -> None:
    """A server that comes back finds its clients as they were."""
    with behind_proxy(pg_url) as (engine, proxy):
        open_ones = [engine.begin() for _ in range(4)]
        for tx in open_ones:
            tx.rows("SELECT 1")
            tx.rollback()
        proxy.cut_all()
        insert(engine, 1)
        assert values(engine) == [1]


def test_the_server_is_gone(pg_url: str) -> None:
    """Typed, worth another try, and the place in the pool is free again."""
    with behind_proxy(small(pg_url)) as (engine, proxy):
        home, proxy.server = proxy.server, 1
        proxy.cut_all()
        for _ in range(5):
            with pytest.raises(LedgerError, match="cannot be reached") as caught:
                values(engine)
            assert caught.value.retryable
        proxy.server = home
        assert values(engine) == []


def test_closing(pg_url: str) -> None:
    """Idle connections close at once, those in use when they come back; after that nothing is to be had."""
    with engine_at(pg_url) as engine, engine_at(pg_url) as watcher:
        tx = engine.begin()
        tx.execute("INSERT INTO t(x) VALUES (1)")
        assert engine.usable
        engine.close()
        engine.close()
        assert not engine.usable
        tx.commit()
        while others(watcher):
            pass
        assert values(watcher) == [1]
        with pytest.raises(UsageError, match="is closed"):
            engine.begin()


def test_a_forked_child_is_refused_and_says_nothing(pg_url: str) -> None:
    """It neither uses nor ends what its parent has open: idle connections, a transaction, a reader."""
    with engine_at(pg_url) as engine:
        insert(engine, 1)
        idle = engine.begin()
        idle.rows("SELECT 1")
        tx = engine.begin()
        tx.execute("INSERT INTO t(x) VALUES (2)")
        with engine.reader() as reader:
            stream = reader.stream("SELECT x FROM t")
            next(stream)
            idle.rollback()
            assert forked(lambda: _use(engine, tx, reader, stream)) == ["UsageError"] * 2 + ["LedgerError"] * 4
            assert list(stream) == []
        tx.execute("INSERT INTO t(x) VALUES (3)")
        tx.commit()
        assert values(engine) == [1, 2, 3]


def _use(engine: PostgresEngine, tx: Any, reader: Any, stream: Any) -> list[str]:
    said: list[str] = []
    for call in (
        engine.begin,
        lambda: values(engine),
        lambda: tx.execute("SELECT 1"),
        tx.commit,
        lambda: tx.connection,
        lambda: reader.rows("SELECT 1"),
    ):
        try:
            call()
        except Exception as error:  # noqa: BLE001 - its name is what matters
            said.append(type(error).__name__)
    stream.close()
    tx.rollback()
    reader.give_back()
    engine.close()
    return said


def test_a_child_that_ends_harms_nobody(pg_url: str) -> None:
    """Not even one that ends in an orderly way, with everything collected and every exit handler run."""
    with engine_at(pg_url) as engine:
        insert(engine, 1)
        tx = engine.begin()
        tx.execute("INSERT INTO t(x) VALUES (2)")
        with pytest.raises(ChildError):
            forked(_leave)
        tx.commit()
        assert values(engine) == [1, 2]


def _leave() -> None:
    gc.collect()
    raise SystemExit


def test_what_came_over_a_fork_is_kept_from_being_closed(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a child: nothing is sent on it, and it is neither lent nor closed (children are not measured)."""
    kept: list[Any] = []
    monkeypatch.setattr(pool, "_of_parents", kept)
    with engine_at(pg_url) as engine:
        one, other = engine.begin(), engine.begin()
        for tx in (one, other):
            tx.execute("SELECT 1")
        other.rollback()
        idle = engine._pool._idle[0]
        with engine.reader() as reader:
            stream: Any = reader.stream("SELECT 1 UNION SELECT 2")
            next(stream)
            lent = reader._loan.connection
            with monkeypatch.context() as child:
                child.setattr(_ambient, "process_id", lambda: -1)
                assert not engine.usable
                one.rollback_to("s")
                stream.close()
                reader.give_back()
                engine.close()
                with pytest.raises(UsageError, match="forked"):
                    engine.begin()
        held = [loan.connection for loan in engine._pool._loans]
        pool._after_fork_in_child()
        assert engine._pool._idle == []
        assert {lent, *held} <= set(kept)
        assert not any(connection.closed for connection in kept)
    for connection in {*kept, idle}:
        connection.close()


def test_an_idle_one_that_was_closed_here_is_not_lent(pg_url: str) -> None:
    """Whoever closed it."""
    with engine_at(pg_url) as engine:
        engine._pool._idle[0].close()
        assert values(engine) == []
