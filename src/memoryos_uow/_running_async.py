"""A coroutine function as a unit of work: what `_running` does, where every wait is awaited.

Promise: that of `_running`, and a cancelled task leaves no claim on its key behind.
"""

from __future__ import annotations

import asyncio
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from memoryos_uow._lanes import in_common
from memoryos_uow._requests import Outcome, replayed
from memoryos_uow.aio import AsyncUnitOfWork, take_key
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from memoryos_uow._claiming import Answer
    from memoryos_uow._open_ledger import OpenLedger
    from memoryos_uow._requests import Request


async def run_async(request: Request) -> Outcome[Any]:
    """Carry out `request`, whose function is a coroutine function; `AsyncLedger.run` says what is raised."""
    unit = AsyncUnitOfWork(**request.options)
    ledger = await unit._find_ledger_in_thread()  # noqa: SLF001 - two halves of one thing
    try:
        answer = await _claim(request, ledger, unit.space_id)
        return replayed(answer) if answer is not None else await _attempts(request, ledger, unit)
    finally:
        if request.claim is not None:
            await in_common(ledger, partial(ledger.claiming.let_go, request.claim, used=request.is_done))


async def _attempts(request: Request, ledger: OpenLedger, unit: AsyncUnitOfWork) -> Outcome[Any]:
    while True:
        request.unit = unit
        unit._attempt = request.attempt  # noqa: SLF001
        try:
            async with unit:
                value = await _to_await(request.call(unit))
                request.keep(value, ledger.limits)
            return Outcome(value, unit.receipt)
        except Exception as error:
            pause_s = request.pause_s(error)
            if pause_s is None:
                raise
            ask_again = request.must_ask_again(error)
        await asyncio.sleep(pause_s)
        if ask_again:
            answer = await _claim(request, ledger, unit.space_id)
            if answer is not None:
                return replayed(answer)
        unit = AsyncUnitOfWork(**request.options)


def _to_await(called: object) -> Awaitable[Any]:
    if not isawaitable(called):
        raise UsageError(
            f"What the function returned, of type {type(called).__name__}, is nothing to await.",
            hint="Nothing was written. Pass a coroutine function, or call Ledger.run in a thread.",
        )
    return called


async def _claim(request: Request, ledger: OpenLedger, space_id: str) -> Answer | None:
    """Wait for the request's key, if it has one; return what was answered under it before."""
    if request.key is None:
        return None
    if request.claim is not None:
        await in_common(ledger, ledger.claiming.let_go, request.claim)
    claim = ledger.claiming.new_claim(space_id, request.key, arguments=request.arguments)
    request.claim = claim  # before it is made: a cancelled task lets go of it
    answer = await take_key(ledger, claim, request.deadline)
    if answer is not None:
        request.claim = None
    return answer
