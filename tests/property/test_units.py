"""Units against a model: whatever is done in whatever order, stores and records end as a dict says."""

from __future__ import annotations

import copy
import itertools
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memoryos_uow import ConflictError, Ledger, RecordExists, RecordMissing
from memoryos_uow.stores import BlobStore, DocumentStore, TableStore
from tests.units import OwnError, rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from memoryos_uow import UnitOfWork
    from memoryos_uow.abc import Store

SPACES: Final = ("home", "work")
STORES: Final = ("notes", "orders", "photos")
KEYS: Final = ("a", "b")
Record = tuple[str, str]  # store and key


def as_value(store: str, number: int) -> Any:
    """A value for a store, different for every number; every third blob becomes a file."""
    if store == "photos":
        return b"%d" % number * (20 if number % 3 == 0 else 1)
    return {"n": number}


def as_number(store: str, value: Any) -> int | None:
    """The number of a value that was read."""
    if value is None:
        return None
    if store == "photos":
        text = value.decode()
        return int(text[: len(text) // 20] if len(text) >= 20 else text)
    return int(value["n"])


@dataclass
class Model:
    """What a unit should see and leave."""

    space: str
    serializable: bool
    quiet: bool
    """Nothing is done that flushes: so there is time for others to come in between."""
    seen: dict[Record, int | None] = field(default_factory=dict)
    """Versions at the first read outside a transaction."""
    writes: list[tuple[str, str | None, str, int | None]] = field(default_factory=list)
    applied: int = 0
    locked: bool = False

    def own(self, record: Record) -> tuple[str, int | None] | None:
        """The newest own write of a record: operation and number."""
        for store, key, operation, number in reversed(self.writes):
            if (store, key) == record:
                return operation, number
        return None

    def waiting(self, record: Record) -> str | None:
        """The operation of the newest own write of a record that waits."""
        for store, key, operation, _ in reversed(self.writes[self.applied :]):
            if (store, key) == record:
                return operation
        return None


class Units(RuleBasedStateMachine):
    """One unit after the other, with another one in between."""

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.numbers = itertools.count(10)
        self.committed: dict[tuple[str, str, str], int] = {}
        self.versions: dict[tuple[str, str, str], int] = {}
        self.log: list[int] = []
        self.ended: list[tuple[str, str, list[tuple[str, str | None, str]]]] = []
        self.uow: UnitOfWork | None = None
        self.model = Model("home", serializable=False, quiet=False)
        self.savepoints: list[tuple[AbstractContextManager[None], list[Any]]] = []

    @initialize()
    def open_ledger(self) -> None:
        """Make a ledger with three stores and a table of the application's own."""
        folder = Path(self.resources.enter_context(tempfile.TemporaryDirectory()))
        orders = TableStore("orders", key="id", columns={"id": "TEXT", "space_id": "TEXT", "n": "INTEGER"})
        stores: list[Store] = [DocumentStore("notes"), orders, BlobStore("photos", "photos", inline_below=40)]
        self.ledger = self.resources.enter_context(
            Ledger.open(folder / "memory.db", stores=stores, durability="normal")
        )
        with self.ledger.unit(space_id="home", band="GREEN") as uow:
            uow.sql("CREATE TABLE log (n INTEGER UNIQUE)")

    def teardown(self) -> None:
        if self.uow is not None:
            self.end(OwnError())
        self.resources.close()

    # What the model says

    def committed_number(self, record: Record) -> int | None:
        return self.committed.get((self.model.space, *record))

    def visible(self, record: Record) -> int | None:
        own = self.model.own(record)
        return own[1] if own else self.committed_number(record)

    def version(self, record: Record) -> int | None:
        place = (self.model.space, *record)
        return self.versions[place] if place in self.committed else None

    def changed(self, records: list[Record]) -> bool:
        return any(r in self.model.seen and self.model.seen[r] != self.version(r) for r in records)

    def flush_conflicts(self) -> bool:
        """Whether taking the lock and applying what waits must end in a conflict; if not, note that it happened."""
        waiting = [(store, key) for store, key, _, _ in self.model.writes[self.model.applied :] if key is not None]
        at_lock = list(self.model.seen) if self.model.serializable and not self.model.locked else []
        if self.changed(at_lock + waiting):
            return True
        for record in at_lock + waiting:
            self.model.seen.pop(record, None)
        self.model.locked = True
        self.model.applied = len(self.model.writes)
        return False

    def unit(self) -> UnitOfWork:
        assert self.uow is not None
        return self.uow

    def flushing(self, call: Any) -> Any:
        """What a call gives that flushes; a conflict ends the unit."""
        if self.flush_conflicts():
            with pytest.raises(ConflictError) as caught:
                call()
            self.end(caught.value)
            return None
        return call()

    # Beginning and ending

    @precondition(lambda self: self.uow is None)
    @rule(space=st.sampled_from(SPACES), serializable=st.booleans(), quiet=st.booleans())
    def begin(self, space: str, serializable: bool, quiet: bool) -> None:
        isolation = "serializable" if serializable else "writes"
        self.uow = self.ledger.unit(space_id=space, band="GREEN", isolation=isolation)
        self.uow.__enter__()
        self.model = Model(space, serializable, quiet)

    def end(self, error: BaseException | None) -> None:
        """Leave the savepoints and the block, with an exception that ends it."""
        uow = self.unit()
        if error is not None:
            while self.savepoints:
                savepoint, _ = self.savepoints.pop()
                with pytest.raises(type(error)):
                    savepoint.__exit__(type(error), error, None)
                    raise error
            assert not uow.__exit__(type(error), error, None)
            if uow.status == "failed":
                self.ended.append((uow.uow_id, "failed", []))
        self.uow = None

    @precondition(lambda self: self.uow is not None)
    @rule(how=st.sampled_from(["commit", "commit", "commit", "commit", "fail", "roll back"]))
    def finish(self, how: str) -> None:
        if how == "fail":
            self.end(OwnError())
        elif how == "roll back":
            self.roll_back()
        else:
            while self.savepoints:
                self.savepoints.pop()[0].__exit__(None, None, None)
            self.commit()

    def roll_back(self) -> None:
        uow, wrote = self.unit(), bool(self.model.writes)
        uow.rollback()
        while self.savepoints:
            self.savepoints.pop()[0].__exit__(None, None, None)
        uow.__exit__(None, None, None)
        self.uow = None
        if wrote:
            self.ended.append((uow.uow_id, "rolled_back", []))

    def commit(self) -> None:
        uow, model = self.unit(), self.model
        must_check = bool(model.writes) or model.serializable
        if must_check and self.flush_conflicts():
            with pytest.raises(ConflictError):
                uow.__exit__(None, None, None)
            self.ended.append((uow.uow_id, "failed", []))
            self.uow = None
            return
        uow.__exit__(None, None, None)
        self.uow = None
        assert uow.status == "committed"
        for store, key, operation, number in model.writes:
            if key is None:
                assert number is not None
                self.log.append(number)
            else:
                self.set(model.space, store, key, None if operation == "delete" else number)
        if model.writes:
            self.ended.append((uow.uow_id, "committed", [(s, k, o) for s, k, o, _ in model.writes]))

    def set(self, space: str, store: str, key: str, number: int | None) -> None:
        """Note a committed change."""
        place = (space, store, key)
        if number is None:
            self.committed.pop(place, None)
        else:
            self.committed[place] = number
            self.versions[place] = next(self.numbers)

    # Inside

    @precondition(lambda self: self.uow is not None)
    @rule(store=st.sampled_from(STORES), key=st.sampled_from(KEYS), upsert=st.booleans(), delete=st.booleans())
    def change(self, store: str, key: str, upsert: bool, delete: bool) -> None:
        self.write(store, key, upsert, delete)

    def write(self, store: str, key: str, upsert: bool, delete: bool) -> None:
        """Write what the unit may write as it sees the record."""
        there = self.visible((store, key)) is not None
        operation = "upsert" if upsert else "create" if not there else "delete" if delete else "update"
        number = None if operation == "delete" else next(self.numbers)
        handle = self.unit()[store]
        if number is None:
            handle.delete(key)
        else:
            getattr(handle, operation)(key, as_value(store, number))
        self.model.writes.append((store, key, operation, number))

    @precondition(lambda self: self.uow is not None)
    @rule(store=st.sampled_from(STORES), key=st.sampled_from(KEYS))
    def read(self, store: str, key: str) -> None:
        record = (store, key)
        asks_the_store = store == "orders" and self.model.waiting(record) not in (None, "delete")
        if asks_the_store:
            found = self.flushing(lambda: self.unit()[store].get(key))
            if self.uow is None:
                return
        else:
            found = self.unit()[store].get(key)
            from_own = self.model.waiting(record) or (store == "photos" and self.model.own(record))
            if not from_own and not self.model.locked:
                self.model.seen.setdefault(record, self.version(record))
        assert as_number(store, found) == self.visible(record)

    @precondition(lambda self: self.uow is not None and not self.model.quiet)
    @rule()
    def select(self) -> None:
        found = self.flushing(lambda: self.unit().sql("SELECT n FROM log ORDER BY n"))
        if self.uow is not None:
            own = [number for _, key, _, number in self.model.writes if key is None and number is not None]
            assert [n for (n,) in found] == sorted(self.log + own)

    @precondition(lambda self: self.uow is not None)
    @rule(at_once=st.booleans())
    def insert(self, at_once: bool) -> None:
        number = next(self.numbers)
        at_once = at_once and not self.model.quiet
        if at_once:
            self.flushing(lambda: self.unit().sql("INSERT INTO log VALUES (?) RETURNING n", (number,)))
            if self.uow is None:
                return
        else:
            self.unit().sql("INSERT INTO log VALUES (?)", (number,))
        self.model.writes.append(("sql", None, "create", number))
        if at_once:
            self.model.applied += 1

    @precondition(lambda self: self.uow is not None and not self.model.quiet)
    @rule(store=st.sampled_from(STORES), key=st.sampled_from(KEYS))
    def refused(self, store: str, key: str) -> None:
        """A write that cannot be, in a savepoint: it is undone, and all that came before it stays."""
        there = self.visible((store, key)) is not None
        doomed = copy.deepcopy(self.model)
        doomed.writes.append((store, key, "create", None))
        kept, self.model = self.model, doomed
        conflicts = self.flush_conflicts()
        self.model = kept
        if conflicts:
            return  # which of the two is found first does not matter here
        handle = self.unit()[store]
        with pytest.raises(RecordExists if there else RecordMissing), self.unit().savepoint():
            if there:
                handle.create(key, as_value(store, 1))
            else:
                handle.update(key, as_value(store, 1))
            self.unit().sql("SELECT 1")
        own = self.model.waiting((store, key))
        at_once = own is not None and (own == "delete") is not there
        if not at_once:
            self.model.writes.append((store, key, "create", None))
            assert not self.flush_conflicts()
            self.model.writes.pop()
            self.model.applied = len(self.model.writes)

    @precondition(lambda self: self.uow is not None and len(self.savepoints) < 3)
    @rule()
    def set_savepoint(self) -> None:
        savepoint = self.unit().savepoint()
        savepoint.__enter__()
        self.savepoints.append((savepoint, list(self.model.writes)))

    @precondition(lambda self: self.uow is not None and self.savepoints)
    @rule(well=st.booleans())
    def leave_savepoint(self, well: bool) -> None:
        savepoint, writes = self.savepoints.pop()
        if well:
            savepoint.__exit__(None, None, None)
            return
        error = OwnError()
        assert not savepoint.__exit__(OwnError, error, None)
        self.model.writes = writes
        self.model.applied = min(self.model.applied, len(writes))

    @precondition(lambda self: self.uow is not None and not self.model.locked)
    @rule(store=st.sampled_from(STORES), key=st.sampled_from(KEYS), delete=st.booleans())
    def interfere(self, store: str, key: str, delete: bool) -> None:
        """Another unit changes a record that this one has read, or has nothing to do with."""
        if (store, key) in self.model.seen or not self.model.own((store, key)):
            self.overtake(store, key, delete)

    @precondition(lambda self: self.uow is not None and not self.model.locked and self.model.seen)
    @rule(pick=st.integers(0, 5), delete=st.booleans(), writes=st.booleans())
    def race(self, pick: int, delete: bool, writes: bool) -> None:
        """Another unit changes a record that this one has read, and perhaps writes."""
        record = list(self.model.seen)[pick % len(self.model.seen)]
        self.overtake(*record, delete)
        if writes:
            self.write(*record, delete, delete)

    def overtake(self, store: str, key: str, delete: bool) -> None:
        """Change a record in another unit."""
        record = (store, key)
        # Back to absent as it was read is no change; an own update of it would be refused for another reason.
        delete = delete and self.committed_number(record) is not None and not self.model.own(record)
        number = next(self.numbers)
        with self.ledger.unit(space_id=self.model.space, band="GREEN", nested="independent") as other:
            if delete:
                other[store].delete(key)
            else:
                other[store].upsert(key, as_value(store, number))
        self.set(self.model.space, store, key, None if delete else number)
        self.ended.append((other.uow_id, "committed", [(store, key, "delete" if delete else "upsert")]))

    # What must hold between units

    @precondition(lambda self: self.uow is None and hasattr(self, "ledger"))
    @invariant()
    def the_stores_hold_what_was_committed(self) -> None:
        for space, store in itertools.product(SPACES, STORES):
            handle = self.ledger[store]
            found = {key: as_number(store, handle.get(key, space_id=space)) for key in handle.keys(space_id=space)}
            assert found == {k: n for (sp, st_, k), n in self.committed.items() if (sp, st_) == (space, store)}
        assert [n for (n,) in rows(self.ledger.path, "SELECT n FROM log ORDER BY n")] == sorted(self.log)

    @precondition(lambda self: self.uow is None and hasattr(self, "ledger"))
    @invariant()
    def the_ledger_tells_what_happened(self) -> None:
        told = [self.ledger.get(uow_id) for uow_id, _, _ in self.ended[-3:]]
        assert [
            (r.uow_id, r.status, [(w.store_name, w.record_id, w.operation_type) for w in r.writes]) for r in told
        ] == self.ended[-3:]
        assert len(self.ledger.units(limit=10_000)) == len(self.ended) + 1


Units.TestCase.settings = settings(max_examples=20, stateful_step_count=40)
test_units = Units.TestCase


# The same machine, played with programs that have a shape: what matters inside savepoints, and between a read and the
# write after it, is rare in a random walk


def _steps(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.fixed_dictionaries(arguments).map(lambda drawn: (name, drawn))


_RECORD: Final[dict[str, st.SearchStrategy[Any]]] = {"store": st.sampled_from(STORES), "key": st.sampled_from(KEYS)}
_STEP: Final = st.one_of(
    _steps("change", **_RECORD, upsert=st.booleans(), delete=st.booleans()),
    _steps("read", **_RECORD),
    _steps("refused", **_RECORD),
    _steps("insert", at_once=st.booleans()),
    _steps("select"),
    _steps("interfere", **_RECORD, delete=st.booleans()),
    _steps("race", pick=st.integers(0, 5), delete=st.booleans(), writes=st.booleans()),
)


def _savepoint(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return _steps("savepoint", steps=inner, well=st.booleans())


_BLOCK: Final = st.recursive(
    st.lists(_STEP, min_size=1, max_size=4),
    lambda inner: st.lists(
        st.one_of(_STEP, _steps("savepoint", steps=inner, well=st.booleans())), min_size=2, max_size=6
    ),
    max_leaves=6,
)
_UNIT: Final = st.fixed_dictionaries(
    {
        "steps": _BLOCK,
        "serializable": st.booleans(),
        "quiet": st.booleans(),
        "how": st.sampled_from(["commit", "commit", "commit", "fail", "roll back"]),
    }
)


def play(units: Units, steps: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Do some steps in the open unit, as long as it is open and they can be done."""
    for name, arguments in steps:
        if units.uow is None:
            return
        if name == "savepoint":
            units.set_savepoint()
            play(units, arguments["steps"])
            if units.uow is not None:
                units.leave_savepoint(well=arguments["well"])
        elif name in ("interfere", "race"):
            if not units.model.locked and (units.model.seen or name == "interfere"):
                getattr(units, name)(**arguments)
        elif not units.model.quiet or name not in ("select", "refused"):
            getattr(units, name)(**arguments)


@settings(max_examples=60)
@given(st.lists(_UNIT, min_size=1, max_size=4))
def test_units_of_any_shape(program: list[dict[str, Any]]) -> None:
    """Units with any nesting of savepoints, flushes, refusals and races leave what the same steps leave in a dict."""
    units = Units()
    units.open_ledger()
    try:
        for unit in program:
            units.begin(space="home", serializable=unit["serializable"], quiet=unit["quiet"])
            play(units, unit["steps"])
            if units.uow is not None:
                units.finish(how=unit["how"])
            units.the_stores_hold_what_was_committed()
            units.the_ledger_tells_what_happened()
    finally:
        units.teardown()
