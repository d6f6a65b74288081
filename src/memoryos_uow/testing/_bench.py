"""A store on a ledger, driven call by call as the coordinator would, or in another order that the contract allows."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from memoryos_uow import _ambient, _coordination
from memoryos_uow._limits import Limits
from memoryos_uow._names import Band, Durability, Operation
from memoryos_uow._registry import StoreRegistry
from memoryos_uow.abc import Capability, Home, LastResource, OutsideStore, Publisher, Redo, UnitFacts, Write
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.ledger import Ledger
from memoryos_uow.stores import DocumentStore
from memoryos_uow.testing._obligations import APPLY, CLOSE, OF_METHOD, BrokenError, demand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from memoryos_uow.abc import Store
    from memoryos_uow.engines._transaction import SQLiteReader, SQLiteTransaction

SPACE: Final = "check:one"
OTHER_SPACE: Final = "check:two"
BESIDE: Final = "check_beside"
LEDGER: Final = "memory.db"
TS: Final = "2026-01-01T00:00:00.000000Z"
DATABASE: Final = "database"
"""Stands for the digest of a SQLite file, whose bytes say little."""
_SQLITE: Final = b"SQLite format 3\0"

Change: TypeAlias = "tuple[str, str, object]"
"""An operation, a key and a value."""


@dataclass
class Subject:
    """What is checked: how the store is made, and values that it takes."""

    make: Callable[[], Store]
    values: Sequence[Any]
    refused: Sequence[Any] = ()
    as_read: Callable[[str, str, Any], Any] = field(default=lambda _space, _key, value: value)
    """What `read` returns for a space, a key and a value that was written."""
    copied: Callable[[Path, Path], None] | None = None
    """Is told that a directory with a ledger was copied, so that it can copy what its stores have elsewhere."""
    stored: Callable[[Path, str, str], bytes | None] | None = None
    """The exact bytes that the store keeps, by the ledger's directory, space and key, as a stranger finds them."""


@dataclass
class Unit:
    """One unit on its way."""

    facts: UnitFacts
    writes: list[Write]
    tokens: list[str] = field(default_factory=list)
    commit_seq: int = 0
    entries: list[Redo] = field(default_factory=list)


@contextmanager
def blame(obligation: int, when: str) -> Iterator[None]:
    """Blame an obligation that the block finds broken on another one: on what brought it about."""
    try:
        yield
    except BrokenError as broken:
        raise BrokenError(obligation, f"{when}: {broken}") from broken


@contextmanager
def duty(obligation: int, doing: str) -> Iterator[None]:
    """Blame whatever the block raises on `obligation`."""
    try:
        yield
    except BrokenError:
        raise
    except Exception as error:
        raise BrokenError(obligation, f"{doing} raised {type(error).__name__}: {error}") from error


