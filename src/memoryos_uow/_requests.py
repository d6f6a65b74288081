"""A piece of work that `Ledger.run` carries out: what is called with what, how often, under which key, until when.

Promise: no input or output; the sync and the async way to run it share everything that is decided here. Whatever cannot
work is refused before anything runs; a result that could not be given back later, before anything is committed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memoryos_uow import _ambient
from memoryos_uow._deadline import Deadline, check_timeout
from memoryos_uow._hooks import is_coroutine_function
from memoryos_uow._limits import Limits
from memoryos_uow._names import Status, check_identifier
from memoryos_uow._retrying import Retrying, check_attempts
from memoryos_uow._unit_state import Attempt
from memoryos_uow.errors import UnitOfWorkError, UnitTimeout, UsageError
from memoryos_uow.stores._strict_json import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memoryos_uow._claiming import Answer
    from memoryos_uow._idempotency import Claim
    from memoryos_uow._unit_core import UnitCore
    from memoryos_uow.receipts import Receipt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What `Ledger.run` returns."""

    value: T = field(repr=False)
    """What the function returned."""
    receipt: Receipt | None
    """The committed unit's; None if it wrote nothing, or was rolled back by the function."""
    replayed: bool = False
    """The function was not called: this is what it returned when the unit was committed under the same key."""


