"""What verification costs: units a second on one core, and how much memory at most, without and with live content.

`python -m benchmarks verify` prints one row per ledger: units of three writes, unsigned, in fifty spaces. Each is
verified in a process of its own, whose processor time and peak of memory are taken.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks._command import options, section, workplace
from benchmarks._ratios import table
from benchmarks._work import TEXT, WRITES
from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENVIRONMENT: Final = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
_SPACES: Final = 50


def fill(path: Path, units: int) -> None:
    """Make a ledger of `units` real units, one in ten AMBER and so with nonces."""
    with Ledger.open(path, stores=[DocumentStore("notes")], durability="normal", origin="example.com/b") as ledger:
        for number in range(units):
            band = "AMBER" if number % 10 == 0 else "GREEN"
            with ledger.unit(space_id=f"space:{number % _SPACES:04d}", band=band, actor_id="actor:0042") as uow:
                for part in range(WRITES):
                    uow["notes"].create(f"note-{number:08d}-{part}", {"text": TEXT, "unit": number})


def verify_here(path: Path, *, live: bool) -> dict[str, Any]:
    """Verify a ledger; return units, seconds of processor time, and the peak of memory in MB before and after."""
    with Ledger.open(path, stores="recorded") as ledger:
        ledger.verify(live=False, space_id="nobody's")  # everything is imported and compiled
        before, begun = _peak_mb(), time.process_time()
        report = ledger.verify(live=live)
        seconds = time.process_time() - begun
    if not report.ok:
        raise SystemExit(f"{path} does not verify: {report.problems[:3]}")
    return {"units": report.units, "seconds": seconds, "before": before, "peak": _peak_mb()}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def verify_apart(path: Path, *, live: bool) -> dict[str, Any]:
    """Do the same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_verify", "--child", str(path), str(int(live))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_ENVIRONMENT)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_verification_of_a_small_ledger(tmp_path: Path) -> None:
    """The table can be made."""
    fill(tmp_path / "ledger.db", 20)
    assert verify_here(tmp_path / "ledger.db", live=True)["units"] == 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row per size, with and without live content."""
    given = options(__doc__, arguments, units=100_000, rounds=3)
    rows = []
    with workplace("Verification") as folder:
        for units in (given.units // 10, given.units):
            path = folder / f"{units}.db"
            fill(path, units)
            for live in (False, True):
                found = [verify_apart(path, live=live) for _ in range(given.rounds)]
                best = min(one["seconds"] for one in found)
                growth = max(one["peak"] - one["before"] for one in found)
                what = "with live content" if live else "receipts only"
                rows.append((f"{units:,} units, {what}", f"{units / best:,.0f}", f"{growth:.1f}"))
        section("On one core", table(("", "units a second", "memory, MB"), rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(verify_here(Path(sys.argv[2]), live=sys.argv[3] == "1")))
    else:
        main()
