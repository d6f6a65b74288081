"""What a process does in the simulation: the coordinator and recovery, each effect as the library carries it out.

Each method says which function it mirrors; a test follows these references, so that none leads nowhere. What to do is
decided by the library's own `memoryos_uow._protocol.step`. Every ``yield`` is a moment at which others act, and at
which the process may die. Wherever a seeded fault departs from the library, its name stands there.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from memoryos_uow._protocol import DECIDED, Effect, Event, State, step
from tests.simulation.stores import BlobStore, DocumentStore, FileStore, SecondFileStore, stage_of, sweep_temporary
from tests.simulation.world import (
    ARCHIVE,
    BLOBS,
    DOCS,
    FAILED,
    FILES,
    LEASE,
    ROLLED_BACK,
    Busy,
    CommitFailed,
    Entry,
    Fault,
    InDoubt,
    Refused,
    Row,
    Trouble,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from tests.simulation.world import Tables, Unit, World

PATIENCE: Final = 400
"""How often the ledger's lock is asked for: ``busy_timeout``."""
SHORT_PATIENCE: Final = 6
"""The same for rows that may come later: ``RECORD_WAIT_S``."""
UNSYNCED_MAX: Final = 2
"""How many units wait for one sync of the second file: ``UNITS_MAX`` of `memoryos_uow._unsynced`."""
BATCH: Final = 2
"""How many units recovery takes over at once; the library's number is larger, so its batches are never seen at work."""


class Opened:
    """One open ledger: what mirrors `Coordinator.at_work`, `_unsynced.Unsynced` and `_leftovers.Leftovers`."""

    def __init__(self) -> None:
        self.at_work: set[int] = set()
        self.unsynced: list[int] = []
        self.settled: list[int] = []
        self.endings: list[tuple[int, int]] = []


