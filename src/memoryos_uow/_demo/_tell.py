"""What the demo says at each step: a stranger should understand in a minute what was shown and why it matters."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from memoryos_uow._demo._ingest import BLOBS, DOCUMENTS, STORES, TABLE, VECTORS
from memoryos_uow._names import Band
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
    from memoryos_uow._records import Hit, UnitRecord, Violation
    from memoryos_uow.verification import Verification

_MOMENTS: Final = {"block": "in the block", "commit": "in the commit", "after": "right after the commit"}
_OUTCOMES: Final = ("committed", "rolled_back", "failed")
_PROBLEMS_SHOWN: Final = 10
OWNER_DIED: Final = "OwnerDied"
"""What recovery records of a unit whose process is gone."""


def introduce(screen: Screen, collection: Collection, ledger: Path) -> None:
    """Say what this is."""
    screen.heading("memoryos-uow: several stores, one unit of work, all of it or nothing")
    screen.gap()
    chosen = f"{len(collection.files):,} of {count(collection.found, 'file')}"
    screen.facts([("text", f"{collection.title}, {chosen}"), ("ledger", f"{ledger}, every commit synced to the disk")])
    screen.gap()
    screen.text("Each file becomes one unit of work, which writes to four stores:")
    screen.facts(
        [
            (BLOBS, "its bytes, from 64 KiB up in a file beside the ledger"),
            (DOCUMENTS, "path, docstring and first lines, for full-text search"),
            (VECTORS, "its words as 256 numbers, for nearest-neighbour search"),
            (TABLE, "a table row: lines, bytes, functions, classes"),
        ]
    )


def before_writing(screen: Screen, files: Sequence[TextFile]) -> None:
    """Announce the writing."""
    screen.heading(f"1. Write {count(len(files), 'file')}")


def after_writing(screen: Screen, files: Sequence[TextFile], *, seconds: float) -> None:
    """Say how it went."""
    writes = count(len(files) * len(STORES), "write")
    screen.verdict(f"{count(len(files), 'unit')}, {writes} in {seconds:.1f} s", good=True)


def nothing_left(screen: Screen, endings: Sequence[UnitRecord]) -> None:
    """Say how the units ended that must leave nothing."""
    screen.heading("2. End three units so that nothing of them may remain")
    reasons = ("an exception leaves the block", "one store of three refuses", "the block calls uow.rollback()")
    rows = [
        [reason, unit.status, unit.error_type or EMPTY, unit.failed_store or EMPTY]
        for reason, unit in zip(reasons, endings, strict=False)
    ]
    screen.table([Column("WHAT HAPPENS"), Column("RECORDED AS"), Column("ERROR"), Column("STORE")], rows)


def before_kills(screen: Screen, files: Sequence[TextFile], seed: int) -> None:
    """Announce the killing."""
    screen.heading(f"3. Kill it in mid-work (--seed {seed})")
    screen.text(
        f"A child process writes {count(len(files), 'more file')} and gets SIGKILL, which no program can catch. The"
        " next child asks the ledger what is there, and goes on."
    )


def kill(screen: Screen, killed: Kill) -> None:
    """Say what one kill hit and what is left of that unit."""
    found = "nothing of it is there" if not killed.writes else f"{killed.writes} of its {len(STORES)} writes are there"
    if killed.writes == len(STORES):
        found = f"all {len(STORES)} writes are there"
    screen.verdict(f"{_MOMENTS[killed.moment]} of {named(killed.file)}: {found}", good=killed.sound)


def named(file: TextFile) -> str:
    """Return how a report may name a file: by its key for GREEN, otherwise without."""
    return file.key if file.band == Band.GREEN else f"a file of band {file.band}"


def after_kills(screen: Screen, kills: Kills) -> None:
    """Say how it ended."""
    reported = f"the children had reported {count(len(kills.reported), 'unit')} as committed"
    screen.verdict(f"{reported}, {len(kills.lost)} of them are lost", good=not kills.lost)


def proof(screen: Screen, found: Proof) -> None:
    """Say what was counted."""
    screen.heading("4. Count what is there, with plain SQL and SHA-256")
    rows = [[store, *(f"{number:,}" for number in _counted(found, store))] for store in STORES]
    numbers = ("RECORDS", "AS WRITTEN", "MISSING OR CHANGED", "WITHOUT A UNIT")
    screen.table([Column("STORE"), *(Column(name, right=True) for name in numbers)], rows)
    screen.verdict(
        f"{found.whole:,} of {count(found.units, 'committed unit')} are whole in all four stores,"
        f" {found.units - found.whole} are there in part",
        good=found.holds,
    )
    for problem in found.problems[:_PROBLEMS_SHOWN]:
        screen.verdict(problem, good=False)
    if len(found.problems) > _PROBLEMS_SHOWN:
        screen.text(f"and {len(found.problems) - _PROBLEMS_SHOWN} more of the kind")
    if found.leftovers:
        screen.text(
            f"Beside the ledger: {count(found.leftovers, 'blob file')} of no unit, written for a commit that never came"
            " and seen by nobody."
        )


def _counted(found: Proof, store: str) -> tuple[int, ...]:
    matching = found.matching[store]
    return found.records[store], matching, found.units - matching, found.strays[store]


def questions(screen: Screen, violations: Sequence[Violation], verified: Verification, answers: Answers) -> None:
    """Say what the ledger's own checks and the two searches answered."""
    screen.heading("5. Open the ledger again, verify it and ask it")
    screen.verdict(f"ledger.validate(): {count(len(violations), 'violation')}", good=not violations)
    held = sum(store.matched for store in verified.stores or ())
    screen.verdict(
        f"ledger.verify(): {verified.units:,} receipts recomputed, {held:,} records as their receipts say,"
        f" {count(verified.problems_total, 'problem')}",
        good=verified.ok,
    )
    asked = [("words", f'"{answers.query}" in space {answers.space_id}: {_hits(answers.by_words)}')]
    asked.append(("likeness", f"{answers.like} in space {answers.space_id}: {_hits(answers.by_likeness)}"))
    screen.facts(asked if answers.query else asked[1:])


