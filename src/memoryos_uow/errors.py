"""Every exception this library raises, drawn as one tree.

::

    UnitOfWorkError
    ├── UsageError            the call is wrong: nothing was written, change the call
    ├── StoreError            a store refused or could not take part
    │   ├── RecordExists      create() of a key that is taken
    │   ├── RecordMissing     update() or delete() of a key that is not there
    │   └── StoreUnavailable  the store cannot be reached or cannot write at the moment
    ├── ConflictError         somebody changed a record between our read and our commit
    ├── LedgerError           the ledger itself
    │   ├── LedgerBusy        others held the write lock for longer than busy_timeout
    │   ├── LedgerCorrupt     the file is not a sound ledger
    │   ├── SchemaTooNew      written by a later version of this library
    │   ├── MigrationError    the schema could not be brought to 1.1.0
    │   └── LedgerRollback    the file is older than what it once proved
    ├── UnitTimeout           the unit's own deadline passed
    ├── SinkError             a message of the outbox could not be delivered
    │   ├── SinkUnavailable   the receiver is out of reach, whatever the message
    │   └── MessageRejected   the receiver will never take this message
    ├── InDoubtError          the outcome cannot be read at the moment
    ├── DuplicateUnit         a unit with this idempotency key is already committed
    └── VerificationError     a receipt or proof does not hold

Each carries its facts as fields: ``uow_id``, ``store``, ``retryable`` (would doing the same again help?), ``in_doubt``
(is it unknown whether the unit committed?) and ``hint`` (what to do). Nothing foreign crosses the library's boundary
except the caller's own exceptions; the original is chained as ``__cause__``.

Each class also has a ``summary``: one constant sentence that holds no identifier and no value. It is what a unit of
band AMBER may leave in its error record (design, bands).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from memoryos_uow.receipts import Receipt


class UnitOfWorkError(Exception):
    """Root of every error of this library.

    ``str(error)`` is one or two sentences: what happened, what state things are in, and the hint.
    """

    summary: ClassVar[str] = "The unit of work could not be completed."
    retryable: bool = False
    in_doubt: bool = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        uow_id: str | None = None,
        store: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.uow_id = uow_id
        self.store = store

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class UsageError(UnitOfWorkError):
    """The call itself is wrong: a bad name, type, size or moment. Nothing was written; change the call."""

    summary = "The call was not a legal one, so nothing was written."


class StoreError(UnitOfWorkError):
    """A store refused a write or failed while taking part; ``store`` names it. The unit as a whole was not written."""

    summary = "A store refused a write."


class RecordExists(StoreError):  # noqa: N818 - the public name says what is the case, as FileExistsError does
    """``create()`` found the key taken in this space. Use ``update()`` or ``upsert()``."""

    summary = "A record that was to be created exists already."


class RecordMissing(StoreError):  # noqa: N818
    """``update()`` or ``delete()`` found no such key in this space. Use ``create()`` or ``upsert()``."""

    summary = "A record that was to be changed does not exist."


class StoreUnavailable(StoreError):  # noqa: N818
    """The store cannot be reached or cannot write at the moment; the same unit may succeed later."""

    summary = "A store could not be reached or written."
    retryable = True


class ConflictError(UnitOfWorkError):
    """Another unit changed a record after this one had read it. Run the whole block again on fresh reads."""

    summary = "Another unit changed a record that this unit had read."
    retryable = True


class LedgerError(UnitOfWorkError):
    """The ledger's own file or schema is the trouble."""

    summary = "The ledger could not be used."


class LedgerBusy(LedgerError):  # noqa: N818
    """Other writers held the ledger for longer than ``busy_timeout`` seconds. Nothing was written; try again."""

    summary = "The ledger was busy for longer than the time allowed."
    retryable = True
    busy_waits: int = 0
    """How often the lock was asked for in vain."""


class LedgerCorrupt(LedgerError):  # noqa: N818
    """The file is damaged or is not a ledger at all. Nothing was changed in it."""

    summary = "The ledger's file is damaged or is not a ledger."


class SchemaTooNew(LedgerError):  # noqa: N818
    """The ledger was written by a later version of this library; this one will not touch it."""

    summary = "The ledger's schema is newer than this library."


class MigrationError(LedgerError):
    """The schema could not be migrated; the file is as it was before."""

    summary = "The ledger's schema could not be migrated."


class LedgerRollback(LedgerError):  # noqa: N818
    """The ledger is older than, or different from, the last head it released: an old copy was put back."""

    summary = "The ledger is older than what it once proved."


class UnitTimeout(UnitOfWorkError):  # noqa: N818
    """The unit's own deadline passed before its decision; nothing was written."""

    summary = "The unit's deadline passed."
    retryable = True


class SinkError(UnitOfWorkError):
    """A message could not be delivered; it stays in the outbox and is tried again, in the end parked."""

    summary = "A message could not be delivered."
    retryable = True


class SinkUnavailable(SinkError):  # noqa: N818
    """The receiver is out of reach, whatever the message: all are tried again later, and none is parked for it."""

    summary = "The receiver of messages was out of reach."


class MessageRejected(SinkError):  # noqa: N818
    """The receiver will never take this message: it is parked, and not tried again until somebody says so."""

    summary = "The receiver refused a message."
    retryable = False


class InDoubtError(UnitOfWorkError):
    """The commit was asked for and its outcome cannot be read. Look the unit up by ``uow_id`` before doing it again."""

    summary = "It is not known yet whether the unit committed."
    in_doubt = True


class DuplicateUnit(UnitOfWorkError):  # noqa: N818
    """A unit with this idempotency key is already committed in this space; its body was not run again.

    ``uow_id`` and ``receipt`` are those of the committed unit.
    """

    summary = "A unit with this idempotency key is already committed."

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        uow_id: str | None = None,
        store: str | None = None,
        receipt: Receipt | None = None,
    ) -> None:
        super().__init__(message, hint=hint, uow_id=uow_id, store=store)
        self.receipt = receipt


class VerificationError(UnitOfWorkError):
    """A receipt, proof or signature does not hold."""

    summary = "A receipt or proof does not hold."
