"""A connection to PostgreSQL in use: as a reader, or as a unit's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow._names import Isolation
from memoryos_uow.errors import ConflictError, LedgerBusy, LedgerError, StoreError, UsageError
from tests.engines.pg_engines import behind_proxy, engine_at, insert, others, values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow.engines.postgres import PostgresEngine
    from tests.postgres_proxy import Message


@pytest.fixture
def engine(pg_url: str) -> Iterator[PostgresEngine]:
    """An engine with an empty table."""
    with engine_at(pg_url) as opened:
        yield opened


def end(stream: Any) -> None:
    """Close a stream before its end."""
    stream.close()


# Round trips


def test_a_transaction_takes_as_many_round_trips_as_answers_are_waited_for(pg_url: str) -> None:
    """BEGIN travels with the first statement, and what is put off with the next one; writing many rows is one trip."""
    with behind_proxy(pg_url) as (engine, proxy):
        insert(engine, 0)  # a connection is there now

        def many() -> None:
            tx = engine.begin()
            assert tx.execute_many("INSERT INTO t(x) VALUES (?)", [(number,) for number in range(1, 50)]) == 49
            for number in range(50, 60):
                tx.later("INSERT INTO t(x) VALUES (?)", (number,))
            tx.commit()

        assert proxy.count(many) == 2
        assert values(engine) == list(range(60))


def test_a_transaction_that_did_nothing_asks_nobody(pg_url: str) -> None:
    """Neither its commit nor its rollback says anything to the server."""
    with behind_proxy(pg_url) as (engine, proxy):

        def nothing() -> None:
            tx = engine.begin()
            tx.commit()
            assert tx.decided
            engine.begin().rollback()

        assert proxy.count(nothing) == 0
        tx = engine.begin()
        assert tx.execute_many("INSERT INTO t(x) VALUES (?)", []) == 0
        tx.rollback()


# What a transaction is


def test_what_is_rolled_back_is_not_there(engine: PostgresEngine) -> None:
    """And the connection serves the next one."""
    tx = engine.begin()
    tx.execute("INSERT INTO t(x) VALUES (1)")
    tx.rollback()
    tx.rollback()
    assert not tx.open
    assert not tx.decided
    assert values(engine) == []
    assert others(engine) == 0


def test_one_that_is_over_answers_no_more(engine: PostgresEngine) -> None:
    """Its connection may serve somebody else by now."""
    tx = engine.begin()
    tx.commit()
    for call in (tx.commit, lambda: tx.rows("SELECT 1"), lambda: tx.connection):
        with pytest.raises(LedgerError, match="is over"):
            call()
    tx.rollback_to("never")


def test_whoever_asks_for_the_connection_finds_the_transaction_begun(engine: PostgresEngine) -> None:
    """What was put off is sent first."""
    tx = engine.begin()
    tx.later("INSERT INTO t(x) VALUES (1)")
    assert tx.connection.execute("SELECT x FROM t").fetchall() == [(1,)]
    assert int(tx.connection.info.transaction_status) == 2
    tx.rollback()
    tx = engine.begin()
    tx.later("INSERT INTO nowhere VALUES (1)")
    with pytest.raises(UsageError, match="42P01"):
        _ = tx.connection
    tx.rollback()


def test_savepoints(engine: PostgresEngine) -> None:
    """What came after one is undone, whether the server has heard of it or not; what came before stays."""
    tx = engine.begin()
    tx.execute("INSERT INTO t(x) VALUES (1)")
    tx.savepoint("heard")
    tx.execute("INSERT INTO t(x) VALUES (2)")
    tx.rollback_to("heard")
    tx.savepoint("unheard")
    tx.later("INSERT INTO t(x) VALUES (3)")
    tx.rollback_to("unheard")
    tx.savepoint("kept")
    tx.execute("INSERT INTO t(x) VALUES (4)")
    tx.release("kept")
    tx.commit()
    assert values(engine) == [1, 4]


def test_a_step_that_fails_is_undone_alone(engine: PostgresEngine) -> None:
    """After that the transaction goes on, although PostgreSQL had given it up."""
    insert(engine, 1)
    tx = engine.begin()
    tx.execute("INSERT INTO t(x) VALUES (2)")
    with pytest.raises(StoreError, match="t_pkey"), tx.step():
        tx.execute("INSERT INTO t(x) VALUES (1)")
    with tx.step():
        tx.execute("INSERT INTO t(x) VALUES (3)")
    tx.commit()
    assert values(engine) == [1, 2, 3]


def test_a_step_in_a_transaction_that_is_past_saving_ends_it(engine: PostgresEngine) -> None:
    """What was put off before the step failed with it, so there is no savepoint to return to."""
    tx = engine.begin()
    tx.later("INSERT INTO nowhere VALUES (1)")
    with pytest.raises(UsageError), tx.step():
        tx.execute("INSERT INTO t(x) VALUES (1)")
    assert not tx.open
    assert others(engine) == 0


def test_a_failed_statement_fails_the_transaction(engine: PostgresEngine) -> None:
    """It cannot be committed by accident: neither with nor without noticing."""
    insert(engine, 1)
    tx = engine.begin()
    with pytest.raises(StoreError):
        tx.execute("INSERT INTO t(x) VALUES (1)")
    with pytest.raises(StoreError, match="has undone the whole unit"):
        tx.execute("INSERT INTO t(x) VALUES (2)")
    with pytest.raises(LedgerError, match="undid the transaction"):
        tx.commit()
    assert not tx.decided
    assert not tx.answer_lost
    assert values(engine) == [1]
    assert others(engine) == 0


def test_what_was_put_off_fails_with_the_commit(engine: PostgresEngine) -> None:
    """The answer is certain, and the connection serves the next one."""
    insert(engine, 1)
    tx = engine.begin()
    tx.later("INSERT INTO t(x) VALUES (1)")
    with pytest.raises(StoreError, match="t_pkey") as caught:
        tx.commit()
    assert "(x)=" not in str(caught.value)
    assert not tx.decided
    assert not tx.answer_lost
    assert others(engine) == 0


def test_an_insert_returns_the_key_of_its_row(engine: PostgresEngine) -> None:
    """``id``, and the unit's own id for a unit."""
    tx = engine.begin()
    tx.execute("CREATE TABLE q(id BIGINT)")
    tx.execute("CREATE TABLE unit_of_work(uow_id TEXT)")
    assert tx.insert("INSERT INTO q(id) VALUES (?)", (7,)) == 7
    assert tx.insert("INSERT INTO unit_of_work(uow_id) VALUES (?)", ("u",)) == "u"
    tx.rollback()


