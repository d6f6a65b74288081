"""One batch after the other: units that wait for their numbers become rows of the receipt log.

Promise: whatever dies, pauses or repeats, the log has no gap and each committed unit once. Who numbers holds a lease;
what is read under it (`_read`) stays true as long as nobody takes the lease over, and everything that follows from it
is written in one transaction that fails where somebody has (`_FENCE`). So a process that was paused in between, and a
batch whose answer was lost, change nothing the second time. No round trip lies inside that transaction: a process that
stops for ever cannot hold its locks for long, and the number of round trips does not grow with the batch.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow import _ambient, _owner, _pending, _receipt_tree
from memoryos_uow._rows import CONTEXT_PREFIX, digest_text, milliseconds
from memoryos_uow.errors import LedgerError, LedgerRollback, StoreError, UnitOfWorkError
from memoryos_uow.receipts import RECEIPT_TYPE, Numbered, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from memoryos_uow._pending import PendingUnit
    from memoryos_uow._receipt_log import ReceiptLog, Sealed
    from memoryos_uow._receipt_tree import LogEnd
    from memoryos_uow._rows import Timing
    from memoryos_uow.engines._contract import Engine, EngineTransaction

BATCH_MAX: Final = 1000
"""Units that are numbered in one transaction, under one signature."""

LEASE_MS: Final = 5_000
"""How long others wait for a process elsewhere that does not answer; one of this machine is known to be dead."""

_NOW_MS: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
_ENDS_LEASE: Final = f"lease_until_ms = {_NOW_MS} + CAST(? AS BIGINT)"
_WORTH_IT: Final = "EXISTS (SELECT 1 FROM uow_pending)"
_TAKE: Final = (
    f"UPDATE uow_sequencer SET epoch = epoch + 1, owner = ?, {_ENDS_LEASE} WHERE id = 1"  # noqa: S608
    f" AND (owner IS NULL OR owner = ? OR lease_until_ms < {_NOW_MS}) AND {_WORTH_IT} RETURNING epoch"
)
_HOLDER: Final = f"SELECT owner FROM uow_sequencer WHERE id = 1 AND owner IS NOT NULL AND {_WORTH_IT}"  # noqa: S608
_INHERIT: Final = (
    f"UPDATE uow_sequencer SET epoch = epoch + 1, owner = ?, {_ENDS_LEASE} WHERE id = 1 AND owner = ?"  # noqa: S608
    " RETURNING epoch"
)
# Where the lease is not ours any more, epoch would become NULL, which its column refuses: so does everything after it.
_FENCE: Final = (
    "UPDATE uow_sequencer SET epoch = CASE WHEN epoch = CAST(? AS BIGINT) AND owner = CAST(? AS TEXT) THEN epoch END,"  # noqa: S608
    f" {_ENDS_LEASE}, owner = CASE WHEN CAST(? AS BOOLEAN) THEN owner END WHERE id = 1"
)
_GIVE_BACK: Final = "UPDATE uow_sequencer SET owner = NULL WHERE id = 1 AND epoch = ? AND owner = ?"
_NOT_FOR_LONG: Final = f"SET LOCAL idle_in_transaction_session_timeout = {LEASE_MS}"

_LOG: Final = (
    "INSERT INTO uow_ledger (commit_seq, unit, space_seq, prev, context, context_nonce, nonce, writes_root,"
    " write_count, first_write, nodes, execution_us, commit_us) SELECT * FROM unnest(CAST(? AS BIGINT[]),"
    " CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BYTEA[]), CAST(? AS BYTEA[]), CAST(? AS BYTEA[]),"
    " CAST(? AS BYTEA[]), CAST(? AS BYTEA[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BYTEA[]),"
    " CAST(? AS BIGINT[]), CAST(? AS BIGINT[]))"
)
_UNITS: Final = (
    "UPDATE unit_of_work AS u SET receipt_hash = n.hash, receipt_signature = CAST(? AS TEXT),"
    " total_execution_time_ms = coalesce(n.execution_ms, u.total_execution_time_ms),"
    " commit_time_ms = coalesce(n.commit_ms, u.commit_time_ms)"
    " FROM unnest(CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]))"
    " AS n(uow_id, hash, execution_ms, commit_ms) WHERE u.uow_id = n.uow_id"
)
_SPACES: Final = (
    "INSERT INTO uow_spaces (space_id, space_seq, head)"
    " SELECT * FROM unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BYTEA[]))"
    " ON CONFLICT (space_id) DO UPDATE SET space_seq = excluded.space_seq, head = excluded.head"
)


class _Entry(NamedTuple):
    """One unit with the number that it gets."""

    unit: PendingUnit
    commit_seq: int
    space_seq: int
    prev: bytes | None
    receipt_hash: str
    nodes: bytes


class Numbering:
    """Numbers the units of one ledger, whoever committed them; one thread at a time calls it."""

    def __init__(self, engine: Engine, log: ReceiptLog) -> None:
        self._engine = engine
        self._log = log
        self._took_ms = 0
        self._owner = f"{_owner.own_name()}/{_ambient.random_hex(4)}"  # two ledger objects of a process are two

    def run(self, timing_of: Callable[[str], Timing | None], done: Callable[[Mapping[str, Numbered]], None]) -> bool:
        """Number everything that waits, unless somebody else is at that; return whether this one was.

        `timing_of` says how long a unit took, where that is known here; `done` is told of units whose numbers are
        durable.

        Raises:
            LedgerError: nothing may be appended now, or the database is out of reach; what is not numbered waits.
        """
        if self._engine.read_only:
            return False
        epoch = self._take_lease()
        if epoch is None:
            return False
        try:
            while self._batch(epoch, timing_of, done):
                pass
        except BaseException:
            with suppress(UnitOfWorkError):  # it ends by itself
                self._give_back(epoch)
            raise
        return True

    # The lease

    def _take_lease(self) -> int | None:
        """Return the epoch of the lease; None where another process has it, or nothing waits."""
        tx = self._engine.begin(relaxed=True)
        try:
            tx.later(_NOT_FOR_LONG)
            taken = tx.rows(_TAKE, (self._owner, self._lease_ms(), self._owner))
            if not taken:
                for (holder,) in tx.rows(_HOLDER):
                    if _owner.is_gone(str(holder).rpartition("/")[0]):
                        taken = tx.rows(_INHERIT, (self._owner, self._lease_ms(), holder))
            tx.commit()
        finally:
            tx.rollback()
        return taken[0][0] if taken else None

    def _lease_ms(self) -> int:
        """Return how long the lease has to be: a signer may take its time, and is not to lose the lease over it."""
        return max(LEASE_MS, 3 * self._took_ms)

    def _give_back(self, epoch: int) -> None:
        tx = self._engine.begin(relaxed=True)
        try:
            tx.later(_GIVE_BACK, (epoch, self._owner))
            tx.commit()
        finally:
            tx.rollback()

    # A batch

    def _batch(
        self,
        epoch: int,
        timing_of: Callable[[str], Timing | None],
        done: Callable[[Mapping[str, Numbered]], None],
    ) -> bool:
        """Number the units that come next; return whether there may be more."""
        with self._engine.reader() as reader:
            units = _pending.following(reader, BATCH_MAX)
            if not units:
                self._give_back(epoch)
                return False
            log_end = _receipt_tree.end(reader)
            self._get_ready(reader, log_end)
        begun = _ambient.monotonic_ns()
        entries = self._entries(units, log_end)
        sealed = self._seal(log_end, entries)
        self._took_ms = (_ambient.monotonic_ns() - begun) // 1_000_000
        more = len(units) == BATCH_MAX
        if not self._write(epoch, log_end, entries, sealed, timing_of, keep=more):
            return False
        self._log.release(sealed)
        self._log.hindrance = None
        done({e.unit.uow_id: Numbered(e.space_seq, digest_text(e.prev), sealed.signature) for e in entries})
        return more

    def _get_ready(self, reader: Any, log_end: LogEnd) -> None:
        try:
            self._log.get_ready(reader, log_end)
        except LedgerRollback as error:  # nothing will ever be appended by this process
            self._log.refusal, self._log.may_refuse = error, True
            raise

    def _entries(self, units: list[PendingUnit], log_end: LogEnd) -> list[_Entry]:
        """Give each unit its place in log and space."""
        commit_seq = log_end.commit_seq or 0
        ends: dict[str, tuple[int, bytes | None]] = {}
        entries = []
        for unit in units:
            commit_seq += 1
            space_seq, head = ends.get(unit.space_id) or (unit.last_seq or 0, unit.head)
            receipt = self._receipt(unit, space_seq + 1, head)
            nodes = self._log.append_next(commit_seq, receipt.canonical())
            entries.append(_Entry(unit, commit_seq, space_seq + 1, head, receipt.hash, nodes))
            ends[unit.space_id] = (space_seq + 1, bytes.fromhex(receipt.hash))
        return entries

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

    def _seal(self, log_end: LogEnd, entries: list[_Entry]) -> Sealed:
        """Sign the log with all of the batch in it."""
        try:
            return self._log.seal(None, log_end, [(entries[-1].commit_seq, 0)])
        except UnitOfWorkError as error:
            self._log.hindrance, self._log.may_refuse = error, True
            raise

    def _write(
        self,
        epoch: int,
        log_end: LogEnd,
        entries: list[_Entry],
        sealed: Sealed,
        timing_of: Callable[[str], Timing | None],
        *,
        keep: bool,
    ) -> bool:
        """Write the batch, if the lease is still ours, and `keep` that or give it back; return False if it was not."""
        tx = self._engine.begin()
        try:
            tx.later(_NOT_FOR_LONG)
            tx.later(_FENCE, (epoch, self._owner, self._lease_ms(), keep))
            self._write_rows(tx, entries, sealed.signature, timing_of)
            if log_end.vkey is None and sealed.signature is not None and self._log.signer is not None:
                values = (self._log.signer.vkey, entries[0].commit_seq)
                tx.later("INSERT INTO uow_keys (vkey, since_seq) VALUES (?, ?)", values)
            tx.commit()
        except StoreError as refused:
            if self._is_ours(epoch):
                raise LedgerError(
                    "Rows of the receipt log contradict each other, so that no unit gets its number.",
                    hint="Every unit that is committed stays so. `memoryos-uow verify` names the rows.",
                ) from refused
            return False
        finally:
            tx.rollback()
        return True

    def _write_rows(
        self,
        tx: EngineTransaction,
        entries: list[_Entry],
        signature: str | None,
        timing_of: Callable[[str], Timing | None],
    ) -> None:
        ids = [entry.unit.uow_id for entry in entries]
        timings = [timing_of(uow_id) for uow_id in ids]
        execution = [None if one is None else one.execution_us for one in timings]
        commit = [None if one is None else one.commit_us for one in timings]
        kept = zip(*((*entry.unit[2:8], entry.nodes) for entry in entries), strict=True)
        tx.later(
            _LOG,
            (
                [entry.commit_seq for entry in entries],
                ids,
                [entry.space_seq for entry in entries],
                [entry.prev for entry in entries],
                *map(list, kept),
                execution,
                commit,
            ),
        )
        hashes = [entry.receipt_hash for entry in entries]
        tx.later(_UNITS, (signature, ids, hashes, *map(_in_ms, (execution, commit))))
        ends = {entry.unit.space_id: entry for entry in entries}
        seqs, heads = zip(*((last.space_seq, bytes.fromhex(last.receipt_hash)) for last in ends.values()), strict=True)
        tx.later(_SPACES, (list(ends), list(seqs), list(heads)))
        _pending.remove(tx, ids)

    def _is_ours(self, epoch: int) -> bool:
        with self._engine.reader() as reader:
            return bool(reader.rows("SELECT 1 FROM uow_sequencer WHERE epoch = ? AND owner = ?", (epoch, self._owner)))


def _in_ms(microseconds: list[int | None]) -> list[int | None]:
    return [None if one is None else milliseconds(one) for one in microseconds]
