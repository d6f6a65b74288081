"""The steps of a verification in their order, over one snapshot of the ledger."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from memoryos_uow import _ed25519, _epochs, _notes, _released_head
from memoryos_uow._verification.chains import Chains
from memoryos_uow._verification.findings import Findings, UndecodableError
from memoryos_uow._verification.live import Claims, LiveCheck, as_bytes
from memoryos_uow._verification.log import LogCheck, ledger_keys, parse_kept
from memoryos_uow._verification.others import OtherRows
from memoryos_uow._verification.scratch import Scratch
from memoryos_uow._verification.stores import reached_stores
from memoryos_uow._verification.units import PendingWalk, UnitWalk
from memoryos_uow.errors import UnitOfWorkError, UsageError, VerificationError
from memoryos_uow.verification import StoreCheck, Verification, VerificationLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from memoryos_uow._band_keys import ContentKey
    from memoryos_uow._notes import VerifierKey
    from memoryos_uow._released_head import Released
    from memoryos_uow._verification.log import Kept
    from memoryos_uow._verification.rows import VerifierRows
    from memoryos_uow.abc import Store


class Verifying:
    """One verification of one ledger; `run` does it. What depends on where the ledger lives is left to two others."""

    def __init__(
        self,
        *,
        stores: Mapping[str, Store],
        space_id: str | None = None,
        checkpoint: str | None = None,
        vkey: str | None = None,
        live: bool = True,
        only: Collection[str] | None = None,
        gone: Collection[str] = (),
        content_key: ContentKey | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self._stores = stores
        self._space = space_id
        self._kept = None if checkpoint is None else _checkpoint(checkpoint)
        self._trusted = None if vkey is None else _verifier_key(vkey)
        self._live = live
        self._only = None if only is None else frozenset(only)
        self._gone = gone
        self._content_key = content_key
        self._tell = progress or (lambda _: None)

    def run(self) -> Verification:
        """Do every step; what does not hold becomes a finding, and only what prevents looking at all is raised.

        Raises:
            UsageError: an argument is none that this ledger can be asked about, or ``[sign]`` is not installed.
            LedgerBusy: others kept the file locked against reading.
        """
        try:
            return self._run(lenient=False)
        except UndecodableError:
            return self._run(lenient=True)

    def _run(self, *, lenient: bool) -> Verification:
        findings = Findings(lenient=lenient)
        kept = self._kept_beside()
        released = (
            None if kept is None else _released_head.read(kept)
        )  # before the snapshot, which then cannot be older
        with self._snapshot(lenient=lenient) as rows, Scratch() as scratch:
            self._check_file(rows, findings)
            claims = Claims(scratch, only=self._only, content_key=self._content_key) if self._live else None
            chains = Chains(rows, findings, space_id=self._space)
            walk, log = self._walk(rows, findings, claims, chains)
            pending = self._walk_pending(rows, findings, claims)
            self._check_released(rows, findings, log, released)
            self._tell("comparing histories of spaces, and rows outside the log")
            others = OtherRows(rows, findings, chains, space_id=self._space, whole=walk.complete)
            others.check()
            checked = None
            if claims is not None:
                claims.flush()
                checked = self._compare(rows, findings, scratch, claims.stores if walk.complete else None)
        return Verification(
            level=self._level(findings, log),
            problems=tuple(findings.listed),
            problems_total=findings.total,
            rules=dict(findings.rules),
            units=walk.units,
            writes=walk.writes,
            spaces=others.spaces,
            erased=walk.erased,
            without_receipt=others.without_receipt,
            pending=pending,
            files_checked=self.checks_files,
            signed_units=log.signed_units,
            key_given=self._trusted is not None,
            root=log.tree.root().hex(),
            stores=checked,
        )

    # Where the ledger lives

    checks_files = False
    """Whether step 1 looks at pages and indexes."""

    def _snapshot(self, *, lenient: bool) -> AbstractContextManager[VerifierRows]:
        """Lend rows whose every query sees the ledger as it is now, whoever writes meanwhile."""
        raise NotImplementedError

    def _kept_beside(self) -> Path | None:
        """Return beside which path the head that was released last is kept; None where it is not."""
        raise NotImplementedError

    def _directory(self) -> Path | None:
        """Return where stores keep what is beside the ledger; None for one in a database."""
        raise NotImplementedError

    # Step 1

    def _check_file(self, rows: VerifierRows, findings: Findings) -> None:
        """Check what the rows are kept in."""

    # Steps 2 to 7

    def _walk(
        self, rows: VerifierRows, findings: Findings, claims: Claims | None, chains: Chains
    ) -> tuple[UnitWalk, LogCheck]:
        origin, keys, epochs, total = self._about(rows, findings)
        walk = UnitWalk(
            rows,
            findings,
            origin=origin,
            space_id=self._space,
            on_write=None if claims is None else claims.note,
            progress=lambda done: self._tell(f"recomputing receipts, {done:,} of {total:,}"),
        )
        log = LogCheck(
            findings,
            origin=str(origin),
            keys=keys,
            epochs=epochs,
            kept=self._kept,
            trusted=self._trusted,
            verify=_ed25519.verify,
        )
        for entry in walk.entries():
            log.take(entry)
            chains.take(entry.row)
        if walk.complete:
            log.finish()
        return walk, log

    def _walk_pending(self, rows: VerifierRows, findings: Findings, claims: Claims | None) -> int:
        """Check the units that have no number in the log yet; return how many there are: none in a file."""
        waiting = rows.pending()
        if waiting is None:
            return 0
        walk = PendingWalk(
            waiting,
            findings,
            origin=None,
            space_id=self._space,
            on_write=None if claims is None else claims.note,
        )
        return sum(1 for _ in walk.entries())

    @staticmethod
    def _about(rows: VerifierRows, findings: Findings) -> tuple[object, list[Any], list[Any], int]:
        """Return origin, keys, epochs and number of units, as far as they can be read."""
        origin: object = None
        keys: list[Any] = []
        epochs: list[Any] = []
        total = 0
        try:
            identities = rows.identities()
            if len(identities) != 1:
                findings.add("identity", f"The ledger says {len(identities)} times who it is, not once.")
            origin = identities[0][2] if identities else None
            keys = ledger_keys(rows.keys(), findings)
            epochs = [row for row in rows.epochs() if all(isinstance(value, int) for value in row)]
            total = rows.count()
        except UnitOfWorkError as damage:
            findings.add_damage(damage, "The ledger's own facts")
        return origin, keys, epochs, total

    def _check_released(self, rows: VerifierRows, findings: Findings, log: LogCheck, released: Released | None) -> None:
        """Compare the log with the head that lies beside the file: an older copy that was put back is shorter."""
        try:
            rollback = _epochs.find_rollback(rows.reader, log.origin, released, self._kept_beside())
        except UnitOfWorkError as damage:
            findings.add_damage(damage, "The receipt log")
            return
        if rollback is not None:
            findings.add("rollback", rollback.message)

    # Step 9

    def _compare(
        self, rows: VerifierRows, findings: Findings, scratch: Scratch, claimed: Collection[str] | None
    ) -> tuple[StoreCheck, ...]:
        if claimed is None:
            return (StoreCheck("*", None, skipped="Not every write could be read, so nothing can be said of records."),)
        newest = rows.newest_write()
        try:
            first = rows.beginning()
            scratch.remember_old(
                (str(store), as_bytes(key)) for store, key in rows.old_records(first[1] if first else 2**63 - 1)
            )
            self._want_gone(rows, scratch)
        except UnitOfWorkError as damage:
            if isinstance(damage, UsageError) and self._gone:
                raise
            findings.add_damage(damage, "The table uow_writes")
        with reached_stores(rows.reader, self._directory(), self._stores) as (stores, unreachable):
            wanted = {name: store for name, store in stores.items() if self._only is None or name in self._only}
            failed = {name: error for name, error in unreachable.items() if self._only is None or name in self._only}
            check = LiveCheck(
                scratch,
                findings,
                space_id=self._space,
                content_key=self._content_key,
                is_newer=partial(self._is_newer, newest),
                progress=self._tell,
            )
            return tuple(check.run(wanted, rows.reader, claimed=claimed, unreachable=failed))

    def _want_gone(self, rows: VerifierRows, scratch: Scratch) -> None:
        for asked in self._gone:
            if rows.knows(asked):
                found = rows.records_of(asked)
                scratch.want_gone((as_bytes(s), as_bytes(k), as_bytes(asked), band) for s, k, band in found)
            elif self._space is not None:
                scratch.want_gone([(as_bytes(self._space), as_bytes(asked), None, None)])
            else:
                raise UsageError(
                    "What is to be gone is neither a unit's id nor, without a space, a record's key.",
                    hint="Give the id of a unit, or a key together with its space.",
                )

    def _is_newer(self, newest: int, store: str, key: str) -> bool:
        """Say whether a unit has written the record since the snapshot was taken."""
        with self._snapshot(lenient=True) as rows:
            return rows.written_since(newest, store, key)

    def _level(self, findings: Findings, log: LogCheck) -> VerificationLevel:
        if findings.total:
            return VerificationLevel.NONE
        if log.anchored:
            return VerificationLevel.ANCHORED
        if log.tree.size and log.signed_units == log.tree.size:
            return VerificationLevel.SIGNED
        return VerificationLevel.HASHED


def _checkpoint(text: str) -> Kept:
    try:
        return parse_kept(text)
    except VerificationError as error:
        raise UsageError(f"The checkpoint cannot be used. {error.message}", hint=error.hint) from error


def _verifier_key(text: str) -> VerifierKey:
    try:
        return _notes.parse_vkey(text)
    except VerificationError as error:
        raise UsageError(error.message, hint=error.hint) from error
