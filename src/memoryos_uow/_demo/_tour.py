"""The demo from beginning to end, told as it happens."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient
from memoryos_uow._demo import _tell
from memoryos_uow._demo._files import folder, standard_library
from memoryos_uow._demo._ingest import BLOBS, DOCUMENTS, VECTORS, ingest, open_ledger, write
from memoryos_uow._demo._kills import Pace, kill_and_go_on
from memoryos_uow._demo._place import choose_place
from memoryos_uow._demo._proof import prove
from memoryos_uow._demo._screen import Screen, progress
from memoryos_uow._demo._search import ask
from memoryos_uow._demo._summary import spread, summarise
from memoryos_uow.errors import RecordExists

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from memoryos_uow._demo._files import TextFile
    from memoryos_uow.ledger import Ledger

_FOR_CHILDREN: Final = 4
"""One file in so many is left for the children that are killed."""


def run(
    *, source: Path | None, ledger: Path | None, units: int, seed: int, program: str, silent: bool
) -> dict[str, Any]:
    """Do it all; return what came out as JSON values, ``"ok"`` among them.

    `program` is how the command line is called here, `silent` leaves the telling out.

    Raises:
        UsageError: `source` has no text files, or there is something at `ledger`.
        LedgerError: the ledger could not be used.
    """
    begun = _ambient.monotonic_ns()
    collection = standard_library(units) if source is None else folder(source, units)
    path = choose_place(ledger)
    screen = Screen(silent=silent)
    _tell.introduce(screen, collection, path)
    for_children = collection.files[1::_FOR_CHILDREN]  # never the first: it is there to be in the way of another
    ours = [file for file in collection.files if file not in set(for_children)]
    with open_ledger(path) as opened:
        _write(opened, ours, screen)
        _leave_nothing(opened, ours[0], screen)
        pace = _pace(opened)
    _tell.before_kills(screen, for_children, seed)
    kills = kill_and_go_on(path, for_children, pace=pace, seed=seed, told=lambda kill: _tell.kill(screen, kill))
    _tell.after_kills(screen, kills)
    proof = prove(path)
    _tell.proof(screen, proof)
    with open_ledger(path) as opened:
        violations = opened.validate()
        verified = opened.verify()
        answers = ask(opened, collection.files)
        summary = summarise(opened, sum(proof.matching.values()))
        newest = opened.units(limit=1)[0]
    _tell.questions(screen, violations, verified, answers)
    _tell.summary(screen, summary, seconds=(_ambient.monotonic_ns() - begun) / 1e9)
    sound = kills.sound and proof.holds and proof.units == len(collection.files) and not violations and verified.ok
    _tell.end(screen, path, program, newest.uow_id, sound=sound)
    return {
        "ok": sound,
        "ledger": str(path),
        "source": collection.title,
        "files": len(collection.files),
        "seed": seed,
        "kills": [
            {"file": _tell.named(kill.file), "moment": kill.moment, "committed": kill.committed, "writes": kill.writes}
            for kill in kills.killed
        ],
        "reported": len(kills.reported),
        "lost": len(kills.lost),
        "proof": {**vars(proof), "holds": proof.holds},
        "violations": [asdict(violation) for violation in violations],
        "verified": verified.as_dict(),
        "summary": asdict(summary),
    }


def _write(ledger: Ledger, files: Sequence[TextFile], screen: Screen) -> None:
    _tell.before_writing(screen, files)
    begun = _ambient.monotonic_ns()
    with progress(len(files), "writing") as step:
        for file in files:
            ingest(ledger, file, correlation_id="demo-write")
            step()
    _tell.after_writing(screen, files, seconds=(_ambient.monotonic_ns() - begun) / 1e9)


def _leave_nothing(ledger: Ledger, taken: TextFile, screen: Screen) -> None:
    """Run three units that must leave nothing in any store: an exception, a store's refusal, a change of mind."""
    data = b"A note that must not be kept.\n"
    options = {"space_id": taken.space_id, "band": "GREEN", "actor_id": "demo", "correlation_id": "demo-nothing"}
    with suppress(TimeoutError), ledger.unit(**options) as uow:
        write(uow, "kept-by-no-store.txt", data)
        raise TimeoutError("the model did not answer")
    with suppress(RecordExists), ledger.unit(**options) as uow:
        uow[DOCUMENTS].create("kept-by-no-store.txt", {"about": "new"})
        uow[VECTORS].create("kept-by-no-store.txt", ledger[VECTORS].get(taken.key, space_id=taken.space_id))
        uow[BLOBS].create(taken.key, data)  # taken: refused at commit, and the two before it go with it
    with ledger.unit(**options) as uow:
        write(uow, "kept-by-no-store.txt", data)
        uow.rollback()
    _tell.nothing_left(screen, list(reversed(ledger.units(correlation_id="demo-nothing"))))


def _pace(ledger: Ledger) -> Pace:
    """Return how long a typical unit took in its block and in its commit."""
    units = ledger.units(status="committed", limit=100)
    execution = spread(unit.execution_us for unit in units).p50 or 0
    commit = spread(unit.commit_us for unit in units).p50 or 0
    return Pace(block_s=max(execution - commit, 0) / 1e6, commit_s=commit / 1e6)