# Isolation


def test_the_first_of_two_that_change_a_row_wins(engine: PostgresEngine) -> None:
    """In a unit's transaction the other one is told; nothing is overwritten unseen."""
    insert(engine, 1)
    one, other = (engine.begin(isolation=Isolation.WRITES) for _ in range(2))
    assert one.rows("SELECT y FROM t") == other.rows("SELECT y FROM t")
    one.execute("UPDATE t SET y = 1")
    one.commit()
    with pytest.raises(ConflictError) as caught:
        other.execute("UPDATE t SET y = 2")
    assert caught.value.retryable
    other.rollback()


def test_serializable_units_are_told_of_what_they_could_not_have_seen(engine: PostgresEngine) -> None:
    """Two that read what the other one writes: write skew, which REPEATABLE READ lets pass."""
    insert(engine, 1, 2)
    one, other = (engine.begin(isolation=Isolation.SERIALIZABLE) for _ in range(2))
    for tx, number in ((one, 1), (other, 2)):
        tx.rows("SELECT sum(y) FROM t")
        tx.execute("UPDATE t SET y = 1 WHERE x = ?", (number,))
    one.commit()
    with pytest.raises(ConflictError):
        other.commit()
    assert not other.answer_lost


def test_two_that_wait_for_each_other(engine: PostgresEngine) -> None:
    """A deadlock ends with a conflict for one, which may run again."""
    import threading

    insert(engine, 1, 2)
    raised: list[BaseException] = []
    met = threading.Barrier(2)

    def work(first: int, second: int) -> None:
        tx = engine.begin()
        tx.later("SET LOCAL deadlock_timeout = 10")
        tx.execute("UPDATE t SET y = 1 WHERE x = ?", (first,))
        met.wait()
        try:
            tx.execute("UPDATE t SET y = 1 WHERE x = ?", (second,))
            tx.commit()
        except ConflictError as error:
            raised.append(error)
            tx.rollback()

    threads = [threading.Thread(target=work, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(raised) == 1


def test_a_transaction_inside_another_one_does_not_wait_for_ever(engine: PostgresEngine) -> None:
    """What waits for a row of one's own other transaction is busy after the time that it was given."""
    insert(engine, 1)
    outer = engine.begin()
    outer.execute("UPDATE t SET y = 1")
    inner = engine.begin(wait_s=0.01)
    with pytest.raises(LedgerBusy) as caught:
        inner.execute("UPDATE t SET y = 2")
    assert caught.value.retryable
    inner.rollback()
    outer.commit()


# Streams


def test_a_stream_is_one_snapshot(engine: PostgresEngine) -> None:
    """Rows come in pieces, and what is written meanwhile is not among them; the reader then sees it."""
    insert(engine, *range(5))
    tx = engine.begin()
    tx.execute("INSERT INTO t SELECT g FROM generate_series(5, 2500) AS g")
    tx.commit()
    with engine.reader() as reader:
        stream = reader.stream("SELECT x FROM t WHERE x >= ? ORDER BY x", (1,))
        assert next(stream) == (1,)
        insert(engine, 9999)
        assert len(list(stream)) == 2499
        assert reader.rows("SELECT max(x) FROM t") == [(9999,)]


def test_two_streams_at_once(engine: PostgresEngine) -> None:
    """Of a reader and of a transaction; each ends by itself, in whatever order."""
    insert(engine, 1, 2, 3)
    for make in (engine.reader, None):
        if make is None:
            lent: Any = engine.begin()
            one, other = (lent.stream("SELECT x FROM t ORDER BY x") for _ in range(2))
            assert next(one) == next(other) == (1,)
            assert list(one) == list(other) == [(2,), (3,)]
            lent.execute("DROP TABLE t")  # which it could not do with a cursor open
            lent.rollback()
            continue
        with make() as lent:
            one, other = (lent.stream("SELECT x FROM t ORDER BY x") for _ in range(2))
            assert next(one) == next(other) == (1,)
            assert list(one) == [(2,), (3,)]
            assert list(other) == [(2,), (3,)]
    assert others(engine) == 0


def test_a_stream_that_nobody_reads_to_its_end_is_in_nobodys_way(engine: PostgresEngine) -> None:
    """It ends with its loan, and says nothing to whoever has the connection then."""
    insert(engine, 1, 2)
    with engine.reader() as reader:
        left = reader.stream("SELECT x FROM t")
        next(left)
    tx = engine.begin()
    late = tx.stream("SELECT x FROM t")
    next(late)
    tx.rollback()
    after = engine.begin()
    after.rows("SELECT 1")
    end(left)
    end(late)
    after.execute("INSERT INTO t(x) VALUES (3)")
    after.commit()
    assert values(engine) == [1, 2, 3]
    assert others(engine) == 0


def test_a_stream_begun_behind_a_savepoint_goes_with_it(engine: PostgresEngine) -> None:
    """Closing it afterwards harms nothing, nor does a stream that failed."""
    insert(engine, 1, 2)
    tx = engine.begin()
    tx.savepoint("s")
    stream = tx.stream("SELECT x FROM t")
    next(stream)
    tx.rollback_to("s")
    end(stream)
    tx.execute("INSERT INTO t(x) VALUES (3)")
    tx.commit()
    with engine.reader() as reader, pytest.raises(UsageError, match="22012"):
        list(reader.stream("SELECT 1 / (x - 1) FROM t"))
    tx = engine.begin()
    with pytest.raises(UsageError, match="22012"):
        list(tx.stream("SELECT 1 / (x - ?) FROM t", (1,)))
    tx.rollback()
    assert values(engine) == [1, 2, 3]
    assert others(engine) == 0


# Connections that die


def test_an_idle_connection_that_died_is_replaced(pg_url: str) -> None:
    """Nobody notices, whether the end has been told to this machine or not."""
    with behind_proxy(pg_url) as (engine, proxy):
        insert(engine, 1)
        proxy.cut_all()
        insert(engine, 2)
        with engine.reader() as reader:
            reader.connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> %s"
                " AND datname = current_database()",
                (reader.connection.info.backend_pid,),
            )
        assert values(engine) == [1, 2]


def test_one_that_dies_when_first_used_is_replaced(pg_url: str) -> None:
    """As long as nothing was done on it: BEGIN and the first statement are said again to a new one."""
    with behind_proxy(pg_url) as (engine, proxy):
        insert(engine, 1)

        def cut(message: Message) -> None:
            if b"INSERT" in message.body:
                proxy.before = None
                message.forward = False
                message.link.cut()

        proxy.before = cut
        insert(engine, 2)
        assert values(engine) == [1, 2]


def test_one_that_dies_in_the_middle_is_an_error(pg_url: str) -> None:
    """Typed, worth another try, and nothing of the transaction is there."""
    with behind_proxy(pg_url) as (engine, proxy):
        tx = engine.begin()
        tx.execute("INSERT INTO t(x) VALUES (1)")
        proxy.cut_all()
        with pytest.raises(LedgerError, match="is gone") as caught:
            tx.execute("INSERT INTO t(x) VALUES (2)")
        assert caught.value.retryable
        with pytest.raises(LedgerError):
            tx.commit()
        assert not tx.decided
        tx.rollback()
        assert values(engine) == []


@pytest.mark.parametrize("arrives", [True, False])
def test_a_commit_whose_answer_is_lost(pg_url: str, *, arrives: bool) -> None:
    """It may stand: the transaction says so, and is never sent twice."""
    with behind_proxy(pg_url) as (engine, proxy):

        def cut(message: Message) -> None:
            if message.kind in b"PB" and b"COMMIT" in message.body:
                proxy.before = None
                message.link.deaf = True
                if not arrives:
                    message.forward = False
                    message.link.cut()

        def end(message: Message) -> None:
            if message.link.deaf and message.kind == b"S":
                while arrives and not values(direct):
                    pass
                message.link.cut()

        with engine_at(pg_url) as direct:
            proxy.before, proxy.after = cut, end
            tx = engine.begin()
            tx.later("INSERT INTO t(x) VALUES (1)")
            with pytest.raises(LedgerError, match="is gone"):
                tx.commit()
            assert tx.answer_lost
            assert not tx.decided
            assert values(direct) == ([1] if arrives else [])


def test_an_interrupt_leaves_no_transaction_open(pg_url: str) -> None:
    """What a signal handler raises in the middle of a call goes on; the connection is given up."""
    import os
    import signal

    with behind_proxy(pg_url) as (engine, proxy):
        for kind in (b"INSERT", b"COMMIT\0"):

            def interrupt(message: Message, kind: bytes = kind) -> None:
                if kind in message.body:
                    proxy.before = None
                    message.forward = False
                    os.kill(os.getpid(), signal.SIGINT)

            tx = engine.begin()
            proxy.before = interrupt
            with pytest.raises(KeyboardInterrupt):
                tx.execute("INSERT INTO t(x) VALUES (1)")
                tx.commit()
            assert tx.answer_lost is (kind == b"COMMIT\0")
            tx.rollback()
            assert others(engine) == 0
        assert values(engine) == []


def test_a_stream_whose_connection_dies(pg_url: str) -> None:
    """Typed for whoever reads on; whoever does not just closes it, and the connection is given up."""
    with behind_proxy(pg_url) as (engine, proxy):
        insert(engine, 1, 2)
        for ends in (list, end):
            with engine.reader() as reader:
                stream = reader.stream("SELECT g FROM generate_series(1, 2500) AS g")
                next(stream)
                proxy.cut_all()
                if ends is list:
                    with pytest.raises(LedgerError, match="is gone"):
                        ends(stream)
                else:
                    ends(stream)
                reader.give_back()
            assert engine._pool._idle == []
        assert values(engine) == [1, 2]


def test_what_the_application_says_is_answered_in_full(engine: PostgresEngine) -> None:
    """Rows, columns and how many were changed; its own marks and percent signs are as on SQLite."""
    tx = engine.begin()
    answer = tx.answer("SELECT x % 10 AS rest, '%?' FROM (VALUES (12)) AS v(x) WHERE x > ?", (1,))
    assert answer.rows == [(2, "%?")]
    assert [column[0] for column in answer.description] == ["rest", "?column?"]
    changed = tx.answer("INSERT INTO t(x) VALUES (1), (2)")
    assert (changed.rows, changed.description, changed.rowcount) == ([], None, 2)
    tx.rollback()


def test_one_of_many_rows_is_refused(engine: PostgresEngine) -> None:
    """The whole transaction is."""
    insert(engine, 5)
    tx = engine.begin()
    with pytest.raises(StoreError, match="t_pkey"):
        tx.execute_many("INSERT INTO t(x) VALUES (?)", [(number,) for number in range(10)])
    tx.rollback()
    assert values(engine) == [5]


def test_a_version_that_was_found_is_surpassed(engine: PostgresEngine) -> None:
    """By every later transaction of the process."""
    tx = engine.begin()
    tx.learn(2**62)
    assert tx.stamp < 2**62
    assert engine.begin().stamp > 2**62


def test_a_stream_that_cannot_even_be_asked_for(engine: PostgresEngine) -> None:
    """Nothing was sent, so there is nothing to leave."""
    with engine.reader() as reader, pytest.raises(UsageError):
        list(reader.stream("SELECT ?", (object(),)))
    assert len(engine._pool._idle) == 1


def test_a_snapshot_of_ones_own_outlasts_its_streams(engine: PostgresEngine) -> None:
    """Whoever has begun one on a reader ends it; a stream that ends, or is left, does not."""
    insert(engine, 1, 2)
    with engine.reader() as reader:
        reader.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        assert list(reader.stream("SELECT x FROM t ORDER BY x")) == [(1,), (2,)]
        insert(engine, 3)
        left = reader.stream("SELECT x FROM t ORDER BY x")
        assert next(left) == (1,)
        end(left)
        assert reader.rows("SELECT max(x) FROM t") == [(2,)]
        reader.rows("ROLLBACK")
        assert reader.rows("SELECT max(x) FROM t") == [(3,)]
    assert len(engine._pool._idle) == 2


def test_statements_of_the_application_at_once(engine: PostgresEngine) -> None:
    """In one round trip; the error of the first that fails, and then nothing of any."""
    tx = engine.begin()
    tx.run_foreign([("INSERT INTO t(x) VALUES (?)", (1,)), ("UPDATE t SET y = 7", ())])
    assert tx.rows("SELECT x, y FROM t") == [(1, 7)]
    for bad in (("INSERT INTO t(x) VALUES (?)", (1,)), ("INSERT INTO t(x) VALUES (1)", ())):
        with pytest.raises(StoreError, match="t_pkey"), tx.step():
            tx.run_foreign([bad])
    tx.commit()
    assert values(engine) == [1]
