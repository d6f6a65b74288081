"""`Ledger.run`: a function as a unit of work, again where that may help, and only once under one key.

Promise: the function's whole body is run again, in a new unit, or nothing is; the caller gets what one run of it
returned, or an exception. Under an idempotency key its result and receipt are those of the one unit that was committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memoryos_uow import _ambient
from memoryos_uow._requests import Outcome, replayed
from memoryos_uow.unit import UnitOfWork

if TYPE_CHECKING:
    from memoryos_uow._claiming import Answer
    from memoryos_uow._open_ledger import OpenLedger
    from memoryos_uow._requests import Request


def run(request: Request) -> Outcome[Any]:
    """Carry out `request`; `Ledger.run` says what that means and what is raised."""
    unit = UnitOfWork(**request.options)
    ledger = unit._find_ledger()  # noqa: SLF001 - two halves of one thing
    answer = _claim(request, ledger, unit.space_id)
    if answer is not None:
        return replayed(answer)
    try:
        return _attempts(request, ledger, unit)
    finally:
        if request.claim is not None:
            ledger.claiming.let_go(request.claim, used=request.is_done)


def _attempts(request: Request, ledger: OpenLedger, unit: UnitOfWork) -> Outcome[Any]:
    while True:
        request.unit = unit
        unit._attempt = request.attempt  # noqa: SLF001
        try:
            with unit:
                value = request.call(unit)
                request.keep(value, ledger.limits)
            return Outcome(value, unit.receipt)
        except Exception as error:
            pause_s = request.pause_s(error)
            if pause_s is None:
                raise
            ask_again = request.must_ask_again(error)
        _ambient.sleep(pause_s)
        if ask_again:
            answer = _claim(request, ledger, unit.space_id)
            if answer is not None:
                return replayed(answer)
        unit = UnitOfWork(**request.options)


def _claim(request: Request, ledger: OpenLedger, space_id: str) -> Answer | None:
    """Wait for the request's key, if it has one; return what was answered under it before."""
    if request.key is None:
        return None
    if request.claim is not None:
        ledger.claiming.let_go(request.claim)
    claim = ledger.claiming.new_claim(space_id, request.key, arguments=request.arguments)
    answer = ledger.claiming.take(claim, request.deadline)
    request.claim = None if answer is not None else claim
    return answer
