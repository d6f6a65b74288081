"""The buffer against a list: whatever is added, applied, let go, marked and cut, in any order."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from memoryos_uow import Limits, Operation
from memoryos_uow._buffer import Mark, Streamed, WriteBuffer
from memoryos_uow._merkle import Frontier
from memoryos_uow._records import Content
from memoryos_uow.abc import Write
from memoryos_uow.errors import UsageError

STORES = ["notes", "photos", "sql"]
OUTSIDE = "photos"
KEYS = ["a", "b", None]
LIMITS = Limits(writes_per_unit=12, bytes_per_unit=40)


class Savepoint(NamedTuple):
    mark: Mark
    writes: list[Write]
    applied: int
    gone: int


class BufferIsAList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.buffer = WriteBuffer(LIMITS)
        self.writes: list[Write] = []
        self.applied = 0
        self.gone = 0
        self.savepoints: list[Savepoint] = []

    @rule(store=st.sampled_from(STORES), key=st.sampled_from(KEYS), size=st.none() | st.integers(0, 9))
    def add(self, store: str, key: str | None, size: int | None) -> None:
        content = None if size is None else Content(size, "")
        write = Write(store, Operation.UPSERT, key, None, content, "")
        total = sum(each.content.bytes_written for each in [*self.writes, write] if each.content)
        fits = len(self.writes) < LIMITS.writes_per_unit and total <= LIMITS.bytes_per_unit
        try:
            self.buffer.add(write, outside=store == OUTSIDE)
        except UsageError:
            assert not fits
        else:
            assert fits
            self.writes.append(write)

    @rule(data=st.data())
    def apply(self, data: st.DataObject) -> None:
        up_to = data.draw(st.integers(self.applied, len(self.writes)))
        runs = list(self.buffer.waiting(up_to))
        assert [write for _, run in runs for write in run] == self.writes[self.applied : up_to]
        assert all(run and {write.store for write in run} == {store} for store, run in runs)
        assert all(one[0] != two[0] for one, two in pairwise(runs))
        self.buffer.applied = self.applied = up_to

    @precondition(lambda self: self.applied == len(self.writes))
    @rule()
    def let_go(self) -> None:
        count, stores = self.buffer.count, tuple(self.buffer.stores())
        marks = [savepoint.mark for savepoint in self.savepoints]
        self.buffer.let_go(Streamed(count, 0, stores, Frontier(), first_row=1), marks)
        self.gone = len(self.writes)

    @rule()
    def mark(self) -> None:
        self.savepoints.append(Savepoint(Mark("s", len(self.writes)), list(self.writes), self.applied, self.gone))

    @precondition(lambda self: self.savepoints)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.savepoints) - 1))
        savepoint = self.savepoints[number]
        del self.savepoints[number:]
        self.buffer.cut(savepoint.mark)
        self.writes, self.gone = savepoint.writes, savepoint.gone
        self.applied = min(self.applied, len(self.writes))

    @invariant()
    def all_questions_are_answered_alike(self) -> None:
        assert self.buffer.writes == self.writes[self.gone :]
        assert self.buffer.count == len(self.writes)
        kept = [
            (number, write) for number, write in enumerate(self.writes) if number >= self.gone or write.store == OUTSIDE
        ]
        assert list(self.buffer.numbered()) == kept
        assert self.buffer.applied == self.applied
        waiting = self.writes[self.applied :]
        for store in STORES:
            assert self.buffer.has_waiting(store) == any(write.store == store for write in waiting)
            for key in ("a", "b"):
                mine = [write for write in self.writes if (write.store, write.key) == (store, key)]
                late = [write for write in waiting if (write.store, write.key) == (store, key)]
                assert self.buffer.newest(store, key) is (late[-1] if late else None)
                if mine and any(mine[-1] is write for _, write in kept):
                    assert self.buffer.newest(store, key, applied=True) is mine[-1]
                else:
                    assert self.buffer.newest(store, key, applied=True) is None
        first_written = list(dict.fromkeys(write.store for write in self.writes))
        assert self.buffer.stores() == first_written
        by_store = {store: [write for _, write in kept if write.store == store] for store in first_written}
        assert self.buffer.by_store() == {store: writes for store, writes in by_store.items() if writes}


TestBufferIsAList = BufferIsAList.TestCase
TestBufferIsAList.settings = settings(max_examples=60, stateful_step_count=25)
