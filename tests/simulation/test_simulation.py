"""The simulated protocol: thousands of seeds keep every promise, every seeded fault is found, and any run replays."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from memoryos_uow._protocol import Event, State, transitions
from tests.simulation.__main__ import first_found, how_to_replay, main
from tests.simulation.running import run
from tests.simulation.world import Fault

ROOT: Final = Path(__file__).parents[2]
SEEDS: Final = 4_000

PROBES: Final = {
    "killed_in_commit": 100,
    "killed_in_recovery": 100,
    "killed_publishing": 50,
    "power_cut": 1_000,
    "power_cut_in_recovery": 100,
    "decision_lost": 10,
    "answer_there": 100,
    "answer_gone": 100,
    "answer_ghost": 100,
    "ghost_read_from_the_log": 50,
    "ghost_back_after_the_cut": 20,
    "sweep_put_off": 20,
    "living_owner_taken_over": 100,
    "fenced": 20,
    "decided_since_the_look": 10,
    "others_were_faster": 100,
    "silent_store": 100,
    "abandon_delayed": 20,
    "told_in_doubt": 100,
    "superseded_publish": 50,
    "published_beside_what_is_not_sure": 1,
    "superseded_redo": 50,
    "synced_together": 100,
    "ledger_busy": 10,
    "rolled_forward": 1_000,
    "rolled_back": 1_000,
    "swept_bytes": 100,
}
"""What the runs must come upon, and how often at least: a promise that nothing endangers is not tested."""

NEAR: Final = {
    Fault.ANY_ROW_IS_THE_DECISION: 2_400,
    Fault.SWEPT_BEFORE_SYNCED: 1_300,
    Fault.TAKEOVER_NOT_SYNCED: 2_150,
}
"""Faults that one run in a thousand or fewer shows: from which seed to look, as ``--faults`` has told."""
ELSEWHERE: Final = (Event.HELD, Event.SAVED, Event.UNDECIDED_FOUND)
"""What happens to such a unit only: ``tests/model/last_resource.pml`` has it, and ``tests/postgres`` with servers."""
WITHIN: Final = 300
"""So many seeds show any fault, from 0 or from `NEAR`."""


def simulate(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: there, nothing that measures coverage slows it down."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, env=environment)


def test_no_seed_breaks_a_promise() -> None:
    """Whatever crashes, pauses, is cut off or loses its answer, no promise breaks; and all of that does happen."""
    done = simulate("--seeds", str(SEEDS))
    assert done.returncode == 0, done.stdout
    found = {name: int(number.replace(",", "")) for name, number in re.findall(r"(\w+) ([\d,]+)(?:, |\n)", done.stdout)}
    assert {name: found.get(name, 0) for name, least in PROBES.items() if found.get(name, 0) < least} == {}


def test_every_transition_of_the_protocol_is_taken() -> None:
    """A few hundred runs take each row of the protocol's table but those of units that another database decides."""
    counts = sum((run(seed).counts for seed in range(200)), Counter[str]())
    taken = {(s, e) for s, e in transitions() if s is not State.PREPARED and e not in ELSEWHERE}
    assert {f"{state.name} {event.name}" for state, event in taken} <= counts.keys()


@pytest.mark.parametrize("fault", Fault)
def test_every_seeded_fault_is_found(fault: Fault) -> None:
    """A protocol, or a disk's handling, with one of these mistakes breaks a promise within a few hundred seeds."""
    found = first_found(fault, NEAR.get(fault, 0), WITHIN)
    assert found is not None
    assert run(found.seed).violation is None, "the seed breaks a promise without the fault too"


def test_a_failing_seed_says_how_to_replay_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The command that is printed shows the very same run: same violation, same trace, in any process."""
    fault = Fault.DECISION_NOT_SYNCED
    assert main(["--seeds", "20", "--fault", fault]) == 1
    said = capsys.readouterr().out
    seed, violation = re.findall(r"^seed (\d+): (.+)$", said, re.MULTILINE)[0]
    command = how_to_replay(int(seed), fault)
    assert command in said
    arguments = shlex.split(command)[3:]
    one, other = (simulate(*arguments, hash_seed=hash_seed) for hash_seed in ("1", "2"))
    assert one.returncode == 1
    assert one.stdout == other.stdout
    assert f"VIOLATION {violation}" in one.stdout
    assert f"({run(int(seed), fault, trace=True).steps} steps, " in one.stdout
    assert run(int(seed), fault, trace=True).digest()[:16] in one.stdout


def test_the_mirror_leads_somewhere() -> None:
    """Each method says which function of the library it follows, and one of that name is there."""
    here, library = (
        "".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py")))
        for folder in (Path(__file__).parent, ROOT / "src" / "memoryos_uow")
    )
    named = {name.rsplit(".", 1)[1] for name in re.findall(r"[Mm]irrors `([\w.]+)`", here)}
    there = set(re.findall(r"(?:def|class) (\w+)", library)) | set(re.findall(r"self\.(\w+)[: ]", library))
    assert len(named) > 40
    assert named <= there
