"""Gives units on PostgreSQL their numbers in the receipt log, after their commits: one sequencer at a time.

Promise: the log is the same as on SQLite, without gaps, each unit once; a unit that could have seen what another one
wrote comes after it. Commits never wait for this: they leave a row in ``uow_pending``, and the process that committed
wakes its own sequencer. Whichever process has the lease numbers the units of all; one that was paused and comes back
finds its epoch gone, and changes nothing. Units that were committed by a process that died are numbered by the next one
that opens the ledger or commits.

One turn: take the lease; read what waits; make receipts and leaves; sign once; write all of it in one transaction that
begins by proving the lease.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient, _log, _owner, _pending, _receipt_tree
from memoryos_uow._backoff import delay_s
from memoryos_uow._rows import CONTEXT_PREFIX, digest_text
from memoryos_uow.errors import LedgerBusy, UnitOfWorkError
from memoryos_uow.receipts import RECEIPT_TYPE, Numbered, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._pending import PendingUnit
    from memoryos_uow._receipt_log import ReceiptLog
    from memoryos_uow._receipt_tree import LogEnd
    from memoryos_uow.engines._contract import Engine, EngineTransaction

BATCH_MAX: Final = 1000
LEASE_MS: Final = 5_000
_POLL_S: Final = 0.05
_CLOSE_S: Final = 5.0

_NOW_MS: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
_TAKE: Final = (
    f"UPDATE uow_sequencer SET epoch = epoch + 1, owner = ?, lease_until_ms = {_NOW_MS} + {LEASE_MS}"  # noqa: S608
    f" WHERE id = 1 AND (owner IS NULL OR owner = ? OR lease_until_ms < {_NOW_MS}) RETURNING epoch"
)
_PROVE: Final = (
    f"UPDATE uow_sequencer SET lease_until_ms = {_NOW_MS} + {LEASE_MS} WHERE id = 1 AND epoch = ? AND owner = ?"  # noqa: S608
)
_GIVE_BACK: Final = "UPDATE uow_sequencer SET owner = NULL WHERE id = 1 AND epoch = ? AND owner = ?"
_NUMBERED: Final = (
    "SELECT l.space_seq, l.prev, u.receipt_signature FROM uow_ledger AS l JOIN unit_of_work AS u ON u.uow_id = l.unit"
    " WHERE l.unit = ?"
)


class Sequencer:
    """Numbers the units of one ledger, from a thread of this process that runs while there is something to do."""

    def __init__(self, engine: Engine, log: ReceiptLog, *, then: Callable[[], None]) -> None:
        self._engine = engine
        self._log = log
        self._then = then
        self._owner = f"{_owner.own_name()}/{_ambient.random_hex()[:8]}"  # two ledger objects of a process are two
        self._mutex = threading.Lock()
        self._waiting: dict[str, threading.Event] = {}
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    # What units ask for

    def expect(self, uow_id: str) -> Callable[[float | None], Numbered]:
        """Have the unit, whose commit has just returned, numbered soon; return how to wait for that."""
        with self._mutex:
            self._waiting[uow_id] = threading.Event()
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="memoryos-uow sequencer", daemon=True)
                self._thread.start()
        self._wanted.set()
        return partial(self.wait, uow_id)

    def wait(self, uow_id: str, timeout: float | None) -> Numbered:
        """Wait until the unit has its number.

        Raises:
            LedgerBusy: it has none after `timeout` seconds (default: the ledger's busy timeout).
        """
        event = self._waiting.get(uow_id)
        if event is not None:
            event.wait(self._engine.busy_timeout_s if timeout is None else timeout)
        with self._engine.reader() as reader:
            found = reader.rows(_NUMBERED, (uow_id,))
        if not found:
            raise LedgerBusy(
                f"The unit {uow_id} is committed, and has no number in the receipt log yet.",
                hint="Ask for its receipt again: ledger.receipt(uow_id). Nothing of the unit is missing.",
                uow_id=uow_id,
            )
        space_seq, prev, signature = found[0]
        return Numbered(space_seq, digest_text(prev), signature)

    # The thread

    def _work(self) -> None:
        attempt = 0
        while not self._closed:
            self._wanted.wait()
            self._wanted.clear()
            try:
                busy = self.turn()
                attempt = 0
            except UnitOfWorkError as error:
                _log.warn("uow.numbering_delayed", reason=type(error).__name__)
                busy, attempt = True, attempt + 1
            if busy and not self._closed:
                threading.Event().wait(_POLL_S if not attempt else delay_s(attempt, _ambient.random_fraction()))
                self._wanted.set()

    def turn(self) -> bool:
        """Number what waits, if nobody else does; return whether units of this process wait still."""
        epoch = self._take_lease()
        if epoch is not None:
            try:
                while self._number(epoch):
                    pass
            finally:
                self._give_back(epoch)
        with self._mutex:
            mine = list(self._waiting)
        if mine:
            with self._engine.reader() as reader:
                left = _pending.waits(reader, mine)
            with self._mutex:
                for uow_id in set(mine) - left:
                    self._waiting.pop(uow_id).set()
            self._then()
            return bool(left)
        return False

    def _take_lease(self) -> int | None:
        tx = self._engine.begin(relaxed=True)
        try:
            taken = tx.rows(_TAKE, (self._owner, self._owner))
            tx.commit()
        finally:
            tx.rollback()
        return taken[0][0] if taken else None

    def _give_back(self, epoch: int) -> None:
        tx = self._engine.begin(relaxed=True)
        try:
            tx.execute(_GIVE_BACK, (epoch, self._owner))
            tx.commit()
        finally:
            tx.rollback()

    def _number(self, epoch: int) -> bool:
        """Number one batch; return whether there may be more."""
        tx = self._engine.begin()
        try:
            if tx.execute(_PROVE, (epoch, self._owner)) != 1:
                return False  # somebody has taken over
            units = _pending.following(tx, BATCH_MAX)
            if units:
                self._write(tx, units)
                tx.commit()
        finally:
            tx.rollback()
        return len(units) == BATCH_MAX

    def _write(self, tx: EngineTransaction, units: list[PendingUnit]) -> None:
        log_end = begun = _receipt_tree.end(tx)
        ends = self._ends(tx, {unit.space_id for unit in units})
        entries: list[tuple[Any, ...]] = []
        hashes: list[tuple[str, str]] = []
        for unit in units:
            space_seq, head = ends.get(unit.space_id, (0, None))
            receipt = self._receipt(unit, space_seq + 1, head)
            commit_seq = 1 if log_end.commit_seq is None else log_end.commit_seq + 1
            nodes = self._log.append(tx, log_end, commit_seq, receipt.canonical())
            log_end = log_end._replace(commit_seq=commit_seq, nodes=nodes)
            ends[unit.space_id] = (space_seq + 1, bytes.fromhex(receipt.hash))
            entries.append((commit_seq, unit.uow_id, space_seq + 1, head, *unit[2:8], nodes))
            hashes.append((receipt.hash, unit.uow_id))
        self._insert(tx, begun, entries, hashes, ends)

    def _insert(
        self,
        tx: EngineTransaction,
        begun: LogEnd,
        entries: list[tuple[Any, ...]],
        hashes: list[tuple[str, str]],
        ends: dict[str, tuple[int, bytes | None]],
    ) -> None:
        tx.execute_many(
            "INSERT INTO uow_ledger (commit_seq, unit, space_seq, prev, context, context_nonce, nonce, writes_root,"
            " write_count, first_write, nodes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            entries,
        )
        tx.execute_many("UPDATE unit_of_work SET receipt_hash = ? WHERE uow_id = ?", hashes)
        tx.execute_many(
            "INSERT INTO uow_spaces (space_id, space_seq, head) VALUES (?, ?, ?)"
            " ON CONFLICT (space_id) DO UPDATE SET space_seq = excluded.space_seq, head = excluded.head",
            [(space_id, *end) for space_id, end in ends.items()],
        )
        self._log.seal(tx, begun, [(entry[0], entry[1]) for entry in entries])
        _pending.remove(tx, [entry[1] for entry in entries])

    @staticmethod
    def _ends(tx: EngineTransaction, spaces: set[str]) -> dict[str, tuple[int, bytes | None]]:
        marks = ", ".join("?" * len(spaces))
        rows = tx.rows(f"SELECT space_id, space_seq, head FROM uow_spaces WHERE space_id IN ({marks})", tuple(spaces))  # noqa: S608
        return {space_id: (space_seq, head) for space_id, space_seq, head in rows}

    def _receipt(self, unit: PendingUnit, space_seq: int, prev: bytes | None) -> Receipt:
        return Receipt(
            band=unit.band,
            committed_ts=unit.committed_ts,
            context=CONTEXT_PREFIX + unit.context.hex(),
            contract_version=unit.contract_version,
            created_ts=unit.created_ts,
            nonce=digest_text(unit.nonce),
            origin=self._log.origin,
            outcome="committed",
            prev=digest_text(prev),
            space_id=unit.space_id,
            space_seq=space_seq,
            store_count=unit.store_count,
            total_bytes_written=unit.total_bytes_written,
            type=RECEIPT_TYPE,
            uow_id=unit.uow_id,
            write_count=unit.write_count,
            writes_root=unit.writes_root.hex(),
        )

    def close(self) -> None:
        """Number what this process has committed, if that can be done soon, and end the thread."""
        with self._mutex:
            thread, waits = self._thread, list(self._waiting.values())
        for event in waits:
            if not event.wait(_CLOSE_S):
                break
        self._closed = True
        self._wanted.set()
        if thread is not None:
            thread.join(_CLOSE_S)
