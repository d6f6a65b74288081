"""The simulated protocol: thousands of seeds without a broken promise, and the same run from the same seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def simulate(*arguments: str) -> str:
    """Run the command and return what it prints; a broken promise is an exit code of 1."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_no_seed_breaks_a_promise() -> None:
    """In 5,000 runs with crashes, pauses, lost answers and power cuts every promise of the protocol holds."""
    simulate("--seeds", "5000")


def test_a_seed_replays_to_the_letter() -> None:
    """The same seed prints the same run twice, so that a failing one can be looked at."""
    assert simulate("--replay", "7") == simulate("--replay", "7")
