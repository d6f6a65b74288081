"""The contracts between the coordinator and what it drives: stores, and the ledger's transactions.

A store is what a unit of work writes to. The coordinator is the only caller of stores, and calls them in this order:

1. ``attach``  when the ledger is opened: reads only. Refuse loudly what cannot be kept here (a wrong directory, a
   different kind of store under this name).
2. ``setup``   at most once after ``attach``, inside a ledger transaction, when ``attach`` answered that something is
   missing. Idempotent; several processes may race, each inside its own transaction.
3. ``encode``  once per write, when the caller makes it. No input or output. **Everything that can be refused without
   looking at stored data must be refused here**, because nothing has been written yet.
4. ``plan``    once per unit that wrote to this store, if the store is an `OutsideStore`: says which bytes `prepare`
   will make. The ledger records that before they are made, so that they can be found after a crash.
5. ``prepare`` once per unit with a plan, before the decision and without the ledger's lock. On return the bytes must be
   **durable** (file and directory synced), invisible, and harmless if the decision never comes. Must be repeatable.
6. ``apply``   inside the ledger's transaction, with the write lock held, for runs of consecutive writes in the order in
   which they were made. All through the transaction that is passed in: its commit is the decision, its rollback undoes
   everything. May be called several times in one unit. Raises `StoreError` to refuse; the whole unit then ends. This is
   the **last moment to refuse**: a `Publisher` checks here whatever its `publish` could stumble over.
7. ``publish`` after the decision, if the store is a `Publisher`: shows what was decided. It may be called any number of
   times, by any process, months later, concurrently, for units in any order. It must bring about the same as if it had
   been called once for each unit in commit order: a record never goes back to an older unit's value. On return it is
   durable. It may fail only because something is out of reach (`StoreUnavailable`); it is then called again later.
   A `LazyPublisher` is asked to ``show`` instead, which need not be durable on return, and for many units together to
   ``make_durable`` what it has shown; until then the ledger keeps what ``publish`` would need.
8. ``abandon`` for a unit with a plan that ended without a decision: removes what `prepare` made. Idempotent, by any
   process, also when nothing was made. Must never touch what a decision refers to.
9. ``sweep``   now and then, inside a ledger transaction: removes what belongs to no unit, and nothing that the ledger's
   rows refer to or that a unit at work has planned.
10. ``read``, ``version``, ``search`` and ``keys`` at any time. They look through the reader they are given, which is
    the unit's own open transaction or a snapshot, and change nothing. What was decided and is not published yet must be
    seen by them, because for the ledger it is there. Each space is a world of its own. ``overlay`` answers for a write
    what ``read`` will answer once it is decided.
11. ``close``  when the ledger is closed; it may be called twice and must not fail.
12. ``capability`` is what the store really does: it has the methods that belong to it (`NEEDED`).
13. ``contents`` at any time, if the store is `Auditable`: says of every record what lies there now, measured anew and
    not taken from a note of what was once written. It looks where others would find the record, also for what should
    not be there: bytes under a name of the store's that no unit gave them. What was decided and is not published yet is
    there. It reads only, and keeps no more than one record in memory.
14. ``erase_inside`` and ``erase_outside`` when a record is erased, if the store is `Erasable`: the one inside the
    erasing transaction, after the delete was applied if there was a record, and the other once that is decided and
    published. Both remove what a delete leaves behind, also of former values; both may be repeated.

15. ``hold``, ``decide`` and ``fate`` if the store is a `LastResource`. `hold` takes the place of `prepare` and comes
    last, right before everything else of the unit is made durable in the ledger; it is repeatable. `decide` comes at
    most once, when nothing is left that could refuse; its commit is the decision. Whoever cannot tell what became of it
    asks `fate`, at any time, from any process, also while the owner may still be at it: the answer is final. `abandon`
    ends what is held, too.
16. ``save`` and ``load`` if the store is `Savable`: no input or output, and what was saved is loaded by any process,
    months later.

A store that talks to a server may say in an attribute ``remote`` what kind that is, by its ``db.system.name`` in
OpenTelemetry's semantic conventions: its calls on the way of a commit then get spans of their own.

No method retries: waiting and trying again are the coordinator's. A method that is given a unit's facts and has to wait
for something, a server's answer say, waits no longer than `UnitFacts.remaining_s`, and then raises `StoreUnavailable`;
what comes after the decision has no deadline. `memoryos_uow.testing.check_store` tries all of this
on a store, and names by these numbers what it breaks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

# What a store of another package needs is importable from here at run time.
from memoryos_uow._limits import Limits
from memoryos_uow._names import Band, Dialect, Operation
from memoryos_uow._records import Content, Found, Held, Hit
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from memoryos_uow._deadline import Deadline


__all__ = [
    "ASK_THE_STORE",
    "MISSING",
    "NEEDED",
    "Absent",
    "Auditable",
    "Band",
    "Capability",
    "Content",
    "Dialect",
    "Erasable",
    "Fate",
    "Found",
    "Held",
    "Hit",
    "Home",
    "LastResource",
    "LazyPublisher",
    "Limits",
    "Operation",
    "OutsideStore",
    "Parameters",
    "Publisher",
    "Reader",
    "Redo",
    "Savable",
    "Store",
    "Transaction",
    "UnitFacts",
    "Write",
]


class Capability(StrEnum):
    """How a store takes part in a unit: what it does before the decision, what the decision is, what remains after."""

    SAME_TRANSACTION = "same_transaction"
    """Before: rows in the ledger's own transaction. Decision: its commit. After: nothing."""
    CONTENT_ADDRESSED = "content_addressed"
    """Before: bytes durable under their digest, unreferenced. Decision: the reference row. After: nothing, and a sweep
    of bytes that nobody refers to. Needs `OutsideStore`."""
    STAGED = "staged"
    """Before: durable in a hidden place under the unit's id. Decision: the ledger's commit. After: published, by rename
    or by switching, idempotently. Needs `OutsideStore` and `Publisher`."""
    REDO = "redo"
    """Before: checked; the payload goes into the decision's transaction. Decision: the ledger's commit. After: applied
    idempotently and in order. Needs `Publisher`."""
    TWO_PHASE = "two_phase"
    """Before: written and prepared in a transaction of the store's own, durable and invisible. Decision: the ledger's
    commit. After: that transaction is committed. Needs `OutsideStore` and `Publisher`. Whoever wants to write the same
    records meanwhile waits in `prepare`, and is refused in the end."""
    LAST_RESOURCE = "last_resource"
    """Before: written in a transaction of the store's own, which stays open; everything else of the unit is durable in
    the ledger, not to be seen. Decision: the store's commit. After: the ledger's rows. Needs `OutsideStore` and
    `LastResource`. One such store decides a unit; of several all but one have to be able to do the above."""