class Request:
    """A function to be run as a unit, with the options of the unit and of its running."""

    def __init__(
        self,
        fn: Callable[..., Any],
        args: Sequence[object],
        kwargs: Mapping[str, Any] | None,
        *,
        attempts: int,
        timeout: float | None,
        idempotency_key: str | None,
        arguments: object,
        options: Mapping[str, Any],
        awaited: bool = False,
    ) -> None:
        check_function(fn, awaited=awaited)
        self._fn = fn
        self._args = _check_args(args)
        self._kwargs = _check_kwargs(kwargs)
        self.key = None if idempotency_key is None else check_identifier(idempotency_key, "idempotency_key")
        timeout_s = check_timeout(timeout)
        self.deadline = None if timeout_s is None else Deadline.after(timeout_s)
        self._retrying = Retrying(check_attempts(attempts), has_key=self.key is not None)
        self.arguments = self._digest(arguments) if self.key is not None else None
        self.options = dict(options)
        if self.options.get("correlation_id") is None:
            self.options["correlation_id"] = _ambient.new_unit_id()  # so that all attempts can be found together
        self.claim: Claim | None = None
        self.unit: UnitCore | None = None
        """The newest attempt's."""

    def call(self, unit: UnitCore) -> Any:
        """Call the function with `unit`, which is open."""
        return self._fn(unit, *self._args, **self._kwargs)

    @property
    def attempt(self) -> Attempt:
        """What the next unit is given."""
        return Attempt(self.deadline, self.claim, self._retrying.failed)

    def keep(self, value: object, limits: Limits) -> None:
        """Check what the function returned, and keep it for the unit's key; the unit is still open.

        Raises:
            UsageError: it is no result at all, but something still to be awaited or gone through; or the unit has a key
                and JSON cannot hold it.
        """
        _refuse_unfinished(value)
        if self.claim is not None:
            self.claim.result = encode_result(value, limits)

    @property
    def is_done(self) -> bool:
        """Whether the newest attempt is committed."""
        return self.unit is not None and self.unit.status is Status.COMMITTED

    def pause_s(self, error: BaseException) -> float | None:
        """Return how long to wait before the next attempt, None if there is to be none.

        Raises:
            UnitTimeout: there might be one, but not in time.
        """
        if self.is_done:
            return None  # it came after the decision, from a signal handler say
        took_s = 0.0 if self.unit is None else self.unit._took_s()  # noqa: SLF001 - two halves of one thing
        pause_s = self._retrying.pause_s(error, _ambient.random_fraction(), took_s=took_s)
        if pause_s is None:
            self._say_how_often(error)
        elif self.deadline is not None and pause_s >= self.deadline.left_s():
            raise UnitTimeout(
                f"The deadline of {self.deadline.allowed_s:.3g} s passed before attempt {self._retrying.failed + 1}.",
                hint=f"Nothing was written. The attempt before ended with {type(error).__name__}, which is chained.",
                uow_id=None if self.unit is None else self.unit.uow_id,
            ) from error
        return pause_s

    def _say_how_often(self, error: BaseException) -> None:
        if isinstance(error, UnitOfWorkError) and self._retrying.failed > 1:
            error.add_note(f"This was attempt {self._retrying.failed} of {self._retrying.attempts}.")

    def must_ask_again(self, error: BaseException) -> bool:
        """Say whether the key has to be looked at before the next attempt: it may be used up, or another's, by now."""
        return self.claim is not None and (self.claim.lost or (isinstance(error, UnitOfWorkError) and error.in_doubt))

    def _digest(self, arguments: object) -> str:
        """Return the digest of what is asked for: `arguments`, or what the function is called with."""
        asked = {"args": list(self._args), "kwargs": dict(self._kwargs)} if arguments is None else arguments
        try:
            to_json(asked, bytes_max=Limits().document_bytes, store="", what="call")
        except UsageError as problem:
            raise UsageError(
                f"{problem.message} Under an idempotency key the arguments are compared, so JSON must hold them.",
                hint="Nothing was written. Say with arguments= what tells one request from another.",
            ) from None
        text = json.dumps(asked, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def replayed(answer: Answer) -> Outcome[Any]:
    """Return the outcome of a request that was carried out before."""
    return Outcome(answer.value, answer.receipt, replayed=True)


def encode_result(value: object, limits: Limits) -> str | None:
    """Return a result as JSON, None for None.

    Raises:
        UsageError: it would come back different, or is too long.
    """
    if value is None:
        return None
    try:
        return to_json(value, bytes_max=limits.result_bytes, store="", what="result")[0]
    except UsageError as problem:
        raise UsageError(
            f"{problem.message} Under an idempotency key it is kept, to be given back unchanged.",
            hint="Nothing was written. Return JSON: dict, list, str, int, float, bool or None; or leave the key out.",
        ) from None


def check_function(fn: object, *, awaited: bool) -> None:
    """Refuse what is no function, or not of the sort that this way of running it expects.

    Raises:
        UsageError: not callable, a generator function, or awaitable where a plain function is wanted.
    """
    import inspect  # noqa: PLC0415 - only for those who pass functions

    if not callable(fn):
        raise UsageError(
            f"What is run as a unit is a function, not a {type(fn).__name__}.",
            hint="Nothing was written. Pass the function itself: run(f, args=(1,)) calls f(uow, 1).",
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UsageError(
            "A generator cannot be run as a unit: its body would run after the unit's end.",
            hint="Nothing was written. Pass a function that returns, a list for example.",
        )
    if is_coroutine_function(fn) and not awaited:
        raise UsageError(
            "A coroutine function cannot be run as a unit here: nobody would await it.",
            hint="Nothing was written. Pass a plain function, or await the async way to run it.",
        )


def _refuse_unfinished(value: object) -> None:
    import inspect  # noqa: PLC0415 - only for those who pass functions

    if inspect.iscoroutine(value):
        value.close()  # or else Python would warn that it was never awaited
    if inspect.isawaitable(value):
        raise UsageError(
            "The function returned something to await, and nobody here would await it.",
            hint="Nothing was written. Pass a plain function, or await the async way to run it.",
        )
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise UsageError(
            "The function returned a generator, whose body would run after the unit's end.",
            hint="Nothing was written. Return a list.",
        )


def _check_args(args: object) -> tuple[Any, ...]:
    if not isinstance(args, (tuple, list)):
        raise UsageError(
            f"args is a tuple or list of arguments, not a {type(args).__name__}.",
            hint="Nothing was written. For example args=(1,).",
        )
    return tuple(args)


def _check_kwargs(kwargs: object) -> dict[str, Any]:
    if kwargs is None:
        return {}
    if not isinstance(kwargs, dict) or not all(isinstance(name, str) for name in kwargs):
        raise UsageError(
            "kwargs is a dict of arguments by name.", hint='Nothing was written. For example kwargs={"amount": 1}.'
        )
    return dict(kwargs)
