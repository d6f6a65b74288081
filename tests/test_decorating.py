"""`@unit_of_work`: each call is one unit; what is wrong with options or function is said as early as it can be."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import ConflictError, UnitTimeout, UsageError, _ambient, unit_of_work
from tests.naming import plain_repr
from tests.units import SPACE, OwnError, rows, statuses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow import Ledger, UnitOfWork
    from memoryos_uow.aio import AsyncUnitOfWork

HOME: Final[dict[str, Any]] = {"space_id": SPACE, "band": "GREEN"}


def test_a_call_is_a_unit(ledger: Ledger) -> None:
    """Callers pass what the function takes behind the unit, and get what it returns."""

    @unit_of_work(space_id=SPACE, band="GREEN", actor_id="alice", ledger=ledger)
    def remember(uow: UnitOfWork, key: str, *, text: str = "milk") -> int:
        """Remember something."""
        uow["notes"].create(key, text)
        return len(text)

    assert (remember("n1"), remember("n2", text="eggs!")) == (4, 5)
    assert [record.actor_id for record in ledger.units()] == ["alice", "alice"]
    assert ledger["notes"].get("n2", space_id=SPACE) == "eggs!"


def test_callers_do_not_see_the_unit(ledger: Ledger) -> None:
    """Name, text and signature are the function's, without the unit: frameworks look at them."""

    @unit_of_work(space_id=SPACE, band="GREEN", ledger=ledger)
    def remember(uow: UnitOfWork, key: str, /, text: str = "milk", **more: int) -> int:
        """Remember something."""
        return 1

    assert (remember.__name__, remember.__doc__) == ("remember", "Remember something.")
    assert str(inspect.signature(remember)) == "(key: 'str', /, text: 'str' = 'milk', **more: 'int') -> 'int'"
    assert set(remember.__annotations__) == {"key", "text", "more", "return"}

    @unit_of_work(space_id=SPACE, band="GREEN", ledger=ledger)
    def everything(*args: Any) -> int:
        return len(args)

    assert str(inspect.signature(everything)) == "(*args: 'Any') -> 'int'"
    assert everything(1, 2) == 3


def test_methods_are_decorated_outside_in(ledger: Ledger) -> None:
    """Inside a class a method calls a decorated function: the unit stands first."""

    class Diary:
        def write(self, text: str) -> str:
            return remember(text)

    @unit_of_work(space_id=SPACE, band="GREEN", ledger=ledger)
    def remember(uow: UnitOfWork, text: str) -> str:
        uow["notes"].create(text, text)
        return text

    assert Diary().write("milk") == "milk"


def test_options_may_depend_on_the_arguments(ledger: Ledger) -> None:
    """Each option may be a function of what the call was given."""

    @unit_of_work(
        space_id=lambda owner, n: f"person:{owner}",
        band=lambda owner, n: "AMBER" if n else "GREEN",
        correlation_id=lambda owner, n: f"req-{n}",
        idempotency_key=lambda owner, n: f"{owner}-{n}",
        arguments=lambda owner, n: n,
        attempts=lambda owner, n: 1,
        timeout=lambda owner, n: 60,
        ledger=lambda: ledger,
    )
    def remember(uow: UnitOfWork, owner: str, n: int) -> int:
        uow["notes"].upsert("n", n)
        return n

    assert [remember("alice", 7), remember("alice", 7), remember("bob", n=0)] == [7, 7, 0]
    assert [(one.space_id, one.band, one.correlation_id) for one in reversed(ledger.units())] == [
        ("person:alice", "AMBER", "req-7"),
        ("person:bob", "GREEN", "req-0"),
    ]