class Fate(Enum):
    """What became of a unit in the store whose commit decides it: final, whoever asks again."""

    COMMITTED = "its transaction was committed"
    ABORTED = "it was not, and never will be"


class Absent(Enum):
    """Answers of `Store.overlay` that are not values."""

    MISSING = "the record does not exist after this write"
    ASK_THE_STORE = "only the store can tell what this write leaves: apply it, then read"


MISSING: Final = Absent.MISSING
ASK_THE_STORE: Final = Absent.ASK_THE_STORE


class Expectation(Enum):
    """What `Write.expect` says when it names no value."""

    ANYTHING = "whatever is there"


@dataclass(slots=True)
class Write:
    """One write of a unit, checked and encoded, waiting for the decision."""

    store: str
    operation: Operation
    key: str | None = field(repr=False)
    """The record's key inside the unit's space; None for SQL statements."""
    payload: Any = field(repr=False)
    """The store's own encoding of the value; nobody else looks into it."""
    content: Content | None = field(repr=False)
    """Length and digest of the bytes the store keeps; None for a delete, and where only `Store.apply` can tell."""
    ts: str
    """When the caller made the write: RFC 3339 UTC text."""
    sealed: str | None = None
    """For the delete that erases a record, what its receipt says of that: ``sealed-sha256:<hex>``; else None."""
    expect: object = field(default=Expectation.ANYTHING, repr=False)
    """What the record must be before this write; the coordinator compares it, a store need not look at it."""


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """What a store may know of the unit it serves."""

    uow_id: str
    space_id: str
    band: Band
    limits: Limits
    deadline: Deadline | None = None
    """When the unit must be decided, None if there is no such moment."""

    def remaining_s(self) -> float | None:
        """Return the seconds that are left to the unit, 0 once its deadline has passed, None if it has none."""
        return None if self.deadline is None else self.deadline.left_s()


