"""The contracts between the coordinator and what it drives: stores, and the ledger's transactions.

A store is what a unit of work writes to. The coordinator is the only caller of stores, and calls them in this order:

1. ``attach``  when the ledger is opened: reads only. Refuse loudly what cannot be kept here (a wrong directory, a
   different kind of store under this name).
2. ``setup``   at most once after ``attach``, inside a ledger transaction, when ``attach`` answered that something is
   missing. Idempotent; several processes may race, each inside its own transaction.
3. ``encode``  once per write, when the caller makes it. No input or output. **Everything that can be refused without
   looking at stored data must be refused here**, because nothing has been written yet.
4. ``prepare`` once per unit that wrote to this store, before the decision and without the ledger's lock. Only stores
   that keep bytes outside the ledger do anything here; on return these bytes must be **durable** (file and directory
   synced), invisible, and harmless if the decision never comes. Must be repeatable.
5. ``apply``   inside the ledger's transaction, with the write lock held, for runs of consecutive writes in the order in
   which they were made. All through the transaction that is passed in: its commit is the decision, its rollback undoes
   everything. May be called several times in one unit. Raises `StoreError` to refuse; the whole unit then ends.

``read``, ``version``, ``search`` and ``keys`` look through the reader they are given, which is the unit's own open
transaction or a snapshot, and change nothing. ``close`` may be called twice and must not fail.

No method retries: waiting and trying again are the coordinator's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from memoryos_uow._limits import Limits
    from memoryos_uow._names import Band, Operation
    from memoryos_uow._records import Content, Found, Hit


class Capability(StrEnum):
    """How a store takes part in a unit: what it does before the decision, what the decision is, what remains after."""

    SAME_TRANSACTION = "same_transaction"
    """Before: rows in the ledger's own transaction. Decision: its commit. After: nothing."""
    CONTENT_ADDRESSED = "content_addressed"
    """Before: bytes durable under their digest, unreferenced. Decision: the reference row. After: nothing."""


class Absent(Enum):
    """Answers of `Store.overlay` that are not values."""

    MISSING = "the record does not exist after this write"
    ASK_THE_STORE = "only the store can tell what this write leaves: apply it, then read"


MISSING: Final = Absent.MISSING
ASK_THE_STORE: Final = Absent.ASK_THE_STORE


@dataclass(slots=True)
class Write:
    """One write of a unit, checked and encoded, waiting for the decision."""

    store: str
    operation: Operation
    key: str | None
    """The record's key inside the unit's space; None for SQL statements."""
    payload: Any
    """The store's own encoding of the value; nobody else looks into it."""
    content: Content | None
    """Length and digest of the bytes the store keeps; None for a delete, and where only `Store.apply` can tell."""
    ts: str
    """When the caller made the write: RFC 3339 UTC text."""


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """What a store may know of the unit it serves."""

    uow_id: str
    space_id: str
    band: Band
    limits: Limits


@dataclass(frozen=True, slots=True)
class Home:
    """Where a ledger lives, for stores that keep something beside it."""

    directory: Path
    """Absolute directory of the ledger file; relative paths of stores start here."""
    read_only: bool
    """The ledger was opened for reading only: create nothing."""


Parameters: TypeAlias = "Sequence[object] | Mapping[str, object]"


class Reader(Protocol):
    """Reading access to the ledger's file. Errors are of this library's tree."""

    def rows(self, sql: str, parameters: Parameters = (), /) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        ...

    def stream(self, sql: str, parameters: Parameters = (), /) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query one by one, for results that need not fit into memory."""
        ...


class Transaction(Reader, Protocol):
    """The ledger's write transaction, open and holding the write lock."""

    def execute(self, sql: str, parameters: Parameters = (), /) -> int:
        """Run one statement; return the number of rows it changed."""
        ...

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]], /) -> int:
        """Run one statement for each of `rows`; return the number of rows changed in all."""
        ...

    def insert(self, sql: str, parameters: Parameters = (), /) -> int:
        """Run one INSERT; return the rowid it gave."""
        ...


@runtime_checkable
class Store(Protocol):
    """What a unit of work writes to; the module's text says when each method is called and what it owes."""

    @property
    def name(self) -> str:
        """The name under which units address the store; unique in a ledger."""
        ...

    @property
    def kind(self) -> str:
        """The sort of store, recorded in the ledger: a name never changes its kind."""
        ...

    @property
    def capability(self) -> Capability:
        """How the store takes part in a unit."""
        ...

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        """Get ready to work in `home`; return whether `setup` is needed.

        `recorded` is what an earlier `setup` of this name returned, None if there was none. A store that was given no
        opinion of its own takes over what is recorded.

        Raises:
            UsageError: the configuration contradicts what is recorded or what is there.
            StoreError: the place cannot keep the store's promise.
        """
        ...

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Create what is missing, inside `tx`; return the configuration to record (JSON values)."""
        ...

    def encode(self, operation: Operation, key: str, value: object, limits: Limits) -> tuple[Any, Content | None]:
        """Check `value` and turn it into a payload and, where already known, its content. No input or output.

        Raises:
            UsageError: the value or key cannot be stored.
        """
        ...

    def overlay(self, write: Write) -> Any:
        """Return the value that `write`, not yet applied, will leave: a fresh copy, `MISSING` or `ASK_THE_STORE`."""
        ...

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        """Make what lies outside the ledger durable.

        Raises:
            StoreError: it cannot be.
        """
        ...

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        """Carry out `writes`, whose records get the version `commit_seq`; fill in contents not known before.

        Raises:
            StoreError: a write cannot be carried out.
        """
        ...

    def read(self, reader: Reader, space_id: str, key: str) -> Found | None:
        """Return the record, or None."""
        ...

    def version(self, reader: Reader, space_id: str, key: str) -> object:
        """Return the record's version as `read` gives it, None if there is no record."""
        ...

    def search(self, reader: Reader, space_id: str, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        """Return the `k` best hits, best first.

        Raises:
            UsageError: this store cannot be searched, or not like this.
        """
        ...

    def keys(self, reader: Reader, space_id: str) -> Iterator[str]:
        """Yield the keys of all records in a space, in the order of their UTF-8 bytes."""
        ...

    def close(self) -> None:
        """Let go of everything held outside the ledger."""
        ...
