"""Steps 2 to 5: every committed unit's writes, root, receipt and context, recomputed in one walk along the log.

Two streams are read side by side, the log with its units and the writes, both in the order in which they were written;
so memory stays flat, however many units there are and however many writes one of them has.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _merkle
from memoryos_uow._verification.encoding import (
    OddValueError,
    context_digest,
    receipt_bytes,
    text,
    write_leaf,
)
from memoryos_uow._verification.forms import form_problem, timing_problem
from memoryos_uow.errors import UnitOfWorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memoryos_uow._verification.findings import Findings
    from memoryos_uow._verification.rows import LoggedRow, VerifierRows, WriteRow

_STEP: Final = 4096


class Entry(NamedTuple):
    """What the log's tree and signatures are checked against: one committed unit."""

    row: LoggedRow
    leaf: bytes | None
    """Hash of the recomputed receipt as a leaf; None if no receipt can be made of the row."""


class _Found:
    """What was found of one unit's writes so far."""

    __slots__ = ("bytes_written", "next_id", "sealed", "stores", "tree", "whole")

    def __init__(self, first: int) -> None:
        self.tree = _merkle.Frontier()
        self.next_id = first
        self.stores: set[object] = set()
        self.bytes_written = 0
        self.sealed = 0
        self.whole = True
        """No gap, nothing of another unit's, no value that no write has."""


