"""``python -m tests.simulation``: many runs, one run again, or the seeded faults; ``--help`` says how."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.simulation.running import run
from tests.simulation.world import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.running import Outcome

Piece = tuple[int, int, "Fault | None"]

_PER_PIECE: Final = 500
_SHOWN_MAX: Final = 10
_PROGRESS_S: Final = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks; return 0 if no promise was broken, 1 if one was."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate the commit protocol.")
    parser.add_argument("--seeds", type=int, default=10_000, metavar="N", help="how many runs (default: 10,000)")
    parser.add_argument("--from", type=int, default=0, metavar="S", dest="first", help="the first seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="how many processes at once (default: 1)")
    parser.add_argument("--fault", type=Fault, choices=list(Fault), metavar="NAME", help="seed this fault")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run one seed and print everything that happens")
    parser.add_argument("--faults", action="store_true", help="look for each seeded fault, and print a table")
    options = parser.parse_args(arguments)
    if options.replay is not None:
        return _replay(options.replay, options.fault)
    if options.faults:
        return _look_for_faults(options.first, options.seeds)
    return _run_many(options.first, options.seeds, options.jobs, options.fault)


def how_to_replay(seed: int, fault: Fault | None = None) -> str:
    """Return the command that shows the run of `seed`."""
    return f"python -m tests.simulation --replay {seed}" + (f" --fault {fault}" if fault else "")


def _replay(seed: int, fault: Fault | None) -> int:
    outcome = run(seed, fault, trace=True)
    for line in outcome.trace or ():
        _say(line)
    _say(
        f"seed {seed}: {outcome.violation or 'no promise was broken'} ({outcome.steps} steps, {outcome.digest()[:16]})"
    )
    return 1 if outcome.violation else 0


def _run_many(first: int, seeds: int, jobs: int, fault: Fault | None) -> int:
    counts: Counter[str] = Counter()
    steps = done = broken = 0
    begun = shown = time.monotonic()
    for bad, piece_steps, piece_counts, piece_seeds in _pieces_done(first, seeds, jobs, fault):
        done, steps = done + piece_seeds, steps + piece_steps
        counts.update(piece_counts)
        for seed, violation in bad:
            broken += 1
            if broken <= _SHOWN_MAX:
                _say(f"seed {seed}: {violation}\n    {how_to_replay(seed, fault)}")
        if time.monotonic() - shown > _PROGRESS_S:
            shown = time.monotonic()
            rate = done / (shown - begun)
            sys.stderr.write(f"\r{done:,} of {seeds:,} seeds, {rate:,.0f} a second, {broken:,} broken promises ")
            sys.stderr.flush()
    seconds = time.monotonic() - begun
    sys.stderr.write("\r")
    rate = done / seconds
    _say(f"{done:,} seeds, {steps:,} steps, {seconds:,.1f} s, {rate:,.0f} seeds a second, {broken:,} broken promises")
    _say(", ".join(f"{name} {number:,}" for name, number in sorted(counts.items()) if name.islower()))
    return 1 if broken else 0


def _pieces_done(
    first: int, seeds: int, jobs: int, fault: Fault | None
) -> Iterator[tuple[list[tuple[int, str]], int, Counter[str], int]]:
    last = first + seeds
    pieces: list[Piece] = [(begin, min(begin + _PER_PIECE, last), fault) for begin in range(first, last, _PER_PIECE)]
    if jobs == 1:
        yield from map(_run_piece, pieces)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_run_piece, pieces)


def _run_piece(piece: Piece) -> tuple[list[tuple[int, str]], int, Counter[str], int]:
    begin, end, fault = piece
    bad: list[tuple[int, str]] = []
    steps = 0
    counts: Counter[str] = Counter()
    for seed in range(begin, end):
        outcome = run(seed, fault)
        steps += outcome.steps
        counts.update(outcome.counts)
        if outcome.violation:
            bad.append((seed, outcome.violation))
    return bad, steps, counts, end - begin


def first_found(fault: Fault, first: int, seeds: int) -> Outcome | None:
    """Return the first run from seed `first` on that a fault makes break a promise; None if none of `seeds` does."""
    for seed in range(first, first + seeds):
        outcome = run(seed, fault)
        if outcome.violation:
            return outcome
    return None


def _look_for_faults(first: int, seeds: int) -> int:
    _say("| fault | found by seed | what is seen |")
    _say("|---|---|---|")
    missed = 0
    for fault in Fault:
        found = first_found(fault, first, seeds)
        missed += found is None
        _say(f"| `{fault}` | {found.seed:,} | {found.violation} |" if found else f"| `{fault}` | none | |")
    return 1 if missed else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
