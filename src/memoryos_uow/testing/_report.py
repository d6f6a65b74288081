"""What an exploration found, for people and for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SHOWN_MAX: Final = 5
_SHOWN_CHARACTERS: Final = 1_500


@dataclass(frozen=True, slots=True)
class Violation:
    """A point of failure after which a promise did not hold."""

    kind: str
    """The kind of failure, as counted in `Exploration.explored`."""
    point: str
    """What was done to the program, such as ``kill@fdatasync#2``; `Exploration.replay` tells how to do it again."""
    problem: str
    acknowledged: tuple[str, ...] = ()
    """What the scenario had acknowledged by then."""
    world: Path | None = None
    """A copy of the directory as the oracle found it; kept for the first violations only."""
    replay: str = ""
    """A command line that does only this point again."""

    def __str__(self) -> str:
        lines = [f"{self.point}: {self.problem[:_SHOWN_CHARACTERS]}"]
        lines.append(f"  acknowledged: {', '.join(self.acknowledged) or 'nothing'}")
        if self.world is not None:
            lines.append(f"  kept: {self.world}")
        if self.replay:
            lines.append(f"  again: {self.replay}")
        return "\n".join(lines)


@dataclass(slots=True)
class Exploration:
    """Everything that an exploration did and found."""

    scenario: str
    start: str
    """The setup, or nothing."""
    method: str
    """``strace``, or ``fault points`` where there is no strace."""
    calls: dict[str, int] = field(default_factory=dict)
    """The scenario's state-changing calls by name, as recorded; by fault point where there is no strace."""
    explored: dict[str, int] = field(default_factory=dict)
    """Points tried, by kind of failure; for a power cut, states of the disk."""
    possible: dict[str, int] = field(default_factory=dict)
    """Points there are, by kind; more than explored when a limit was set, and for a power cut also because choices of
    surviving changes that leave the same are tried once."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Kinds of failure that could not be explored here, and why."""
    violations: list[Violation] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """Points at which the run ended before the failure came: it took another way than the recorded one."""
    drifted: list[str] = field(default_factory=list)
    """Points at which the calls before the failure were not the recorded ones; what was found there counts."""
    unreachable: int = 0
    """Calls of a second thread that strace cannot single out, because an earlier call has the same name and number."""
    seconds: float = 0.0

    @property
    def points(self) -> int:
        """How many failures were brought about in all."""
        return sum(self.explored.values())

    @property
    def ok(self) -> bool:
        """Whether no promise was broken."""
        return not self.violations

    def check(self) -> Exploration:
        """Return this exploration if no promise was broken.

        Raises:
            AssertionError: a promise was broken; the message says at which points and how to go there again.
        """
        if self.violations:
            raise AssertionError(str(self))
        return self

    def __str__(self) -> str:
        lines = [self.summary()]
        lines += [str(violation) for violation in self.violations[:_SHOWN_MAX]]
        if len(self.violations) > _SHOWN_MAX:
            lines.append(f"... and {len(self.violations) - _SHOWN_MAX} more violations")
        return "\n".join(lines)

    def summary(self) -> str:
        """Return one line: what was explored and how it went."""
        kinds = ", ".join(f"{kind} {self.explored[kind]} of {self.possible[kind]}" for kind in self.explored)
        facts = [
            f"{self.scenario} by {self.method}: {kinds or 'nothing'} explored",
            f"{len(self.violations)} violations",
        ]
        for name, amount in (
            ("missed", len(self.missed)),
            ("drifted", len(self.drifted)),
            ("unreachable", self.unreachable),
        ):
            if amount:
                facts.append(f"{amount} {name}")
        facts += [f"{kind} skipped: {why}" for kind, why in self.skipped.items()]
        return "; ".join([*facts, f"{self.seconds:.1f} s"])


def table(explorations: Sequence[Exploration]) -> str:
    """Return a Markdown table: one row for each scenario, start and kind of failure, and the sums."""
    lines = ["| scenario | start | failure | by | explored | of | violations |", "|---|---|---|---|---:|---:|---:|"]
    explored = possible = broken = 0
    for one in explorations:
        for kind, amount in one.explored.items():
            violations = sum(violation.kind == kind for violation in one.violations)
            cells = (_short(one.scenario), _short(one.start), kind, one.method)
            lines.append(f"| {' | '.join(cells)} | {amount:,} | {one.possible[kind]:,} | {violations} |")
            explored, possible, broken = explored + amount, possible + one.possible[kind], broken + violations
    lines.append(f"| all | | | | {explored:,} | {possible:,} | {broken} |")
    return "\n".join(lines) + "\n"


def _short(name: str) -> str:
    return name.rpartition(":")[2] or "nothing"
