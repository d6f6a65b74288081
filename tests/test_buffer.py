"""The buffer of a unit's writes: limits, and what is remembered of savepoints."""

from __future__ import annotations

import pytest

from memoryos_uow import Limits, Operation
from memoryos_uow._buffer import Mark, WriteBuffer
from memoryos_uow._records import Content
from memoryos_uow.abc import Write
from memoryos_uow.errors import UsageError


def a_write(key: str | None, n_bytes: int | None = 0, store: str = "notes") -> Write:
    """A write of so many bytes; None bytes for one whose content is not known yet."""
    content = None if n_bytes is None else Content(n_bytes, "0" * 64)
    return Write(store, Operation.UPSERT, key, object(), content, "2026-11-22T19:20:31.110000Z")


def test_number_of_writes_is_limited() -> None:
    """As many writes fit as the limit says; one more is refused and leaves the buffer as it was."""
    buffer = WriteBuffer(Limits(writes_per_unit=2))
    kept = [a_write("a"), a_write("b")]
    for write in kept:
        buffer.add(write)
    for refusal in (buffer.add, buffer.refuse_excess, buffer.add_applied):
        with pytest.raises(UsageError, match="at most") as refused:
            refusal(a_write("c"))
        assert refused.value.hint
    assert (buffer.writes, buffer.newest("notes", "c"), buffer.applied) == (kept, None, 0)


def test_bytes_are_limited() -> None:
    """As many bytes fit as the limit says; a write that would exceed it is refused, a smaller one is not."""
    buffer = WriteBuffer(Limits(bytes_per_unit=1_000))
    buffer.add(a_write("a", 999))
    with pytest.raises(UsageError, match="may write 1,000 bytes at most"):
        buffer.add(a_write("b", 2))
    buffer.add(a_write("b", 1))
    buffer.add(a_write("c", None))
    assert [write.key for write in buffer.writes] == ["a", "b", "c"]


def test_cut_gives_bytes_back() -> None:
    """What a savepoint undid no longer counts against the limit."""
    buffer = WriteBuffer(Limits(bytes_per_unit=10, writes_per_unit=2))
    buffer.add(a_write("a", 4))
    mark = Mark("s", writes=1)
    buffer.add(a_write("b", 6))
    buffer.cut(mark)
    buffer.add(a_write("b", 6))
    assert [write.key for write in buffer.writes] == ["a", "b"]


def test_newest_of_what_waits_and_of_all() -> None:
    """Once applied, a write is no longer the newest that waits, yet still the newest of all."""
    buffer = WriteBuffer(Limits())
    first, second = a_write("a"), a_write("a")
    buffer.add(first)
    buffer.applied = 1
    assert buffer.newest("notes", "a") is None
    assert buffer.newest("notes", "a", applied=True) is first
    buffer.add(second)
    assert buffer.newest("notes", "a") is buffer.newest("notes", "a", applied=True) is second
    assert buffer.newest("other", "a", applied=True) is None


def test_applied_writes_do_not_wait() -> None:
    """A write that the transaction holds already is recorded in its place and does not wait."""
    buffer = WriteBuffer(Limits())
    buffer.add(a_write("a"))
    buffer.applied = 1
    buffer.add_applied(a_write(None, store="sql"))
    assert not list(buffer.waiting(up_to=2))
    assert not buffer.has_waiting("sql")
    assert [write.store for write in buffer.writes] == ["notes", "sql"]


def test_statements_have_no_key_and_are_no_records() -> None:
    """A write without a key is kept in order and found by no key."""
    buffer = WriteBuffer(Limits())
    buffer.add(a_write(None, store="sql"))
    assert buffer.has_waiting("sql")
    assert buffer.newest("sql", "None") is None
