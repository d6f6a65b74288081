"""Step 8, the histories of spaces, followed along the walk: each unit names the receipt of the one before in its space.

One entry for each space is kept meanwhile. A ledger of so many spaces that this would take much memory, and one whose
log could not be walked to its end, is asked by SQL instead, which sorts on the disk and takes longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow._verification.findings import LISTED_MAX
from memoryos_uow.errors import UnitOfWorkError

if TYPE_CHECKING:
    from memoryos_uow._verification.findings import Findings
    from memoryos_uow._verification.rows import LoggedRow, VerifierRows

SPACES_MAX: Final = 20_000


class _End(NamedTuple):
    """The last unit of a space so far."""

    place: int
    space_seq: Any
    receipt_hash: Any
    uow_id: Any
    band: Any
    broken: bool
    """It was named already."""


class Chains:
    """The histories of all spaces, or of one."""

    def __init__(self, rows: VerifierRows, findings: Findings, *, space_id: str | None) -> None:
        self._rows = rows
        self._findings = findings
        self._space = space_id
        self._ends: dict[Any, _End] = {}
        self._named: set[Any] = set()
        try:
            self._followed = rows.spaces() <= SPACES_MAX
        except UnitOfWorkError:  # `check` meets the same damage, and says so
            self._followed = False

    def take(self, row: LoggedRow) -> None:
        """Follow one unit of the log, in commit order."""
        space = row.space_id
        if not self._followed or row.uow_id is None or (self._space is not None and space != self._space):
            return
        before = self._ends.get(space)
        place, receipt_hash = (1, None) if before is None else (before.place + 1, before.receipt_hash)
        if before is None and len(self._ends) > 2 * SPACES_MAX:
            self._followed = False  # far more spaces than the ledger knows of: SQL names them
            return
        prev = row.prev
        named = prev.hex() if prev.__class__ is bytes else prev  # as text it names nothing
        broken = row.space_seq != place or named != receipt_hash or prev.__class__ is str
        if broken:
            self._add_broken(row.uow_id, row.band)
        self._ends[space] = _End(place, row.space_seq, row.receipt_hash, row.uow_id, row.band, broken)

    def check(self, *, whole: bool) -> None:
        """Say which histories do not end as recorded; `whole` says that `take` was given every unit.

        Raises:
            UnitOfWorkError: the recorded ends cannot be read.
        """
        if whole and self._followed:
            self._compare_ends()
            return
        for uow_id, band, broken in self._rows.broken_links(self._space):
            if not broken:
                self._add_end(_End(0, 0, None, uow_id, band, broken=False))
            elif uow_id not in self._named:
                self._add_broken(uow_id, band)
        for _ in self._rows.strange_ends(self._space):
            self._add_strange()

    def _compare_ends(self) -> None:
        for space, space_seq, head in self._rows.ends(self._space):
            end = self._ends.pop(space, None)
            if end is None:
                self._add_strange()
            elif end.space_seq != space_seq or head.__class__ is not bytes or head.hex() != end.receipt_hash:
                self._add_end(end)
        for end in self._ends.values():
            self._add_end(end)

    def _add_broken(self, uow_id: Any, band: Any) -> None:
        if len(self._named) < LISTED_MAX:
            self._named.add(uow_id)
        detail = "The unit does not follow the one before it in its space's history."
        self._findings.add("chain", detail, uow_id=uow_id, band=band)

    def _add_end(self, end: _End) -> None:
        if not end.broken:
            detail = "The unit is the last of its space, and another end of that history is recorded."
            self._findings.add("head", detail, uow_id=end.uow_id, band=end.band)

    def _add_strange(self) -> None:
        self._findings.add("head", "The end of a history is recorded, and there is no unit of it.")
