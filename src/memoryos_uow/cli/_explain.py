"""What happened to a unit that did not simply commit, what state each store is in, and what to do: in sentences.

Promise: says only what the ledger's rows say, and no more of it than the unit's band lets `show` show.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow._names import Status
from memoryos_uow._terminal import printable

if TYPE_CHECKING:
    from memoryos_uow._records import UnitRecord
    from memoryos_uow.abc import Reader

OWNER_DIED: Final = "OwnerDied"
"""What recovery records of a unit whose process is gone."""

_RUN_AGAIN: Final = "Run the whole unit again, with new reads: ledger.run() does that by itself."
_ADVICE: Final[dict[str, tuple[str, str]]] = {
    "UnitOfWorkError": ("It could not be completed", "Read the message."),
    "UsageError": ("A call in its block was not a legal one", "Change the call; the same one is refused again."),
    "StoreError": (
        "A store refused a write, or failed",
        "Read the message: a constraint, a directory, a damaged record.",
    ),
    "RecordExists": (
        "It was to create a record that exists already",
        "Use update() to change it, or upsert() for either.",
    ),
    "RecordMissing": ("It was to change a record that does not exist", "Use create(), or upsert() for either."),
    "StoreUnavailable": (
        "A store could not be reached or written, for example because the disk is full",
        "Make the store writable again, then run the unit again.",
    ),
    "ConflictError": ("Another unit had changed a record that this one had read or expected otherwise", _RUN_AGAIN),
    "LedgerError": ("The ledger's own file could not be used", "Read the message: permissions, place, read-only."),
    "LedgerBusy": (
        "Others held the ledger's write lock for longer than this unit was willing to wait",
        "Run the unit again, or give it a longer busy_timeout; look for a transaction that stays open.",
    ),
    "LedgerCorrupt": (
        "SQLite found the file damaged",
        "Run memoryos-uow verify on a copy of the file; restore a sound copy.",
    ),
    "SchemaTooNew": ("A later version of this library had changed the schema", "Install that version."),
    "MigrationError": ("The ledger's schema could not be migrated", "Run memoryos-uow migrate and read its message."),
    "LedgerRollback": ("The file was older than what it once proved", "Put the right file back."),
    "UnitTimeout": ("Its deadline passed before the decision", "Run it again, with more time."),
    "SinkError": ("A message could not be delivered inside its block", "Nothing: deliver messages with a relay."),
    "SinkUnavailable": ("The receiver of messages was out of reach", "Mend the receiver or its address."),
    "MessageRejected": ("A receiver refused a message", "Mend the receiver or the message."),
    "InDoubtError": (
        "The answer to a commit was lost, and the ledger proved afterwards that nothing of it is there",
        "Look at the disk first, then run the unit again.",
    ),
    "DuplicateUnit": (
        "A unit with the same idempotency key was committed already",
        "Nothing: take the receipt of the committed one.",
    ),
    "VerificationError": ("A receipt or a proof did not hold", "Do not rely on it; get it again from where it came."),
    OWNER_DIED: (
        "Its process died before the decision, and recovery removed what it had prepared",
        "Run it again if its work is still wanted; look into why the process ended.",
    ),
    "KeyboardInterrupt": ("Its block was interrupted from outside", "Run it again if its work is still wanted."),
    "SystemExit": ("Its program was ended inside the block", "Run it again if its work is still wanted."),
    "CancelledError": ("Its task was cancelled inside the block", "Run it again if its work is still wanted."),
}
_FOREIGN: Final = ("An exception of the application's own left its block", "See where the application raised it.")


class Explanation(NamedTuple):
    """Three answers."""

    happened: str
    stores: str
    advice: str

    def lines(self, width: int | None) -> list[str]:
        """Return the answers under their questions, wrapped to `width` columns."""
        found: list[str] = []
        for question, answer in zip(("What happened", "The stores", "What to do"), self, strict=True):
            text = f"{question}: {answer}"
            found += textwrap.wrap(text, width, subsequent_indent="  ") if width else [text]
        return found


def explain(reader: Reader, record: UnitRecord) -> Explanation | None:
    """Return what there is to explain about `record`, of which no more is left than may be shown, or None."""
    if record.status == Status.FAILED:
        return _failed(record)
    if record.status == Status.ROLLED_BACK:
        return Explanation(
            "Its block asked to be rolled back.",
            "No store holds anything of it.",
            "Nothing: this was wanted.",
        )
    if record.status == Status.COMMITTED:
        unsettled = bool(reader.rows("SELECT 1 FROM uow_coordination WHERE uow_id = ?", (record.uow_id,)))
        return _committed(record, unsettled=unsettled)
    return None


def _failed(record: UnitRecord) -> Explanation:
    kind = record.error_type or "UnitOfWorkError"
    happened, advice = _ADVICE.get(kind, _FOREIGN)
    where = f" The store concerned is {_name(record)}." if record.failed_store else ""
    when = f" at {record.error_ts}" if record.error_ts else ""
    died = kind == OWNER_DIED
    return Explanation(
        f"{happened} ({printable(kind)}{', found' if died else ''}{when}).{where}",
        "No store holds anything of it; what each held before is as it was.",
        advice,
    )


def _committed(record: UnitRecord, *, unsettled: bool) -> Explanation | None:
    # The columns of an error stay after the store has answered; whether it has, the other table says.
    silent = record.error_type is not None
    store = f"the store {_name(record)}" if record.failed_store else "a store outside the ledger"
    if unsettled and silent:
        return Explanation(
            f"It is committed, and in doubt: after the decision {store} did not answer ({_what(record)}).",
            f"{store[0].upper()}{store[1:]} may still show what was there before; all others hold all of the unit.",
            "Do not run it again. Make the store reachable; whoever opens the ledger next, or memoryos-uow recover,"
            " asks it again.",
        )
    if unsettled:
        return Explanation(
            "It is committed. The ledger has not noted yet that every store outside it shows its part.",
            "The ledger's own stores hold all of it; those outside may still show what was there before.",
            "Nothing while its process runs. If that is gone, whoever opens the ledger next, or memoryos-uow recover,"
            " finishes it.",
        )
    if silent:
        return Explanation(
            f"It is committed. At first {store} did not answer ({_what(record)}); it has done so since.",
            "Every store holds all of it.",
            "Nothing.",
        )
    if record.recovery_attempted:
        return Explanation(
            "It is committed. Its process did not finish what comes after the decision, and recovery did.",
            "Every store holds all of it.",
            "Nothing.",
        )
    return None


def _name(record: UnitRecord) -> str:
    return repr(printable(record.failed_store or ""))


def _what(record: UnitRecord) -> str:
    kind = printable(record.error_type or "")
    return f"{kind} at {record.error_ts}" if record.error_ts else kind
