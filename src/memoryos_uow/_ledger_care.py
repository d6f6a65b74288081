"""Looking after a ledger: prove, sign, verify, validate, recover, count.

Promise: a face, the half of `Ledger` that concerns the ledger as a whole; the work is done where each is at home.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from memoryos_uow import _keys, _opening_log, _receipt_tree, _released_head, _validation
from memoryos_uow._names import check_band, check_choice, check_identifier
from memoryos_uow._times import check_time
from memoryos_uow.errors import LedgerBusy, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime

    from memoryos_uow._open_ledger import OpenLedger
    from memoryos_uow._records import RecoveryReport, Violation
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow.engines._contract import EngineReader
    from memoryos_uow.signing import Signer
    from memoryos_uow.statistics import GroupBy, Statistics
    from memoryos_uow.verification import Verification


class LedgerCare:
    """What can be asked of, and done with, an open ledger as a whole; `Ledger` is the rest."""

    _opened: OpenLedger

    def checkpoint(self) -> str:
        """Return the newest head of the receipt log, for keeping elsewhere: a C2SP checkpoint, signed if the ledger is.

        Three lines, origin, number of units and root, then the signature; where nobody signs, a line that says so.
        Whoever keeps one can tell later whether anything from before was changed or removed. Everything that it covers
        is on the disk when this returns.

        Raises:
            UsageError: the ledger is of contract 1.0.0.
            LedgerError: the ledger cannot be read, or its last commits cannot be made durable; `LedgerBusy`: units of
                this process got no number in the log within ``busy_timeout`` (a ledger in PostgreSQL only).
        """
        log = self._opened.log
        if log is None:
            raise UsageError("A ledger of contract 1.0.0 has no receipts.", hint="Migrate it first.")
        sequencer = self._opened.coordinator.sequencer
        if sequencer is not None and not sequencer.settle(self._opened.engine.busy_timeout_s):
            raise LedgerBusy(
                "Units that this process has committed have no number in the receipt log yet.",
                hint="Nothing of them is missing. Ask for the checkpoint again.",
            )
        with self._settled_reader() as reader:
            head = _receipt_tree.head(reader, log.origin)
        if not self._opened.engine.syncs_commits:
            self._opened.engine.sync_log()
        return head

    def change_signer(self, signer: Signer | str | os.PathLike[str] | None, *, old_key_lost: bool = False) -> None:
        """Have another key sign from the next unit on, also in this object; None: nobody.

        The old key stays in ``uow_keys``, so what it signed can be checked for ever. A checkpoint signed by both keys
        is kept with the new one, which is why the old one has to be here; `old_key_lost` goes on without it.

        Raises:
            UsageError: the signer is none, signs for another ledger, or nothing would change.
            LedgerError: the old key is not here, the new one was put aside before, or the key file cannot be used.
        """
        log = self._opened.log
        if log is None:
            raise UsageError("A ledger of contract 1.0.0 has no receipts to sign.", hint="Migrate it first.")
        new = None if signer is None else _opening_log.bound_signer(signer, log.origin)
        self._opened.change_signer(log, new, old_key_lost=old_key_lost)

    def revoke_key(self, key: str) -> None:
        """Say that signatures of `key` count for nothing from now on: a key that was put aside, and is known to others.

        `key` is a verifier key, or its name and id.

        Raises:
            UsageError: no such key has signed this ledger, or it is in use: change the signer first.
        """
        self._opened.engine.refuse_misuse()
        self._opened.coordinator.transactions.apart(lambda tx: _keys.revoke(tx, key), wait_s=None, relaxed=False)

    def recover(self) -> RecoveryReport:
        """Finish what other processes left unfinished, and remove bytes outside the ledger that belong to no unit.

        Forward where there is a decision, back where there is none; both can be repeated and interrupted at any point,
        and several processes may do it at once. Opening a ledger does the same, without the sweep and bounded in time.
        Idempotency keys that have expired are removed too.

        Raises:
            LedgerError: the ledger cannot be read or written.
        """
        self._opened.engine.refuse_misuse()
        report = self._opened.recovery.run()
        if self._opened.coordinator.sequencer is not None:
            self._opened.coordinator.sequencer.number_all()
        self._opened.recovery.sweep()
        self._opened.claiming.sweep()
        if not self._rows.basic and self._opened.scrubbing.is_needed():
            unfinished = self._opened.scrubbing.run(wait_s=self._opened.engine.busy_timeout_s)
            report = replace(report, in_doubt=tuple(dict.fromkeys((*report.in_doubt, *unfinished))))
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

    def verify(
        self,
        *,
        space_id: str | None = None,
        checkpoint: str | None = None,
        vkey: str | None = None,
        live: bool = True,
        stores: Collection[str] | None = None,
        gone: Collection[str] = (),
        progress: Callable[[str], None] | None = None,
    ) -> Verification:
        """Recompute every receipt from the ledger's rows, and compare what the stores hold with what receipts say.

        The report names whatever does not hold, the level reached (hashed, signed, anchored) and what that does not
        prove. Nothing is written; a snapshot is read, so others may go on writing, though the write-ahead log grows
        while it lasts.

        Args:
            space_id: only the history and the records of this space.
            checkpoint: the text of a checkpoint of this ledger that was kept elsewhere (see `checkpoint`).
            vkey: the public key, ``name+id+base64``, that you were handed; it must be one that signed this ledger.
            live: whether to read what the stores hold.
            stores: names of the only stores to compare.
            gone: ids of units, or with `space_id` keys of records: no store may hold any more what they wrote or name.
            progress: told in words what is being done.

        Raises:
            UsageError: an argument is wrong, the ledger is of contract 1.0.0, or it is signed and ``[sign]`` is not
                installed.
            LedgerBusy: others kept the file locked against reading.
        """
        if self._rows.basic:
            raise UsageError("A ledger of contract 1.0.0 has no receipts to verify.", hint="Migrate it first.")
        self._opened.engine.refuse_misuse()
        self._opened.settle()
        asked: dict[str, Any] = {
            "stores": self._opened.stores(),
            "space_id": None if space_id is None else check_identifier(space_id, "space_id"),
            "checkpoint": checkpoint,
            "vkey": vkey,
            "live": live,
            "only": stores,
            "gone": gone,
            "content_key": self._opened.content_key,
            "progress": progress,
        }
        # Much that most programs never need.
        if self._opened.engine.directory is None:
            from memoryos_uow._verification.database import DatabaseVerifier  # noqa: PLC0415

            origin = self._opened.origin
            head = None if origin is None else _released_head.elsewhere(origin)
            return DatabaseVerifier(self._opened.engine, head, **asked).run()
        from memoryos_uow._verification import Verifier  # noqa: PLC0415

        return Verifier(self._opened.file.connect, self._opened.file.path, **asked).run()

    def stats(
        self,
        *,
        space_id: str | None = None,
        band: str | None = None,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        by: GroupBy | Literal["space", "actor", "band", "store", "hour", "day", "month"] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Statistics:
        """Count units, failures, retries and bytes, and say how long units took: exact mean, p50, p95, p99 and maximum.

        What was added up is kept in a small file beside the ledger, ``<ledger>-stats``, so only the first answer has to
        read every unit. Delete it whenever you like. A database adds up its units anew for each answer. Nothing is
        added of a unit that its band withholds: no names of RED and BLACK units, no actors of AMBER ones, no durations
        of BLACK ones.

        Args:
            space_id: only GREEN and AMBER units of this space.
            band: only units of this band.
            since: only units that began then or later: a time with its zone.
            until: only units that began before.
            by: have groups beside the total. Together with `space_id`, or by anything but times and bands together with
                `since` and `until`, rows are read, which takes some seconds for a million units.
            progress: told in words how far reading new units is.

        Raises:
            UsageError: an argument is wrong.
            LedgerError: the ledger cannot be read.
        """
        from memoryos_uow._statistics import Question, statistics  # noqa: PLC0415 - most programs never ask
        from memoryos_uow.statistics import GroupBy  # noqa: PLC0415

        question = Question(
            None if space_id is None else check_identifier(space_id, "space_id"),
            None if band is None else check_band(band),
            check_time(since),
            check_time(until, "until"),
            None if by is None else check_choice(by, GroupBy, "by"),
        )
        path = None if self._opened.engine.directory is None else self._opened.file.path
        with self._settled_reader() as reader:
            return statistics(reader, path, question, basic=self._rows.basic, progress=progress)

    # For reading

    @property
    def _rows(self) -> LedgerRows:
        return self._opened.rows

    @contextmanager
    def _settled_reader(self) -> Iterator[EngineReader]:
        """Lend a reader that sees everything about units that ended in this process."""
        self._opened.engine.refuse_misuse()
        self._opened.settle()
        with self._opened.engine.reader() as reader:
            yield reader
