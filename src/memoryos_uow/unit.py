"""The with-block: one unit of work.

Promise: whatever happens in the block, either every store ends with all of it or with none of it, the caller's
exception arrives unchanged, and one row in the ledger says how it ended.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self

from memoryos_uow import _ambient
from memoryos_uow._handles import UnitStore
from memoryos_uow._names import MAX_KEY_BYTES, Dialect, check_identifier
from memoryos_uow._protocol import DECIDED, State
from memoryos_uow._unit_core import UnitCore
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from sqlite_utils import Database

    from memoryos_uow._open_ledger import OpenLedger
    from memoryos_uow._records import Hit
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.abc import Store

_SAID_OF_AWAITING: Final = (
    "can't be used in 'await' expression",
    "can't be awaited",  # the same in newer Pythons
    "does not support the asynchronous context manager protocol",
    "'async for' requires an object with __aiter__",
)


class UnitOfWork(UnitCore):
    """One atomic, receipted write across several stores.

    ```python
    from memoryos_uow import UnitOfWork

    with UnitOfWork(space_id="shared:household", band="GREEN") as uow:
        uow["notes"].create("n1", {"text": "milk is out"})
        print(uow["notes"].get("n1"), uow.status)
    print(uow.status, len(uow.receipt.hash))
    ```
    ```output
    {'text': 'milk is out'} pending
    committed 64
    ```

    Leaving the block commits; an exception leaving it undoes everything. Writes are buffered and checked when called,
    so the ledger is locked only while the unit commits. When the block has been left without an exception, the unit is
    as durable as the ledger's `durability` says (default: it survives a power cut).

    Args:
        space_id: whose data it is; keys live inside a space. 1 to 255 bytes.
        band: how far the data may travel: GREEN, AMBER, RED or BLACK.
        actor_id: who acts. Like the next three at most 255 bytes, recorded with the unit.
        device_id: from where.
        correlation_id: which request this belongs to.
        envelope_id: which message carried it.
        isolation: ``"writes"`` (records read and then written must not have changed in between, so no update is lost)
            or ``"serializable"`` (no record that was read may have changed).
        idempotency_key: names the request that the unit carries out: at most 255 bytes. Under one key at most one unit
            of a space is committed. Whoever comes second waits for the first, and then gets `DuplicateUnit` before the
            block, or his turn if the first failed. Keys are kept for ``Limits.idempotency_s``. A unit with a key leaves
            a row and a receipt even if it writes nothing.
        timeout: seconds for the whole unit, from the block's start to the decision, waiting for locks included. A unit
            past it is not committed. What the application does meanwhile is not interrupted.
        nested: inside another unit of the same ledger a unit is refused, because it would not be part of that one;
            ``"independent"`` says that this is meant.
        ledger: where; default: the process's default ledger, ``$MEMORYOS_UOW_LEDGER`` or else ``./memory.db``.

    Raises:
        UsageError: an argument is wrong (here), or the unit is used wrongly (at any call). Nothing was written.
        StoreError: a store refused (at the block's end); `RecordExists` and `RecordMissing` are the common ones.
        ConflictError: a record was changed by another unit after this one had read it (at the block's end).
        DuplicateUnit: a unit with this idempotency key is committed (before the block).
        UnitTimeout: the deadline has passed (at any call but `rollback`, and at the block's end). Nothing was written.
        LedgerError: the ledger could not be opened, locked or written.
    """

    # The block

    def __enter__(self) -> Self:
        self._begin()
        if self._key is not None and self._attempt is None:
            self._claim_key(self._key)
        return self

    def _claim_key(self, key: str) -> None:
        """Wait until nobody else is at work under `key`; end the unit at once if somebody has done the work."""
        state, ledger = self._live()
        try:
            claim = ledger.claiming.new_claim(self._space_id, key)
            answer = ledger.claiming.take(claim, state.facts.deadline)
        except BaseException as error:
            self._leave_context()
            state.never_began(error)
            raise
        if answer is not None:
            duplicate = answer.as_error()
            self._leave_context()
            state.never_began(duplicate)
            raise duplicate
        state.claim = claim

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self._live()
        try:
            self._leave_context()
            self._leave(exc)
        except BaseException as error:
            self._end_failed(error)  # does nothing to a unit that is over
            raise
        finally:
            self._wind_up()
        return False

    async def __aenter__(self) -> NoReturn:
        raise UsageError(
            "A unit of work is entered with `with`, not with `async with`.",
            hint="Nothing was written. Write `with UnitOfWork(...) as uow:`, or use AsyncUnitOfWork.",
        )

    async def __aexit__(self, *_: object) -> None:
        """Never called: the block cannot be entered."""

    def _wind_up(self) -> None:
        """Do what comes after the end: free the idempotency key, call the hooks."""
        state, ledger = self._live()
        if state.claim is not None and self._attempt is None and self._owner.process == _ambient.process_id():
            ledger.claiming.let_go(state.claim, used=state.state in DECIDED)
        if state.hooks is not None:
            self._run_hooks(state.hooks)

    def _leave(self, exc: BaseException | None) -> None:
        if exc is not None:
            _explain_await(exc)
            self._end_failed(exc)
            return
        state, ledger = self._live()
        self._refuse_others()
        if state.state is State.FAILED:  # by somebody else, inside the block
            raise self._over() from state.error
        if state.state is State.ACTIVE:  # else rolled back inside the block
            ledger.coordinator.commit(state)

    def _end_failed(self, error: BaseException) -> None:
        state, ledger = self._live()
        if self._owner.process == _ambient.process_id():  # a forked child must not touch its parent's transaction
            ledger.coordinator.fail(state, error)

    def rollback(self) -> None:
        """End the unit now and keep nothing of it; the rest of the block may run but not write.

        Raises:
            UsageError: the unit is over, was not begun, or belongs to another thread or task.
        """
        state, ledger = self._open()
        ledger.coordinator.roll_back(state)
        self._wind_up()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A point to return to: an exception that leaves this block undoes only what the block wrote, and goes on.

        Savepoints may be nested; they work on every store, whether its writes still wait or were applied meanwhile.
        Reads made in the block still count for lost-update protection.

        Raises:
            UsageError: the unit is over, or belongs to another thread or task; or, at the block's end, a savepoint
                that was begun later is still open.
        """
        state, ledger = self._active()
        mark = self._new_mark(state)
        try:
            yield
        except BaseException as error:
            if self._problem_with_caller() is not None:
                self._end_failed(error)  # nobody but the owner may go on with it
            elif state.state is State.ACTIVE:
                ledger.coordinator.transactions.return_to(state, mark)
            raise
        if state.state is State.ACTIVE:
            self._active()
            ledger.coordinator.transactions.keep(state, mark)

    # Stores and SQL

    def __getitem__(self, store: str) -> UnitStore:
        """Return the store called `store` as this unit sees it.

        Raises:
            UsageError: the ledger has no such store, or the unit is over.
        """
        _, ledger = self._active()
        return UnitStore(self, ledger.store(store))

    def sql(self, statement: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Run one SQL statement on the ledger's file, in the same transaction as everything else of the unit.

        A statement that only writes rows is buffered like any write and returns ``[]``. One that returns rows, or
        changes the schema, runs at once: everything buffered so far is applied first (autoflush), and **from then until
        the unit ends the ledger's write lock is held**, so keep slow work before it. Rows come back as tuples.

        Raises:
            UsageError: not one valid statement; one that would end the unit's atomicity (BEGIN, COMMIT, ATTACH,
                PRAGMA...); one that writes the library's own tables; or parameters of a wrong number or type.
            StoreError: a constraint refused it (at once, or at commit for a buffered statement).
        """
        state, ledger = self._active()
        return ledger.sql.run(state, statement, parameters)

    @property
    def db(self) -> Database:
        """A sqlite-utils ``Database`` on the unit's transaction, for tables of your own in the ledger's file.

        Each statement that writes counts as one write of the unit and is hashed into its receipt. Statements run at
        once: **from the first one until the unit ends the ledger's write lock is held**. What would end the unit or
        outlive it is refused (commit, ATTACH, PRAGMA that sets, functions). Errors of statements are ``sqlite3``'s.

        Raises:
            UsageError: the unit is over, or belongs to another thread or task; or the ledger lives in a database.
        """
        self._refuse_database("sqlite-utils")
        from memoryos_uow.integrations._sqlite_utils import UnitDatabase  # noqa: PLC0415 - loaded for those who use it

        return UnitDatabase(self)

    def _refuse_database(self, library: str) -> None:
        """Raise UsageError where the unit is not open, or has no connection as `library` knows them."""
        _, ledger = self._active()
        if ledger.engine.dialect is not Dialect.SQLITE:
            raise UsageError(
                f"{library} takes part in units of a ledger in a file; this one lives in {ledger.engine.place}.",
                hint="Nothing was written. Use uow.sql, or a table store: TableStore('orders', key='id').",
            )

    # For the handles

    def _relieve(self, state: UnitState, ledger: OpenLedger) -> None:
        ledger.coordinator.streaming.relieve(state)

    def _read(self, store: Store, key: str, default: object) -> Any:
        state, ledger = self._active()
        key = check_identifier(key, "key", max_bytes=MAX_KEY_BYTES)
        return ledger.coordinator.reading.read(state, store, key, default)

    def _read_all(self, store: Store, keys: Iterable[str]) -> dict[str, Any]:
        state, ledger = self._active()
        checked = (check_identifier(key, "key", max_bytes=MAX_KEY_BYTES) for key in keys)
        return ledger.coordinator.reading.read_all(state, store, checked)

    def _search(self, store: Store, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        state, ledger = self._active()
        return ledger.coordinator.reading.search(state, store, query, k, options)


def _explain_await(error: BaseException) -> None:
    """Add what to do to Python's own error for something that was awaited: it may have been a call of the unit's."""
    # The calls of this unit return values, records among them, so nothing of the library's is there to be awaited.
    if type(error) is TypeError and any(words in str(error) for words in _SAID_OF_AWAITING):
        error.add_note(
            "If that was a call of this unit of work: it is not async, and its calls are not awaited. Nothing was "
            "written. Leave out `await`, or use `async with AsyncUnitOfWork(...)`."
        )
