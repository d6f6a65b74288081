"""The engine of a ledger in PostgreSQL: numbers, durability, and what holds for all of its connections."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from memoryos_uow._names import Dialect, Durability
from memoryos_uow.errors import LedgerError, UsageError
from tests.engines.pg_engines import behind_proxy, engine_at, insert, values

if TYPE_CHECKING:
    from memoryos_uow.engines._contract import Engine
    from tests.postgres_proxy import Message


def test_it_is_an_engine(pg_url: str) -> None:
    """As the coordinator knows them; it has no folder, and no lock that all writers need."""
    with engine_at(pg_url) as engine:
        same: Engine = engine
        assert same.directory is None
        assert not same.excludes_others
        assert not same.held_by_this_thread
        assert not same.read_only
        assert engine.dialect is Dialect.POSTGRESQL
        assert engine.facts.version >= 140_000
        assert engine.facts.standbys == ""


def test_ids_are_given_once(pg_url: str) -> None:
    """To threads of two processes' engines, one by one and many at once; a large request gets a block of its own."""
    with engine_at(pg_url) as one, engine_at(pg_url) as other, ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda n: (one, other)[n % 2].new_ids("writes", 3, block=10), range(60)))
        ids = [first + k for first in taken for k in range(3)]
        assert len(set(ids)) == 180
        first = one.new_ids("writes", 1000, block=10)
        assert one.new_ids("writes", block=10) >= first + 1000
        assert one.new_ids("other") == 1


def test_a_block_that_cannot_be_taken(pg_url: str) -> None:
    """Nothing is given; the next try gets it."""
    with behind_proxy(pg_url) as (engine, proxy):
        engine.new_ids("writes")
        home, proxy.server = proxy.server, 1
        proxy.cut_all()
        with pytest.raises(LedgerError):
            engine.new_ids("outbox")
        proxy.server = home
        assert engine.new_ids("outbox") == 1


def test_whatever_can_be_read_is_made_durable(pg_url: str) -> None:
    """By one statement, whose commit waits also where others do not."""
    with behind_proxy(pg_url, durability=Durability.NORMAL) as (engine, proxy):
        insert(engine, 1)
        assert not engine.syncs_commits
        said: list[bytes] = []

        def listen(message: Message) -> None:
            said.append(message.body)

        proxy.before = listen
        assert proxy.count(engine.sync_log) == 1
        assert any(b"synchronous_commit" in body for body in said)
        assert values(engine) == [1]


def test_a_closed_engine_is_refused(pg_url: str) -> None:
    """As is everything that would need it."""
    with engine_at(pg_url) as engine:
        engine.close()
        for call in (engine.begin, engine.sync_log, lambda: values(engine), engine.refuse_misuse):
            with pytest.raises(UsageError, match="is closed"):
                call()
