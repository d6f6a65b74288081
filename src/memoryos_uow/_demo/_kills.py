"""Child processes at work, killed at moments that nobody chose: the worst that can happen to a unit of work.

SIGKILL cannot be caught: nothing of ours runs in the child after it. The moments are spread over the block and the
commit by a random number generator whose seed is printed; what each of them hits is up to the machine.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import memoryos_uow
from memoryos_uow import _ambient
from memoryos_uow._demo._ingest import STORES
from memoryos_uow.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memoryos_uow._demo._files import TextFile

KILLS: Final = 8

# The child imports the library from where this process has it, and nothing from the working directory (-P), where a
# file json.py could stand in for the real one.
_CHILD: Final = "import sys; sys.path.append(sys.argv[1]); from memoryos_uow._demo._worker import main; main()"
_REACH: Final = 1.5  # some kills come later than a typical unit would be done
_IN_COMMIT: Final = 0.75  # how many of the kills aim at the commit, the others at the block

_HELD = """
SELECT count(*) FROM uow_writes w JOIN unit_of_work u USING (uow_id)
WHERE u.status = 'committed' AND u.space_id = ? AND w.record_id = ?
"""


@dataclass(frozen=True)
class Pace:
    """How long a unit takes here, in seconds: where in it to strike."""

    block_s: float
    commit_s: float


@dataclass(frozen=True)
class Kill:
    """One killed child."""

    file: TextFile
    """The file it was writing."""
    moment: str
    """``block``, ``commit`` or ``after`` the commit: the last that was heard of it."""
    committed: int
    """How many units it had reported as committed."""
    writes: int
    """How many of the file's four writes the ledger holds now."""

    @property
    def sound(self) -> bool:
        """Whether the unit is there as a whole or not at all, and is there if it had been reported."""
        allowed = {"block": (0,), "commit": (0, len(STORES)), "after": (len(STORES),)}
        return self.writes in allowed[self.moment]


@dataclass
class Kills:
    """All that happened while children were killed."""

    seed: int
    killed: list[Kill] = field(default_factory=list)
    reported: list[TextFile] = field(default_factory=list)
    """Files whose units some child had reported as committed."""
    lost: list[TextFile] = field(default_factory=list)
    """Those of them that are not in the ledger as a whole: there must be none."""

    @property
    def sound(self) -> bool:
        """Whether every kill left a unit as a whole or not at all, and nothing that was reported is lost."""
        return not self.lost and all(kill.sound for kill in self.killed)


def kill_and_go_on(
    ledger: Path, files: Sequence[TextFile], *, pace: Pace, seed: int, told: Callable[[Kill], None]
) -> Kills:
    """Have `files` written by children that are killed one after the other; the last one is left alone and finishes.

    Every child but the first goes on where the ledger says the one before it stopped. `told` hears of each kill.

    Raises:
        LedgerError: a child failed by itself.
    """
    happened = Kills(seed)
    chance = random.Random(seed)  # noqa: S311 - repeatable, nothing secret
    left = list(files)
    while left and len(happened.killed) < KILLS:
        to_come = KILLS - len(happened.killed)
        target = chance.randint(1, max(1, 2 * len(left) // (to_come + 2)))
        moment, pause_s = ("commit", pace.commit_s) if chance.random() < _IN_COMMIT else ("block", pace.block_s)
        strike = _Strike(target, "commit" if moment == "commit" else "begin", chance.random() * pause_s * _REACH)
        killed = _run_child(ledger, left, happened, strike)
        if killed is None:
            break
        happened.killed.append(killed)
        told(killed)
        left = [file for file in left if _writes_of(ledger, file) == 0]
    _run_child(ledger, left, happened, None)
    happened.lost.extend(file for file in happened.reported if _writes_of(ledger, file) != len(STORES))
    return happened


@dataclass(frozen=True)
class _Strike:
    """When to kill: so many seconds after the line that says that the `target`-th unit is at this step."""

    target: int
    step: str
    pause_s: float


def _run_child(ledger: Path, files: list[TextFile], happened: Kills, strike: _Strike | None) -> Kill | None:
    """Run one child over `files`; return how it was killed, None if it came to its end."""
    job = {"ledger": str(ledger), "files": files, "correlation_id": f"demo-child-{len(happened.killed) + 1}"}
    child = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
        [sys.executable, "-P", "-c", _CHILD, str(Path(memoryos_uow.__file__).parents[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with child:
        try:
            heard, struck = _listen(child, json.dumps(job), strike)
            _, complaint = child.communicate()
        finally:
            child.kill()
    steps = [(step, int(number)) for step, number in map(str.split, heard)]
    done = [files[number] for step, number in steps if step == "done"]
    happened.reported.extend(done)
    if child.returncode == 0:
        return None
    if not struck:
        last = complaint.strip().rsplit("\n", 1)[-1] or f"exit code {child.returncode}"
        raise LedgerError(f"The child process of the demo failed: {last}.", hint="Run the demo again.")
    step, number = steps[-1]
    moment = {"begin": "block", "commit": "commit", "done": "after"}[step]
    return Kill(files[number], moment, len(done), _writes_of(ledger, files[number]))


def _listen(child: subprocess.Popen[str], job: str, strike: _Strike | None) -> tuple[list[str], bool]:
    """Give `child` its job and read its lines until it ends; kill it when it is time to, and say whether it was."""
    assert child.stdin is not None  # noqa: S101 - for the type checker
    assert child.stdout is not None  # noqa: S101
    with suppress(BrokenPipeError):  # a child that could not even begin; its stderr says why
        child.stdin.write(job)
        child.stdin.close()
    child.stdin = None  # communicate() would want to flush it
    heard, met = [], 0
    for line in child.stdout:
        heard.append(line)
        if strike is not None and line.startswith(strike.step):
            met += 1
            if met == strike.target:
                _ambient.sleep(strike.pause_s)
                child.kill()
    return [line for line in heard if line.endswith("\n")], strike is not None and met >= strike.target


def _writes_of(ledger: Path, file: TextFile) -> int:
    """Return how many writes of committed units the ledger has for `file`, by plain SQL on a connection of its own."""
    with closing(sqlite3.connect(ledger)) as connection:
        writes: int = connection.execute(_HELD, (file.space_id, file.key)).fetchone()[0]
        return writes
