"""Explored programs on a signed ledger, and what must hold of signatures and of the head beside it, wherever they died.

The steps of `judge`:

1.  The head beside the file, if there is one, is that of the ledger as it lies there, or of an earlier state of it.
2.  The ledger opens, and nothing takes it for one that was put back.
3.  Every receipt, the tree, the chain and every signature verify under the key; each acknowledged unit is among them,
    and proves itself under a checkpoint with this key's signature.
4.  The next unit is taken and signed, and all verifies again.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from memoryos_uow import Ledger, UnitOfWorkError, VerificationLevel, _ed25519, _notes, _proofs, _released_head
from memoryos_uow.stores import DocumentStore, FileStore, VectorStore
from memoryos_uow.testing import acknowledge
from tests.signers import ORIGIN, key_file, put, signer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from memoryos_uow.abc import Store

UNITS: Final = 3


def open_signed(world: Path, stores: Sequence[Store] | None = None) -> Ledger:
    """Open the world's ledger with its key; marks say how, as in `programs`."""
    return Ledger.open(
        world / "memory.db",
        stores=stores or [DocumentStore("notes"), VectorStore("embeddings", dimensions=2), FileStore("files", "files")],
        durability="normal" if (world / "normal").exists() else "full",
        origin=ORIGIN,
        signer=signer(world),
    )


def key_only(world: Path) -> None:
    """A key, and no ledger yet."""
    key_file(world)


def one_unit(world: Path) -> None:
    """A signed ledger with one unit."""
    with open_signed(world) as ledger:
        put(ledger, "start")


def one_unit_normal(world: Path) -> None:
    """The same with relaxed durability."""
    (world / "normal").touch()
    one_unit(world)


def units(world: Path) -> None:
    """Units that commit, one of them with a file outside, and one that fails; what is acknowledged is a unit's id."""
    with open_signed(world) as ledger:
        for number in range(UNITS):
            try:
                with ledger.unit(space_id="s", band="GREEN") as uow:
                    uow["notes"].upsert(f"n{number}", {"n": number})
                    uow["embeddings"].upsert("e", [number, 1])
                    if number == 1:
                        uow["files"].upsert("f", b"file")
                    if number == UNITS - 1:
                        uow["notes"].delete("nowhere")
            except UnitOfWorkError:
                continue
            assert uow.receipt is not None
            acknowledge(uow.receipt.uow_id)


def judge(world: Path, acknowledged: Sequence[str]) -> None:
    """A signed ledger keeps what it promised."""
    head_is_of_the_ledger(world)
    with open_signed(world) as ledger:
        signed_and_provable(ledger, world, acknowledged)
        put(ledger, "next")
        signed_and_provable(ledger, world, acknowledged)


def judge_relaxed(world: Path, _acknowledged: Sequence[str]) -> None:
    """The same after a power cut under relaxed durability, which may take the last units with their signatures."""
    judge(world, [])


def head_is_of_the_ledger(world: Path) -> None:
    """Step 1, on a copy, by somebody who only looks."""
    ledger = world / "memory.db"
    released = _released_head.read(ledger)
    if released is None:
        return
    folder = world.with_name(f"{world.name}-look")
    shutil.copytree(world, folder)
    try:
        with Ledger.open(folder / "memory.db", stores="recorded") as copy:
            log = copy._opened.log
            assert log is not None
            assert log.refusal is None, f"the head is ahead of the ledger, or not of it: {log.refusal}"
            assert len(copy.units(status="committed", limit=1000)) >= released.head.size
    finally:
        shutil.rmtree(folder)


def signed_and_provable(ledger: Ledger, world: Path, acknowledged: Sequence[str]) -> None:
    """Steps 2 and 3."""
    log = ledger._opened.log
    assert log is not None
    assert log.refusal is None, "a false rollback"
    key = _notes.parse_vkey(signer(world).vkey)
    some = bool(ledger.units(status="committed", limit=1))  # before the first unit no key has signed
    report = ledger.verify(vkey=signer(world).vkey if some else None)
    assert report.ok, report.problems
    assert report.units == report.signed_units
    assert report.level == (VerificationLevel.SIGNED if report.units else VerificationLevel.HASHED)
    for uow_id in acknowledged:
        receipt = ledger.receipt(uow_id)
        assert receipt.signature is not None
        proof = _proofs.parse_proof(receipt.proof())
        assert _proofs.check_log_proof(proof, receipt.canonical(), [key], _ed25519.verify).keys == (key,)