@dataclass(frozen=True, slots=True)
class Home:
    """Where a ledger lives, for stores that keep something beside it."""

    directory: Path | None
    """Absolute directory of the ledger file; relative paths of stores start here. None for a ledger in a database."""
    read_only: bool
    """The ledger was opened for reading only: create nothing."""

    def absolute(self, given: str | os.PathLike[str]) -> str:
        """Return where `given`, a path of a store's, is.

        Raises:
            UsageError: it is relative, and the ledger lives in no directory.
        """
        if self.directory is not None:
            return os.path.abspath(self.directory / given)  # noqa: PTH100 - resolve() follows links
        if not os.path.isabs(given):  # noqa: PTH117
            raise UsageError(
                "A ledger in a database lives in no directory from which a relative path could start.",
                hint="Nothing was opened. Give the store an absolute path.",
            )
        return os.path.abspath(given)  # noqa: PTH100


Parameters: TypeAlias = "Sequence[object] | Mapping[str, object]"


@dataclass(frozen=True, slots=True)
class Redo:
    """One write that was decided and is still to be published by its store."""

    commit_seq: int
    """Version of the record: never let an entry overwrite one with a greater number."""
    seq: int
    """Order within the unit."""
    uow_id: str
    space_id: str
    key: str = field(repr=False)
    operation: Operation
    payload: bytes = field(repr=False)
    """What `Publisher.redo` returned."""


class Reader(Protocol):
    """Reading access to the ledger. Errors are of this library's tree.

    SQL is SQLite's, with ``?`` for parameters, also where PostgreSQL runs it: what both understand is passed on. Where
    they differ, `dialect` says which to write.
    """

    @property
    def dialect(self) -> Dialect:
        """Whose SQL is understood."""
        ...

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

    def learn(self, version: int, /) -> None:
        """Have later units of this process give greater versions than `version`, which was found on a record.

        On SQLite there is nothing to do: a version is a number in the one log.
        """
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


@runtime_checkable
class OutsideStore(Store, Protocol):
    """A store that makes bytes outside the ledger before the decision."""

    def plan(self, unit: UnitFacts, writes: Sequence[Write]) -> list[str]:
        """Return a token for everything `prepare` will make for these writes; [] if it has nothing to do. No I/O."""
        ...

    def abandon(self, uow_id: str, tokens: Sequence[str]) -> None:
        """Remove what `prepare` made for a unit that was not decided.

        Raises:
            StoreUnavailable: it cannot be removed at the moment; somebody will call again.
        """
        ...

    def sweep(self, tx: Transaction, planned: Collection[str]) -> int:
        """Remove bytes that belong to no unit; return how many pieces were removed.

        Called with the ledger's write lock held, so that no unit can be decided meanwhile: what neither the ledger's
        rows refer to nor a unit at work has `planned` (its tokens and ids) belongs to nobody.
        """
        ...


@runtime_checkable
class Publisher(Store, Protocol):
    """A store that has something to do after the decision."""

    def redo(self, unit: UnitFacts, write: Write) -> bytes:
        """Return what `publish` will need of `write`, to be kept in the ledger until it has been published."""
        ...

    def publish(self, reader: Reader, entries: Sequence[Redo]) -> None:
        """Show what was decided; see the module's text for what that owes.

        `entries` are in commit order and may belong to several units; `reader` sees the ledger as it is now.

        Raises:
            StoreUnavailable: something is out of reach; nothing is lost, somebody will call again.
        """
        ...


