"""Runs the model checker over the models; ``python -m tests.model.checking`` prints what it found as a table."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

MODEL: Final = Path(__file__).with_name("commit.pml")
LAST_RESOURCE: Final = Path(__file__).with_name("last_resource.pml")
_TIMEOUT_S: Final = 1800
_DEPTH_MAX: Final = 200_000


@dataclass(frozen=True)
class Configuration:
    """How much may happen in one exhaustive search."""

    name: str
    crashes: int
    leases: int
    silences: int
    losses: int
    recoverers: int
    model: Path = MODEL

    def definitions(self) -> list[str]:
        """Return it as Spin's options."""
        budgets = {
            "CRASHES": self.crashes,
            "LEASES": self.leases,
            "SILENCES": self.silences,
            "LOSSES": self.losses,
            "RECOVERERS": self.recoverers,
        }
        return [f"-D{name}={number}" for name, number in budgets.items()]


ONE_RECOVERER: Final = Configuration("one recoverer", crashes=3, leases=2, silences=1, losses=1, recoverers=1)
TWO_RECOVERERS: Final = Configuration("two recoverers", crashes=2, leases=2, silences=1, losses=0, recoverers=2)
ALL: Final = os.environ.get("MEMORYOS_UOW_MODEL") == "all"
"""Whether the tests make the searches that take too long for every run, too."""
SAFETY: Final = (ONE_RECOVERER, TWO_RECOVERERS if ALL else replace(TWO_RECOVERERS, leases=1))
# Looking for runs that never end costs several times as much.
LIVENESS: Final = (replace(ONE_RECOVERER, leases=1), *([replace(TWO_RECOVERERS, leases=1)] if ALL else []))
DECIDED_ELSEWHERE: Final = Configuration(
    "decided elsewhere", crashes=4, leases=2, silences=2, losses=1, recoverers=2, model=LAST_RESOURCE
)
SMALL: Final = replace(ONE_RECOVERER, crashes=2, leases=1)
"""Enough to find each seeded fault."""
SEARCHES: Final = (
    (ONE_RECOVERER, False),
    (TWO_RECOVERERS, False),
    (replace(ONE_RECOVERER, leases=1), True),
    (replace(TWO_RECOVERERS, leases=1), True),
    (replace(TWO_RECOVERERS, crashes=3, leases=1, losses=1), False),
    (ONE_RECOVERER, True),
    (TWO_RECOVERERS, True),
    (DECIDED_ELSEWHERE, False),
    (DECIDED_ELSEWHERE, True),
)
"""All searches, for liveness or not."""

FAULTS: Final = {
    "bytes_after_decision": 1,
    "early_acknowledgement": 2,
    "no_sequence_guard": 3,
    "no_fence": 4,
    "no_intent": 5,
    "no_look_at_the_head": 6,
    "lost_answer_is_failure": 7,
    "forgotten_before_published": 8,
    "stale_takeover": 9,
    "no_publishing_lock": 10,
    "proof_only_looks": 11,
    "sweep_ignores_plans": 12,
    "any_row_is_the_decision": 13,
    "decided_never_recovered": 14,
    "nothing_swept": 15,
}
"""Seeded faults by name; the numbers are those of ``-DBUG``."""

FAULTS_ELSEWHERE: Final = {
    "nothing_saved": 1,
    "open_is_taken_for_none": 2,
    "neither_fence_nor_tombstone": 3,
    "lost_answer_is_no_commit": 4,
    "ledger_first": 5,
    "decided_elsewhere_never_recovered": 6,
}
"""The same for the model of a unit that another database decides."""

STUCK: Final = frozenset({"decided_never_recovered", "nothing_swept", "decided_elsewhere_never_recovered"})
"""Faults that break no promise at any moment: only liveness shows them."""


@dataclass(frozen=True)
class Result:
    """What one search found."""

    errors: int
    complete: bool
    """Every state was visited: no limit was met."""
    states: int
    seconds: float
    """Of processor time, which does not depend on what else the machine does."""
    megabytes: float
    unreached: list[str]
    """Statements of the model that no run came to."""
    output: str


def why_not() -> str | None:
    """Say which program is missing, or None."""
    missing = [name for name in ("spin", "gcc") if shutil.which(name) is None]
    return f"the model checker needs {' and '.join(missing)}" if missing else None


def check(configuration: Configuration, place: Path, *, liveness: bool = False, fault: str | None = None) -> Result:
    """Search every run of the model; files are made in the directory `place`."""
    definitions = configuration.definitions()
    if liveness:
        definitions.append("-DLIVENESS")
    if fault is not None:
        definitions.append(f"-DBUG={(FAULTS | FAULTS_ELSEWHERE)[fault]}")
    _run(["spin", "-a", *definitions, str(configuration.model)], place)
    # A fault is found at once, so compiling well would cost more than it gains.
    options = ["-O0" if fault else "-O1", "-w", "-DNOREDUCE", *([] if liveness else ["-DSAFETY", "-DNOCLAIM"])]
    _run(["gcc", *options, "-o", "pan", "pan.c"], place)
    begun = _processor_s()
    output = _run(["./pan", f"-m{_DEPTH_MAX}", f"-w{20 if fault else 24}", *(["-a"] if liveness else [])], place)
    seconds = _processor_s() - begun
    return Result(
        errors=int(_number(r"errors: (\d+)", output)),
        complete="not completed" not in output and "max search depth too small" not in output,
        states=int(_number(r"([\d.e+]+) states, stored", output)),
        seconds=seconds,
        megabytes=_number(r"([\d.]+)\ttotal actual memory usage", output),
        unreached=re.findall(r"^\t\S*\.pml:\d+, state \d+, (.+)$", output, re.MULTILINE),
        output=output,
    )


def _run(command: list[str], place: Path) -> str:
    done = subprocess.run(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_TIMEOUT_S, check=False, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def _processor_s() -> float:
    """Return the processor time of all programs that were run."""
    used = os.times()
    return used.children_user + used.children_system


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"The model checker said nothing like {pattern!r}:\n{text[-2000:]}")
    return float(found[1])


def main() -> int:
    """Make every search, print a table, and return 1 if anything was found."""
    problem = why_not()
    if problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    _say("search", "crashes", "leases", "silences", "lost answers", "states", "seconds", "MB", "errors")
    _say(*["---"] * 9)
    errors = 0
    for one, liveness in SEARCHES:
        with tempfile.TemporaryDirectory() as place:
            found = check(one, Path(place), liveness=liveness)
        wrong = found.errors + (not found.complete)
        errors += wrong
        name = f"{'liveness' if liveness else 'safety'}, {one.name}"
        measured = (f"{found.states:,}", f"{found.seconds:.0f}", f"{found.megabytes:,.0f}")
        _say(name, one.crashes, one.leases, one.silences, one.losses, *measured, wrong)
    return 1 if errors else 0


def _say(*cells: object) -> None:
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
