"""The ledger as users see it: opened once, shared by threads, asked about units and their records.

Promise: a face; what an open ledger is stands in `_open_ledger`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from memoryos_uow import _durability
from memoryos_uow._default import default_opened
from memoryos_uow._handles import LedgerStore
from memoryos_uow._ledger_care import LedgerCare
from memoryos_uow._names import Durability, Status, check_band, check_choice, check_identifier
from memoryos_uow._open_ledger import OpenLedger
from memoryos_uow._rebuilding import receipt_of
from memoryos_uow._requests import Request
from memoryos_uow._retrying import ATTEMPTS
from memoryos_uow._running import run
from memoryos_uow._times import check_time
from memoryos_uow.errors import UsageError
from memoryos_uow.observers import TelemetryMode
from memoryos_uow.unit import UnitOfWork

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType

    from memoryos_uow._copying.report import CopyProgress, CopyReport
    from memoryos_uow._durability import CommitDurability
    from memoryos_uow._limits import Limits
    from memoryos_uow._messages import Message, RelayReport
    from memoryos_uow._records import Erasure, UnitRecord
    from memoryos_uow._relay import Outbox
    from memoryos_uow._requests import Outcome
    from memoryos_uow.abc import Store
    from memoryos_uow.receipts import Receipt
    from memoryos_uow.signing import Signer


T = TypeVar("T")


class Ledger(LedgerCare):
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
        content_key: bytes | str | os.PathLike[str] | None = None,
        signer: Signer | str | os.PathLike[str] | None = None,
        accept_rollback: bool = False,
        telemetry: TelemetryMode | Literal["background", "inline", "off"] = "background",
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
            content_key: 32 secret bytes, or the path of a file with them that only its owner may read: RED and BLACK
                writes are then recorded with an HMAC under it, and BLACK ones under a pseudonym. Default: the file that
                ``$MEMORYOS_UOW_CONTENT_KEY_FILE`` names, or none. Once a ledger has a key, it takes no other, and RED
                and BLACK units need it.
            signer: who signs the receipt log, or the path of a key file (see `memoryos_uow.signing`). A ledger that is
                signed once takes units only with its signer; without it, it can be read and recovered.
            accept_rollback: go on with a ledger that is older than, or different from, what it was when it was last
                written: the next epoch of its log begins. Without it such a ledger can be read, and `LedgerRollback`
                refuses every unit.
            telemetry: how OpenTelemetry and structlog, where the application has set them up, are told of units:
                ``"background"`` from a thread of its own, ``"inline"`` before the block is left (for tests), or
                ``"off"``.

        Raises:
            UsageError: an argument is wrong, a store contradicts what the ledger records of it, or the content key is
                another one than the ledger's, missing, or open to others.
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
            content_key=content_key,
            signer=signer,
            accept_rollback=accept_rollback,
            telemetry=check_choice(telemetry, TelemetryMode, "telemetry"),
        )
        return cls(opened)

    @staticmethod
    def copy(
        source: str | os.PathLike[str],
        target: str,
        *,
        busy_timeout: float = 30.0,
        progress: Callable[[CopyProgress], None] | None = None,
    ) -> CopyReport:
        """Copy the ledger in the file `source`, with what its stores hold, to the PostgreSQL database at `target`.

        The copy is the same ledger under another address: its origin, receipts, signatures and versions stay. Units of
        others on the source wait meanwhile. A copy that was killed goes on where it was when this is called again;
        until it is whole, the target cannot be opened. At the end every row is compared, and the root over all receipts
        is the same on both sides. What stores keep outside the ledger (files of blobs, second files) stays where it is.

        Args:
            source: the SQLite file; what is unfinished in it is finished first, as `recover` does.
            target: the address of a database that holds no ledger.
            busy_timeout: seconds to wait for others who keep one of the two locked.
            progress: told how far the copy is.

        Raises:
            UsageError: the target holds something else, or one of the two is none that can be copied.
            LedgerError: one of the two cannot be used, or they differ at the end.
        """
        from memoryos_uow._copying import copy_ledger  # noqa: PLC0415 - most programs never do it

        return copy_ledger(source, target, busy_timeout=busy_timeout, progress=progress)

    # Units

    def unit(self, **options: Any) -> UnitOfWork:
        """Return a unit of work on this ledger; the options are those of `UnitOfWork`."""
        return UnitOfWork(ledger=self, **options)

    def run(
        self,
        fn: Callable[..., T],
        *,
        attempts: int = ATTEMPTS,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        arguments: object = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Outcome[T]:
        """Run ``fn(uow, *args, **kwargs)`` as one unit of work, again where that may help, and return its `Outcome`.

        The whole function is called again, with a new unit, after whatever is ``retryable``: a conflict, a busy ledger,
        a store out of reach. Whatever else it does must therefore bear being done twice. What cannot be cured is raised
        at once, and so is the last attempt's error. Pauses are random and grow. Every failed attempt leaves its row;
        all attempts have one ``correlation_id``, and the committed unit's ``retry_count`` says how many came before.

        Args:
            fn: a function that takes the unit first.
            attempts: how often it is called at most.
            timeout: seconds for all attempts, pauses and waiting for locks included.
            idempotency_key: names the request. Under one key one unit of a space is committed; who comes later, or at
                the same time, gets its result and receipt without `fn` being called. An attempt that failed, or rolled
                itself back, leaves the key free. Results must be JSON, at most ``Limits.result_bytes`` long; keys are
                kept for ``Limits.idempotency_s``. With a key, an attempt whose outcome is in doubt is tried again too.
            arguments: what tells one request from another under the same key, as JSON; default: `args` and `kwargs`.
            args: arguments of `fn`, behind the unit.
            kwargs: arguments of `fn` by name.
            options: those of `UnitOfWork`.

        Raises:
            UsageError: an argument is wrong; `fn` is a coroutine function or a generator, or returned something to
                await; its result cannot be kept; or the key was used with other arguments. Nothing was written.
            DuplicateUnit: the key was used, and an erasure took the result together with a record it had written.
            UnitTimeout: the deadline has passed. Nothing was written.
            Exception: what `fn` raised, or what a unit raises.
        """
        return run(
            Request(
                fn,
                args,
                kwargs,
                attempts=attempts,
                timeout=timeout,
                idempotency_key=idempotency_key,
                arguments=arguments,
                options={**options, "ledger": self},
            )
        )

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
            return self._rows.units(reader, filters, since=check_time(since), limit=limit)

    def receipt(self, uow_id: str) -> Receipt:
        """Return the receipt of a committed unit, rebuilt from the ledger's rows.

        On PostgreSQL it may be ``pending`` for a moment: then the log has not numbered the unit yet.

        Raises:
            UsageError: there is no such unit, or it has no receipt (it failed, or is older than contract 1.1.0).
        """
        record = self.get(uow_id)
        receipt = None
        if not self._rows.basic:
            coordinator = self._opened.coordinator
            with self._opened.engine.reader() as reader:
                receipt = receipt_of(
                    reader, self._rows, record.uow_id, log=coordinator.log, sequencer=coordinator.sequencer
                )
        if receipt is None:
            raise UsageError(
                f"The unit {uow_id} has no receipt: it is {record.status}.",
                hint="Units that were committed under contract 1.1.0 have one.",
            )
        return receipt

    def erase(
        self,
        *,
        space_id: str,
        store: str,
        key: str,
        forget_unit_ids: bool = False,
        forget_context: bool = False,
        vacuum: bool = True,
        actor_id: str | None = None,
        correlation_id: str | None = None,
    ) -> Erasure:
        """Remove a record, its former values and whatever the ledger says of it; leave a receipt that this was done.

        The record goes from its store, and every row of ``uow_writes`` that names it is sealed: its hash stays, so that
        all receipts, roots and proofs still verify, and everything else goes. The unit that does so, of band BLACK, is
        logged like any other; its receipt is over what was sealed, so that sealing cannot hide that rows were tampered
        with. A record that was deleted before can still be erased; one that is written again is a new one.

        On return, where the answer is ``complete``, no byte of the record is left in the ledger's file, its free pages
        and log, nor in the store's files. What file systems, disks, backups and other programs kept is out of reach.
        In a database the tables are vacuumed, once nobody can see the record any more; its write-ahead log, replicas
        and backups are out of reach.

        Args:
            space_id: whose record.
            store: the name of its store.
            key: which record.
            forget_unit_ids: units that wrote nothing but erased records lose their id and their times as well.
            forget_context: the units that wrote the record no longer say who acted, from where, and why.
            vacuum: write the ledger's file anew, so that former values are gone from its free pages; takes as long as
                copying the file. With False, only what this erasure itself deletes is overwritten. Of several erasures
                in a row the last one is enough. Without meaning in a database.
            actor_id: who erases; recorded with the unit.
            correlation_id: because of which request.

        Raises:
            RecordMissing: the store has no such record and no receipt names one.
            UsageError: there is no such store; or the ledger's content key is needed and was not given.
            StoreError, LedgerError: it could not be erased; everything is as it was.
        """
        from memoryos_uow._erasing import WhatToErase, erase  # noqa: PLC0415 - few programs ever erase

        request = WhatToErase(
            space_id, store, key, forget_unit_ids=forget_unit_ids, forget_context=forget_context, vacuum=vacuum
        )
        return erase(self, request, actor_id=actor_id, correlation_id=correlation_id)

    # The outbox

    def relay(
        self,
        sink: Callable[[Message], object],
        *,
        topics: Iterable[str] | None = None,
        until_empty: bool = False,
        stop: threading.Event | None = None,
        attempts: int = 10,
        lease: float = 60.0,
    ) -> RelayReport:
        """Deliver messages that units have published, at least once each, and in order per key.

        A message is removed once `sink` has returned for it; what `sink` raises is recorded and the message tried again
        later (see `memoryos_uow.sinks`). No lock is held while `sink` works. Several relays, in threads and processes,
        share the work, and what one had that died is taken over. Works until `stop` is set; a new message is noticed
        within 0.05 s. In an asyncio program use `AsyncLedger.relay`, which ends when its task is cancelled.

        Args:
            sink: a function of one `Message`, or an `HttpSink` or `NdjsonSink`. It may write to this ledger.
            topics: which to deliver; default all. Relays that share the work serve the same topics: order holds among
                the topics of one relay.
            until_empty: return as soon as nothing is due, or the receiver is out of reach.
            stop: set it to have the relay return after the message that it is delivering.
            attempts: how many failed deliveries park a message; it is put off before each, up to 300 s. 1 to 1,000.
            lease: seconds, 1 to 86,400, that `sink` may take for one message before other relays take it over.

        Raises:
            UsageError: an argument is wrong, `sink` is a coroutine function, or the ledger was closed meanwhile.
            LedgerError: the ledger cannot be written; what was delivered and not noted is delivered again.
        """
        from memoryos_uow._relay import RelayOptions, run_relay  # noqa: PLC0415 - few programs deliver
        from memoryos_uow._relay.arguments import (  # noqa: PLC0415
            check_number,
            check_sink,
            check_stop,
            check_topics,
        )

        options = RelayOptions(
            topics=check_topics(topics),
            until_empty=bool(until_empty),
            stop=check_stop(stop),
            attempts=int(check_number(attempts, "attempts", whole=True, least=1, most=1_000)),
            lease_s=check_number(lease, "lease", whole=False, least=1, most=86_400),
        )
        checked = check_sink(sink)
        self._opened.engine.refuse_misuse()
        return run_relay(self._opened.engine, self._opened.coordinator.transactions, self.origin, checked, options)

    @property
    def outbox(self) -> Outbox:
        """What is published and not delivered yet: to look at, to try again, to drop."""
        from memoryos_uow._relay import Outbox  # noqa: PLC0415

        return Outbox(self._opened.engine, self._opened.coordinator.transactions)

    # Facts

    @property
    def path(self) -> Path:
        """The ledger's file, absolute."""
        return self._opened.file.path

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
    def durability(self) -> CommitDurability:
        """What a commit that has returned can be trusted to survive, as far as the database's server says."""
        engine = self._opened.engine
        asked = Durability.FULL if engine.syncs_commits else Durability.NORMAL
        return _durability.given(asked, getattr(engine, "facts", None))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._opened.closed

    def __repr__(self) -> str:
        return f"<Ledger {self._opened.engine.place!r}{' closed' if self.closed else ''}>"

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


def default_ledger() -> Ledger:
    """Return the process's default ledger, opening it if need be: ``$MEMORYOS_UOW_LEDGER``, or else ``./memory.db``.

    Raises:
        LedgerError: it cannot be opened.
    """
    return Ledger(default_opened())