def test_it_is_run_again_and_ends_in_time(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts and timeout are those of `Ledger.run`."""
    monkeypatch.setattr(_ambient, "sleep", lambda _: None)
    monkeypatch.setattr(_ambient, "random_fraction", lambda: 0.0)
    calls: list[int] = []

    @unit_of_work(space_id=SPACE, band="GREEN", ledger=ledger, attempts=3)
    def disturbed(uow: UnitOfWork) -> None:
        calls.append(1)
        uow["notes"].get("n1")
        with ledger.unit(**HOME, nested="independent") as other:
            other["notes"].upsert("n1", len(calls))
        uow["notes"].upsert("n1", 0)

    with pytest.raises(ConflictError):
        disturbed()
    assert len(calls) == 3

    @unit_of_work(space_id=SPACE, band="GREEN", ledger=ledger, timeout=1e-9)
    def late(uow: UnitOfWork) -> None:
        uow["notes"].upsert("n1", 0)

    with pytest.raises(UnitTimeout):
        late()


def test_the_functions_own_exception_arrives(ledger: Ledger) -> None:
    """Unchanged, and nothing is written."""
    error = OwnError("mine")

    @unit_of_work(space_id=SPACE, band="GREEN", ledger=ledger)
    def fail(uow: UnitOfWork) -> None:
        uow["notes"].create("n1", 1)
        raise error

    with pytest.raises(OwnError) as caught:
        fail()
    assert caught.value is error
    assert statuses(ledger) == ["failed"]


def test_the_default_ledger_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is named, it is found at the first call, not when the function is decorated."""

    @unit_of_work(space_id=SPACE, band="GREEN")
    def remember(uow: UnitOfWork) -> None:
        uow["notes"].create("n1", 1)

    monkeypatch.setenv("MEMORYOS_UOW_LEDGER", str(tmp_path / "default.db"))
    assert not (tmp_path / "default.db").exists()
    remember()
    assert rows(tmp_path / "default.db", "SELECT status FROM unit_of_work") == [("committed",)]


def test_a_coroutine_function_is_awaited(ledger: Ledger) -> None:
    """It runs in an async unit; its calls are awaited, and retried and replayed as others."""
    calls: list[int] = []

    @unit_of_work(space_id=SPACE, band="GREEN", ledger=ledger, idempotency_key=lambda n: f"k{n}")
    async def remember(uow: AsyncUnitOfWork, n: int) -> int:
        calls.append(n)
        uow["notes"].upsert("n", n)
        return n + 1

    async def main() -> list[int]:
        return [await remember(1), await remember(1), await remember(2)]

    assert inspect.iscoroutinefunction(remember)
    assert asyncio.run(main()) == [2, 2, 3]
    assert calls == [1, 2]


# What is wrong


def of_no_argument() -> None:
    """There is no place for the unit."""


def of_keywords_only(*, uow: object) -> None:
    """Nor here."""


def generator(uow: object) -> Any:
    """Its body would run later."""
    yield 1


@pytest.mark.parametrize("fn", [of_no_argument, of_keywords_only, generator, "f", None], ids=plain_repr)
def test_what_cannot_be_decorated(fn: Any) -> None:
    """It is said at once, with a hint."""
    with pytest.raises(UsageError) as caught:
        unit_of_work(space_id=SPACE, band="GREEN")(fn)
    assert caught.value.hint


def test_forgotten_brackets() -> None:
    """A decorator without options is told what it needs."""
    with pytest.raises(UsageError, match="space and band") as caught:
        unit_of_work(of_no_argument)
    assert caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"band": None},
        {"space_id": None},
        {"band": "PURPLE"},
        {"space_id": ""},
        {"actor_id": 7},
        {"isolation": "none"},
        {"attempts": 0},
        {"timeout": -1},
        {"idempotency_key": ""},
        {"ledger": "memory.db"},
    ],
    ids=plain_repr,
)
def test_wrong_options_are_noticed_when_decorating(wrong: dict[str, Any]) -> None:
    """What is known then is checked then, with a hint; nothing is opened."""
    with pytest.raises(UsageError) as caught:
        unit_of_work(**{**HOME, **wrong})
    assert caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [{"band": "PURPLE"}, {"space_id": ""}, {"attempts": 0}, {"timeout": -1}, {"idempotency_key": 7}],
    ids=plain_repr,
)
def test_wrong_answers_of_options_are_noticed_when_called(ledger: Ledger, wrong: dict[str, Any]) -> None:
    """What only a call can tell is checked before the function runs."""
    ((name, value),) = wrong.items()
    told: Callable[..., Any] = lambda: value  # noqa: E731

    options: dict[str, Any] = {**HOME, "ledger": ledger, name: told}

    @unit_of_work(**options)
    def never(uow: UnitOfWork) -> None:
        pytest.fail("it was called")

    with pytest.raises(UsageError) as caught:
        never()
    assert caught.value.hint
    assert statuses(ledger) == []


def test_a_decorator_without_a_ledger_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that has no ledger to give yet, and a default that cannot be: both are typed errors with a hint."""

    @unit_of_work(space_id=SPACE, band="GREEN", ledger=lambda: None)  # type: ignore[arg-type, return-value]
    def remember(uow: UnitOfWork) -> None:
        pytest.fail("it was called")

    with pytest.raises(UsageError, match="no ledger yet") as caught:
        remember()
    assert "default" in str(caught.value.hint)

    @unit_of_work(space_id=SPACE, band="GREEN")
    def at_default(uow: UnitOfWork) -> None:
        pytest.fail("it was called")

    from memoryos_uow import LedgerError

    monkeypatch.setenv("MEMORYOS_UOW_LEDGER", str(tmp_path / "nowhere" / "memory.db"))
    with pytest.raises(LedgerError) as failed:
        at_default()
    assert failed.value.hint
