"""Step 8: the histories of spaces, rows that the log does not have, and what was erased."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memoryos_uow import _erasures
from memoryos_uow._verification.forms import STATUSES, form_problem
from memoryos_uow.errors import UnitOfWorkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._verification.chains import Chains
    from memoryos_uow._verification.findings import Findings
    from memoryos_uow._verification.rows import UnloggedRow, VerifierRows


class OtherRows:
    """What is compared once the walk along the log is over."""

    def __init__(
        self, rows: VerifierRows, findings: Findings, chains: Chains, *, space_id: str | None, whole: bool
    ) -> None:
        """Compare after the walk; `whole` says that it came to the end of the log."""
        self.spaces = 0
        self.without_receipt = 0
        self._rows = rows
        self._findings = findings
        self._chains = chains
        self._space = space_id
        self._whole = whole

    def check(self) -> None:
        """Check everything; of one space alone, only its own history."""
        self._reading("The history of a space", self._check_spaces)
        if self._space is None:
            self._reading("The table unit_of_work", self._check_unlogged)
            self._reading("The nonces", self._check_nonces)
            self._reading("The rows of erasures", self._check_erasures)

    def _reading(self, what: str, check: Callable[[], None]) -> None:
        try:
            check()
        except UnitOfWorkError as damage:
            self._findings.add_damage(damage, what)

    def _check_spaces(self) -> None:
        self._chains.check(whole=self._whole)
        self.spaces = self._rows.spaces()

    def _check_unlogged(self) -> None:
        beginning = self._rows.beginning()
        first_unit: Any = beginning[0] if beginning else None
        first_write: Any = beginning[1] if beginning else 2**63 - 1
        for row in self._rows.unlogged():
            self.without_receipt += 1
            self._check_unlogged_row(row, is_old=first_unit is None or row.rowid < first_unit)
        for write_id, uow_id in self._rows.strays():
            self._findings.add("write_stray", f"The write {write_id} is none of its unit's writes.", uow_id=uow_id)
        for write_id, uow_id in self._rows.old_orphans(first_write):
            self._findings.add("write_stray", f"The write {write_id} names a unit that is not there.", uow_id=uow_id)

    def _check_unlogged_row(self, row: UnloggedRow, *, is_old: bool) -> None:
        problem = form_problem(row)
        rule, detail = "form", f"{problem}."
        if row.receipt_hash is not None or row.receipt_signature is not None:
            rule, detail = "unlogged", "The unit has a receipt that the log does not have."
        elif row.status not in STATUSES:
            rule, detail = "status", "The unit has a status that is none."
        elif row.status == "committed" and not is_old:
            rule, detail = "unlogged", "The unit is recorded as committed, and has no receipt."
        elif problem is None:
            return
        self._findings.add(rule, detail, uow_id=row.uow_id, band=row.band)

    def _check_nonces(self) -> None:
        for (write_id,) in self._rows.strange_nonces():
            self._findings.add("nonce", f"A nonce belongs to write {write_id}, which is not there.")

    def _check_erasures(self) -> None:
        for tombstone, sentence in _erasures.problems(self._rows.reader):
            self._findings.add("erasure", sentence, uow_id=tombstone)
        for uow_id in self._rows.unfinished_erasures():
            self._findings.add(
                "erasing", "Traces of what was erased may be left: `memoryos-uow recover` finishes that.", uow_id=uow_id
            )
