"""A ledger in a PostgreSQL database, opened for looking only.

Promise: nothing but queries is sent, and nothing is migrated; a replica will do.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from memoryos_uow import _migrations_postgres
from memoryos_uow._migrations import Kind
from memoryos_uow._names import Durability
from memoryos_uow._rows_postgres import PostgresRows
from memoryos_uow._unfinished_copy import refuse_unfinished
from memoryos_uow.engines.postgres import PostgresEngine
from memoryos_uow.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow._rows import LedgerRows
    from memoryos_uow.engines._contract import EngineReader


@contextmanager
def connected(
    address: str, *, busy_timeout_s: float, durability: Durability = Durability.FULL
) -> Iterator[PostgresEngine]:
    """Lend connections to the database at `address`, whatever it holds.

    Raises:
        UsageError: the address cannot be read, or psycopg is not installed.
        LedgerError: the server is out of reach, refuses the user, or is too old.
    """
    engine = PostgresEngine.open(address, durability=durability, busy_timeout_s=busy_timeout_s)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def reading_database(address: str, *, busy_timeout_s: float) -> Iterator[tuple[EngineReader, LedgerRows, str]]:
    """Lend a reader of the ledger at `address`, what reads its rows, and how messages name it.

    Raises:
        SchemaTooNew: a later version of this library wrote it.
        LedgerError: it is no ledger of 1.1.0, or the server is out of reach.
    """
    # Whether commits there are durable is nothing to somebody who makes none.
    with connected(address, busy_timeout_s=busy_timeout_s, durability=Durability.NORMAL) as engine:
        refuse_unreadable(engine)
        with engine.reader() as reader:
            yield reader, PostgresRows(engine), engine.place


def refuse_unreadable(engine: PostgresEngine) -> None:
    """Refuse a database that holds no ledger of 1.1.0.

    Raises:
        SchemaTooNew: a later version of this library wrote it.
        LedgerError: it holds none, or one that is still being copied there.
    """
    with engine.reader() as reader:
        refuse_unfinished(reader, engine.place)
        state = _migrations_postgres.inspect(reader.connection, place=engine.place)
    _migrations_postgres.refuse_unfit(state, place=engine.place)
    if state.kind is Kind.NEW:
        raise LedgerError(
            f"{engine.place} holds no ledger.",
            hint="Check the address, and its search_path: no unit of work was ever recorded there.",
        )
    _migrations_postgres.refuse_unmigrated(state, place=engine.place)
