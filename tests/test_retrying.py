"""Whether a failed unit is run again: decided without a clock, for every error that the library knows."""

from __future__ import annotations

import pytest

from memoryos_uow import _retrying, errors
from memoryos_uow._retrying import Retrying, check_attempts, may_help
from memoryos_uow.errors import (
    ConflictError,
    InDoubtError,
    LedgerBusy,
    StoreUnavailable,
    UnitOfWorkError,
    UnitTimeout,
    UsageError,
)

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, UnitOfWorkError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: str(kind.__name__))
def test_every_error_says_whether_retrying_helps(kind: type[UnitOfWorkError]) -> None:
    """What is called retryable is tried again, but for a deadline, which is one for all attempts."""
    assert may_help(kind("x"), has_key=False) == (kind.retryable and not issubclass(kind, UnitTimeout))


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError("x")], ids=repr)
def test_the_callers_own_errors_are_never_tried_again(error: BaseException) -> None:
    """Only this library's errors say whether retrying helps."""
    assert not may_help(error, has_key=True)


def test_in_doubt_is_tried_again_under_a_key_only() -> None:
    """What may be committed is not done twice, unless the key tells that it was."""
    assert not may_help(InDoubtError("x"), has_key=False)
    assert may_help(InDoubtError("x"), has_key=True)


def test_one_error_may_know_better_than_its_class() -> None:
    """A conflict with what the caller expects is the same conflict the next time."""
    error = ConflictError("x")
    error.retryable = False
    assert not may_help(error, has_key=True)


def test_pauses_grow_up_to_a_bound() -> None:
    """After a conflict the pause may be short, after an outage longer; each doubles, and none exceeds the largest."""
    for kind, first_s in ((ConflictError, 0.002), (LedgerBusy, 0.05), (StoreUnavailable, 0.05)):
        retrying = Retrying(100, has_key=False)
        pauses = [retrying.pause_s(kind("x"), 1.0) for _ in range(12)]
        assert pauses == [min(_retrying.LARGEST_S, first_s * 2**number) for number in range(12)]
    assert Retrying(2, has_key=False).pause_s(ConflictError("x"), 0.0) == 0.0


def test_a_pause_after_a_conflict_grows_with_what_the_attempt_took() -> None:
    """A slow unit that comes back at once would meet the same others again; an outage does not depend on it."""
    assert Retrying(2, has_key=False).pause_s(ConflictError("x"), 0.5, took_s=0.1) == pytest.approx(0.1)
    assert Retrying(2, has_key=False).pause_s(ConflictError("x"), 1.0, took_s=60) == _retrying.LARGEST_S
    assert Retrying(2, has_key=False).pause_s(LedgerBusy("x"), 1.0, took_s=60) == 0.05


def test_the_number_of_attempts_is_bounded() -> None:
    """The last attempt is followed by no pause, and so is one after which retrying would not help."""
    retrying = Retrying(3, has_key=False)
    assert [retrying.pause_s(ConflictError("x"), 0.5) is None for _ in range(3)] == [False, False, True]
    assert retrying.failed == 3
    assert Retrying(1, has_key=True).pause_s(ConflictError("x"), 0.5) is None
    assert Retrying(9, has_key=True).pause_s(UsageError("x"), 0.5) is None


@pytest.mark.parametrize("wrong", [0, -1, 1.0, "5", None, True], ids=repr)
def test_wrong_numbers_of_attempts(wrong: object) -> None:
    """A number of attempts that is none is refused with a hint."""
    with pytest.raises(UsageError) as caught:
        check_attempts(wrong)
    assert caught.value.hint
