"""What the library's own stores without records have in common: plain SQL and the outbox.

Promise: nothing can be read, searched or written by key; what a subclass applies comes through a method of the unit's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from memoryos_uow.abc import MISSING, Capability
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow._names import Operation
    from memoryos_uow._records import Content, Found, Hit
    from memoryos_uow.abc import Home, Reader, Transaction, UnitFacts, Write


class NoRecords:
    """A store in the ledger's own transaction that has writes, and no records."""

    capability = Capability.SAME_TRANSACTION
    refusal: ClassVar[str]
    """What somebody is told who treats it as a store of records."""

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        """Need nothing."""
        return False

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Create nothing."""
        return {}

    def encode(
        self,
        operation: Operation,
        key: str,
        value: object,
        limits: Limits,
    ) -> tuple[Any, Content | None]:
        """Refuse: there are no records."""
        raise UsageError(self.refusal, hint="Nothing was written.")

    def overlay(self, write: Write) -> Any:
        """There are no records to overlay."""
        return MISSING

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        """Nothing lies outside the ledger."""

    def read(self, reader: Reader, space_id: str, key: str) -> Found | None:
        """There are no records."""
        return None

    def version(self, reader: Reader, space_id: str, key: str) -> object:
        """There are no records."""
        return None

    def search(
        self,
        reader: Reader,
        space_id: str,
        query: object,
        k: int,
        options: Mapping[str, Any],
    ) -> list[Hit]:
        """Refuse: there are no records."""
        raise UsageError(self.refusal, hint="Nothing was written.")

    def keys(self, reader: Reader, space_id: str) -> Iterator[str]:
        """There are no records."""
        return iter(())

    def close(self) -> None:
        """Hold nothing."""
