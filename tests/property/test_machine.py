"""Six stores against a dict, with processes that are killed, ledgers that are opened again, and others at work.

A unit writes versions of records into some of the stores. Whatever happens to it and around it, the stores hold what
the committed units left, in the order of their receipts, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memoryos_uow import ConflictError, Ledger, RecordMissing
from memoryos_uow.testing import fault_points
from memoryos_uow.testing._forks import fork
from tests.crash.steps import SPACE, six_stores, value

if TYPE_CHECKING:
    from memoryos_uow import UnitOfWork

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked and killed")

STORES: Final = tuple(store.name for store in six_stores())
KEYS: Final = ("a", "deep/b")

Record = tuple[str, str]
RECORDS: Final = st.tuples(st.sampled_from(STORES), st.sampled_from(KEYS))
CHANGES: Final = st.dictionaries(RECORDS, st.booleans(), min_size=1, max_size=8)
"""By record, whether it is deleted if it is there."""
READS: Final = st.sets(RECORDS, max_size=4)
UPSERTS: Final = CHANGES.map(lambda changes: dict.fromkeys(changes, False))
ENDS: Final = st.sampled_from(["commit", "commit", "commit", "raise", "roll back", "refuse"])


class WantedError(Exception):
    """What a block raises on purpose."""


class Machine(RuleBasedStateMachine):
    """One ledger, and what must be in it."""

    @initialize()
    def begin(self) -> None:
        """Make the ledger."""
        self.place = Path(tempfile.mkdtemp(prefix="memoryos-uow-machine-"))
        self.numbers = count(1)
        self.held: dict[Record, int] = {}
        self.told: dict[int, str] = {}
        self.open()

    def open(self) -> None:
        """Open the ledger, as every process does."""
        self.ledger = self.another()

    def another(self) -> Ledger:
        """Open the file once more."""
        return Ledger.open(self.place / "memory.db", stores=six_stores(), durability="normal")

    def teardown(self) -> None:
        """Remove the ledger."""
        if hasattr(self, "ledger"):
            self.ledger.close()
            shutil.rmtree(self.place)

    # What a unit does

    def plan(self, changes: dict[Record, bool]) -> tuple[int, dict[Record, int | None]]:
        """Give a unit its number, which is the version of what it writes; None: a delete."""
        number = next(self.numbers)
        return number, {
            record: None if deleted and record in self.held else number for record, deleted in changes.items()
        }

    @staticmethod
    def write(uow: UnitOfWork, wanted: dict[Record, int | None]) -> None:
        """Write into the stores what is wanted."""
        for (store, key), version in wanted.items():
            if version is None:
                uow[store].delete(key)
            else:
                uow[store].upsert(key, value(store, key, version))

    def run(self, ledger: Ledger, number: int, wanted: dict[Record, int | None], end: str = "commit") -> None:
        """Run one unit to its end."""
        with ledger.unit(space_id=SPACE, band="GREEN", correlation_id=str(number), nested="independent") as uow:
            self.write(uow, wanted)
            if end == "roll back":
                uow.rollback()
            if end == "raise":
                raise WantedError
            if end == "refuse":
                uow["files"].delete("nowhere")

    def keep(self, number: int, wanted: dict[Record, int | None], told: str = "committed") -> None:
        """Note how a unit has ended."""
        self.told[number] = told
        if told == "committed":
            for record, version in wanted.items():
                if version is None:
                    del self.held[record]
                else:
                    self.held[record] = version

    def found(self, number: int) -> str:
        """Say how the ledger tells that a unit has ended; nothing is left of one that died before its intent."""
        statuses = [one.status for one in self.ledger.units(correlation_id=str(number))]
        return statuses[0] if statuses else "failed"

    # What happens

    @rule(changes=CHANGES, end=ENDS)
    def unit(self, changes: dict[Record, bool], end: str) -> None:
        """A unit commits, or is ended in one of three ways."""
        number, wanted = self.plan(changes)
        with suppress(WantedError, RecordMissing):
            self.run(self.ledger, number, wanted, end)
        told = {"commit": "committed", "roll back": "rolled_back"}.get(end, "failed")
        self.keep(number, wanted, told)
        assert self.found(number) == told

    @rule(changes=CHANGES, die_at=st.integers(70, 150), reopened=st.booleans())
    def killed(self, changes: dict[Record, bool], die_at: int, reopened: bool) -> None:
        """Another process is killed in the middle of a unit, and somebody recovers: this process, or its next one."""
        number, wanted = self.plan(changes)
        mark = self.place / "acknowledged"

        def work() -> None:
            with fault_points(die_at=die_at), self.another() as ledger:
                self.run(ledger, number, wanted)
                mark.touch()

        _, said = fork(work).wait()
        assert said == ""
        if reopened:
            self.reopen()
        else:
            self.recover()
        told = self.found(number)
        assert told == "committed" or not mark.exists()
        mark.unlink(missing_ok=True)
        self.keep(number, wanted, told)

    @rule()
    def reopen(self) -> None:
        """The ledger is closed and opened again."""
        self.ledger.close()
        self.open()

    @rule()
    def recover(self) -> None:
        """Somebody asks for recovery; nothing is left in doubt."""
        assert self.ledger.recover().in_doubt == ()

    @rule(outer=UPSERTS, inner=UPSERTS, read=READS, raises=st.booleans())
    def independent(
        self, outer: dict[Record, bool], inner: dict[Record, bool], read: set[Record], raises: bool
    ) -> None:
        """A unit in the middle of another one commits by itself, whatever becomes of the outer one.

        The outer one is refused if the inner one has changed what it had read and goes on to write.
        """
        (first, wanted), (second, own) = self.plan(outer), self.plan(inner)
        ended = suppress(WantedError, ConflictError)
        with ended, self.ledger.unit(space_id=SPACE, band="GREEN", correlation_id=str(first)) as uow:
            for store, key in sorted(read):
                uow[store].get(key)
            self.write(uow, wanted)
            self.run(self.ledger, second, own)
            if raises:
                raise WantedError
        overtaken = bool(read & wanted.keys() & own.keys())
        self.keep(second, own)
        self.keep(first, wanted, "failed" if raises or overtaken else "committed")

    @rule(one=UPSERTS, other=UPSERTS)
    def at_once(self, one: dict[Record, bool], other: dict[Record, bool]) -> None:
        """Two threads, one with a ledger object of its own, write at once; their receipts say who came last."""
        plans = dict([self.plan(one), self.plan(other)])
        errors: list[BaseException] = []

        def work(number: int, ledger: Ledger) -> None:
            try:
                self.run(ledger, number, plans[number])
            except BaseException as error:  # noqa: BLE001 - the main thread raises it
                errors.append(error)

        with self.another() as second:
            threads = [
                threading.Thread(target=work, args=pair) for pair in zip(plans, (self.ledger, second), strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert errors == []
        for number in sorted(plans, key=self.place_of):
            self.keep(number, plans[number])

    def place_of(self, number: int) -> int:
        """Return which of the space's units it is."""
        [unit] = self.ledger.units(correlation_id=str(number))
        return self.ledger.receipt(unit.uow_id).space_seq or 0

    # What must hold

    @invariant()
    def the_stores_hold_what_was_committed(self) -> None:
        """Every store holds exactly what the committed units left, and search finds no more."""
        if not hasattr(self, "ledger"):
            return
        for store in STORES:
            handle = self.ledger[store]
            wanted = {key: version for (name, key), version in self.held.items() if name == store}
            assert sorted(handle.keys(space_id=SPACE)) == sorted(wanted)
            for key, version in wanted.items():
                found: Any = handle.get(key, space_id=SPACE)
                right = value(store, key, version)
                assert found == right if not isinstance(right, dict) else found.items() >= right.items()
        hits = self.ledger["notes"].search("common", space_id=SPACE)
        assert {hit.key for hit in hits} == {key for store, key in self.held if store == "notes"}

    @invariant()
    def the_ledger_tells_what_happened(self) -> None:
        """Every unit has ended as it was told."""
        for number, told in list(getattr(self, "told", {}).items())[-3:]:
            assert self.found(number) == told


Machine.TestCase.settings = settings(max_examples=10, stateful_step_count=15)
test_machine = Machine.TestCase
