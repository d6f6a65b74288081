"""A SQLAlchemy 2 session, or SQLModel's, that takes part in a unit of work on the ledger's file.

Promise: everything the session flushes lies in the unit's transaction and in its receipt, as SQL statements; the unit
decides. ``session.commit()`` flushes and keeps, ``session.rollback()`` goes back to where the session last committed,
as a savepoint of the unit does, and neither ends the unit.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from memoryos_uow._unit_core import UnitCore
from memoryos_uow.errors import UsageError
from memoryos_uow.integrations._connection import UnitConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from memoryos_uow.unit import UnitOfWork

S = TypeVar("S", bound=Session)


class _SessionConnection(UnitConnection):
    """What SQLAlchemy does with a connection beyond statements: its transactions are savepoints of the unit."""

    _BEGUN = "uow_session"

    def _run(self, sql: str, parameters: Any) -> Any:
        if not self._points:
            self._save(self._BEGUN)
        return super()._run(sql, parameters)

    def commit(self) -> None:
        """Keep what was written since the last commit; whether it stays, the unit decides."""
        if self._points:
            self._keep(0)

    def rollback(self) -> None:
        """Undo what the unit wrote since the first statement after the last commit."""
        if self._points:
            self._undo(0)

    def close(self) -> None:
        """Do nothing: the connection ends with the unit."""

    def create_function(self, *_: object, **__: object) -> None:
        """Ignore SQLAlchemy's own functions (``regexp``, ``floor``): they would outlive the unit."""


def engine(uow: UnitOfWork, **options: Any) -> Engine:
    """Return an engine whose only connection is the unit's; it ends with the unit. `options` go to ``create_engine``.

    Raises:
        UsageError: not a unit of work, or an async one, or one of a ledger in a database.
    """
    if not isinstance(uow, UnitCore) or not hasattr(type(uow), "db"):  # an async unit has no connection to lend
        raise UsageError(
            f"A SQLAlchemy session takes part in a UnitOfWork, not in a {type(uow).__name__}.",
            hint="Nothing was written. In a coroutine, run the whole unit in a thread: asyncio.to_thread(...).",
        )
    uow._refuse_database("SQLAlchemy")  # noqa: SLF001 - two halves of one thing
    connection = _SessionConnection(uow)
    return create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool, **options)


@overload
def session(uow: UnitOfWork) -> Any: ...
@overload
def session(uow: UnitOfWork, factory: Callable[..., S], **options: Any) -> Any: ...
@contextmanager
def session(uow: UnitOfWork, factory: Callable[..., Any] = Session, **options: Any) -> Iterator[Any]:
    """A block with a SQLAlchemy session that takes part in a unit of work.

    At the block's end the session is committed, that is flushed into the unit; an exception that leaves the block
    undoes what was written since the session's last commit, in other stores too, and goes on. From its first statement
    until the unit ends the ledger's write lock is held, so keep slow work before it.

    Args:
        uow: the unit, open.
        factory: what makes the session: ``Session`` (default), SQLModel's, or a ``sessionmaker``.
        options: for the factory, such as ``autoflush=False``.

    Raises:
        UsageError: not a unit of work, or an async one, or one that is over.
        sqlalchemy.exc.SQLAlchemyError: a statement failed, as without a unit.
    """
    bound = engine(uow)
    made = factory(bind=bound, **options)
    try:
        yield made
        made.commit()
    except BaseException:
        made.rollback()
        raise
    finally:
        made.close()
        bound.dispose()
