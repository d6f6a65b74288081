"""`unit_of_work`: a function of the application's whose every call is one unit of work.

Promise: what is wrong with the options or the function is said when it is decorated, as far as it can be known then; a
call does what `Ledger.run` does, and returns what the function returned.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast

from memoryos_uow._hooks import is_coroutine_function
from memoryos_uow._requests import Request, check_function
from memoryos_uow._retrying import ATTEMPTS, check_attempts
from memoryos_uow._running import run
from memoryos_uow.errors import UsageError
from memoryos_uow.unit import UnitOfWork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from memoryos_uow._unit_core import UnitCore
    from memoryos_uow.ledger import Ledger

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U", bound="UnitCore")

_IN_PLACE: Final[Mapping[str, Any]] = {"space_id": "any", "band": "GREEN", "attempts": ATTEMPTS}
"""What stands for an option that only a call can tell, while the others are checked."""


def unit_of_work(
    misused: object = None,
    /,
    *,
    space_id: str | Callable[..., str] | None = None,
    band: str | Callable[..., str] | None = None,
    idempotency_key: str | Callable[..., str | None] | None = None,
    arguments: object = None,
    attempts: int | Callable[..., int] = ATTEMPTS,
    timeout: float | Callable[..., float | None] | None = None,
    ledger: Ledger | Callable[[], Ledger] | None = None,
    **options: Any,
) -> Callable[[Callable[Concatenate[U, P], T]], Callable[P, T]]:
    """Make each call of a function one unit of work, run again where that may help.

    ```python
    from memoryos_uow import unit_of_work


    @unit_of_work(space_id=lambda owner, note: f"person:{owner}", band="GREEN")
    def remember(uow, owner, note):
        uow["notes"].upsert("latest", note)
        return len(note)


    print(remember("alice", "milk is out"))
    ```
    ```output
    11
    ```

    The function gets the unit first and then what the caller gave; callers do not see the unit. Each option may be a
    function of the call's own arguments. A coroutine function runs in an `AsyncUnitOfWork`, and its calls are awaited.

    Args:
        misused: nothing; it is there so that a forgotten pair of brackets is noticed.
        space_id: as for `UnitOfWork`, like `band` and `options`.
        band: as for `UnitOfWork`.
        idempotency_key: as for `Ledger.run`, like `arguments`, `attempts` and `timeout`.
        arguments: see there.
        attempts: see there.
        timeout: see there.
        ledger: where, or a function without arguments that says so when the first call needs it; default: the
            process's default ledger.
        options: the other options of `UnitOfWork`.

    Raises:
        UsageError: an option is wrong, or what is decorated is not a function with a place for the unit (at once); or
            what a call of an option's function gave is wrong, or there is no ledger yet (at the call).
    """
    if misused is not None:
        raise UsageError(
            "unit_of_work needs to know space and band before it gets the function.",
            hint='For example @unit_of_work(space_id="shared:household", band="GREEN").',
        )
    given = {"space_id": space_id, "band": band, **options}
    running = {"idempotency_key": idempotency_key, "attempts": attempts, "timeout": timeout, "arguments": arguments}
    _check_options(given, running, ledger)

    def decorate(fn: Callable[Concatenate[U, P], T]) -> Callable[P, T]:
        awaited = is_coroutine_function(fn)
        check_function(fn, awaited=awaited)
        signature = _signature_without_unit(fn)

        def request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
            unit_options = {name: _told(option, args, kwargs) for name, option in given.items()}
            unit_options["ledger"] = _ledger(ledger)
            told = {name: _told(option, args, kwargs) for name, option in running.items()}
            return Request(fn, args, kwargs, options=unit_options, awaited=awaited, **told)

        async def await_run(*args: P.args, **kwargs: P.kwargs) -> Any:
            from memoryos_uow._running_async import run_async  # noqa: PLC0415 - asyncio is for those who use it

            return (await run_async(request(args, kwargs))).value

        def call_run(*args: P.args, **kwargs: P.kwargs) -> Any:
            return run(request(args, kwargs)).value

        wrapper: Any = functools.wraps(fn)(await_run if awaited else call_run)
        _show(wrapper, signature)
        return cast("Callable[P, T]", wrapper)

    return decorate


def _told(option: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return an option as this call has it."""
    return option(*args, **kwargs) if callable(option) else option


def _ledger(ledger: Any) -> Any:
    if not callable(ledger):
        return ledger
    found = ledger()
    if found is None:
        raise UsageError(
            "There is no ledger yet: the function given as ledger= returned None.",
            hint="Nothing was written. Open a ledger before the first call, or leave ledger= out for the default one.",
        )
    return found


def _check_options(given: Mapping[str, Any], running: Mapping[str, Any], ledger: Any) -> None:
    """Check every option that is known already, by making a unit that is never begun."""
    known: dict[str, Any] = {
        name: _IN_PLACE.get(name) if callable(option) else option for name, option in given.items()
    }
    for name in [name for name, option in known.items() if option is None and callable(given[name])]:
        del known[name]
    told = {name: _IN_PLACE.get(name) if callable(option) else option for name, option in running.items()}
    UnitOfWork(
        **known,
        idempotency_key=told["idempotency_key"],
        timeout=told["timeout"],
        ledger=None if callable(ledger) else ledger,
    )
    check_attempts(told["attempts"])


def _signature_without_unit(fn: Callable[..., Any]) -> Any:
    """Return the signature that callers see: frameworks look at it to know what to pass."""
    import inspect  # noqa: PLC0415 - only for those who decorate

    signature = inspect.signature(fn)
    parameters = list(signature.parameters.values())
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if parameters and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return signature
    if not parameters or parameters[0].kind not in by_position:
        raise UsageError(
            "A function that is run as a unit of work takes the unit first.",
            hint="For example def remember(uow, note): ...",
        )
    return signature.replace(parameters=parameters[1:])


def _show(wrapper: Any, signature: Any) -> None:
    """Have `wrapper` show the signature that callers see."""
    wrapper.__signature__ = signature
    names = {*signature.parameters, "return"}
    wrapper.__annotations__ = {name: kind for name, kind in wrapper.__annotations__.items() if name in names}