class Bench:
    """One instance of the store in a directory with a ledger; a context manager."""

    _next = count(1)  # versions only ever rise, whichever process writes

    def __init__(self, subject: Subject, directory: Path) -> None:
        self.directory = directory
        self.subject = subject
        self.store = subject.make()
        if not (directory / LEDGER).exists():
            Ledger.open(directory / LEDGER, stores=[DocumentStore(BESIDE)], durability="normal").close()
        self.engine = SQLiteEngine.open(directory / LEDGER, durability=Durability.NORMAL, busy_timeout_s=30.0)
        self.registry = StoreRegistry(make_unknown=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with duty(CLOSE, "close"):
                self.store.close()
        except BrokenError:
            if kind is None:  # else there is something more interesting to report
                raise
        finally:
            self.engine.close()

    @property
    def decider(self) -> LastResource | None:
        """The store, if its own commit decides."""
        decides = self.store.capability is Capability.LAST_RESOURCE
        return self.store if decides and isinstance(self.store, LastResource) else None

    @property
    def locks(self) -> bool:
        """Whether nobody else can prepare the same records between prepare and publish."""
        return self.store.capability in (Capability.LAST_RESOURCE, Capability.TWO_PHASE)

    @property
    def home(self) -> Home:
        """Where the ledger lives."""
        return Home(self.directory, read_only=False)

    def ready(self) -> Self:
        """Register the store as opening a ledger does."""
        self.registry.add([self.store])
        with duty(OF_METHOD["attach"], "attach"), self.engine.reader() as reader:
            needed = self.registry.move_in(self.home, reader)
        if needed:
            with duty(OF_METHOD["setup"], "setup"), self.transaction() as tx:
                self.registry.set_up(tx)
        return self

    @contextmanager
    def transaction(self, *, keep: bool = True) -> Iterator[SQLiteTransaction]:
        """Open a ledger transaction; it is rolled back if `keep` is off."""
        tx = self.engine.begin(relaxed=True)
        try:
            yield tx
            if keep:
                tx.commit()
        finally:
            if tx.open:
                tx.rollback()

    # A unit, step by step

    def unit(self, *changes: Change, space: str = SPACE) -> Unit:
        """Encode the writes of a new unit."""
        writes = []
        for operation, key, value in changes:
            verb = Operation(operation)
            with duty(OF_METHOD["encode"], f"encode for {operation}"):
                payload, content = self.store.encode(verb, key, value, Limits())
            writes.append(Write(self.store.name, verb, key, payload, content, TS))
        return Unit(UnitFacts(_ambient.new_unit_id(), space, Band.GREEN, Limits()), writes)

    def prepare(self, unit: Unit, *, times: int = 1) -> Unit:
        """Plan and prepare."""
        if isinstance(self.store, OutsideStore):
            with duty(OF_METHOD["plan"], "plan"):
                unit.tokens = self.store.plan(unit.facts, unit.writes)
            method = "prepare" if self.decider is None else "hold"
            for _ in range(times if unit.tokens or self.decider else 0):
                with duty(OF_METHOD[method], method):
                    getattr(self.store, method)(unit.facts, unit.writes)
        return unit

    def abandon(self, unit: Unit) -> None:
        """Abandon what was prepared."""
        if isinstance(self.store, OutsideStore):
            with duty(OF_METHOD["abandon"], "abandon"):
                self.store.abandon(unit.facts.uow_id, unit.tokens)

    def apply(self, tx: SQLiteTransaction, unit: Unit) -> None:
        """Apply all writes inside `tx`."""
        unit.commit_seq = unit.commit_seq or next(self._next)
        self.store.apply(tx, unit.facts, unit.commit_seq, unit.writes)

    def decide(self, unit: Unit) -> Unit:
        """Apply, keep what is to be published, commit."""
        with duty(APPLY, "apply"), self.transaction() as tx:
            self.apply(tx, unit)
            self.owe(tx, unit)
        return unit

    def owe(self, tx: SQLiteTransaction, unit: Unit) -> None:
        """Write into the ledger what the store has to publish; or have the store decide, if it does that."""
        if self.decider is not None:
            with duty(OF_METHOD["decide"], "decide"):
                self.decider.decide(unit.facts.uow_id)
        elif isinstance(self.store, Publisher):
            with duty(OF_METHOD["redo"], "redo"):
                unit.entries = [self._redo(self.store, unit, seq, write) for seq, write in enumerate(unit.writes)]
            _coordination.insert_redo(tx, self.store.name, unit.entries)

    def _redo(self, store: Publisher, unit: Unit, seq: int, write: Write) -> Redo:
        payload = store.redo(unit.facts, write)
        demand(OF_METHOD["redo"], isinstance(payload, bytes), f"redo returned a {type(payload).__name__}, not bytes")
        facts = unit.facts
        return Redo(unit.commit_seq, seq, facts.uow_id, facts.space_id, str(write.key), write.operation, payload)

    def publish(self, *units: Unit) -> None:
        """Publish everything that these units owe, in one call, in commit order."""
        if isinstance(self.store, Publisher) and self.decider is None:
            entries = sorted((e for unit in units for e in unit.entries), key=lambda e: (e.commit_seq, e.seq))
            with duty(OF_METHOD["publish"], "publish"), self.engine.reader() as reader:
                self.store.publish(reader, entries)

    def forget(self, *units: Unit) -> None:
        """Remove from the ledger what recovery would have needed."""
        with self.transaction() as tx:
            _coordination.forget(tx, [unit.facts.uow_id for unit in units])

    def commit(self, *changes: Change, space: str = SPACE) -> Unit:
        """All of a unit's life."""
        unit = self.decide(self.prepare(self.unit(*changes, space=space)))
        self.publish(unit)
        self.forget(unit)
        return unit

    # Looking

    def read(self, key: str, *, space: str = SPACE, reader: SQLiteReader | None = None) -> Any:
        """Return what `read` finds, None if nothing."""
        if reader is None:
            with self.engine.reader() as opened:
                return self.read(key, space=space, reader=opened)
        with duty(OF_METHOD["read"], "read"):
            found = self.store.read(reader, space, key)
            version = self.store.version(reader, space, key)
        agree = version == (found.version if found else None)
        demand(OF_METHOD["version"], agree, "version and read disagree about a record's version")
        return found.value if found else None

    def keys(self, space: str = SPACE) -> list[str]:
        """Return all keys of a space."""
        with duty(OF_METHOD["keys"], "keys"), self.engine.reader() as reader:
            return list(self.store.keys(reader, space))

    def holds(self, obligation: int, wanted: dict[str, Any], when: str, *, space: str = SPACE) -> None:
        """Demand that a space holds exactly the records `wanted`, each with the value that was written."""
        with blame(obligation, when):
            keys = self.keys(space)
            values = {key: self.read(key, space=space) for key in wanted}
        demand(obligation, sorted(keys) == sorted(wanted), f"{when}, the keys are {keys}, not {sorted(wanted)}")
        for key, value in wanted.items():
            expected = self.subject.as_read(space, key, value)
            demand(obligation, values[key] == expected, f"{when}, {key!r} is not the value that was decided")

    def keeps(self, obligation: int, key: str, write: Write | None, when: str) -> None:
        """Demand that a stranger, too, finds the content of `write` under `key`; nothing, if that is None."""
        if self.subject.stored is None:
            return
        kept = self.subject.stored(self.directory, SPACE, key)
        found = hashlib.sha256(kept).hexdigest() if kept is not None else None
        wanted = write.content.sha256 if write is not None and write.content else None
        demand(obligation, found == wanted, f"{when}, a stranger does not find what was decided under {key!r}")

    def tree(self) -> dict[str, str]:
        """Return every file below the directory but the ledger's, with a digest; of databases only that they exist."""
        return tree(self.directory)


def tree(directory: Path) -> dict[str, str]:
    """Return every file below `directory` but the ledger's, with a digest; of databases only that they exist."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = directory.__class__(folder, name)
            shown = path.relative_to(directory).as_posix()
            if shown.startswith(LEDGER) or name.endswith(("-wal", "-shm", "-journal")) or path.is_symlink():
                continue
            content = path.read_bytes()
            found[shown] = DATABASE if content.startswith(_SQLITE) else hashlib.sha256(content).hexdigest()
    return found
