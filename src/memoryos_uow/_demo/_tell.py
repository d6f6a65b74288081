"""What the demo says at each step: a stranger should understand in a minute what was shown and why it matters."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from memoryos_uow._demo._ingest import BLOBS, DOCUMENTS, STORES, TABLE, VECTORS
from memoryos_uow._terminal import EMPTY, Column, count, size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from memoryos_uow._demo._files import Collection, TextFile
    from memoryos_uow._demo._kills import Kill, Kills
    from memoryos_uow._demo._proof import Proof
    from memoryos_uow._demo._screen import Screen
    from memoryos_uow._demo._search import Answers
    from memoryos_uow._demo._summary import Spread, Summary
    from memoryos_uow._records import UnitRecord, Violation

_MOMENTS: Final = {"block": "inside the block", "commit": "in its commit", "after": "right after its commit"}
_PROBLEMS_SHOWN: Final = 10


def introduce(screen: Screen, collection: Collection, ledger: Path) -> None:
    """Say what this is."""
    screen.text("memoryos-uow demo: several stores, one unit of work, all of it or nothing.", indent="")
    chosen = f"{len(collection.files):,} of {count(collection.found, 'file')}"
    facts = [("Text", f"{collection.title} ({chosen})"), ("Ledger", f"{ledger} (every commit is synced to the disk)")]
    screen.facts([("", "")][:0] + facts, indent="")
    screen.text("", indent="")
    screen.text("Each file becomes one unit that writes to four stores:", indent="")
    screen.facts(
        [
            (BLOBS, "its bytes; from 64 KiB up a file beside the ledger, below that in it"),
            (DOCUMENTS, "path, docstring and first lines, with full-text search"),
            (VECTORS, "its words as 256 numbers, with nearest-neighbour search"),
            (TABLE, "a table row: lines, bytes, functions, classes"),
        ]
    )


def before_writing(screen: Screen, files: Sequence[TextFile]) -> None:
    """Announce the writing."""
    screen.heading(f"1. Write {count(len(files), 'file')}")


def after_writing(screen: Screen, files: Sequence[TextFile], *, seconds: float) -> None:
    """Say how it went."""
    writes = count(len(files) * len(STORES), "write")
    screen.verdict(f"{count(len(files), 'unit')}, {writes} in {seconds:.1f} s.", good=True)


def nothing_left(screen: Screen, endings: Sequence[UnitRecord]) -> None:
    """Say how the units ended that must leave nothing."""
    screen.heading("2. Three units that must leave nothing")
    reasons = ("an exception in the block", "a store refuses one of three writes", "the caller calls uow.rollback()")
    rows = [
        [reason, unit.status, unit.error_type or EMPTY, unit.failed_store or EMPTY]
        for reason, unit in zip(reasons, endings, strict=False)
    ]
    screen.table([Column("WHAT HAPPENS"), Column("RECORDED AS"), Column("ERROR"), Column("STORE")], rows)


def before_kills(screen: Screen, files: Sequence[TextFile], seed: int) -> None:
    """Announce the killing."""
    screen.heading(f"3. Kill it in mid-work (seed {seed})")
    screen.text(
        f"A child process writes {count(len(files), 'more file')} and is killed with SIGKILL, which no program can catch."
        " The next child asks the ledger what is there, and goes on."
    )


def kill(screen: Screen, killed: Kill) -> None:
    """Say what one kill hit and what is left of that unit."""
    found = "nothing of it is there" if killed.writes == 0 else f"{killed.writes} of {len(STORES)} writes are there"
    if killed.writes == len(STORES):
        found = f"all {len(STORES)} writes are there"
    before = f"after {count(killed.committed, 'unit')}"
    screen.verdict(f"{before}, {_MOMENTS[killed.moment]} ({killed.file.key}): {found}.", good=killed.sound)


def after_kills(screen: Screen, kills: Kills) -> None:
    """Say how it ended."""
    screen.text(f"The child after the last kill finished. Reported as committed by children: {len(kills.reported)}.")


def proof(screen: Screen, found: Proof, kills: Kills) -> None:
    """Say what was counted."""
    screen.heading("4. Prove it, with plain SQL and SHA-256")
    rows = [
        [store, f"{found.records[store]:,}", f"{found.matching[store]:,}", f"{found.units - found.matching[store]:,}"]
        for store in STORES
    ]
    columns = [Column("STORE"), Column("RECORDS", right=True), Column("AS WRITTEN", right=True), Column("MISSING", right=True)]
    screen.table(columns, rows)
    screen.verdict(f"{found.whole:,} of {count(found.units, 'committed unit')} are whole in all four stores.", good=found.holds)
    half = found.units - found.whole
    screen.verdict(f"{half} units are there in part; {len(found.problems)} records are without a unit.", good=not half)
    for problem in found.problems[:_PROBLEMS_SHOWN]:
        screen.verdict(problem, good=False)
    if found.leftovers:
        screen.text(f"{count(found.leftovers, 'file')} without a record: durable before a commit that never came, and harmless.")


def questions(screen: Screen, violations: Sequence[Violation], answers: Answers) -> None:
    """Say what the ledger's own checks and the two searches answered."""
    screen.heading("5. Check the contract, and ask")
    screen.verdict(f"ledger.validate(): {count(len(violations), 'violation')} of the five rules.", good=not violations)
    screen.text(f"Which of {answers.space_id} speaks of “{answers.query}”?")
    screen.table([Column("KEY"), Column("SCORE", right=True)], [[hit.key, f"{hit.score:.2f}"] for hit in answers.by_words])
    screen.text(f"Which have words like those of {answers.like}?")
    screen.table([Column("KEY"), Column("SCORE", right=True)], [[hit.key, f"{hit.score:.2f}"] for hit in answers.by_likeness])


def summary(screen: Screen, found: Summary, *, seconds: float) -> None:
    """Print the numbers."""
    screen.heading("Summary")
    outcomes = ", ".join(f"{number:,} {outcome.replace('_', ' ')}" for outcome, number in found.units.items() if number)
    failures = ", ".join(f"{kind} {number}" for kind, number in found.failures.items()) or "none"
    screen.facts(
        [
            ("units", f"{outcomes} ({found.amber:,} of band AMBER, the others GREEN)"),
            ("writes", f"{found.writes:,}, {size(found.n_bytes)}"),
            ("execution", _times(found.execution_us)),
            ("commit", _times(found.commit_us)),
            ("failures", failures),
            ("time", f"{seconds:.1f} s"),
        ]
    )


def _times(times: Spread) -> str:
    named = (("p50", times.p50), ("p95", times.p95), ("p99", times.p99))
    return "  ".join(f"{name} {value / 1000:,.2f} ms" for name, value in named if value is not None)


def end(screen: Screen, ledger: Path, program: str, uow_id: str, *, sound: bool) -> None:
    """Close with the verdict and what to do next."""
    screen.heading("Every unit is there as a whole or not at all." if sound else "Something is wrong: see above.")
    screen.text("Look around:", indent="")
    path = shlex.quote(os.fspath(ledger))
    for line in (f"list {path} --failed", f"show {path} {uow_id}", f"validate {path}"):
        screen.command(f"{program} {line}")