class UnitWalk:
    """The walk, and what it counted."""

    def __init__(
        self,
        rows: VerifierRows,
        findings: Findings,
        *,
        origin: object,
        space_id: str | None = None,
        on_write: Callable[[LoggedRow, WriteRow], None] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.units = self.writes = self.erased = 0
        self.complete = True
        """Whether every write could be read."""
        self._rows = rows
        self._findings = findings
        self._space_id = space_id
        self._on_write = on_write
        self._progress = progress
        self._stream: Iterator[WriteRow] = iter(())
        self._ahead: WriteRow | None = None
        try:
            self._origin = text(origin)
        except OddValueError:
            self._origin = "null"

    def entries(self) -> Iterator[Entry]:
        """Check unit after unit, yielding each; what cannot be read is a finding, and ends the walk."""
        self._stream = self._rows.writes()
        self._advance()
        first = True
        before = 0
        try:
            for number, row in enumerate(self._rows.logged()):
                if self._progress is not None and number % _STEP == 0:
                    self._progress(number)
                if first:
                    self._skip_older(row.first_write)
                elif row.commit_seq != before + 1:
                    self._add(
                        row,
                        "order",
                        f"Before number {row.commit_seq} of the log, {row.commit_seq - before - 1:,} are missing.",
                    )
                first, before = False, row.commit_seq
                yield Entry(row, self._check(row))
        except UnitOfWorkError as damage:
            self._findings.add_damage(damage, "The receipt log")
            self.complete = False
            return
        if first:  # no unit has a receipt: all writes are from before
            self._skip_older(2**63)
        else:
            self._strays_until(None)

    def _check(self, row: LoggedRow) -> bytes | None:
        """Check one unit; return the leaf hash of its receipt."""
        if row.uow_id is None:
            self._add(row, "unit_missing", "The log has this unit, and unit_of_work has not.")
            self._strays_until(row.first_write, row)
            return None
        if self._space_id is not None and row.space_id != self._space_id:
            self._pass_over(row)
            return self._leaf_of(row, quiet=True)
        self.units += 1
        self._check_writes(row)
        if row.forgotten_unit is not None:
            return row.forgotten_unit if row.forgotten_unit.__class__ is bytes else None
        leaf = self._leaf_of(row)
        self._check_context(row)
        if row.status != "committed":
            self._add(row, "status", "The unit is in the log of committed units, and its status is another.")
        problem = form_problem(row) or timing_problem(row)
        if problem:
            self._add(row, "form", f"{problem}.")
        return leaf

    # Step 2: the writes

    def _check_writes(self, row: LoggedRow) -> None:
        first, count = row.first_write, row.write_count
        if first.__class__ is not int or count.__class__ is not int:
            self._add(row, "value", "first_write or write_count is no whole number.")
            return
        self._strays_until(first, row)
        found = _Found(first)
        ahead, end = self._ahead, first + count
        while ahead is not None and ahead.id < end:
            self._take(found, row, ahead)
            if self._on_write is not None:
                self._on_write(row, ahead)
            ahead = self._advance()
        if self.complete:
            self._judge(found, row)

    def _take(self, found: _Found, row: LoggedRow, write: WriteRow) -> None:
        """Add one write to what was found of a unit."""
        if write.id != found.next_id:
            found.whole = False
        if write.uow_id != row.uow_id:
            found.whole = False
            self._add(row, "write_owner", f"The write {write.id} lies among those of this unit and names another.")
        found.next_id = write.id + 1
        found.stores.add(write.store_name)
        if write.sealed is not None:
            found.sealed += 1
            found.tree.append(write.sealed if write.sealed.__class__ is bytes else b"")
            return
        try:
            found.tree.append(write_leaf(found.tree.size, *write[2:9]))
            found.bytes_written += write.bytes_written
        except OddValueError:
            found.whole = False
            found.tree.append(b"")
            self._add(row, "value", f"The write {write.id} has a value of a type that no write has.")

    def _judge(self, found: _Found, row: LoggedRow) -> None:
        """Compare a unit's writes with what its receipt says of them all."""
        self.writes += found.tree.size
        self.erased += found.sealed
        if found.tree.size != row.write_count:
            self._add(row, "write_missing", f"{found.tree.size:,} of {row.write_count:,} writes are there.")
        elif found.whole and found.tree.root() != row.writes_root:
            self._add(row, "writes", "A write was changed: together they do not have the root that the receipt names.")
        if (
            found.whole
            and not found.sealed
            and (found.bytes_written != row.total_bytes_written or len(found.stores) != row.store_count)
        ):
            self._add(row, "totals", "store_count or total_bytes_written is not that of the writes.")

    def _advance(self) -> WriteRow | None:
        try:
            self._ahead = next(self._stream, None)
        except UnitOfWorkError as damage:
            self._findings.add_damage(damage, "The table uow_writes")
            self._ahead, self.complete = None, False
        return self._ahead

    def _skip_older(self, first_write: object) -> None:
        """Pass over writes from before there were receipts; step 6 looks at them."""
        while self._ahead is not None and isinstance(first_write, int) and self._ahead.id < first_write:
            self._advance()

    def _strays_until(self, first_write: object, row: LoggedRow | None = None) -> None:
        """Name the writes before those of the next unit: they belong to no unit's range."""
        while self._ahead is not None and (
            row is None or (isinstance(first_write, int) and self._ahead.id < first_write)
        ):
            self._findings.add(
                "write_stray",
                f"The write {self._ahead.id} belongs to no committed unit's writes.",
                uow_id=self._ahead.uow_id,
            )
            self._advance()

    def _pass_over(self, row: LoggedRow) -> None:
        """Leave out a unit of another space."""
        end = (
            row.first_write + row.write_count
            if isinstance(row.first_write, int) and isinstance(row.write_count, int)
            else 0
        )
        while self._ahead is not None and self._ahead.id < end:
            self._advance()

    # Step 3: the receipt

    def _leaf_of(self, row: LoggedRow, *, quiet: bool = False) -> bytes | None:
        try:
            receipt = receipt_bytes(
                band=row.band,
                committed_ts=row.committed_ts,
                context=row.context,
                contract_version=row.contract_version,
                created_ts=row.created_ts,
                nonce=row.nonce,
                origin_json=self._origin,
                prev=row.prev,
                space_id=row.space_id,
                space_seq=row.space_seq,
                store_count=row.store_count,
                total_bytes_written=row.total_bytes_written,
                uow_id=row.uow_id,
                write_count=row.write_count,
                writes_root=row.writes_root,
            )
        except OddValueError:
            if not quiet:
                self._add(row, "value", "The unit has a value of a type that no receipt has.")
            return None
        if not quiet and hashlib.sha256(receipt).hexdigest() != row.receipt_hash:
            if row.receipt_hash is None and row.contract_version == "1.0.0":
                self._add(row, "given_up", "Its receipt was given up by a soft migration to 1.0.0.")
            else:
                self._add(row, "receipt", "The rows do not have the receipt_hash that was recorded with them.")
        return _merkle.leaf_hash(receipt)

    # Step 4: who acted

    def _check_context(self, row: LoggedRow) -> None:
        if row.context_nonce is None:
            if not row.forgotten_context:  # that it was forgotten by an erasure is checked with the erasures
                self._add(row, "context", "Who acted cannot be checked: the nonce is gone, and no erasure took it.")
            return
        try:
            holds = row.context == context_digest(row.actor_id, row.correlation_id, row.device_id, row.context_nonce)
        except OddValueError:
            holds = False
        if not holds:
            self._add(row, "context", "Actor, correlation, device or nonce are not those of the receipt.")

    def _add(self, row: LoggedRow, rule: str, detail: str) -> None:
        self._findings.add(rule, detail, uow_id=row.uow_id, band=row.band)


class PendingWalk(UnitWalk):
    """The same along the units that are committed and not numbered yet: there is no receipt to compare them with."""

    def _leaf_of(self, row: LoggedRow, *, quiet: bool = False) -> bytes | None:
        if not quiet and (row.receipt_hash is not None or row.receipt_signature is not None):
            self._add(row, "unlogged", "The unit has a receipt that the log does not have.")
        return None
