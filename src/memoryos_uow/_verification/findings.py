"""Collects what does not hold, in bounded memory: a ledger whose origin was changed has a finding for every unit."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from memoryos_uow._names import Band
from memoryos_uow.errors import LedgerBusy, LedgerCorrupt
from memoryos_uow.verification import Finding

if TYPE_CHECKING:
    from memoryos_uow.errors import UnitOfWorkError

LISTED_MAX: Final = 1_000
"""Findings beyond are counted only."""

_TEXT_MAX: Final = 200


class UndecodableError(Exception):
    """A text is not UTF-8: to name the row that holds it, everything has to be read once more, leniently."""


class Findings:
    """The findings so far."""

    def __init__(self, *, lenient: bool = True) -> None:
        self._lenient = lenient
        self.listed: list[Finding] = []
        self.rules: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many findings there are, listed or not."""
        return self.rules.total()

    def add_damage(self, error: UnitOfWorkError, what: str) -> None:
        """Note that something could not be read.

        Raises:
            LedgerBusy: it is not damaged, only locked.
            UndecodableError: only because it holds text that is not UTF-8, which can be read leniently.
        """
        if isinstance(error, LedgerBusy):
            raise error
        self.refuse_undecodable(error)
        why = error.message if isinstance(error, LedgerCorrupt) else f"{type(error).__name__}: {error.message}"
        self.add("unreadable", f"{what} cannot be read to the end. {why}")

    def refuse_undecodable(self, error: UnitOfWorkError) -> None:
        """Raise UndecodableError if `error` is only about text that is not UTF-8, and was read strictly."""
        if not self._lenient and str(error.__cause__).startswith("Could not decode"):
            raise UndecodableError from error

    def add(
        self,
        rule: str,
        detail: str,
        *,
        uow_id: object = None,
        store: object = None,
        record: object = None,
        band: object = Band.GREEN,
    ) -> None:
        """Note one finding; ids may be whatever a damaged row holds, and leave here only as far as `band` allows."""
        self.rules[rule] += 1
        if len(self.listed) < LISTED_MAX:
            self.listed.append(
                Finding(
                    rule,
                    detail,
                    shown(uow_id),
                    shown(store) if band in (Band.GREEN, Band.AMBER) else None,
                    shown(record) if band == Band.GREEN else None,
                )
            )


def shown(value: object) -> str | None:
    """Return text for what should be a text and may be anything, cut to what a line can hold."""
    if value is None:
        return None
    text = value if isinstance(value, str) else f"({type(value).__name__})"
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"