def _hits(hits: Sequence[Hit]) -> str:
    return ", ".join(f"{hit.key} ({hit.score:.2f})" for hit in hits) or "none"


def summary(screen: Screen, found: Summary, *, seconds: float) -> None:
    """Print the numbers."""
    screen.heading(f"Summary, after {seconds:.1f} s")
    outcomes = ", ".join(f"{found.units[status]:,} {status.replace('_', ' ')}" for status in _OUTCOMES)
    failures = ", ".join(f"{kind} {number}" for kind, number in sorted(found.failures.items())) or "none"
    screen.facts(
        [
            ("units", outcomes),
            ("bands", ", ".join(f"{number:,} {band}" for band, number in sorted(found.bands.items(), reverse=True))),
            ("writes", f"{found.writes:,}, {size(found.n_bytes)}"),
            ("failures", failures),
        ]
    )
    if OWNER_DIED in found.failures:
        screen.text(f"({OWNER_DIED}: killed while a large blob was written; the next process found and recorded it.)")
    screen.gap()
    rows = [["whole unit", *_times(found.execution_us)], ["its commit", *_times(found.commit_us)]]
    screen.table([Column("MILLISECONDS"), *(Column(name, right=True) for name in ("p50", "p95", "p99"))], rows)
    if found.untimed:
        screen.text(f"({count(found.untimed, 'unit')} not timed: killed before that could be written down.)")


def _times(times: Spread) -> list[str]:
    return [EMPTY if value is None else f"{value / 1000:,.2f}" for value in (times.p50, times.p95, times.p99)]


def end(screen: Screen, ledger: Path, program: str, uow_id: str, *, sound: bool) -> None:
    """Close with the verdict and what to do next."""
    screen.heading("Every unit is there as a whole or not at all." if sound else "Something does not hold: see above.")
    screen.text(f"The ledger stays at {ledger}. Look around in it:")
    screen.gap()
    path = shlex.quote(os.fspath(ledger))
    for line in (f"list {path} --failed", f"show {path} {uow_id}", f"verify {path}"):
        screen.command(f"{program} {line}")
