"""The ledger as users see it: opened once, shared by threads, asked about units and their records.

Promise: a face; what an open ledger is stands in `_open_ledger`.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from memoryos_uow import _validation
from memoryos_uow._default import default_opened
from memoryos_uow._handles import LedgerStore
from memoryos_uow._names import Durability, Status, check_band, check_choice, check_identifier
from memoryos_uow._open_ledger import OpenLedger
from memoryos_uow.errors import UsageError
from memoryos_uow.receipts import RECEIPT_TYPE, Receipt
from memoryos_uow.unit import UnitOfWork

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from memoryos_uow._limits import Limits
    from memoryos_uow._records import RecoveryReport, UnitRecord, Violation
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow.abc import Store
    from memoryos_uow.engines._transaction import SQLiteReader


class Ledger:
    """One ledger file with its stores. Threads may share it; a forked child opens its own.

    Use `Ledger.open`, also as a context manager:

    ```python
    from memoryos_uow import Ledger
    from memoryos_uow.stores import DocumentStore

    with Ledger.open("memory.db", stores=[DocumentStore("notes")]) as ledger:
        with ledger.unit(space_id="shared:household", band="GREEN") as uow:
            uow["notes"].create("n1", {"text": "milk is out"})
        print(ledger.get(uow.uow_id).status, ledger["notes"].get("n1", space_id="shared:household"))
    ```
    ```output
    committed {'text': 'milk is out'}
    ```
    """

    def __init__(self, opened: OpenLedger) -> None:
        """Show an open ledger; users call `Ledger.open`."""
        self._opened = opened

    @classmethod
    def open(
        cls,
        path_or_url: str | os.PathLike[str] = "memory.db",
        *,
        stores: Iterable[Store] | Literal["recorded"] = (),
        durability: Durability | Literal["full", "normal"] = "full",
        origin: str | None = None,
        migrate: bool = True,
        busy_timeout: float = 30.0,
        limits: Limits | None = None,
        allow_triggers: Collection[str] = (),
        recover: bool = True,
    ) -> Ledger:
        """Open the ledger at a path, creating or migrating it to contract 1.1.0 if need be.

        Args:
            path_or_url: the SQLite file. Its directory must exist.
            stores: what units may write to. Without any, every name is a document store in the file. ``"recorded"``
                stands for all that the ledger has recorded and whose kind is installed.
            durability: ``"full"``: a commit is synced to the disk and survives a power cut. ``"normal"``: it survives a
                killed process; a power cut may lose the last units, each as a whole, never half of one.
            origin: the ledger's name in its receipts, without spaces, such as ``"example.com/household"``; fixed when
                the ledger is made. Default: ``"memoryos-uow/"`` and a random id.
            migrate: False leaves a 1.0.0 ledger as it is and works in basic mode: only the columns of 1.0.0 are
                written, and receipts are not kept.
            busy_timeout: seconds that a unit waits for other writers before `LedgerBusy`.
            limits: bounds on units and records; default `Limits()`.
            allow_triggers: names of the application's own triggers on the ledger's tables; others are refused, because
                a trigger can undo what a receipt says.
            recover: whether to finish, for at most ten seconds, what dead processes left unfinished in these stores;
                `recover` does the rest, or all of it.

        Raises:
            UsageError: an argument is wrong, or a store contradicts what the ledger records of it.
            StoreError: a store cannot keep its promise here.
            LedgerError: no ledger can be here; `LedgerCorrupt`, `SchemaTooNew`, `MigrationError` and `LedgerBusy` say
                more. The file is as it was before.
        """
        opened = OpenLedger.open(
            path_or_url,
            stores=stores,
            durability=check_choice(durability, Durability, "durability"),
            origin=origin,
            migrate=migrate,
            busy_timeout=busy_timeout,
            limits=limits,
            allow_triggers=allow_triggers,
            recover=recover,
        )
        return cls(opened)

    # Units

    def unit(self, **options: Any) -> UnitOfWork:
        """Return a unit of work on this ledger; the options are those of `UnitOfWork`."""
        return UnitOfWork(ledger=self, **options)

    def __getitem__(self, store: str) -> LedgerStore:
        """Return the store called `store`, for reading outside a unit.

        Raises:
            UsageError: the ledger has no such store.
        """
        return LedgerStore(self._opened.engine, self._opened.store(store))

    # Records

    def get(self, uow_id: str) -> UnitRecord:
        """Return the record of a unit, with its writes.

        Raises:
            UsageError: the ledger has no such unit: it was never committed, failed without a trace, or wrote nothing.
        """
        with self._settled_reader() as reader:
            record = self._rows.unit(reader, check_identifier(uow_id, "uow_id"))
        if record is None:
            raise UsageError(f"This ledger has no unit {uow_id}.", hint="ledger.units() lists the newest ones.")
        return record

    def units(
        self,
        *,
        space_id: str | None = None,
        band: str | None = None,
        status: str | None = None,
        actor_id: str | None = None,
        correlation_id: str | None = None,
        since: str | datetime | None = None,
        limit: int = 50,
    ) -> list[UnitRecord]:
        """Return the newest units that match every given filter, newest first, without their writes (see `get`).

        `since` is a time with its zone, or RFC 3339 UTC text as the ledger keeps it; it compares with ``created_ts``.
        """
        filters: dict[str, str] = {}
        for name, value in (("space_id", space_id), ("actor_id", actor_id), ("correlation_id", correlation_id)):
            if value is not None:
                filters[name] = check_identifier(value, name)
        if band is not None:
            filters["band"] = check_band(band).value
        if status is not None:
            filters["status"] = check_choice(status, Status, "status").value
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise UsageError("limit is a number of units, 0 or more.", hint="For example limit=50.")
        if self._rows.basic and filters.keys() - {"status"}:
            raise UsageError("A ledger of contract 1.0.0 knows status only.", hint="Open it with migrate=True.")
        with self._settled_reader() as reader:
            return self._rows.units(reader, filters, since=_check_since(since), limit=limit)

    def receipt(self, uow_id: str) -> Receipt:
        """Return the receipt of a committed unit, rebuilt from the ledger's rows.

        Raises:
            UsageError: there is no such unit, or it has no receipt (it failed, or is older than contract 1.1.0).
        """
        record = self.get(uow_id)
        with self._opened.engine.reader() as reader:
            parts = None if self._rows.basic else self._rows.receipt_parts(reader, record.uow_id)
        if parts is None or record.receipt_hash is None:
            raise UsageError(
                f"The unit {uow_id} has no receipt: it is {record.status}.",
                hint="Units that were committed under contract 1.1.0 have one.",
            )
        return Receipt(
            band=record.band,
            committed_ts=record.committed_ts or "",
            contract_version=record.contract_version or "",
            created_ts=record.created_ts,
            outcome="committed",
            space_id=record.space_id,
            store_count=record.store_count or 0,
            total_bytes_written=record.total_bytes_written or 0,
            type=RECEIPT_TYPE,
            uow_id=record.uow_id,
            signature=record.receipt_signature,
            **parts,
        )

    def recover(self) -> RecoveryReport:
        """Finish what other processes left unfinished, and remove bytes outside the ledger that belong to no unit.

        Forward where there is a decision, back where there is none; both can be repeated and interrupted at any point,
        and several processes may do it at once. Opening a ledger does the same, without the sweep and bounded in time.

        Raises:
            LedgerError: the ledger cannot be read or written.
        """
        self._opened.engine.refuse_misuse()
        report = self._opened.recovery.run()
        self._opened.recovery.sweep()
        return report

    def validate(self) -> list[Violation]:
        """Run the specification's five contract validations; return every row that breaks one, none if all is well.

        Raises:
            UsageError: the ledger is of contract 1.0.0, which has nothing to validate.
        """
        if self._rows.basic:
            raise UsageError("A ledger of contract 1.0.0 has nothing to validate.", hint="Migrate it first.")
        with self._settled_reader() as reader:
            return _validation.validate(reader)

    # Facts

    @property
    def path(self) -> Path:
        """The ledger's file, absolute."""
        return self._opened.engine.path

    @property
    def origin(self) -> str | None:
        """The ledger's name in its receipts; None in basic mode."""
        return self._opened.origin

    @property
    def contract_version(self) -> str:
        """``1.1.0``, or ``1.0.0`` in basic mode."""
        return "1.0.0" if self._rows.basic else "1.1.0"

    @property
    def read_only(self) -> bool:
        """Whether the file, or its directory, could not be written when the ledger was opened."""
        return self._opened.engine.read_only

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._opened.closed

    def __repr__(self) -> str:
        return f"<Ledger {str(self.path)!r}{' closed' if self.closed else ''}>"

    # The end

    def close(self) -> None:
        """Write what is left to be written about finished units and close every file. May be called twice.

        Raises:
            UsageError: a unit of this thread is still open on this ledger and holds its lock.
            LedgerBusy: a unit of another thread held it for longer than ``busy_timeout``.
        """
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # For reading

    @property
    def _rows(self) -> LedgerRows:
        return self._opened.rows

    @contextmanager
    def _settled_reader(self) -> Iterator[SQLiteReader]:
        """Lend a reader that sees everything about units that ended in this process."""
        self._opened.engine.refuse_misuse()
        self._opened.coordinator.settle()
        with self._opened.engine.reader() as reader:
            yield reader


def default_ledger() -> Ledger:
    """Return the process's default ledger, opening it if need be: ``$MEMORYOS_UOW_LEDGER``, or else ``./memory.db``.

    Raises:
        LedgerError: it cannot be opened.
    """
    return Ledger(default_opened())


_A_TIME: Final = "For example 2026-11-22T19:20:31Z, or datetime.now(UTC)."


def _check_since(since: str | datetime | None) -> str | None:
    """Return `since` in the form in which the ledger keeps times, so that texts compare as times do."""
    if since is None:
        return None
    try:
        moment = since if isinstance(since, datetime) else datetime.fromisoformat(since)
    except (TypeError, ValueError):
        raise UsageError("since is not a time.", hint=_A_TIME) from None
    if moment.tzinfo is None:
        raise UsageError("since needs a time zone.", hint=_A_TIME)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise UsageError("since is before the year 1 or after 9999 in UTC.", hint="Leave it out.") from None
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