@runtime_checkable
class LazyPublisher(Publisher, Protocol):
    """A publisher that waits for the disk once for many units. No capability asks for this."""

    def show(self, reader: Reader, entries: Sequence[Redo]) -> None:
        """As `publish`, but what was shown may be lost again in a power cut: `publish` is called after that.

        Raises:
            StoreUnavailable: something is out of reach; nothing is lost, `publish` will be called.
        """
        ...

    def make_durable(self) -> None:
        """Make durable all that any thread of this process has shown before the call.

        Raises:
            StoreUnavailable: it cannot be; nothing is lost, `publish` will be called.
        """
        ...


@runtime_checkable
class LastResource(Store, Protocol):
    """A store that cannot prepare, or is spared it: its own commit decides the unit; see the module's text."""

    @property
    def prepares(self) -> bool:
        """Whether the store could as well take part as `Capability.TWO_PHASE`, with `OutsideStore` and `Publisher`."""
        ...

    def hold(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        """Carry out `writes` in a transaction that stays open, with a mark in it by which `fate` will know it.

        Raises:
            StoreError: the store refuses. Nothing is open then.
            ConflictError: somebody has found, by `fate`, that this unit is not committed.
        """
        ...

    def decide(self, uow_id: str) -> None:
        """Commit what is held for the unit; on return the unit is decided.

        Raises:
            StoreError: it was refused: nothing of the unit is there, nor will be.
            InDoubtError: the answer was lost; `fate` may tell.
        """
        ...

    def fate(self, uow_id: str) -> Fate:
        """Find out what became of a unit, for good: one without its mark can never be committed after that.

        Raises:
            StoreUnavailable: that cannot be told at the moment.
        """
        ...


@runtime_checkable
class Savable(Store, Protocol):
    """A store in the ledger's transaction whose writes can be kept, and applied later by any process.

    Only such stores, and those outside the ledger, take part in a unit that a `LastResource` decides. What was saved is
    applied in a transaction of its own after the decision; as nobody else may write the same records before that,
    `apply` has nothing to refuse.
    """

    def save(self, write: Write) -> bytes:
        """Return the payload of a write that is no delete."""
        ...

    def load(self, saved: bytes) -> Any:
        """Return the payload that was saved."""
        ...


@runtime_checkable
class Auditable(Store, Protocol):
    """A store that can be compared with the receipts of what was written to it. No capability asks for this."""

    @property
    def shares_keys(self) -> bool:
        """Whether all spaces share the store's records, so that the newest write of any space counts."""
        ...

    @property
    def shares_records(self) -> bool:
        """Whether others may keep records there too, of which no receipt speaks: an application's own table."""
        ...

    def contents(self, reader: Reader) -> Iterator[Held]:
        """Yield every record that the store holds, in any order; see the module's text for what that owes.

        Raises:
            StoreError: what holds the records cannot be read as a whole. One damaged record is a `Held` with a problem.
        """
        ...


@runtime_checkable
class Erasable(Store, Protocol):
    """A store that keeps more of a record than its `apply` of a delete removes. No capability asks for this."""

    def erase_inside(self, tx: Transaction, space_id: str, key: str) -> None:
        """Remove what a delete leaves of the record in the ledger's file: entries of an index, say."""
        ...

    def erase_outside(self, space_id: str, key: str, version: int) -> None:
        """Remove what is left of the record outside the ledger, up to `version`; what is newer is another record.

        Raises:
            StoreUnavailable: it cannot be removed at the moment; somebody will call again.
        """
        ...


NEEDED: Final[Mapping[Capability, tuple[type, ...]]] = MappingProxyType(
    {
        Capability.SAME_TRANSACTION: (),
        Capability.CONTENT_ADDRESSED: (OutsideStore,),
        Capability.STAGED: (OutsideStore, Publisher),
        Capability.REDO: (Publisher,),
        Capability.TWO_PHASE: (OutsideStore, Publisher),
        Capability.LAST_RESOURCE: (OutsideStore, LastResource),
    }
)
"""The protocols beyond `Store` that a store of each capability keeps; one that claims more than it has is refused."""