class Process:
    """What the threads of one process share."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.alive = True
        self.wakes_at = 0
        """Paused until then."""
        self.opened = Opened()


class Actor:
    """One thread: it runs units, or it recovers."""

    steps: Generator[None, None, None]

    def __init__(self, process: Process, number: int, *, shares: bool) -> None:
        self.process = process
        self.number = number
        self.name = f"{process.number}.{number}"
        self.world = process.world
        self.opened = process.opened if shares else Opened()
        self.recovers = False
        self.waits = False
        """Others hold the lock that it needs."""
        self.dies = False
        """Its process dies now."""
        self.unit: Unit | None = None
        """The unit that it runs now."""
        self.committing: Tables | None = None
        """What is on its way into the log at this moment."""
        world = self.world
        self.files, self.blobs, self.archive = FileStore(world), BlobStore(world), SecondFileStore(world)
        self.stores: dict[str, DocumentStore | BlobStore | FileStore | SecondFileStore] = {
            DOCS: DocumentStore(world),
            BLOBS: self.blobs,
            FILES: self.files,
            ARCHIVE: self.archive,
        }
        self._do: dict[Effect, Callable[[Unit], Generator[None, None, Event | None]]] = {
            Effect.RECORD_INTENT: self._record_intent,
            Effect.PREPARE: self._prepare,
            Effect.DECIDE: self._decide,
            Effect.ANNOUNCE: self._announce,
            Effect.PUBLISH: self._publish,
            Effect.FORGET: self._forget,
            Effect.RECORD_SILENCE: self._record_silence,
            Effect.PROVE_GONE: self._prove_gone,
            Effect.UNDO: self._undo,
            Effect.ABANDON: self._abandon,
            Effect.RECORD: self._record,
        }

    def say(self, what: str) -> None:
        """Write into the trace, if there is one."""
        if self.world.trace is not None:
            self.world.say(self, what)

    # The ledger's transactions

    def _begin(self, patience: int = PATIENCE) -> Generator[None, None, Tables]:
        """Mirrors `memoryos_uow.engines.sqlite.SQLiteEngine.begin`."""
        ledger = self.world.ledger
        while ledger.lock is not None:
            patience -= 1
            if patience < 0:
                self.world.counts["ledger_busy"] += 1
                self.waits = False
                raise Busy
            self.waits = True
            yield
        self.waits = False
        ledger.lock = self
        return ledger.now.copy()

    def _commit(self, tx: Tables, *, sync: bool) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.engines._transaction.SQLiteTransaction.commit`; killed in here it leaves a ghost."""
        self.committing = tx
        yield
        self.committing = None
        self.world.ledger.lock = None
        self.world.ledger.commit(tx, sync=sync)
        self.world.changed = True

    def _apart(
        self, write: Callable[[Tables], object], *, patience: int = SHORT_PATIENCE, sync: bool = False
    ) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._transactions.UnitTransactions.apart`; without `sync` it does not wait for the disk."""
        tx = yield from self._begin(patience)
        write(tx)
        yield from self._commit(tx, sync=sync and self.world.full)

    def sync_log(self) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.engines.sqlite.SQLiteEngine.sync_log`."""
        for _ in range(self.world.sync_steps):
            yield
        self.world.ledger.sync()

    # How a unit ends

    def run_unit(self, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.unit.UnitOfWork.__exit__`; what its caller then knows is what `told` says."""
        self.unit = unit
        self.say(f"begins unit {unit.uow}: {unit.writes} {unit.ending} {unit.refused_by} {unit.answer}")
        try:
            if unit.flushed_early:
                yield from self._open(unit)
            if unit.ending == "rollback":
                yield from self._carry_out(unit, Event.ROLLBACK_ASKED)
                self.tell(unit, "failed")
            elif unit.ending == "raise":
                yield from self._fail(unit)
                self.tell(unit, "failed")
            else:
                yield from self._commit_unit(unit)
                self.tell(unit, "committed" if unit.writes else "nothing")
        except InDoubt:
            self.tell(unit, "in doubt")
        except Trouble:
            yield from self._fail(unit)
            self.tell(unit, "failed")
        if unit.tx is not None:
            raise self.world.break_promise(f"unit {unit.uow} is over and still holds the ledger")

    def tell(self, unit: Unit, what: str) -> None:
        """Let the caller know how the unit ended."""
        if unit.told in ("", what):
            unit.told = what
            self.world.changed = True
            self.world.counts[f"told_{what}".replace(" ", "_")] += 1
            self.say(f"tells that unit {unit.uow} is {what}")
        else:
            raise self.world.break_promise(f"unit {unit.uow} was told {unit.told} and is told {what}")

    def _commit_unit(self, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._coordinator.Coordinator.commit`."""
        try:
            yield from self._carry_out(unit, self._how_to_commit(unit))
        except Trouble:
            yield from self._fail(unit)
            self.opened.at_work.discard(unit.uow)
            raise
        if unit.uow not in self.opened.unsynced:
            self.opened.at_work.discard(unit.uow)

    def _fail(self, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._coordinator.Coordinator.fail`."""
        if unit.state in (State.ACTIVE, State.PREPARING):
            yield from self._carry_out(unit, Event.FAILED)

    def _how_to_commit(self, unit: Unit) -> Event:
        """Mirrors `memoryos_uow._coordinator.Coordinator._how_to_commit`."""
        if not unit.writes:
            return Event.NOTHING_TO_DO
        for name, tokens in ((FILES, self.files.plan(unit)), (BLOBS, self.blobs.plan(unit))):
            if tokens:
                unit.plan[name] = tokens
        return Event.COMMIT_ASKED_OUTSIDE if unit.plan else Event.COMMIT_ASKED

    def _carry_out(self, unit: Unit, event: Event | None) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._carry_out`."""
        while event is not None:
            before = unit.state
            unit.state, effects = step(unit.state, event)
            self.world.counts[f"{before.name} {event.name}"] += 1
            self.say(f"unit {unit.uow}: {event.name} -> {unit.state.name}")
            event = None
            for effect in effects:
                event = yield from self._do[effect](unit)

    # Effects before the decision

    def _record_intent(self, unit: Unit) -> Generator[None, None, Event]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._record_intent`."""
        if unit.tx is None and self.world.fault is not Fault.NO_INTENT:
            self.opened.at_work.add(unit.uow)
            yield from self._apart(lambda tx: self._insert(tx, unit, decided=False), patience=PATIENCE)
            unit.has_intent = True
        return Event.INTENT_RECORDED

    def _insert(self, tx: Tables, unit: Unit, *, decided: bool) -> None:
        """Mirrors `memoryos_uow._coordination.insert`."""
        plan = {} if decided else unit.plan
        tx.rows[unit.uow] = Row(decided, 1, self.process.number, self.world.now + LEASE, plan)

    def _prepare(self, unit: Unit) -> Generator[None, None, Event]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._prepare`."""
        if self.world.fault is not Fault.BYTES_AFTER_DECISION:
            yield from self._make_bytes(unit)
        return Event.PREPARED

    def _make_bytes(self, unit: Unit) -> Generator[None, None, None]:
        if FILES in unit.plan:
            yield from self.files.prepare(self, unit)
        if BLOBS in unit.plan:
            yield from self.blobs.prepare(self, unit)

    def _open(self, unit: Unit) -> Generator[None, None, Tables]:
        """Mirrors `memoryos_uow._transactions.UnitTransactions.open`."""
        if unit.tx is None:
            unit.tx = yield from self._begin()
            unit.carried = self._write_leftovers(unit.tx)
        return unit.tx

    def _decide(self, unit: Unit) -> Generator[None, None, Event | None]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._decide`."""
        world = self.world
        if world.fault is Fault.EARLY_ACKNOWLEDGEMENT:
            self.tell(unit, "committed")
        tx = yield from self._open(unit)
        self._refuse_if_taken_over(unit, tx)
        commit_seq = tx.last_seq + 1
        for store, key, content in unit.writes:
            self.stores[store].apply(tx, commit_seq, key, content)
        if unit.refused_by == "apply":
            raise Refused
        yield
        decided = self._write_coordination(unit, tx, commit_seq)
        tx.units[unit.uow] = tx.last_seq = commit_seq
        answer, unit.answer = unit.answer, ""
        self._look_at_what_is_referred_to(unit)
        self.dies = answer == "dies"
        if answer in ("", "there", "dies", "dies after"):
            yield from self._commit(tx, sync=world.full and world.fault is not Fault.DECISION_NOT_SYNCED)
            self.say(f"unit {unit.uow} is decided as {commit_seq}")
            self.dies = answer == "dies after"
            yield
        if answer:
            yield from self._lose_the_answer(unit, tx, answer)
            if unit.state in DECIDED:
                return None
            raise CommitFailed(answer_lost=answer != "fails")
        return decided

    def _lose_the_answer(self, unit: Unit, tx: Tables, answer: str) -> Generator[None, None, None]:
        """Let the commit fail: surely, or so that nobody knows."""
        world = self.world
        world.counts[f"answer_{answer}"] += 1
        if answer != "there":
            yield
            world.ledger.lock = None
        if answer == "ghost":
            world.ledger.leave_ghost(tx)
        if answer == "fails":
            unit.tx = None
            return
        if world.fault is Fault.LOST_ANSWER_IS_FAILURE:
            unit.tx = None
            return
        yield from self._carry_out(unit, Event.ANSWER_LOST)

    def _refuse_if_taken_over(self, unit: Unit, tx: Tables) -> None:
        """Mirrors `memoryos_uow._coordinator.Coordinator._refuse_if_taken_over`, and `_coordination.decide`."""
        if not unit.has_intent:
            return
        row = tx.rows.get(unit.uow)
        if row is not None and row.epoch == 1 and not row.decided:
            tx.rows[unit.uow] = row._replace(decided=True, lease_until=self.world.now + LEASE)
        elif self.world.fault is Fault.NO_FENCE:
            self._insert(tx, unit, decided=True)
        else:
            self.world.counts["fenced"] += 1
            raise Refused

    def _write_coordination(self, unit: Unit, tx: Tables, commit_seq: int) -> Event:
        """Mirrors `memoryos_uow._coordinator.Coordinator._write_coordination`."""
        owing = False
        unit.owed = {}
        for name in (FILES, ARCHIVE):
            entries = [
                Entry(commit_seq, unit.uow, key, content) for store, key, content in unit.writes if store == name
            ]
            if entries:
                tx.redo[unit.uow, name] = unit.owed[name] = entries
                owing = True
        if owing:
            self.opened.at_work.add(unit.uow)
            if not unit.has_intent:
                self._insert(tx, unit, decided=True)
            return Event.DECIDED_WITH_MORE
        if unit.has_intent:
            tx.forget(unit.uow)
        return Event.DECIDED

    def _look_at_what_is_referred_to(self, unit: Unit) -> None:
        """Promise 2: what is about to be decided refers to bytes that are durable."""
        sure = self.world.disk.sure
        for digest in unit.plan.get(BLOBS, ()):
            if digest not in sure.get(BLOBS, ()):
                raise self.world.break_promise(f"unit {unit.uow} is decided and its bytes {digest} are not durable")
        for content in unit.plan.get(FILES, ()):
            if content not in sure.get(stage_of(unit.uow), ()):
                raise self.world.break_promise(f"unit {unit.uow} is decided and its file {content} is not durable")

    # Effects after the decision

    def _announce(self, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._announce`: from now on `status` says that it is committed."""
        yield from ()
        unit.tx = None
        unit.carried = None
        self.tell(unit, "committed")
        if self.world.fault is Fault.BYTES_AFTER_DECISION:
            yield from self._make_bytes(unit)

    def _publish(self, unit: Unit) -> Generator[None, None, Event]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._publish`."""
        if self.world.fault is Fault.FORGOTTEN_BEFORE_PUBLISHED:
            redo = {key: entries for key, entries in self.world.ledger.now.redo.items() if key[0] == unit.uow}
            yield from self._apart(lambda tx: tx.forget(unit.uow), patience=PATIENCE)
            unit.silent = (yield from self._publish_entries(redo)).get(unit.uow, [])
        else:
            unit.silent = yield from self._show(unit)
        return Event.STORE_SILENT if unit.silent else Event.PUBLISHED

    def _show(self, unit: Unit) -> Generator[None, None, list[str]]:
        """Mirrors `memoryos_uow._publishing.Publishing.show`."""
        if not self.world.full and self.world.fault is not Fault.PUBLISHED_BEFORE_SYNCED:
            yield from self.sync_log()
        yield
        silent = []
        for name, entries in unit.owed.items():
            if not (yield from self._try(name, entries, show=True)):
                silent.append(name)
        return silent

    def _publish_units(self, uows: Sequence[int], *, synced: bool) -> Generator[None, None, dict[int, list[str]]]:
        """Mirrors `memoryos_uow._publishing.Publishing.publish`."""
        if not synced and self.world.fault is not Fault.PUBLISHED_BEFORE_SYNCED:
            yield from self.sync_log()
        yield
        redo = {key: entries for key, entries in self.world.ledger.now.redo.items() if key[0] in uows}
        yield
        return (yield from self._publish_entries(redo))

    def _publish_entries(self, redo: dict[tuple[int, str], list[Entry]]) -> Generator[None, None, dict[int, list[str]]]:
        """Mirrors `memoryos_uow._publishing.Publishing._publish`."""
        silent: dict[int, list[str]] = {}
        for name in (FILES, ARCHIVE):
            by_unit = {uow: entries for (uow, store), entries in redo.items() if store == name}
            in_order = sorted(by_unit.values(), key=lambda entries: entries[0].commit_seq)
            if not in_order or (yield from self._try(name, [*chain.from_iterable(in_order)])):
                continue
            for uow, entries in by_unit.items():
                if len(by_unit) == 1 or not (yield from self._try(name, entries)):
                    silent.setdefault(uow, []).append(name)
        return silent

    def _try(self, name: str, entries: list[Entry], *, show: bool = False) -> Generator[None, None, bool]:
        """Mirrors `memoryos_uow._publishing.Publishing._try`; return whether the store answered."""
        try:
            if name == FILES:
                yield from self.files.publish(self, entries)
            else:
                yield from (self.archive.show if show else self.archive.publish)(self, entries)
        except Unavailable:
            return False
        self.world.changed = True
        return True

    def _forget(self, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._forget`."""
        if ARCHIVE in unit.owed and self.world.fault is not Fault.FORGOTTEN_BEFORE_SYNCED:
            self.opened.unsynced.append(unit.uow)
            if len(self.opened.unsynced) >= UNSYNCED_MAX:
                yield
                self._sync()
        else:
            self.opened.settled.append(unit.uow)

    def _sync(self) -> None:
        """Mirrors `memoryos_uow._unsynced.Unsynced.sync`."""
        waiting, self.opened.unsynced = self.opened.unsynced, []
        if waiting:
            self.opened.at_work.difference_update(waiting)
            try:
                self.archive.make_durable(self)
            except Unavailable:
                return
            self.opened.settled += waiting
            self.world.counts["synced_together"] += len(waiting) > 1

    def _record_silence(self, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._record_silence`."""
        try:
            yield from self._apart(lambda tx: None)
        except Busy:
            return

    def _prove_gone(self, unit: Unit) -> Generator[None, None, Event]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._prove_gone`."""
        fault = self.world.fault
        unit.tx = None
        found: list[bool] = []

        def look(tx: Tables) -> None:
            there = unit.uow in tx.units if fault is Fault.ANY_ROW_IS_THE_DECISION else tx.units.get(unit.uow, 0) > 0
            found.append(there)
            if not there:
                tx.units.setdefault(unit.uow, FAILED)

        yield
        if unit.proof_fails:
            self.world.counts["proof_failed"] += 1
            raise InDoubt
        if fault is Fault.PROOF_ONLY_LOOKS:
            look(self.world.ledger.now.copy())
        else:
            try:
                yield from self._apart(look, patience=PATIENCE, sync=True)
            except Busy:
                raise InDoubt from None
            if found[0]:
                yield from self.sync_log()
        return Event.DECISION_FOUND if found[0] else Event.PROVEN_GONE

    # Effects of other ends

    def _undo(self, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._transactions.UnitTransactions.undo`."""
        yield from ()
        if unit.tx is not None:
            self.world.ledger.lock = None
            unit.tx = None
        if unit.carried is not None:
            self._put_back(unit.carried)
            unit.carried = None

    def _abandon(self, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._abandon`."""
        for name in unit.plan:
            try:
                yield from (self.files if name == FILES else self.blobs).abandon(self, unit.uow)
            except Unavailable:
                self.world.counts["abandon_delayed"] += 1
                unit.has_intent = False
        if unit.has_intent and unit.state is State.FAILED:
            self.opened.settled.append(unit.uow)

    def _record(self, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._coordinator.Coordinator._record`."""
        ending = ROLLED_BACK if unit.state is State.ROLLED_BACK else FAILED
        try:
            yield from self._apart(lambda tx: tx.units.setdefault(unit.uow, ending))
        except Busy:
            self.opened.endings.append((unit.uow, ending))

    # Rows that come later

    def _write_leftovers(self, tx: Tables) -> tuple[list[int], list[tuple[int, int]]]:
        """Mirrors `memoryos_uow._leftovers.Leftovers.write`."""
        carried = self.opened.settled, self.opened.endings
        self.opened.settled, self.opened.endings = [], []
        for uow in carried[0]:
            tx.forget(uow)
        for uow, ending in carried[1]:
            tx.units.setdefault(uow, ending)
        return carried

    def _put_back(self, carried: tuple[list[int], list[tuple[int, int]]]) -> None:
        """Mirrors `memoryos_uow._leftovers.Leftovers.put_back`."""
        self.opened.settled[:0] = carried[0]
        self.opened.endings[:0] = carried[1]

    def settle(self) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._coordinator.Coordinator.settle`."""
        self._sync()
        if self.opened.settled or self.opened.endings:
            try:
                yield from self._apart(self._write_leftovers)
            except Busy:
                return

    # Recovery

    def open(self) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._open_ledger.OpenLedger._recover_leftovers`."""
        if self.world.ledger.now.rows:
            yield from self._run_recovery()

    def recover(self) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.ledger.Ledger.recover`."""
        yield from self._run_recovery()
        if self.world.fault is not Fault.NOTHING_SWEPT:
            yield from self._sweep()

    def _run_recovery(self) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._recovery.Recovery.run`."""
        self.recovers = True
        yield from self.settle()
        after = -1
        while True:
            rows = self.world.ledger.now.rows
            batch = [(uow, rows[uow]) for uow in sorted(rows) if uow > after][:BATCH]
            if not batch:
                self.recovers = False
                return
            yield
            after = batch[-1][0]
            taken = yield from self._take_over(batch)
            yield from self._forward([uow for uow, row in taken if row.decided])
            yield from self._back([(uow, row) for uow, row in taken if not row.decided])

    def _is_free(self, uow: int, row: Row) -> bool:
        """Mirrors `memoryos_uow._coordination.Unsettled.is_free`, and what `Recovery._take_over` asks before."""
        if uow in self.opened.at_work:
            return False
        if row.owner == self.process.number or row.lease_until <= self.world.now:
            return True
        return self.world.deaths_are_seen and not self.world.processes[row.owner].alive

    def _take_over(self, batch: list[tuple[int, Row]]) -> Generator[None, None, list[tuple[int, Row]]]:
        """Mirrors `memoryos_uow._recovery.Recovery._take_over`, and `_coordination.take_over`."""
        world = self.world
        free = [(uow, row) for uow, row in batch if self._is_free(uow, row)]
        taken: list[tuple[int, Row]] = []

        def take(tx: Tables) -> None:
            for uow, seen in free:
                row = tx.rows.get(uow)
                if row is None or row.epoch != seen.epoch:
                    world.counts["others_were_faster"] += 1
                elif row.decided != seen.decided and world.fault is not Fault.STALE_TAKEOVER:
                    world.counts["decided_since_the_look"] += 1
                else:
                    if world.processes[row.owner].alive and row.owner != self.process.number:
                        world.counts["living_owner_taken_over"] += 1
                    lease = world.now + LEASE
                    tx.rows[uow] = row._replace(epoch=row.epoch + 1, owner=self.process.number, lease_until=lease)
                    taken.append((uow, seen))
                    world.counts["taken_over"] += 1
                    self.say(f"takes over unit {uow}, {'decided' if seen.decided else 'not decided'}")

        if free:
            try:
                yield from self._apart(take, patience=PATIENCE)
            except Busy:
                return []
            # A lost commit that stands in the log must not come back once its bytes are removed.
            if any(not row.decided for _, row in taken) and world.fault is not Fault.TAKEOVER_NOT_SYNCED:
                yield from self.sync_log()
        return taken

    def _forward(self, uows: list[int]) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._recovery.Recovery._forward`."""
        if not uows or self.world.fault is Fault.DECIDED_NEVER_RECOVERED:
            return
        _, effects = step(State.FOUND, Event.DECISION_FOUND)
        assert effects == (Effect.PUBLISH,)
        self.world.counts["FOUND DECISION_FOUND"] += len(uows)
        silent = yield from self._publish_units(uows, synced=False)

        def write(tx: Tables) -> None:
            for uow in uows:
                if uow not in silent:
                    tx.forget(uow)
                    self.world.counts["rolled_forward"] += 1

        try:
            yield from self._apart(write, patience=PATIENCE)
        except Busy:
            return

    def _back(self, found: list[tuple[int, Row]]) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._recovery.Recovery._back`."""
        if not found:
            return
        _, effects = step(State.FOUND, Event.NO_DECISION_FOUND)
        assert effects == (Effect.ABANDON, Effect.RECORD)
        self.world.counts["FOUND NO_DECISION_FOUND"] += len(found)
        gone: list[int] = []
        for uow, row in found:
            if (yield from self._abandon_found(uow, row)):
                gone.append(uow)

        def write(tx: Tables) -> None:
            for uow in gone:
                tx.units.setdefault(uow, FAILED)
                tx.forget(uow)
                self.world.counts["rolled_back"] += 1

        if gone:
            try:
                yield from self._apart(write, patience=PATIENCE)
            except Busy:
                return

    def _abandon_found(self, uow: int, row: Row) -> Generator[None, None, bool]:
        """Mirrors `memoryos_uow._recovery.Recovery._abandon`."""
        for name in row.plan:
            try:
                yield from (self.files if name == FILES else self.blobs).abandon(self, uow)
            except Unavailable:
                return False
        return True

    def _sweep(self) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow._recovery.Recovery.sweep`."""
        for store in (self.files, self.blobs):
            try:
                while not (yield from self._swept(store)):
                    pass
            except Busy:
                return

    def _swept(self, store: FileStore | BlobStore) -> Generator[None, None, bool]:
        """Mirrors `memoryos_uow._recovery.Recovery.sweep_one`: what the log holds unseen is written over first."""
        world = self.world
        tx = yield from self._begin()
        if world.ledger.goes_on() and world.fault is not Fault.SWEPT_AT_ONCE:
            world.counts["sweep_put_off"] += 1
            yield from self._commit(tx, sync=False)
            return False
        if world.fault is not Fault.SWEPT_BEFORE_SYNCED:
            yield from self.sync_log()
        planned = tx.planned(store.name)
        for name in store.orphans(tx, planned):
            yield from store.remove(self, name)
        if not planned:
            yield from sweep_temporary(world)
        world.ledger.lock = None
        return True
