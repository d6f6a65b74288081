"""What a store owes, by the numbers of `memoryos_uow.abc`, and what `check_store` says of one that does not keep it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ATTACH, SETUP, ENCODE, PLAN, PREPARE, APPLY, PUBLISH = range(1, 8)
ABANDON, SWEEP, READ, CLOSE, CAPABILITY, CONTENTS, ERASE, HOLD, SAVE = range(8, 17)

OBLIGATIONS: Final[Mapping[int, str]] = {
    ATTACH: "attach",
    SETUP: "setup",
    ENCODE: "encode",
    PLAN: "plan",
    PREPARE: "prepare",
    APPLY: "apply",
    PUBLISH: "publish",
    ABANDON: "abandon",
    SWEEP: "sweep",
    READ: "read",
    CLOSE: "close",
    CAPABILITY: "capability",
    CONTENTS: "contents",
    ERASE: "erase_inside",
    HOLD: "hold",
    SAVE: "save",
}
"""The numbered obligations of `memoryos_uow.abc`, each under its first method."""

OF_METHOD: Final[Mapping[str, int]] = {
    **{name: number for number, name in OBLIGATIONS.items()},
    **dict.fromkeys(("version", "search", "keys", "overlay"), READ),
    "redo": PUBLISH,
    **dict.fromkeys(("shares_keys", "shares_records"), CONTENTS),
    "erase_outside": ERASE,
    **dict.fromkeys(("decide", "fate", "prepares"), HOLD),
    "load": SAVE,
}
"""The obligation that each method of a store stands under."""


@dataclass(frozen=True, slots=True)
class StoreFault:
    """One obligation that a store does not keep."""

    obligation: int
    """Its number in the text of `memoryos_uow.abc`."""
    check: str
    """What was being tried."""
    problem: str
    """What was wrong with it."""

    def __str__(self) -> str:
        return f"obligation {self.obligation} ({OBLIGATIONS[self.obligation]}), {self.check}: {self.problem}"


@dataclass(slots=True)
class StoreReport:
    """What `check_store` tried and found."""

    store: str
    checks: list[str] = field(default_factory=list)
    """What was tried, in order."""
    kills: int = 0
    """How many processes were killed in it."""
    faults: list[StoreFault] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.store}: {len(self.checks)} checks, {self.kills} processes killed, {len(self.faults)} faults"]
        return "\n".join(lines + [f"  {fault}" for fault in self.faults])


class StoreCheckError(AssertionError):
    """A store does not keep its obligations; ``report`` says which."""

    def __init__(self, report: StoreReport) -> None:
        super().__init__(str(report))
        self.report = report


class BrokenError(Exception):
    """Raised inside a check: the obligation with this number does not hold."""

    def __init__(self, obligation: int, problem: str) -> None:
        super().__init__(problem)
        self.obligation = obligation


def demand(obligation: int, holds: object, problem: str) -> None:
    """Raise BrokenError unless `holds`."""
    if not holds:
        raise BrokenError(obligation, problem)
